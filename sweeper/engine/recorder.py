"""The one writer of a process: transactions run in its thread, one after the other."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sweeper.engine.pulse import Pulse
from sweeper.ledger.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


class Recorder:
    """Runs writing transactions away from the event loop, in the order they were asked for."""

    def __init__(self, db: Database, pulse: Pulse | None = None) -> None:
        self.db = db
        self.pulse = pulse or Pulse()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    async def write(self, work: "Callable[[Connection], T]", *, is_work: bool = True) -> T:
        """Run `work` in one transaction; what it raises is raised here, and nothing is written.

        Without `is_work` it is no sign that a sweep gets on.
        """
        loop = asyncio.get_running_loop()
        done = await loop.run_in_executor(self._thread, self._write, work)
        if is_work:
            self.pulse.beat()
        return done

    def _write(self, work: "Callable[[Connection], T]") -> T:
        with self.db.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Wait for the last transaction and end the thread."""
        self._thread.shutdown()
