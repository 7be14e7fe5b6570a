"""What is due is counted in short pages, and what waits is told from what does not."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.registration import Registration
from sweeper.ledger import backlog
from sweeper.ledger.backlog import Cut
from sweeper.ledger.database import Database
from tests.support import explained
from tests.support.lent import EVERY, put
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration

CUTOFF = moment.to_us(NOW - DAY)
YOUNG = DAY - timedelta(microseconds=1)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_PAGE", 3)
    monkeypatch.setattr(backlog, "_WAITING_PAGE", 3)


def cut(db: Database, name: str, cutoff: int = CUTOFF) -> Cut:
    return Cut(by_id(db)[name]["label_set_id"], cutoff)


def due(db: Database, one: Cut) -> tuple[int, int]:
    return backlog.due(db, one, NOW_US, lambda: False)


def waiting(db: Database, one: Cut, *others: Cut, newest_pk: int = EVERY) -> int:
    return backlog.waiting(
        db, one, [one, *others], newest_pk=newest_pk, now=NOW_US, is_stopped=lambda: False
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
@pytest.mark.usefixtures("small_pages")
def test_pages_leave_nothing_out_and_count_nothing_twice(database: Database, count: int) -> None:
    """Several of one microsecond lie across the border of a page."""
    admit(
        database,
        *(registration(f"resp_{n}", age=DAY + timedelta(seconds=n // 4)) for n in range(count)),
        registration("young", age=YOUNG),
        registration("another's", labels={"a": "b"}),
    )
    put(database, "resp_0", next_try_at=NOW_US + 1)
    assert due(database, cut(database, "resp_0")) == (count - 1, 1)
    put(database, "resp_0", state="gone", outcome="closed", finished_at=1)
    assert due(database, cut(database, "resp_0")) == (count - 1, 0)


@pytest.mark.usefixtures("small_pages")
def test_nothing_due_is_nothing(database: Database) -> None:
    admit(database, registration("young", age=YOUNG))
    assert due(database, cut(database, "young")) == (0, 0)
    assert waiting(database, cut(database, "young")) == 0


@pytest.mark.usefixtures("small_pages")
def test_whatever_living_in_its_line_cannot_go_keeps_a_response(database: Database) -> None:
    admit(database, *_line(7))
    one = cut(database, "resp_0")
    assert waiting(database, one) == 0
    for name, values, kept in (
        ("resp_6", {"created_at": CUTOFF + 1}, 6),
        ("resp_4", {"state": "quarantined", "quarantine_reason": "r"}, 5),
        ("resp_2", {"next_try_at": NOW_US + 1}, 4),
    ):
        put(database, name, **values)
        assert waiting(database, one) == kept  # of those that could be tried
    put(database, "resp_2", next_try_at=NOW_US)
    put(database, "resp_4", state="gone", outcome="closed", finished_at=1)
    assert waiting(database, one) == 1  # resp_5, which resp_6 continues


@pytest.mark.usefixtures("small_pages")
def test_each_response_of_a_line_is_due_by_its_own_label_set(database: Database) -> None:
    admit(
        database,
        registration("resp_0"),
        registration("resp_1", labels={"a": "b"}, previous="resp_0"),
        registration("resp_2", previous="resp_1"),
    )
    one, two = cut(database, "resp_0"), cut(database, "resp_1")
    assert waiting(database, one) == 1  # nothing deletes resp_1
    assert waiting(database, one, two) == 0
    assert waiting(database, one, two._replace(cutoff=CUTOFF - 1)) == 1
    assert waiting(database, two, one) == 0


def test_two_branches_keep_a_response_once(database: Database) -> None:
    admit(
        database,
        registration("resp_0"),
        *(registration(f"young_{n}", previous="resp_0", age=YOUNG) for n in range(2)),
    )
    assert waiting(database, cut(database, "resp_0")) == 1


def test_what_came_after_the_plan_keeps_and_is_not_counted(database: Database) -> None:
    admit(database, registration("resp_0"))
    newest = by_id(database)["resp_0"]["id"]
    admit(database, registration("resp_1", previous="resp_0"), registration("resp_2"))
    admit(database, registration("young", previous="resp_2", age=YOUNG))
    assert waiting(database, cut(database, "resp_0"), newest_pk=newest) == 1


def test_a_line_is_followed_for_fifty_generations(database: Database) -> None:
    admit(database, *_line(53))
    put(database, "resp_52", created_at=CUTOFF + 1)
    assert waiting(database, cut(database, "resp_0")) == 50


@pytest.mark.usefixtures("small_pages")
def test_counting_ends_with_the_page_at_which_it_is_stopped(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(9)))
    one = cut(database, "resp_0")
    answers: Iterator[bool] = iter([False, True])
    assert backlog.due(database, one, NOW_US, lambda: next(answers)) == (3, 0)


@pytest.mark.usefixtures("small_pages")
def test_each_page_is_a_short_transaction_by_the_index_of_the_living(
    sqlite_database: Database,
) -> None:
    admit(sqlite_database, *_line(7))
    one = cut(sqlite_database, "resp_0")
    begun: list[str] = []
    sa.event.listen(
        sqlite_database.engine, "before_cursor_execute", lambda *values: begun.append(values[2])
    )
    with explained.statements(sqlite_database) as steps:
        due(sqlite_database, one)
        assert waiting(sqlite_database, one) == 0
    assert [text for text in begun if text.startswith("BEGIN")] == ["BEGIN DEFERRED"] * 6
    ranges = "(label_set_id=? AND created_at>? AND created_at<?)"
    assert [step for step in steps if f"ix_responses_live {ranges}" in step]
    assert len([step for step in steps if "ix_responses_children (parent_id=?)" in step]) == 2 * 3
    assert not explained.walks(steps)
    assert not [step for step in steps if "SCAN responses" in step]


def _line(length: int) -> list[Registration]:
    """So many responses, each of which continues the one before, all of them due."""
    return [
        registration(f"resp_{n}", previous=f"resp_{n - 1}" if n else None) for n in range(length)
    ]
