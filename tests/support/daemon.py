"""`sweeper run` as a process of its own, heard line by line, with a service manager's socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import canary, command
from tests.support.patience import wait_for

Line = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Manager:
    """What a service manager hears on its socket, message by message."""

    address: str
    _socket: socket.socket
    heard: list[str] = field(default_factory=list)

    def listen(self) -> None:
        while True:
            try:
                message = self._socket.recv(65536)
            except OSError:
                return
            if not message:
                return
            self.heard.append(message.decode())

    def count(self, word: str) -> int:
        return sum(word in message.splitlines() for message in self.heard)


@contextmanager
def manager(folder: Path, *, abstract: bool = False) -> Iterator[Manager]:
    """Listen as systemd does."""
    address = f"@sweeper-test-{os.getpid()}-{id(folder)}" if abstract else str(folder / "notify")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind("\0" + address[1:] if abstract else address)
    made = Manager(address=address, _socket=bound)
    ear = threading.Thread(target=made.listen, daemon=True)
    ear.start()
    yield made
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
        last.sendto(b"", "\0" + address[1:] if abstract else address)
    ear.join(10)
    bound.close()


@dataclass(slots=True, kw_only=True)
class Daemon:
    """A running daemon. `lines` are those of its log so far."""

    child: subprocess.Popen[bytes]
    lines: list[Line] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    _ear: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._ear = threading.Thread(target=self._hear, daemon=True)
        self._ear.start()

    def _hear(self) -> None:
        assert self.child.stderr is not None
        for raw in self.child.stderr:
            text = raw.decode()
            canary.hear(text)
            try:
                self.lines.append(json.loads(text))
            except ValueError:
                self.other.append(text)

    def of(self, name: str) -> list[Line]:
        return [line for line in list(self.lines) if line["event"] == name]

    def wait(self, name: str, count: int = 1, within: float = 30.0) -> Line:
        """The line of the count-th event of this name, once it is there."""

        def there() -> list[Line]:
            if self.child.poll() is not None:
                self._ear.join(5)
                assert len(self.of(name)) >= count, (self.child.returncode, self.lines, self.other)
            return self.of(name)[count - 1 : count]

        return wait_for(there, f"{name} number {count} in {self.lines[-5:]} {self.other}", within)[
            0
        ]

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def ended(self, within: float = 30.0) -> int:
        """Wait until it has ended, and return its exit code."""
        code = self.child.wait(within)
        self._ear.join(5)
        return code

    def end(self, number: signal.Signals = signal.SIGTERM, within: float = 30.0) -> int:
        self.send(number)
        return self.ended(within)


@contextmanager
def daemon(config: Path, *options: str, **environ: str) -> Iterator[Daemon]:
    """Start `sweeper run`; what still runs at the end is killed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "sweeper", "-c", str(config), *options, "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=command.environment(environ),
    )
    made = Daemon(child=child)
    try:
        yield made
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(10)
        made._ear.join(10)
        assert child.stderr is not None
        child.stderr.close()


Started = Callable[..., Daemon]
