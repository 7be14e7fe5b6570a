"""What the ledger remembers that a daemon goes by: sweeps, stops, next tries, missed runs."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sweeper.domain import moment
from sweeper.domain.schedule import Missed
from sweeper.engine import breaker
from sweeper.ledger import accounts, responses, sweeps
from sweeper.ledger.database import Database
from sweeper.ledger.sweeps import SweepRow
from sweeper.service import schedule

SOONEST_LOOK: Final = timedelta(minutes=1)
LATEST_LOOK: Final = timedelta(hours=1)
"""Between these a daemon asks again whether a stopped account may go on, besides its schedule."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSweeps:
    """The newest sweep, and the newest that came to an end of its own; None where there is none."""

    newest: SweepRow | None
    finished: SweepRow | None

    @property
    def was_cut_short(self) -> bool:
        """Whether the newest one died, was told to end, or is still at work."""
        one = self.newest
        return one is not None and (one.finished_at is None or _is_interrupted(one))


def last_sweeps(db: Database) -> LastSweeps:
    with db.read() as connection:
        newest = sweeps.latest(connection)
        finished = sweeps.latest(connection, finished=True, by_itself=True)
    return LastSweeps(
        newest=newest[0] if newest else None, finished=finished[0] if finished else None
    )


def missed(db: Database, until: datetime) -> Missed | None:
    """The runs that the schedule asked for since the last finished sweep began, in vain."""
    finished = last_sweeps(db).finished
    since = _EPOCH if finished is None else moment.from_us(finished.started_at)
    return schedule.missed(db, since, until)


def stops(db: Database) -> frozenset[tuple[str, str]]:
    """What stops accounts: the account's name and the breaker."""
    with db.read() as connection:
        found = accounts.open_breakers(connection)
    return frozenset((one.account, one.breaker.value) for one in found)


def next_try(db: Database, after: int) -> datetime | None:
    """When the next response is tried again or verified, later than a moment in microseconds."""
    with db.read() as connection:
        at = responses.next_moment(connection, after)
    return None if at is None else moment.from_us(at)


def next_look(db: Database, names: Collection[str], now: datetime) -> datetime | None:
    """When to ask whether a stopped account may go on again, where that may be without anybody.

    After as long as it has been stopped by now, within bounds.
    """
    with db.read() as connection:
        opened = accounts.open_breakers(connection)
    stopped_for = [
        now - moment.from_us(one.opened_at)
        for one in opened
        if one.breaker in breaker.PASSING and one.account in names
    ]
    if not stopped_for:
        return None
    return now + min(max(min(stopped_for), SOONEST_LOOK), LATEST_LOOK)


def _is_interrupted(one: SweepRow) -> bool:
    return one.stop_reason == sweeps.INTERRUPTED
