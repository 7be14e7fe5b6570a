"""Sweeps: opened, closed with their numbers, found again."""

import json
from typing import Any

import sqlalchemy as sa

from sweeper.ledger import sweeps, tables
from sweeper.ledger.database import Database
from sweeper.ledger.sweeps import SweepRow
from tests.support import invariants
from tests.support.registered import NOW_US, rows

SUMMARY: dict[str, object] = {
    "type": "summary",
    "sweep_id": "s1",
    "outcomes": {"deleted": 2},
    "remaining": None,
    "complete": False,
}


def begin(db: Database, *sweep_ids: str) -> None:
    with db.write() as connection:
        for index, sweep_id in enumerate(sweep_ids):
            sweeps.begin(connection, sweep_id, now=NOW_US + index)


def finish(db: Database, sweep_id: str, *, complete: bool = True, stop: str | None = None) -> None:
    with db.write() as connection:
        sweeps.finish(
            connection,
            sweep_id,
            complete=complete,
            stop_reason=stop,
            summary=SUMMARY,
            finished_at=NOW_US + 100,
            now=NOW_US + 100,
        )


def latest(db: Database, *given: Any, **options: Any) -> list[SweepRow]:
    with db.read() as connection:
        return sweeps.latest(connection, *given, **options)


def told(db: Database, kind: str) -> list[dict[str, Any]]:
    found = (json.loads(row["body"]) for row in rows(db, tables.records))
    return [record for record in found if record["type"] == kind]


def test_a_running_sweep_has_only_begun(database: Database) -> None:
    assert latest(database) == []
    begin(database, "s1")
    assert latest(database) == [
        SweepRow(
            id="s1",
            started_at=NOW_US,
            finished_at=None,
            complete=None,
            stop_reason=None,
            summary=None,
        )
    ]
    assert latest(database, finished=True) == []


def test_a_finished_sweep_keeps_and_records_its_numbers(database: Database) -> None:
    begin(database, "s1", "s2")
    finish(database, "s1", complete=False, stop="account:main:payment")
    (found,) = latest(database, finished=True)
    assert (found.id, found.finished_at, found.complete) == ("s1", NOW_US + 100, False)
    assert (found.stop_reason, found.summary) == ("account:main:payment", SUMMARY)
    (record,) = told(database, "run.summary")
    for name in SUMMARY.keys() - {"type"}:
        assert record[name] == SUMMARY[name]
    assert latest(database)[0].finished_at is None
    invariants.check(database)


def test_a_complete_sweep_says_so(database: Database) -> None:
    begin(database, "s1")
    finish(database, "s1")
    assert latest(database)[0].complete is True


def test_the_newest_sweeps_come_first(database: Database) -> None:
    begin(database, "s1", "s2", "s3")
    finish(database, "s1")
    finish(database, "s3")
    assert [row.id for row in latest(database, 2)] == ["s3", "s2"]
    assert [row.id for row in latest(database, 5, finished=True)] == ["s3", "s1"]


def test_policies_are_recorded_when_they_change(database: Database) -> None:
    for sha256 in ("one", "one", "two", "two", "one"):
        with database.write() as connection:
            sweeps.keep_policies(connection, sha256, now=NOW_US)
    records = told(database, "policy.effective")
    assert [record["policies_sha256"] for record in records] == ["one", "two", "one"]
    invariants.check(database)


def test_of_a_span_all_sweeps_are_told_that_touch_it_and_came_to_their_end(
    database: Database,
) -> None:
    with database.write() as connection:
        for name, began, ended in (
            ("before", 10, 20),
            ("into", 25, 30),
            ("within", 40, 50),
            ("died", 55, None),
            ("out of", 60, 90),
            ("after", 95, 99),
        ):
            connection.execute(
                sa.insert(tables.sweeps).values(id=name, started_at=began, finished_at=ended)
            )
    with database.read() as connection:
        assert sweeps.finished_between(connection, 30, 60) == [(25, 30), (40, 50), (60, 90)]


def test_what_a_clock_that_was_ahead_has_dated_comes_before_what_begins_now(
    database: Database,
) -> None:
    with database.write() as connection:
        for name, began, ended in (("right", 10, 20), ("ahead", 900, 990), ("died", 950, None)):
            connection.execute(
                sa.insert(tables.sweeps).values(id=name, started_at=began, finished_at=ended)
            )
        sweeps.redate(connection, now=50)
        sweeps.begin(connection, "new", now=50)
    assert {
        row["id"]: (row["started_at"], row["finished_at"]) for row in rows(database, tables.sweeps)
    } == {
        "right": (10, 20),
        "ahead": (49, 49),
        "died": (49, None),
        "new": (50, None),
    }
    assert latest(database)[0].id == "new"


def test_one_that_was_interrupted_is_no_run_that_came_to_its_own_end(database: Database) -> None:
    with database.write() as connection:
        for name, began, why in (("whole", 10, None), ("cut", 30, "interrupted")):
            connection.execute(
                sa.insert(tables.sweeps).values(
                    id=name, started_at=began, finished_at=began + 5, stop_reason=why
                )
            )
    with database.read() as connection:
        assert sweeps.finished_between(connection, 0, 99) == [(10, 15)]
        (found,) = sweeps.latest(connection, finished=True, by_itself=True)
    assert found.id == "whole"


def test_a_sweep_by_a_clock_that_is_behind_comes_after_all_that_were_begun_before(
    database: Database,
) -> None:
    """It is the newest, and how it ended is what is told."""
    with database.write() as connection:
        sweeps.begin(connection, "before", now=NOW_US)
        sweeps.begin(connection, "behind", now=NOW_US - 10**11)
        sweeps.finish(
            connection,
            "behind",
            complete=False,
            stop_reason="clock",
            summary=SUMMARY,
            finished_at=NOW_US - 10**11 + 5,
            now=NOW_US,
        )
    (newest,) = latest(database)
    assert (newest.id, newest.stop_reason) == ("behind", "clock")
    assert (newest.started_at, newest.finished_at) == (NOW_US + 1, NOW_US + 1)
