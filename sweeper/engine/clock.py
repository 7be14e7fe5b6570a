"""The machine's two clocks, and the guard that says when they may not be trusted."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sweeper.domain import clock as guard
from sweeper.domain import moment
from sweeper.ledger import clock as memory

if TYPE_CHECKING:
    import sqlalchemy as sa


class Clock:
    """The wall clock, which people set, and the boot clock, which nobody does.

    The boot clock counts seconds through suspends too.
    """

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True, kw_only=True)
class ClockWatch:
    """Compares the clocks with the `Date` that each account's provider sends.

    One for each process: a provider that disagrees with the clock raises doubt for all accounts,
    but only an account's own provider can lay it.
    """

    clock: Clock
    skew: timedelta
    trust_local: bool
    _sightings: dict[str, guard.Sighting] = field(default_factory=dict, init=False)
    _planned: guard.Mark | None = field(default=None, init=False)

    def saw(self, account: str, date: datetime | None) -> None:
        """Note a `Date` that has just arrived from an account's provider.

        Of answers within one second the first tells it best.
        """
        known = self._sightings.get(account)
        if date is not None and (known is None or known.date != date):
            self._sightings[account] = guard.Sighting(
                date=date, wall=self.clock.wall(), boot=self.clock.boot()
            )

    def begun(self) -> None:
        """Forget the plan of the sweep before: the clock may have been mended since."""
        self._planned = None

    def planned(self) -> datetime:
        """The time for a plan; from now on the wall clock must not be set."""
        self._planned = guard.Mark(wall=self.clock.wall(), boot=self.clock.boot())
        return self._planned.wall

    def sighting(self, account: str) -> guard.Sighting | None:
        return self._sightings.get(account)

    def is_old(self, account: str) -> bool:
        """Whether no `Date` has come for so long that the lack of one is what is doubted."""
        seen = self._sightings.get(account)
        longest = guard.LONGEST_AGE.total_seconds()
        return seen is None or self.clock.boot() - seen.boot > longest

    def doubt(self, connection: "sa.Connection", account: str | None = None) -> str | None:
        """Say why the clock may not be trusted at this moment; None when it may.

        Without an account, the mere lack of a `Date` raises no doubt.
        """
        last_good = memory.last_good(connection)
        good = None if last_good is None else moment.from_us(last_good)
        reading = self._reading(connection)
        own = None if account is None else self._sightings.get(account)
        trust_local = self.trust_local or account is None
        said = guard.doubt(
            reading, sighting=own, last_good=good, skew=self.skew, trust_local=trust_local
        )
        return said or self._moved(reading) or self._others(reading)

    def _reading(self, connection: "sa.Connection") -> guard.Reading:
        database = memory.instant(connection)
        return guard.Reading(
            wall=self.clock.wall(),
            boot=self.clock.boot(),
            database=None if database is None else moment.from_us(database),
        )

    def _moved(self, reading: guard.Reading) -> str | None:
        return None if self._planned is None else guard.moved(reading, self._planned, self.skew)

    def _others(self, reading: guard.Reading) -> str | None:
        """What another account's provider says against the clock, if it said so lately."""
        for account, seen in tuple(self._sightings.items()):
            if not self.is_old(account):
                said = guard.doubt(
                    reading, sighting=seen, last_good=None, skew=self.skew, trust_local=True
                )
                if said is not None:
                    return said
        return None
