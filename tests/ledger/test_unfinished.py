"""What is due and not gone is counted once, whatever state it is in, and by why."""

import pytest

from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.ledger import backlog, unfinished
from sweeper.ledger.backlog import Cut
from sweeper.ledger.database import Database
from tests.support import explained, lent
from tests.support.lent import only, put, settle, settled, take
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration

CUTOFF = moment.to_us(NOW - DAY)


def cut(db: Database, name: str, cutoff: int = CUTOFF) -> Cut:
    return Cut(by_id(db)[name]["label_set_id"], cutoff)


def reasons(db: Database, *cuts: Cut) -> dict[int, dict[str, int]]:
    return {key: dict(found) for key, found in unfinished.reasons(db, cuts, NOW_US).items()}


def in_every_state(db: Database) -> None:
    names = ("untried", "claimed", "verifying", "aside", "gone", "failing", "later", "parent")
    admit(
        db,
        *(registration(name, age=2 * DAY) for name in names),
        registration("child", age=2 * DAY, previous="parent"),
        registration("young", age=DAY / 2),
        registration("another's", age=2 * DAY, labels={"a": "b"}),
    )
    take(db, "claimed")
    for name, settlement in (
        ("verifying", lent.YES),
        ("aside", lent.REJECTED),
        ("gone", lent.DELETED),
        ("failing", lent.again(Outcome.FAILING, after=DAY)),
    ):
        settle(db, [settled(only(take(db, name)), settlement)])
    put(db, "later", next_try_at=NOW_US + 1)


def test_each_is_counted_once_by_why_it_is_there(database: Database) -> None:
    in_every_state(database)
    one, other = cut(database, "untried"), cut(database, "another's")
    expected = {
        "untried": 2,  # and the child
        "claimed": 1,
        "verifying": 1,
        "quarantined": 1,
        "failing": 1,
        "backing_off": 1,
        "waiting": 1,
    }
    assert reasons(database, one, other) == {
        one.label_set_id: expected,
        other.label_set_id: {"untried": 1},
    }
    assert reasons(database, other) == {other.label_set_id: {"untried": 1}}
    assert reasons(database) == {}


def test_what_is_not_due_is_not_counted_in_any_state(database: Database) -> None:
    in_every_state(database)
    early = cut(database, "untried", moment.to_us(NOW - 3 * DAY))
    assert reasons(database, early) == {early.label_set_id: {}}


def test_what_a_person_put_back_is_untried(database: Database) -> None:
    """What was found before says nothing of it any more."""
    admit(database, registration("resp_1"))
    put(database, "resp_1", outcome="rejected")
    one = cut(database, "resp_1")
    assert reasons(database, one) == {one.label_set_id: {"untried": 1}}


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_pages_leave_nothing_out_and_count_nothing_twice(
    database: Database, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_WAITING_PAGE", 3)
    admit(database, *(registration(f"resp_{n}") for n in range(count)))
    one = cut(database, "resp_0")
    assert reasons(database, one) == {one.label_set_id: {"untried": count}}


def test_what_has_no_time_of_creation_counts_as_due(database: Database) -> None:
    admit(database, registration("resp_1", age=DAY / 2), registration("resp_2", age=DAY / 2))
    for name in ("resp_1", "resp_2"):
        put(database, name, state="quarantined", quarantine_reason="malformed:bad_created_at")
    put(database, "resp_1", created_at=None)
    one = cut(database, "resp_1")
    assert reasons(database, one) == {one.label_set_id: {"quarantined": 1}}
    assert unfinished.undated(database, one.label_set_id) == 1
    put(database, "resp_1", created_at=CUTOFF)
    assert unfinished.undated(database, one.label_set_id) == 0


def test_counting_walks_no_table(sqlite_database: Database) -> None:
    in_every_state(sqlite_database)
    one = cut(sqlite_database, "untried")
    with explained.statements(sqlite_database) as steps:
        reasons(sqlite_database, one)
    assert explained.walks(steps) == []
    joined = "\n".join(steps)
    for index in ("claimed", "verifying", "quarantined", "live"):
        assert f"ix_responses_{index}" in joined
