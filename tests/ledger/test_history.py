"""What left in a period is counted once, by page, and no page reads more than its part."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sweeper.ledger import history, tables
from sweeper.ledger.database import Database
from sweeper.ledger.history import Gone, SweepCount
from tests.support import explained
from tests.support.lent import put
from tests.support.registered import DAY, NOW_US, admit, registration

SECOND = 1_000_000


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(history, "_PAGE", 3)
    history._border.cache_clear()
    yield
    history._border.cache_clear()


def leave(db: Database, name: str, *, at: int, **values: object) -> None:
    given = {"outcome": "already_absent", "policy": "support", "due_at": at, "deadline_at": at}
    put(db, name, state="gone", finished_at=at, **(given | values))


def gone(db: Database, since: int, until: int, policy: str | None = None) -> list[Gone]:
    return list(history.gone(db, since, until, policy=policy))


def total(found: list[Gone]) -> int:
    return sum(one.number for one in found)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
@pytest.mark.usefixtures("small_pages")
def test_pages_leave_nothing_out_and_count_nothing_twice(database: Database, count: int) -> None:
    """Several of one microsecond lie across the border of a page."""
    admit(database, *(registration(f"resp_{n}") for n in range(count)), registration("live"))
    for n in range(count):
        leave(database, f"resp_{n}", at=NOW_US + n // 4)
    assert total(gone(database, NOW_US, NOW_US + 10)) == count


@pytest.mark.usefixtures("small_pages")
def test_the_period_has_its_first_microsecond_and_not_its_last(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(6)))
    for n in range(6):
        leave(database, f"resp_{n}", at=NOW_US + n)
    assert total(gone(database, NOW_US + 1, NOW_US + 4)) == 3
    assert total(gone(database, NOW_US + 2, NOW_US + 4)) == 2  # the third would end a page
    assert total(gone(database, NOW_US + 5, NOW_US + 5)) == 0
    assert gone(database, NOW_US + 6, NOW_US + 9) == []


def test_lateness_is_rounded_up_and_never_below_zero(database: Database) -> None:
    for name, late in (
        ("on_time", 0),
        ("early", -5 * SECOND),
        ("just", 1),
        ("one", SECOND),
        ("two", SECOND + 1),
    ):
        admit(database, registration(name))
        leave(database, name, at=NOW_US, due_at=NOW_US - late)
    admit(database, registration("nobody's"))
    leave(database, "nobody's", at=NOW_US, due_at=None, deadline_at=None, policy=None)
    counted = Counter({one.late_seconds: one.number for one in gone(database, 0, NOW_US + 1)})
    assert counted == {0: 2, 1: 2, 2: 1, None: 1}


def test_past_the_deadline_is_later_than_it_and_not_at_it(database: Database) -> None:
    admit(database, *(registration(name) for name in ("at", "past", "without")))
    leave(database, "at", at=NOW_US, deadline_at=NOW_US)
    leave(database, "past", at=NOW_US, deadline_at=NOW_US - 1)
    leave(database, "without", at=NOW_US, deadline_at=None)
    found = gone(database, 0, NOW_US + 1)
    assert Counter({one.past_deadline: one.number for one in found}) == {1: 1, 0: 2}


def test_what_left_otherwise_is_told_apart(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(4)))
    admit(database, registration("resp_o", account="other"))
    yes = {"outcome": "deleted", "yes_at": NOW_US, "due_at": NOW_US - SECOND}
    leave(database, "resp_0", at=NOW_US, **yes)
    leave(database, "resp_1", at=NOW_US + 7, verified=1, **{**yes, "due_at": NOW_US - SECOND + 7})
    leave(database, "resp_2", at=NOW_US, policy="other policy")
    leave(database, "resp_3", at=NOW_US)
    leave(database, "resp_o", at=NOW_US)
    found = gone(database, 0, NOW_US + 9)
    assert Counter((one.policy, one.outcome, one.verified, one.late_seconds) for one in found) == {
        ("support", "deleted", 0, 1): 1,
        ("support", "deleted", 1, 1): 1,
        ("other policy", "already_absent", 0, 0): 1,
        ("support", "already_absent", 0, 0): 2,
    }
    assert len({one.account_id for one in found}) == 2
    (only,) = gone(database, 0, NOW_US + 9, "other policy")
    assert (only.policy, only.number) == ("other policy", 1)
    assert gone(database, 0, NOW_US + 9, "no such") == []


def test_reading_a_period_walks_no_table(sqlite_database: Database) -> None:
    admit(sqlite_database, registration("resp_1"))
    leave(sqlite_database, "resp_1", at=NOW_US)
    with explained.statements(sqlite_database) as steps:
        assert total(gone(sqlite_database, NOW_US, NOW_US + 1)) == 1
    assert steps
    assert explained.walks(steps) == []
    assert all("ix_responses_gone" in step for step in steps if "responses" in step), steps


def test_sweeps_are_counted_by_how_they_ended(database: Database) -> None:
    rows = [
        ("before", -1, None, None),
        ("died", 0, None, None),
        ("good", 1, 1, None),
        ("good too", 2, 1, None),
        ("left", 3, 0, None),
        ("guard", 4, 0, "guard"),
        ("after", 5, 1, None),
    ]
    with database.write() as connection:
        for name, at, complete, stop_reason in rows:
            values = {"id": name, "started_at": NOW_US + at, "stop_reason": stop_reason}
            ended = None if complete is None else NOW_US + at + 1
            connection.execute(
                sa.insert(tables.sweeps).values(complete=complete, finished_at=ended, **values)
            )
    with database.read() as connection:
        found = history.sweeps(connection, NOW_US, NOW_US + 5)
    assert sorted(found, key=str) == sorted(
        [
            SweepCount(None, None, 1),
            SweepCount(True, None, 2),
            SweepCount(False, None, 1),
            SweepCount(False, "guard", 1),
        ],
        key=str,
    )


def test_a_long_history_is_read_in_short_transactions(sqlite_database: Database) -> None:
    """As many transactions as pages, so that no commit waits for the whole of it."""
    count = 3 * history._PAGE // 2
    admit(
        sqlite_database,
        *(registration(f"r{n}", age=DAY + timedelta(seconds=n)) for n in range(count)),
    )
    with sqlite_database.write() as connection:
        table = tables.responses
        values = {"state": "gone", "outcome": "closed", "finished_at": NOW_US + table.c.id}
        connection.execute(sa.update(table).values(**values))
    begun: list[object] = []
    sa.event.listen(sqlite_database.engine, "begin", begun.append)
    assert total(gone(sqlite_database, 0, 2 * NOW_US)) == count
    assert len(begun) == 2
