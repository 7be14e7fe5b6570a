"""A server on a raw socket that does what it is told, and keeps every byte that reached it."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from sweeper.sandbox.shapes import CANARY_CONTENT

PATIENCE = 10.0
END_OF_HEAD = b"\r\n\r\n"
DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


class Visit:
    """One connection that a client opened."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._asked = asked
        self._unread = b""
        self.reads: list[bytes] = []
        self.questions: list[bytes] = []
        self.said = 0
        self.gone = asyncio.Event()

    async def question(self) -> bytes:
        """Wait for the head of one question; empty when the client has gone."""
        while END_OF_HEAD not in self._unread:
            read = await self._read()
            if not read:
                return b""
            self._unread += read
        head, _, self._unread = self._unread.partition(END_OF_HEAD)
        self.questions.append(head + END_OF_HEAD)
        self._asked.set()
        return head

    def say(self, data: bytes) -> None:
        """Write at once: on the loopback it has arrived when this returns."""
        self.said += len(data)
        self._writer.write(data)

    async def say_all(self, data: bytes) -> None:
        self.say(data)
        await self._writer.drain()

    def say_in_clear(self, data: bytes) -> None:
        """Write past the encryption of this connection."""
        os.write(self._writer.get_extra_info("socket").fileno(), data)

    def finish(self) -> None:
        """Say at once that nothing more will come, and go on listening."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Break the connection off with an RST."""
        broken = self._writer.get_extra_info("socket")
        broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def until_gone(self) -> None:
        while await self._read():
            pass

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self.gone.set()

    async def _read(self) -> bytes:
        try:
            read = await self._reader.read(65536)
        except OSError:
            return b""
        if read:
            self.reads.append(read)
        return read


Script = Callable[[Visit], Awaitable[None]]


class Peer:
    """The server, and what it has seen."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.asked = asyncio.Event()
        self.visits: list[Visit] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def questions(self) -> list[bytes]:
        return [question for visit in self.visits for question in visit.questions]

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        visit = Visit(reader, writer, self.asked)
        self.visits.append(visit)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._script(visit)
        finally:
            await visit.close()
            self._tasks.discard(task)

    async def until_all_gone(self) -> None:
        """Wait until every connection there was has ended."""
        async with asyncio.timeout(PATIENCE):
            for visit in self.visits:
                await visit.gone.wait()

    async def leave(self) -> None:
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


@contextlib.asynccontextmanager
async def peer(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serve on a free port of the loopback until the block is left."""
    here = Peer(script)
    server = await asyncio.start_server(here.welcome, "127.0.0.1", 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        await here.leave()
        await server.wait_closed()


def answer(
    status: int = 200,
    body: bytes = b'{"message":"Response deleted successfully"}',
    *headers: str,
    media_type: str | None = "application/json",
    date: str | None = DATE,
) -> bytes:
    """Put an ordinary answer together; further headers as whole lines.

    It says something that must not be told where no client looks, since a yes has no room for it.
    """
    lines = [f"HTTP/1.1 {status} {CANARY_CONTENT}", f"Content-Length: {len(body)}"]
    if date is not None:
        lines.append(f"Date: {date}")
    if media_type is not None:
        lines.append(f"Content-Type: {media_type}")
    return "\r\n".join([*lines, *headers]).encode("latin-1") + END_OF_HEAD + body


def answering(*answers: bytes) -> Script:
    """Answer each question with the next of these, over all connections."""
    left = iter(answers)

    async def script(visit: Visit) -> None:
        while await visit.question():
            visit.say(next(left))

    return script


def answering_always(said: bytes) -> Script:
    async def script(visit: Visit) -> None:
        while await visit.question():
            visit.say(said)

    return script


def visiting(scripts: Sequence[Script]) -> Script:
    """Let each connection follow the next of these scripts."""
    left = iter(scripts)

    async def script(visit: Visit) -> None:
        await next(left)(visit)

    return script


async def silent(visit: Visit) -> None:
    """Take everything and answer nothing."""
    await visit.question()
    await visit.until_gone()
