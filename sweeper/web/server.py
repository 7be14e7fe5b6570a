"""Serve the web application in the loop that runs already, until that is cancelled."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from sweeper import errors
from sweeper.config import listening

_BACKLOG: Final = 64
_MOST_CONNECTIONS: Final = 64
"""More are dropped: a sweep needs the files that a process may open, too."""
_PATIENCE: Final = 10.0
"""Seconds within which a connection must bring a whole request, again and again."""
_LAST_WORDS: Final = 1
"""Seconds for what is being answered when the end comes."""


async def serve(
    app: ASGIApp, host: str, port: int, *, told: Callable[[int], None] = lambda _port: None
) -> None:
    """Answer at this address until cancelled; `told` hears which port it is, once it is open.

    Raises CannotListen where the address cannot be had.
    """
    listener = _listen(host, port)
    try:
        server = _Server(app, lambda: told(listener.getsockname()[1]))
        try:
            await server.serve(sockets=[listener])
        finally:
            await server.end()
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    name = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        return socket.create_server((name, port), family=family, backlog=_BACKLOG)
    except OSError as fault:
        raise errors.CannotListen(
            f"nothing can listen at {listening.render(host, port)}: {fault.strerror}",
            hint="is another sweeper, or another program, at work there? Name another address in"
            " [http] listen",
        ) from fault


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and without a tick while nobody asks anything."""

    def __init__(self, app: ASGIApp, opened: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=_LAST_WORDS,
            )
        )
        self._opened = opened

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self._opened()
        await asyncio.Event().wait()

    async def end(self) -> None:
        """Let what is being answered come to its end, for a moment, and close everything."""
        if self.started:
            await self.shutdown()


class _Connection(H11Protocol):
    """A connection that is dropped when it brings no request for too long."""

    _seen: RequestResponseCycle | None = None
    _alarm: asyncio.TimerHandle

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > _MOST_CONNECTIONS:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._alarm.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._alarm = self.loop.call_later(_PATIENCE, self._look)

    def _look(self) -> None:
        if self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self._wait()
