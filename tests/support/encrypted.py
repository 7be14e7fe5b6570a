"""TLS in front of a server that speaks none, in a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import trustme


@dataclass(slots=True, kw_only=True)
class Front:
    """`port` is where it listens; `knocks` counts the connections that were tried with it."""

    target: int
    port: int = 0
    knocks: int = 0
    authority: trustme.CA = field(default_factory=trustme.CA)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: threading.Event = field(default_factory=threading.Event)

    @property
    def base_url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client goes by that knows this front's authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context

    def work(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def begin(self) -> None:
        self._ready.wait(10)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._welcome, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks += 1
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        inner = None
        try:
            with suppress(OSError):  # who trusts nobody leaves in the handshake
                await writer.start_tls(context)
                there, inner = await asyncio.open_connection("127.0.0.1", self.target)
                await asyncio.gather(_pass_on(reader, inner), _pass_on(there, writer))
        finally:
            for one in filter(None, (writer, inner)):
                one.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def front(port: int) -> Iterator[Front]:
    """Let clients speak TLS, to `localhost`, with what listens on this port."""
    made = Front(target=port)
    worker = threading.Thread(target=made.work)
    worker.start()
    made.begin()
    try:
        yield made
    finally:
        made.end()
        worker.join(10)
