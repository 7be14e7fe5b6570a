"""The wire to a PostgreSQL server, which can be cut, or swallow all that goes over it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

_SOCKET: Final = ".s.PGSQL.5432"
COMMIT: Final = b"COMMIT\0"
"""As the client says it, in one message of its own."""


class Fate(Enum):
    """What becomes of a message to the server."""

    ARRIVES = "arrives"
    LOST = "lost"
    """The wire is cut before it arrives."""
    UNANSWERED = "unanswered"
    """It arrives and is carried out; the wire is cut before the answer comes back."""


Watch = Callable[[bytes], Fate]


@dataclass(slots=True, kw_only=True)
class Wire:
    """Carries each connection of its port to the server's socket. `watch` sees what is sent."""

    port: int
    folder: Path
    watch: Watch = lambda _: Fate.ARRIVES
    _through: threading.Event = field(default_factory=threading.Event)
    _ends: list[socket.socket] = field(default_factory=list)

    def url(self, name: str) -> str:
        return f"postgresql://sweeper@127.0.0.1:{self.port}/{name}"

    def silence(self) -> None:
        """From now on nothing comes through, in either direction, and nobody is told."""
        self._through.clear()

    def heal(self) -> None:
        """Carry new connections again; what was swallowed is lost, as its connections are."""
        self.cut()
        self._through.set()

    def cut(self) -> None:
        """Break every connection."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            self._ends += [client, server]
            if not self._through.is_set():
                _swallow(client)
                return
            try:
                server.connect(str(self.folder / _SOCKET))
            except OSError:
                return
            back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            back.start()
            self._questions(client, server)
            back.join()

    def _questions(self, client: socket.socket, server: socket.socket) -> None:
        with _broken(client, server):
            while data := client.recv(65536):
                if not self._through.is_set():
                    continue
                match self.watch(data):
                    case Fate.ARRIVES:
                        server.sendall(data)
                    case Fate.LOST:
                        return
                    case Fate.UNANSWERED:
                        client.shutdown(socket.SHUT_RDWR)
                        server.sendall(data)
                        server.shutdown(socket.SHUT_WR)  # it ends when it has done what it was told
                        _swallow(server)
                        return

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with _broken(client, server):
            while data := server.recv(65536):
                if self._through.is_set():
                    client.sendall(data)


def _swallow(end: socket.socket) -> None:
    """Read on until the other side is gone."""
    with suppress(OSError):
        while end.recv(65536):
            pass


@contextmanager
def _broken(*ends: socket.socket) -> Iterator[None]:
    """Break both ends when the block is over, however it ends."""
    try:
        with suppress(OSError):
            yield
    finally:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(folder: Path) -> Iterator[Wire]:
    """Serve a port of the loopback that leads to the server whose socket is in `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Wire(port=listener.getsockname()[1], folder=folder)
        made._through.set()
        server = threading.Thread(target=made.serve, args=(listener,), daemon=True)
        server.start()
        try:
            yield made
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            made.cut()
            server.join(10)
