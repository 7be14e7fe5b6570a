"""The one writer of a process: transactions run in its thread, one after the other."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sweeper.ledger.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


class Recorder:
    """Runs writing transactions away from the event loop, in the order they were asked for."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    async def write(self, work: "Callable[[Connection], T]") -> T:
        """Run `work` in one transaction; what it raises is raised here, and nothing is written."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, work)

    def _write(self, work: "Callable[[Connection], T]") -> T:
        with self.db.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Wait for the last transaction and end the thread."""
        self._thread.shutdown()
