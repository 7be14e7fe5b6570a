"""Writing answers to a connection, whole and in order or as badly as a fault asks."""

import asyncio
import socket
import struct
import zlib
from collections.abc import Iterator
from http import HTTPStatus

from sweeper.sandbox.clock import Clock, http_date
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Drip, Ending, RetryAfter
from sweeper.sandbox.shapes import Answer, Headers, refusal

_PORTION = 65_536
_RESET = struct.pack("ii", 1, 0)
_BODILESS = frozenset({204, 205, 304})
_REASONS = {int(status): status.phrase for status in HTTPStatus}


def head(status: int, headers: Headers) -> bytes:
    """Status line and headers; not checked, so that a fault can send what it likes."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1", errors="replace")


def whole(answer: Answer, date: bytes | None) -> bytes:
    """The answer as it should be."""
    return head(answer.status, _complete(answer.headers, len(answer.body), date)) + answer.body


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def faulty(answer: Answer, fault: Fault) -> Answer:
    """The answer with what the fault says in its place."""
    if not fault.replaces:
        return answer
    status = fault.status or HTTPStatus.OK
    body = _unsaid(status) if fault.body is None else fault.body
    kind = (("content-type", fault.content_type),) if body or fault.size or fault.endless else ()
    return Answer(status=status, headers=kind, body=body, deleted=answer.deleted)


def _unsaid(status: int) -> bytes:
    """The body of a fault that names none: it says nothing of what was asked."""
    return b"" if status in _BODILESS else refusal(status, {}).body


class Delivery:
    """One answer on its way, as a fault wants it."""

    def __init__(
        self, *, answer: Answer, fault: Fault, clock: Clock, writer: asyncio.StreamWriter
    ) -> None:
        self._answer = faulty(answer, fault)
        self._fault = fault
        self._clock = clock
        self._writer = writer

    @property
    def status(self) -> int | None:
        """None where something else than an answer is sent."""
        return None if self._fault.raw is not None else self._answer.status

    async def send(self) -> Ending:
        """Raises ConnectionError when the client has left."""
        fault = self._fault
        for status in fault.interim:
            self._writer.write(head(status, ()))
        if fault.raw is not None:
            self._writer.write(fault.raw)
        elif fault.endless:
            await self._send_endless()
        else:
            await self._send_counted()
        await self._send_stray()
        return Ending.CLOSE if fault.truncate is not None else fault.then

    async def _send_counted(self) -> None:
        portions, size = self._body()
        start = head(self._answer.status, self._headers(size))
        drip = self._fault.drip
        if drip is not None and drip.head:
            portions = iter([start, *portions])
        else:
            self._writer.write(start)
        left = self._fault.truncate
        for portion in portions:
            part = portion if left is None else portion[:left]
            left = None if left is None else left - len(part)
            await self._send_portion(part, drip)

    async def _send_portion(self, portion: bytes, drip: Drip | None) -> None:
        if drip is None:
            self._writer.write(portion)
            await self._writer.drain()
            return
        for start in range(0, len(portion), drip.bytes):
            self._writer.write(portion[start : start + drip.bytes])
            await self._writer.drain()
            await asyncio.sleep(drip.seconds)

    async def _send_endless(self) -> None:
        headers = (*self._headers(None), ("transfer-encoding", "chunked"))
        self._writer.write(head(self._answer.status, headers))
        text = self._answer.body.ljust(_PORTION)
        while True:
            await self._send_portion(b"%x\r\n%b\r\n" % (len(text), text), self._fault.drip)

    async def _send_stray(self) -> None:
        if self._fault.stray is None:
            return
        if self._fault.stray_delay:
            await self._writer.drain()
            await asyncio.sleep(self._fault.stray_delay)
        self._writer.write(self._fault.stray)

    def _body(self) -> tuple[Iterator[bytes], int]:
        body, asked = self._answer.body, self._fault.size
        size = len(body) if asked is None else asked
        portions = _portions(body, size)
        if not self._fault.gzip:
            return portions, size
        packer = zlib.compressobj(wbits=31)
        packed = b"".join([*map(packer.compress, portions), packer.flush()])
        return iter([packed]), len(packed)

    def _headers(self, size: int | None) -> Headers:
        fault = self._fault
        named: list[tuple[str, str | None]] = list(fault.headers)
        if fault.gzip:
            named.append(("content-encoding", "gzip"))
        if fault.retry_after is not None:
            named.append(("retry-after", self._retry_after(fault.retry_after)))
        complete = _complete(self._answer.headers, size, self._clock.date())
        replaced = {name.lower() for name, _ in named}
        kept = tuple(pair for pair in complete if pair[0] not in replaced)
        return kept + tuple((name, value) for name, value in named if value is not None)

    def _retry_after(self, wanted: str | RetryAfter) -> str:
        if isinstance(wanted, str):
            return wanted
        if wanted.form is None:
            exact = float(wanted.seconds)
            return str(int(exact) if exact.is_integer() else exact)
        return http_date(self._clock.now() + wanted.seconds, wanted.form)


def _complete(headers: Headers, size: int | None, date: bytes | None) -> Headers:
    dated = () if date is None else (("date", date.decode()),)
    sized = () if size is None else (("content-length", str(size)),)
    return dated + headers + sized


def _portions(body: bytes, size: int) -> Iterator[bytes]:
    """`size` bytes: the body, filled up with spaces, in portions that fit into memory."""
    for start in range(0, size, _PORTION):
        yield body[start : start + _PORTION].ljust(min(_PORTION, size - start))
