"""While a ledger is away: count who tries it in vain, and wait until nothing is in flight."""

import asyncio
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from sweeper.ledger.database import Database
from tests.support.sweeping import Site


async def until(fact: Callable[[], object], what: str, within: float = 30.0) -> None:
    """Wait for a fact while the loop turns."""
    last = time.monotonic() + within
    while not fact():
        assert time.monotonic() < last, f"within {within} s there was no {what}"
        await asyncio.sleep(0.01)


class Failures:
    """Counts the statements and connections that have failed."""

    def __init__(self, db: Database) -> None:
        self.count = 0
        sa.event.listen(db.engine, "handle_error", self._failed)

    def _failed(self, *_: object) -> None:
        self.count += 1

    async def more(self, count: int) -> None:
        """Wait for so many more."""
        enough = self.count + count
        await until(lambda: self.count >= enough, "further try")


async def nothing_in_flight(site: Site) -> int:
    """Wait until every request was answered; how many of them were DELETEs."""
    await site.sandbox.wait_until(lambda: all(one.done for one in site.sandbox.journal.entries))
    return len(site.deleted())


def all_deleted_once(site: Site, names: Sequence[str]) -> None:
    """Each was asked for once, is written down as deleted, and stands in one record."""
    assert sorted(site.deleted()) == sorted(names)
    assert set(site.states().values()) == {("gone", "deleted")}
    assert len(site.records("deletion.outcome")) == len(names)
