"""Alarms stand in the ledger as they were left, and of two that open one, one does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from sweeper.domain.alarm import Alarm, Condition, Kind
from sweeper.ledger import alarms
from sweeper.ledger.database import Database
from tests.support.registered import NOW


def alarm(name: str = "main", **given: object) -> Alarm:
    condition = Condition(
        id=f"incident:{name}",
        kind=Kind.INCIDENT,
        summary='"1 response" — of läbels',
        next="write to them",
        fields={"account": name, "responses": 1, "oldest_seconds": 0.5, "first": None},
    )
    plain = Alarm(condition=condition, opened_at=NOW, try_at=NOW)
    return replace(plain, **given)  # type: ignore[arg-type]  # whatever a test gives


def every(db: Database) -> dict[str, Alarm]:
    with db.read() as connection:
        return alarms.every(connection)


def add(db: Database, one: Alarm) -> bool:
    with db.write() as connection:
        return alarms.add(connection, one)


def test_an_alarm_is_read_as_it_was_written(database: Database) -> None:
    fresh = alarm()
    later = timedelta(hours=1, microseconds=1)
    told = alarm("other", told_at=NOW, try_at=NOW + later, tries=3, resolved_at=NOW + later)
    assert add(database, fresh)
    assert add(database, told)
    assert every(database) == {fresh.id: fresh, told.id: told}


def test_an_alarm_is_written_over_and_dropped(database: Database) -> None:
    one, other = alarm(), alarm("other")
    add(database, one)
    add(database, other)
    changed = replace(one, tries=1, told_at=NOW)
    with database.write() as connection:
        assert alarms.every(connection, locked=True) == {one.id: one, other.id: other}
        alarms.keep(connection, changed)
        alarms.drop(connection, other.id)
    assert every(database) == {one.id: changed}


def test_of_two_that_open_an_alarm_at_once_one_does(database: Database) -> None:
    ready = threading.Barrier(2)

    def open_it() -> bool:
        ready.wait(10)
        return add(database, alarm())

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(open_it) for _ in range(2)]
    assert sorted(each.result() for each in done) == [False, True]


def test_an_alarm_that_stands_is_not_opened_over(database: Database) -> None:
    told = alarm(told_at=NOW)
    add(database, told)
    assert not add(database, alarm())
    assert every(database) == {told.id: told}
