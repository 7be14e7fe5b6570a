"""Run the command, or a piece of it, as a person at a terminal does."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tests.support import command
from tests.support.command import Result


@contextmanager
def opened() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal to write to, and what says what it has shown, which closes it."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, shown))
    reader.start()
    stream = os.fdopen(theirs, "w")

    def read() -> str:
        stream.close()
        reader.join()
        return b"".join(shown).decode()

    try:
        yield stream, read
    finally:
        read()
        os.close(ours)


def _read(descriptor: int, shown: list[bytes]) -> None:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return
        if not data:
            return
        shown.append(data)


def run(*arguments: object) -> tuple[Result, str]:
    """Run the command with a terminal for its stderr: how it ended, what the terminal showed."""
    with opened() as (stream, read):
        child = subprocess.Popen(
            [sys.executable, "-m", "sweeper", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=command.environment({"TERM": "xterm", "COLUMNS": "100"}),
        )
        out, _ = child.communicate(timeout=60)
        shown = read()
    return Result(code=child.returncode, out=out.decode(), err=""), shown
