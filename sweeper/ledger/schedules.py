"""Keep which schedule was in force since when, so that what did not run can be told later."""

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa

from sweeper.domain.schedule import Schedule
from sweeper.ledger import database, tables

_T = tables.schedules
_MICROSECOND = timedelta(microseconds=1)
_AHEAD = timedelta(days=1) // _MICROSECOND
"""What lies further in the future was dated by a clock that was wrong."""


def keep(connection: sa.Connection, schedule: Schedule, *, now: int) -> bool:
    """Note that a schedule is in force from `now` on, in microseconds; whether it is a new one."""
    connection.execute(sa.delete(_T).where(_T.c.since > now + _AHEAD))
    known = history(connection)
    if known and known[-1][1] == schedule:
        return False
    every = None if schedule.every is None else schedule.every // _MICROSECOND
    values = {"since": now, "every": every, "cron": schedule.cron}
    connection.execute(database.insert_missing(connection, _T).values(values))
    return True


def history(connection: sa.Connection) -> Sequence[tuple[int, Schedule]]:
    """Every schedule with the moment since which it was in force, in microseconds, in order."""
    return [
        (
            row.since,
            Schedule(every=None if row.every is None else row.every * _MICROSECOND, cron=row.cron),
        )
        for row in connection.execute(sa.select(_T).order_by(_T.c.since))
    ]
