"""Look whether sweeps happen by themselves: the daemon, the last sweep, and missed runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from sweeper.domain import moment, wording
from sweeper.ledger import presence, schedules, sweeps
from sweeper.ledger.database import Database
from sweeper.ledger.sweeps import SweepRow
from sweeper.service import schedule
from sweeper.service.doctor.findings import Check, Finding, fault, ok, warning

LOOKED_BACK: Final = timedelta(days=7)
"""How far back missed runs are told of."""
_RARELY: Final = timedelta(days=1)
"""After how long without a sweep people are asked, where no schedule was ever followed."""


def daemon(db: Database) -> Iterator[Finding]:
    if presence.daemon(db):
        yield ok(Check.DAEMON, "sweeper run is at work on this ledger")
        return
    told = "no sweeper run is at work on this ledger, so nothing happens by itself"
    yield warning(Check.DAEMON, told, "start sweeper run, or let a timer run sweeper sweep")


def last_sweep(db: Database) -> Iterator[Finding]:
    """When a sweep last came to its end, and how."""
    with db.read() as connection:
        found = sweeps.latest(connection, finished=True)
        is_scheduled = bool(schedules.history(connection))
    if not found:
        told = "no sweep has come to its end yet"
        yield warning(Check.SWEEPS, told, "sweeper plan, then sweeper sweep")
        return
    yield from _last(found[0], is_scheduled=is_scheduled)


def _last(row: SweepRow, *, is_scheduled: bool) -> Iterator[Finding]:
    ago = datetime.now(UTC) - moment.from_us(row.finished_at or row.started_at)
    told = f"the last sweep ended {wording.length(ago)} ago and was"
    if not row.complete:
        why = "something is left" if row.stop_reason is None else wording.stopped(row.stop_reason)
        yield warning(Check.SWEEPS, f"{told} not complete: {why}", "sweeper status")
    elif ago > _RARELY and not is_scheduled:
        yield warning(Check.SWEEPS, f"{told} complete", "start sweeper run, or sweeper sweep now")
    else:
        yield ok(Check.SWEEPS, f"{told} complete")


def missed(db: Database) -> Iterator[Finding]:
    """Which runs did not happen lately, and whether one has happened since."""
    now = datetime.now(UTC)
    with db.read() as connection:
        known = schedules.history(connection)
        finished = sweeps.latest(connection, finished=True)
    if not known:
        yield ok(Check.SCHEDULE, "no sweeper run has followed a schedule yet, so no run was missed")
        return
    followed = schedule.render(known[-1][1])
    found = schedule.missed(db, now - LOOKED_BACK, now)
    if found is None:
        yield ok(Check.SCHEDULE, f"{followed}: no run was missed in the last 7 days")
        return
    runs = "1 run" if found.count == 1 else f"{found.count:,} runs"
    told = f"{followed}: {runs} did not happen in the last 7 days, the last of them at"
    told += f" {found.last.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
    ran_since = any((row.finished_at or 0) >= moment.to_us(found.last) for row in finished)
    if ran_since:
        yield warning(Check.SCHEDULE, told, "sweeper report --since 7d")
    else:
        then = "start sweeper run, and read in its log what ended it"
        yield fault(Check.SCHEDULE, f"{told}, and none since", then)
