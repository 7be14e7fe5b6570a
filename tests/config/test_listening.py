"""An address to listen at is one of this machine, and who can reach it is known."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.config import listening


@pytest.mark.parametrize(
    "text,host,port,is_open",
    [
        ("127.0.0.1:8787", "127.0.0.1", 8787, False),
        ("127.9.9.9:1", "127.9.9.9", 1, False),
        ("localhost:0", "localhost", 0, False),
        ("[::1]:65535", "::1", 65_535, False),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, None),
        ("0.0.0.0:8787", "0.0.0.0", 8787, True),
        ("[::]:8787", "::", 8787, True),
        ("10.0.0.7:80", "10.0.0.7", 80, True),
    ],
)
def test_an_address_is_read_and_it_is_known_who_reaches_it(
    text: str, host: str, port: int, is_open: bool | None
) -> None:
    assert listening.parse(text) == (host, port)
    assert listening.render(host, port) == text
    if is_open is not None:
        assert listening.is_open(host) is is_open


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8787",
        ":8787",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8787 ",
        "127.0.0.1:8787\n",
        "127.1:80",
        "256.0.0.1:80",
        "127.0.0.01:80",
        "::1:8787",
        "[::1]",
        "[::1%lo]:80",
        "[127.0.0.1]x:80",
        "[:::]:80",
        "example.com:80",
        "LOCALHOST:80",
        "http://127.0.0.1:80",
        "*:80",
        "127.0.0.1:\u0661",
        "/run/sweeper.sock",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write an address and|is no address of"):
        listening.parse(text)


@pytest.mark.parametrize(
    "listens, asked",
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("0::0", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost"),
        ("10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
    ],
)
def test_who_listens_everywhere_is_reached_on_this_machine(listens: str, asked: str) -> None:
    assert listening.reached_at(listens) == asked


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_what_is_written_is_read_back_and_only_loopback_is_closed(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    assert listening.parse(listening.render(str(address), port)) == (str(address), port)
    assert listening.is_open(str(address)) is not address.is_loopback
