"""Whether sweeps happen by themselves is seen from the ledger."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.schedule import Schedule
from sweeper.ledger import leases, schedules, tables
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Duty
from sweeper.service.doctor import regularity
from sweeper.service.doctor.findings import Finding, Level

HOUR = timedelta(hours=1)


def us(ago: timedelta) -> int:
    return moment.to_us(datetime.now(UTC) - ago)


def follow(db: Database, *, ago: timedelta) -> None:
    with db.write() as connection:
        schedules.keep(connection, Schedule(every=HOUR), now=us(ago))


def swept(db: Database, *, ago: timedelta, lasted: timedelta, **values: object) -> None:
    row = {"id": str(ago), "started_at": us(ago), "finished_at": us(ago - lasted), "complete": 1}
    with db.write() as connection:
        connection.execute(sa.insert(tables.sweeps).values(**{**row, **values}))


def only(found: Iterator[Finding]) -> Finding:
    (one,) = found
    return one


def test_a_daemon_is_seen_and_so_is_that_there_is_none(sqlite_database: Database) -> None:
    one = only(regularity.daemon(sqlite_database))
    assert (one.level, one.next is not None) == (Level.WARNING, True)
    with leases.file_lock(sqlite_database, Duty.DAEMON):
        assert only(regularity.daemon(sqlite_database)).level is Level.OK


def test_a_ledger_in_which_nothing_was_swept_is_told(database: Database) -> None:
    one = only(regularity.last_sweep(database))
    assert (one.level, one.next) == (Level.WARNING, "sweeper plan, then sweeper sweep")
    assert only(regularity.missed(database)).level is Level.OK


def test_the_last_sweep_is_told_by_how_it_ended(database: Database) -> None:
    swept(database, ago=5 * HOUR, lasted=HOUR, complete=0)
    assert only(regularity.last_sweep(database)).message.endswith("not complete: something is left")
    swept(database, ago=3 * HOUR, lasted=HOUR, complete=0, stop_reason="guard")
    one = only(regularity.last_sweep(database))
    assert one.level is Level.WARNING
    assert one.message == "the last sweep ended 2 h ago and was not complete: a guard refused it"
    swept(
        database,
        ago=HOUR * 5 / 2,
        lasted=HOUR,
        complete=0,
        stop_reason="account:main:credential",
    )
    assert only(regularity.last_sweep(database)).message.endswith(
        "not complete: account main was stopped (credential)"
    )
    swept(database, ago=2 * HOUR, lasted=HOUR)
    one = only(regularity.last_sweep(database))
    assert (one.level, one.message) == (Level.OK, "the last sweep ended 1 h ago and was complete")


def test_a_sweep_that_runs_has_not_ended(database: Database) -> None:
    swept(database, ago=2 * HOUR, lasted=HOUR)
    swept(database, ago=HOUR / 2, lasted=HOUR / 4, finished_at=None, complete=None)
    assert only(regularity.last_sweep(database)).message == (
        "the last sweep ended 1 h ago and was complete"
    )


def test_without_a_schedule_a_day_without_a_sweep_is_told(database: Database) -> None:
    swept(database, ago=26 * HOUR, lasted=HOUR)
    assert only(regularity.last_sweep(database)).level is Level.WARNING
    follow(database, ago=27 * HOUR)
    assert only(regularity.last_sweep(database)).level is Level.OK  # missed runs tell it


def test_runs_that_were_missed_and_none_since_are_a_fault(database: Database) -> None:
    follow(database, ago=30 * HOUR)
    swept(database, ago=30 * HOUR, lasted=20 * HOUR)
    one = only(regularity.missed(database))
    assert one.level is Level.FAULT
    assert one.message.startswith("every 1h: ")
    assert one.message.endswith(", and none since")
    swept(database, ago=timedelta(minutes=1), lasted=timedelta(seconds=30))
    one = only(regularity.missed(database))
    assert (one.level, one.next) == (Level.WARNING, "sweeper report --since 7d")


def test_where_every_run_happened_all_is_well(database: Database) -> None:
    follow(database, ago=30 * HOUR)
    swept(database, ago=31 * HOUR, lasted=31 * HOUR)
    assert only(regularity.missed(database)).level is Level.OK


def test_one_missed_run_is_said_as_one(database: Database) -> None:
    now = datetime.now(UTC)
    since_1970 = now - datetime(1970, 1, 1, tzinfo=UTC)
    every = next(n * HOUR for n in (50, 53, 57) if HOUR < since_1970 % (n * HOUR) < 49 * HOUR)
    begun = us(since_1970 % every + timedelta(minutes=1))
    with database.write() as connection:
        schedules.keep(connection, Schedule(every=every), now=begun)
    one = only(regularity.missed(database))
    assert one.level is Level.FAULT
    assert ": 1 run did not happen" in one.message
