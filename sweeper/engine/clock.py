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
    """Compares the clocks with the `Date` that providers send; one for each process."""

    clock: Clock
    skew: timedelta
    trust_local: bool
    sighting: guard.Sighting | None = field(default=None, init=False)

    def saw(self, date: datetime | None) -> None:
        """Note a `Date` that has just arrived."""
        if date is not None:
            self.sighting = guard.Sighting(
                date=date, wall=self.clock.wall(), boot=self.clock.boot()
            )

    @property
    def is_old(self) -> bool:
        """Whether no `Date` has come for so long that the lack of one is what is doubted."""
        return self.sighting is None or (
            self.clock.boot() - self.sighting.boot > guard.LONGEST_AGE.total_seconds()
        )

    def doubt(self, connection: "sa.Connection", *, trust_local: bool = False) -> str | None:
        """Say why the clock may not be trusted at this moment; None when it may.

        With `trust_local`, the mere lack of a `Date` raises no doubt.
        """
        database = memory.instant(connection)
        last_good = memory.last_good(connection)
        reading = guard.Reading(
            wall=self.clock.wall(),
            boot=self.clock.boot(),
            database=None if database is None else moment.from_us(database),
        )
        return guard.doubt(
            reading,
            sighting=self.sighting,
            last_good=None if last_good is None else moment.from_us(last_good),
            skew=self.skew,
            trust_local=trust_local or self.trust_local,
        )
