"""One connection to a provider, on which one question at a time is asked."""

import asyncio
import select
import ssl

from sweeper.domain import endpoint
from sweeper.provider.fault import Fault
from sweeper.provider.reader import Reader
from sweeper.provider.reply import Reply


class Connection(asyncio.Protocol):
    """Writes once per question; whatever arrives unasked ends it, and nobody is given it."""

    __slots__ = ("_alive", "_reader", "_socket", "_transport", "_waiter", "closed", "idle_since")

    def __init__(self, alive: set["Connection"]) -> None:
        self._alive = alive
        self._reader: Reader | None = None
        self._waiter: asyncio.Future[Reply | Fault] | None = None
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = select.poll()
        self._socket.register(transport.get_extra_info("socket"), select.POLLIN)
        self.closed = asyncio.get_running_loop().create_future()
        self._alive.add(self)

    @property
    def is_usable(self) -> bool:
        """Whether it is still open, as far as we have read."""
        return not self._transport.is_closing()

    @property
    def is_local(self) -> bool:
        """Whether it ends on this machine, whatever a name was resolved to."""
        peer = self._transport.get_extra_info("peername")
        return peer is not None and endpoint.is_loopback(peer[0])

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing waits unread in the socket: no stray answer, no end."""
        return not self._transport.is_closing() and not self._socket.poll(0)

    async def exchange(self, question: bytes, reader: Reader) -> Reply | Fault:
        """Write the question once and wait for its answer, however long that takes."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._reader = reader
        self._transport.write(question)
        return await self._waiter

    def abort(self, why: Fault = Fault.CLOSED) -> None:
        """Drop the connection now; whoever waits for an answer on it has lost it."""
        self._settle(why)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            self.abort()
            return
        told = self._reader.feed(data)
        if told is not None:
            self._settle(told)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)
        self._settle(_lost(exc))
        self.closed.set_result(None)

    def _settle(self, told: Reply | Fault) -> None:
        self._reader = None
        if isinstance(told, Fault) or told.last:
            self._transport.abort()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(told)


def _lost(exc: Exception | None) -> Fault:
    match exc:
        case None:
            return Fault.CLOSED
        case ssl.SSLError():
            return Fault.TLS
        case _:
            return Fault.RESET
