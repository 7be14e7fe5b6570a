"""Reading requests from a connection, by h11, which is strict about what it takes."""

import asyncio

import h11

from sweeper.sandbox.api import Request

_PORTION = 65_536
_LARGEST_BODY = 4 * 1024 * 1024


class Refused(Exception):
    """Bytes that are no acceptable request; the connection ends after an answer of `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Reception:
    """One connection's requests, one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pending = b""

    async def request(self) -> Request | None:
        """The next request, whole, or None when the client has left. Raises Refused."""
        parser = h11.Connection(h11.SERVER)
        if self._pending:
            parser.receive_data(self._pending)
        try:
            request = await self._read(parser)
        except h11.RemoteProtocolError as problem:
            raise Refused(problem.error_status_hint) from None
        self._pending = bytes(parser.trailing_data[0])
        return request

    async def _read(self, parser: h11.Connection) -> Request | None:
        start: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                await self._feed(parser)
            elif isinstance(event, h11.Request):
                start = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LARGEST_BODY:
                    raise Refused(413)
            elif isinstance(event, h11.EndOfMessage) and start is not None:
                return _request(start, bytes(body))
            else:
                return None

    async def _feed(self, parser: h11.Connection) -> None:
        if parser.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._writer.write(parser.send(go_on) or b"")
        parser.receive_data(await self._reader.read(_PORTION))


def _request(start: h11.Request, body: bytes) -> Request:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start.headers}
    persistent = start.http_version == b"1.1" and "close" not in headers.get("connection", "")
    return Request(
        method=start.method.decode("ascii"),
        target=start.target.decode("latin-1"),
        headers=headers,
        body=body,
        persistent=persistent,
    )
