import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sweeper.provider import plain
from sweeper.provider.fault import Fault
from sweeper.provider.reader import Reader
from sweeper.provider.reply import Reply
from tests.support import hostile

STATUS_LINES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 ",
        b"HTTP/1.1 200",
        b"HTTP/1.1 404 Not Found",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 999 Whatever",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200 \xff",
    ]
)
FIELDS = st.sampled_from(
    [
        b"Date: Mon, 23 Nov 2026 10:00:00 GMT",
        b"Content-Type:application/json",
        b"X-Odd:   three",
        b"X-Empty:",
        b"X-Trailing: a ",
        b"X-Tab: a\tb",
        b"x-lower: a,b",
        b"X-Latin: \xe4",
        b"X Bad: a",
        b" folded",
        b"Connection: close",
        b"Connection: Keep-Alive",
        b"Connection: keep-alive, x",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 2",
        b"Content-Length: 02",
        b"Content-Length: 3",
        b"Content-Length: +2",
        b"Content-Length: 2, 2",
        b"Content-Length: 99999999999999999999",
        b"Upgrade: websocket",
    ]
)
ENDS = st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\n\n"])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    lines = [draw(STATUS_LINES), *draw(st.lists(FIELDS, max_size=5))]
    length = draw(st.sampled_from([b"", b"Content-Length: 2", b"Content-Length: 0"]))
    if length:
        lines.insert(draw(st.integers(1, len(lines))), length)
    return b"\r\n".join(lines) + draw(ENDS) + draw(st.sampled_from([b"{}", b"", b"{", b"{}x"]))


def fully_parsed(said: bytes) -> Reply | Fault | None:
    reader = Reader("DELETE")
    assert reader.feed(said[:1]) is None  # in two pieces it is not plain
    return reader.feed(said[1:])


@given(answers())
@example(hostile.answer())
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}")
@example(b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n{}")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nConnection: a\r\n\r\n{}")
def test_what_is_read_as_plain_is_what_the_full_parser_reads(said: bytes) -> None:
    read = plain.read(said)
    assert read is None or read == fully_parsed(said)


def test_an_ordinary_answer_is_plain_though_a_harmless_field_comes_twice() -> None:
    assert plain.read(hostile.answer()) is not None
    twice = hostile.answer(200, b"{}", "X-A: b", "X-A: c")
    assert plain.read(twice) == fully_parsed(twice) is not None
    assert plain.read(hostile.answer(200, b"{}", "Content-Length: 2")) is None


@given(st.binary(max_size=300), st.lists(st.binary(min_size=1, max_size=40), max_size=8))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n", [b"a" * 70_000])
@example(b"HTTP/1.1 200 OK\r\n\r\n", [b"a" * 70_000, b"a" * 70_000])
def test_no_bytes_whatever_break_the_reader(first: bytes, rest: list[bytes]) -> None:
    reader = Reader("DELETE")
    for part in [first, *rest]:
        if reader.feed(part) is not None:
            return
    assert reader.feed(b"") is not None


@given(st.integers(1, len(hostile.answer()) - 1))
def test_an_answer_reads_alike_wherever_it_is_cut(at: int) -> None:
    said = hostile.answer()
    reader = Reader("DELETE")
    assert reader.feed(said[:at]) is None
    assert reader.feed(said[at:]) == plain.read(said)


def test_the_total_limit_binds_before_and_after_the_head() -> None:
    assert Reader("DELETE").feed(b"HTTP/1.1 100 Go\r\n\r\n" * 8000) is Fault.TOO_LARGE
    reader = Reader("DELETE")
    assert reader.feed(b"HTTP/1.1 503 Busy\r\nContent-Length: 60000\r\n\r\n") is None
    told = reader.feed(b"a" * 140_000)
    assert isinstance(told, Reply)
    assert (told.status, told.whole, told.body) == (503, False, b"")


@pytest.mark.parametrize("status", [200, 206, 299])
def test_of_a_success_to_a_get_nothing_after_the_head_is_told(status: int) -> None:
    told = Reader("GET", head_only=True).feed(hostile.answer(status, b'{"content":"x"}'))
    assert isinstance(told, Reply)
    assert (told.body, told.whole, told.last) == (b"", False, True)


def test_a_reply_shows_nothing_of_what_came() -> None:
    told = Reader("DELETE").feed(hostile.answer(200, b'{"canary":1}', "X-Canary: canary"))
    assert "canary" not in repr(told).lower()


def test_an_answer_is_too_large_however_it_comes() -> None:
    head = b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"a" * 125_000)
    said = head + b"Content-Length: 9000\r\n\r\n" + b"b" * 9000
    assert plain.read(said) is None
    assert Reader("DELETE").feed(said) is Fault.TOO_LARGE


def test_a_connection_that_is_told_twice_is_left_to_the_full_parser() -> None:
    for last in ("keep-alive", "close"):
        said = hostile.answer(200, b"{}", "Connection: close", f"Connection: {last}")
        assert plain.read(said) is None
        told = fully_parsed(said)
        assert isinstance(told, Reply)
        assert told.last
    once = hostile.answer(200, b"{}", "X-A: b", "X-A: c", "Connection: keep-alive")
    assert plain.read(once) == fully_parsed(once) is not None


def test_what_follows_an_answer_ends_its_connection() -> None:
    told = fully_parsed(hostile.answer() + b"HTTP/1.1 200 OK\r\n")
    assert isinstance(told, Reply)
    assert (told.status, told.last) == (200, True)
    assert plain.read(hostile.answer() + b"H") is None
