"""Tell the service manager how the daemon is: ready, alive, reloading, stopping."""

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

_MICROSECONDS: Final = 1_000_000
_LONGEST: Final = 10.0
"""The most seconds between two signs of life, whether anybody wants one or not."""


class Notifier:
    """Sends to the socket in $NOTIFY_SOCKET (sd_notify(3)); without one nothing is sent.

    The variables are taken out of the environment, so that no program that is started later
    speaks for this one. `interval` is how many seconds lie between two signs of life: a third of
    those within which the manager wants one.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.interval = min(_LONGEST, (_watchdog(environ) or _LONGEST * 3) / 3)

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        """Send one message; a manager that cannot be reached must not end a sweep."""
        if not self._address:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines)
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
            sender.sendto(message.encode(), self._address)


def _watchdog(environ: MutableMapping[str, str]) -> float | None:
    length, whose = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not (length.isascii() and length.isdecimal() and int(length)):
        return None
    if whose and whose != str(os.getpid()):
        return None
    return int(length) / _MICROSECONDS
