"""Run the command in processes forked from one that has loaded it already: real ones, and quick."""

import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import coverage
import psycopg
import sqlalchemy as sa

from sweeper.cli import main, progress, sweep
from sweeper.config import load
from sweeper.engine import exchange, tenure
from sweeper.ledger import leases
from sweeper.service import sweeping
from sweeper.service.alarm import alarms
from sweeper.telemetry import events, logs
from tests.support.command import Result
from tests.support.failpoints import Act, Countdown, Trap
from tests.support.patience import wait_for

LOADED = (alarms, events, load, logs, progress, psycopg, sweep, sweeping)
"""What a command would otherwise load when it is called."""

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["__main__", __name__])
_LONGEST = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A command that was started; what it writes stands in files until it is asked for."""

    process: ForkServerProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self, within: float = _LONGEST) -> Result:
        """Wait until it has ended; a code below zero is the signal that ended it."""
        self.process.join(within)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it did not end within {within} s: {self.err.read_text()}")
        return Result(code=code, out=self.out.read_text(), err=self.err.read_text())

    def until_frozen(self) -> None:
        """Wait until the process has been stopped by SIGSTOP."""
        stat = Path(f"/proc/{self.pid}/stat")

        def is_frozen() -> bool:
            assert self.process.is_alive(), self.ended()
            return stat.read_text().rpartition(")")[2].split()[0] == "T"

        wait_for(is_frozen, "frozen process")


@contextmanager
def started(
    folder: Path, *arguments: object, trap: Trap | Countdown | None = None, hasty: bool = False
) -> Iterator[Child]:
    """Start `sweeper` with these arguments; what still runs at the end is killed.

    For who is `hasty`, leases and claims last two and a half seconds, and transactions in
    which nothing happens half a second.
    """
    name = uuid.uuid4().hex
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    process = _SERVER.Process(
        target=_run, args=([str(one) for one in arguments], out, err, trap, hasty)
    )
    process.start()
    try:
        yield Child(process=process, out=out, err=err)
    finally:
        process.kill()
        process.join()
        process.close()


def run(
    folder: Path, *arguments: object, trap: Trap | Countdown | None = None, **more: Any
) -> Result:
    """Start `sweeper` and wait for its end."""
    with started(folder, *arguments, trap=trap, **more) as child:
        return child.ended()


def _run(
    arguments: list[str], out: Path, err: Path, trap: Trap | Countdown | None, hasty: bool
) -> None:  # pragma: no cover - in another process
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    if hasty:
        _haste()
    if trap is not None:
        if isinstance(trap, Trap) and trap.act is Act.STARVE:
            _untraced()
        trap.install()
    sys.exit(main.run(arguments))


def _untraced() -> None:
    """Without coverage, which wants memory of its own before every call, and fails that call."""
    if (measuring := coverage.Coverage.current()) is not None:
        measuring.stop()


def _haste() -> None:
    leases.TERM, tenure.RENEW_EVERY = 2_500_000, 0.3  # type: ignore[misc]  # time made short
    exchange.CLAIM_SECONDS = 2.5  # type: ignore[misc]  # likewise

    def connected(connection: Any, _record: Any) -> None:
        if isinstance(connection, psycopg.Connection):
            connection.execute("SET idle_in_transaction_session_timeout = '500ms'")
            connection.commit()

    sa.event.listen(sa.Engine, "connect", connected)
