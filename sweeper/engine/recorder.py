"""The one writer of a process: transactions run in its thread, one at a time."""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from sweeper import errors
from sweeper.domain import event
from sweeper.domain.event import Event
from sweeper.engine.gate import Gate
from sweeper.engine.pulse import Pulse
from sweeper.ledger import probe
from sweeper.ledger.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds for which a transaction is tried again while the ledger is away."""
LATE: Final = 3.0
"""Seconds after which a transaction that has not ended keeps further requests back."""
SLOW: Final = 10.0
"""Seconds after which it is told that a transaction has not ended, though nothing has failed."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class Recorder:
    """Runs writing transactions away from the event loop.

    One that came to nothing because the ledger is away, be it busy, full, restarted or out of
    reach, is tried again; others may come in between. `gate` is shut meanwhile: what could not be
    written down is not sent, and what was seen waits in memory. `emit` hears, once for each time
    that the ledger is away, that it is waited for, and that it is back.
    """

    def __init__(
        self,
        db: Database,
        pulse: Pulse | None = None,
        *,
        gate: Gate | None = None,
        emit: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.db = db
        self.pulse = pulse or Pulse()
        self.gate = gate or Gate()
        self._emit = emit
        self._away_since: float | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._hurried = asyncio.Event()
        self._log_size = 0

    @property
    def is_hurried(self) -> bool:
        """Whether the process is told to end at once: nothing is waited for then."""
        return self._hurried.is_set()

    def hurry(self) -> None:
        """From now on, try nothing twice."""
        self._hurried.set()

    async def write(
        self,
        work: "Callable[[Connection], T]",
        *,
        is_work: bool = True,
        patience: float | None = None,
    ) -> T:
        """Run `work` in one transaction; what it raises is raised here, and nothing is written.

        It runs again where the ledger was away, so that what it does besides must bear that; after
        `patience` seconds LedgerAway is raised. CommitUnknown is raised at once. Without `is_work`
        it is no sign that a sweep gets on.
        """
        slow = asyncio.get_running_loop().call_later(SLOW, self._tell_slow)
        try:
            with self.gate.watching(LATE) as shut:
                done = await self._tried(work, PATIENCE if patience is None else patience, shut)
        finally:
            slow.cancel()
        self._tell_back()
        if is_work:
            self.pulse.beat()
        return done

    async def _tried(
        self, work: "Callable[[Connection], T]", patience: float, shut: Callable[[], None]
    ) -> T:
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + patience, _FIRST_PAUSE
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._write, work)
            except errors.LedgerAway as fault:
                shut()
                self.pulse.beat()  # it waits on purpose
                if self.is_hurried or loop.time() + pause > until:
                    raise
                self._tell_away(fault.message, fault.hint)
            # Of several that wait for one another no two come back at the same moment.
            await self._rest(random.uniform(pause / 2, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _tell_slow(self) -> None:
        self._tell_away(
            f"the ledger has not answered for {SLOW:g} seconds",
            "see whether another process keeps it busy, or its disk or its server hangs",
        )

    def _tell_away(self, detail: str, hint: str | None) -> None:
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            self._emit(event.LedgerWaitedFor(detail=detail, hint=hint))

    def _tell_back(self) -> None:
        """After a success, unless others still wait: some of them may be taken and others not."""
        if self._away_since is not None and self.gate.is_open:
            seconds = asyncio.get_running_loop().time() - self._away_since
            self._away_since = None
            self._emit(event.LedgerBack(seconds=seconds))

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            pass

    def _write(self, work: "Callable[[Connection], T]") -> T:
        with self.db.write() as connection:
            done = work(connection)
            size = probe.log_size(connection)
            if size < self._log_size:
                raise errors.LedgerReplaced(
                    f"the ledger's log has gone back from {self._log_size} records to {size}: an"
                    " older state of it was put in its place",
                    hint="find out which state is the right one before sweeper is started again",
                )
        self._log_size = size
        return done

    def close(self) -> None:
        """Wait for the last transaction and end the thread."""
        self._thread.shutdown()
