"""Reads exactly one HTTP/1.1 answer out of bytes, strictly and within limits."""

import h11

from sweeper.provider import plain
from sweeper.provider.fault import Fault
from sweeper.provider.reply import BODY_LIMIT, TOTAL_LIMIT, Reply

# The parser must know what was asked only to tell how the answer is framed, and that depends
# on the method alone.
_ASKED = {
    method: h11.Request(method=method, target="/", headers=[("Host", "provider")])
    for method in ("DELETE", "GET")
}
_ASKED_ALL = h11.EndOfMessage()


class Reader:
    """Takes bytes until one answer is told; `head_only` stops after the headers of a 2xx."""

    __slots__ = ("_body", "_head", "_head_only", "_method", "_parser", "_size")

    def __init__(self, method: str, *, head_only: bool = False) -> None:
        self._method = method
        self._head_only = head_only
        self._parser: h11.Connection | None = None
        self._head: h11.Response | None = None
        self._body = b""
        self._size = 0

    def feed(self, data: bytes) -> Reply | Fault | None:
        """Take what was read, or b"" for the end of the stream; None while more must come.

        Interim answers are passed over; a 101 is refused by the parser, since nobody asked for it.
        """
        if self._parser is None:
            if not self._head_only and (reply := plain.read(data)) is not None:
                return reply
            self._parser = _parser(self._method)
        self._size += len(data)
        if self._size > TOTAL_LIMIT:
            return Fault.TOO_LARGE if self._head is None else self._reply(whole=False)
        try:
            self._parser.receive_data(data)
            return self._advance(self._parser)
        except h11.RemoteProtocolError:
            return Fault.PROTOCOL if data else Fault.CLOSED

    def _advance(self, parser: h11.Connection) -> Reply | Fault | None:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > BODY_LIMIT:
                    return self._reply(whole=False)
            elif isinstance(event, h11.EndOfMessage):
                return self._reply(whole=True, last=not _is_reusable(parser))
            elif isinstance(event, h11.Response):
                if not _is_framed_once(event):
                    return Fault.PROTOCOL
                self._head = event
                if self._head_only and event.status_code < 300:
                    return self._reply(whole=False)
            elif not isinstance(event, h11.InformationalResponse):
                return None

    def _reply(self, *, whole: bool, last: bool = True) -> Reply:
        assert self._head is not None
        return Reply(
            status=self._head.status_code,
            headers=list(self._head.headers),
            body=self._body if whole else b"",
            whole=whole,
            last=last,
        )


def _parser(method: str) -> h11.Connection:
    parser = h11.Connection(h11.CLIENT)
    parser.send(_ASKED[method])
    parser.send(_ASKED_ALL)
    return parser


def _is_reusable(parser: h11.Connection) -> bool:
    rest, at_end = parser.trailing_data
    return not rest and not at_end and parser.our_state is parser.their_state is h11.DONE


def _is_framed_once(head: h11.Response) -> bool:
    """Whether the end of the body is told in one way only: two ways are how answers get mixed."""
    names = {name for name, _ in head.headers}
    if head.http_version not in (b"1.0", b"1.1"):
        return False
    return b"transfer-encoding" not in names or (
        b"content-length" not in names and head.http_version == b"1.1"
    )
