"""Only addresses that keep the key to the provider are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import endpoint
from sweeper.provider import address


@pytest.mark.parametrize(
    "text,normal",
    [
        ("https://api.fireworks.ai/inference", "https://api.fireworks.ai/inference"),
        ("https://API.Fireworks.AI/inference/", "https://api.fireworks.ai/inference"),
        ("HTTPS://api.openai.com", "https://api.openai.com"),
        ("https://api.openai.com:443/", "https://api.openai.com"),
        ("https://gateway.example:8443/a/b", "https://gateway.example:8443/a/b"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9/x", "http://127.9.9.9/x"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:9/x", "http://[::1]:9/x"),
        ("https://192.0.2.7", "https://192.0.2.7"),
    ],
)
def test_a_usable_base_url_has_one_normal_form(text: str, normal: str) -> None:
    assert endpoint.check_base_url(text) == normal
    assert endpoint.check_base_url(normal) == normal


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", "https://host"),
        ("api.openai.com", "https://host"),
        ("ftp://api.openai.com", "https://host"),
        ("https:///path", "https://host"),
        ("https://[::1", "https://host"),
        ("https://[::1%25lo]/", "neither a name"),
        ("https://[::ffff:1.2.3.4]/", "neither a name"),
        ("https://host.example./", "neither a name"),
        ("https://" + "a." * 127 + "example", "neither a name"),
        ("http://api.openai.com", "loopback only"),
        ("http://127.0.0.1.evil.example", "loopback only"),
        ("http://localhost.evil.example", "loopback only"),
        ("http://0.0.0.0", "loopback only"),
        ("http://169.254.169.254", "loopback only"),
        ("https://user@host.example", "no user"),
        ("https://user:word@host.example", "no user"),
        ("https://host.example/?a=b", "leave out"),
        ("https://host.example?", "leave out"),
        ("https://host.example/#a", "leave out"),
        ("https://host.example/a b", "plain ASCII"),
        ("https://host.example/a\n", "plain ASCII"),
        ("https://host.example\t/", "plain ASCII"),
        ("https://höst.example", "plain ASCII"),
        ("https://host.example\\@evil", "plain ASCII"),
        ("https://host.example:0", "port"),
        ("https://host.example:99999", "port"),
        ("https://host.example:x", "port"),
        ("https://host.example:", "port"),
        ("https://host.example/a//b", "single slashes"),
        ("https://host.example/a//", "single slashes"),
        ("https://host_name.example", "neither a name"),
        ("https://host.example/../b", "single slashes"),
        ("https://host.example/%2e%2e", "single slashes"),
        ("https://-host.example", "neither a name"),
        ("https://host..example", "neither a name"),
        ("https://api.openai.com/v1", "leave out /v1"),
        ("https://api.openai.com/v1/", "leave out /v1"),
        ("https://host.example/" + "a" * 1024, "at most"),
    ],
)
def test_every_other_base_url_is_refused_with_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        endpoint.check_base_url(text)
    assert reason in str(caught.value)


HOSTS = st.from_regex(r"[a-z0-9.:\[\]-]{1,12}", fullmatch=True)
PATHS = st.from_regex(r"(/[A-Za-z0-9._~%-]{0,4}){0,3}", fullmatch=True)


@given(HOSTS, PATHS)
def test_whatever_the_configuration_accepts_the_provider_accepts(host: str, path: str) -> None:
    try:
        normal = endpoint.check_base_url(f"https://{host}{path}")
    except ValueError:
        return
    found = address.split(normal)
    assert found.origin + found.path == normal


@given(st.text(max_size=60).map("https://".__add__) | st.text(max_size=60))
def test_whatever_is_accepted_is_already_in_a_form_that_stays(text: str) -> None:
    try:
        normal = endpoint.check_base_url(text)
    except ValueError:
        return
    assert endpoint.check_base_url(normal) == normal
    assert normal.startswith(("https://", "http://"))
