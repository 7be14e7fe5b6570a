"""Residue: what is still due, by the reason why, page by page and never twice."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.ledger import admission, registrations, residue, tables
from sweeper.ledger.database import Database
from sweeper.ledger.residue import Bounds
from tests.support import explained, lent
from tests.support.lent import EVERY, only, put, settle, settled, take
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration, rows

CUTOFF = moment.to_us(NOW - DAY)
"""What is a day old is due."""
YOUNG = DAY - timedelta(microseconds=1)


def label_set(db: Database, name: str = "resp_1") -> int:
    found: int = by_id(db)[name]["label_set_id"]
    return found


def live(db: Database, *cuts: tuple[int, int], **given: Any) -> dict[int, dict[str, int]]:
    values: dict[str, Any] = {"sweep_id": "sweep-1", "newest_pk": EVERY, "now": NOW_US}
    counted = residue.live(db, cuts, Bounds(**(values | given)))
    return {key: dict(counts) for key, counts in counted.items()}


def elsewhere(
    db: Database,
    *cuts: tuple[int, int],
    newest_pk: int = EVERY,
    configured: frozenset[str] = frozenset({"main"}),
) -> dict[str, int]:
    return dict(residue.elsewhere(db, cuts, newest_pk, configured=configured))


def test_every_live_response_that_is_due_has_one_reason(database: Database) -> None:
    admit(
        database,
        *(registration(f"resp_{n}") for n in range(1, 7)),
        registration("resp_child", previous="resp_5", age=YOUNG),
        registration("resp_young", age=YOUNG),
    )
    tried = {
        "resp_1": Outcome.FAILING,
        "resp_2": Outcome.NOT_VISIBLE,
        "resp_3": Outcome.STILL_PRESENT,
    }
    for name, outcome in tried.items():
        settle(database, [settled(only(take(database, name)), lent.again(outcome, after=DAY))])
    put(database, "resp_4", next_try_at=NOW_US + 1)
    one = label_set(database)
    assert live(database, (one, CUTOFF)) == {
        one: {
            "failing": 1,
            "not_visible": 1,
            "still_present": 1,
            "backing_off": 1,
            "waiting": 1,
            "untried": 1,
        }
    }


def test_the_outcome_of_an_earlier_sweep_is_no_reason(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    later = timedelta(hours=1)
    for name, after in (("resp_1", later), ("resp_2", -later)):
        again = lent.again(Outcome.FAILING, after=after)
        settle(database, [settled(only(take(database, name)), again)], sweep_id="sweep-0")
    one = label_set(database)
    assert live(database, (one, CUTOFF)) == {one: {"backing_off": 1, "untried": 1}}


def test_a_parent_waits_for_a_child_until_it_is_gone(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", previous="resp_1", age=YOUNG))
    one = label_set(database)
    for state in (
        {"state": "quarantined", "quarantine_reason": "rejected"},
        {"state": "verifying", "yes_at": 1, "verify_at": 1},
    ):
        put(database, "resp_2", **state)
        assert live(database, (one, CUTOFF)) == {one: {"waiting": 1}}
    put(database, "resp_2", state="gone", outcome="closed", finished_at=1)
    assert live(database, (one, CUTOFF)) == {one: {"untried": 1}}


def test_what_came_after_the_plan_is_not_counted(database: Database) -> None:
    admit(database, registration("resp_1"))
    newest = by_id(database)["resp_1"]["id"]
    admit(database, registration("resp_2"))
    one = label_set(database)
    assert live(database, (one, CUTOFF), newest_pk=newest) == {one: {"untried": 1}}


def test_label_sets_are_counted_apart_each_to_its_own_cut_off(database: Database) -> None:
    admit(
        database,
        registration("resp_1"),
        registration("resp_2", labels={"app": "b"}),
        registration("resp_3", labels={"app": "c"}),
    )
    one, two = label_set(database), label_set(database, "resp_2")
    assert live(database, (one, CUTOFF), (two, CUTOFF - 1)) == {one: {"untried": 1}, two: {}}
    assert live(database) == {}


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12, 13])
def test_pages_leave_nothing_out_and_count_nothing_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Several of one microsecond lie across the border of a page."""
    monkeypatch.setattr(residue, "_PAGE", 6)
    residue._reasons.cache_clear()
    admit(
        database,
        *(registration(f"resp_{n}", age=DAY + timedelta(seconds=n // 4)) for n in range(count)),
    )
    one = label_set(database, "resp_0")
    try:
        assert live(database, (one, CUTOFF)) == {one: {"untried": count}}
        newest = by_id(database)["resp_0"]["id"]
        assert sum(live(database, (one, CUTOFF), newest_pk=newest)[one].values()) >= 1
    finally:
        residue._reasons.cache_clear()


def test_each_page_is_a_short_transaction_of_its_own(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residue, "_PAGE", 2)
    residue._reasons.cache_clear()
    admit(sqlite_database, *(registration(f"resp_{n}") for n in range(5)))
    one = label_set(sqlite_database, "resp_0")
    begun: list[str] = []
    sa.event.listen(
        sqlite_database.engine, "before_cursor_execute", lambda *values: begun.append(values[2])
    )
    try:
        live(sqlite_database, (one, CUTOFF))
    finally:
        residue._reasons.cache_clear()
    assert [text for text in begun if text.startswith("BEGIN")] == ["BEGIN DEFERRED"] * 3


def test_the_count_walks_the_index_of_the_living(sqlite_database: Database) -> None:
    admit(sqlite_database, *(registration(f"resp_{n}") for n in range(50)))
    one = label_set(sqlite_database)
    with explained.statements(sqlite_database) as steps:
        live(sqlite_database, (one, CUTOFF))
    assert [step for step in steps if "SEARCH responses USING INDEX ix_responses_live" in step]
    assert not explained.walks(steps)
    assert not [step for step in steps if "TEMP B-TREE" in step]


# What is not live


def test_what_is_not_live_is_counted_by_its_state(database: Database) -> None:
    admit(
        database,
        *(registration(f"resp_{n}") for n in range(1, 6)),
        registration("resp_young", age=YOUNG),
        registration("resp_aside", age=YOUNG),
        registration("resp_claimed", age=YOUNG),
    )
    take(database, "resp_1", "resp_claimed")
    settle(database, [settled(only(take(database, "resp_2")), lent.YES)])
    settle(database, [settled(only(take(database, "resp_3")), lent.REJECTED)])
    settle(database, [settled(only(take(database, "resp_4")), lent.DELETED)])
    settle(database, [settled(only(take(database, "resp_young")), lent.YES)])
    settle(database, [settled(only(take(database, "resp_aside")), lent.REJECTED)])
    one = label_set(database)
    assert elsewhere(database, (one, CUTOFF)) == {"stopped": 1, "verifying": 2, "quarantined": 1}


def test_a_yes_counts_until_it_is_verified_even_without_a_cut(database: Database) -> None:
    admit(database, registration("resp_1"))
    settle(database, [settled(only(take(database, "resp_1")), lent.YES)])
    assert elsewhere(database, newest_pk=0) == {"verifying": 1}


def test_what_is_set_aside_without_a_time_is_always_counted(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.registrations).values(
                account="main", response_id="resp_1", created_at=None, labels="{}"
            )
        )
        assert registrations.waiting(connection) == 1
    with database.write() as connection:
        admission.drain(connection, now=NOW_US)
    row = by_id(database)["resp_1"]
    assert (row["state"], row["created_at"]) == ("quarantined", None)
    one = row["label_set_id"]
    assert elsewhere(database) == {"quarantined": 1}
    assert elsewhere(database, (one, EVERY)) == {"quarantined": 1}


def test_what_was_claimed_or_set_aside_after_the_plan_is_not_counted(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    take(database, "resp_1")
    settle(database, [settled(only(take(database, "resp_2")), lent.REJECTED)])
    assert elsewhere(database, (label_set(database), CUTOFF), newest_pk=0) == {}


@pytest.mark.parametrize("account", ["(invalid)", "elsewhere"])
def test_what_is_set_aside_at_no_account_of_ours_is_always_counted(
    database: Database, account: str
) -> None:
    """No policy can tell when it would be due, so a person must hear of it."""
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.registrations).values(
                account="no name!" if account == "(invalid)" else account,
                response_id="a/b",
                created_at=moment.to_us(NOW - DAY),
                labels="{}",
            )
        )
    with database.write() as connection:
        admission.drain(connection, now=NOW_US)
    (row,) = by_id(database).values()
    assert (row["state"], row["created_at"]) == ("quarantined", moment.to_us(NOW - DAY))
    assert elsewhere(database) == {"quarantined": 1}
    assert elsewhere(database, (row["label_set_id"], CUTOFF)) == {"quarantined": 1}
    assert elsewhere(database, configured=frozenset({account})) == {}


def test_no_count_walks_all_responses(sqlite_database: Database) -> None:
    admit(
        sqlite_database,
        *(registration(f"resp_{n}", labels={"n": str(n % 3)}) for n in range(30)),
    )
    sets = [row["id"] for row in rows(sqlite_database, tables.label_sets)]
    with explained.statements(sqlite_database) as steps:
        elsewhere(sqlite_database, *((one, CUTOFF) for one in sets))
    for name in ("claimed", "verifying", "quarantined"):
        assert [step for step in steps if f"ix_responses_{name}" in step]
    assert not explained.walks(steps)


def test_each_label_set_is_counted_in_a_transaction_of_its_own(sqlite_database: Database) -> None:
    admit(sqlite_database, *(registration(f"resp_{n}", labels={"n": str(n)}) for n in range(4)))
    begun: list[str] = []
    sa.event.listen(
        sqlite_database.engine, "before_cursor_execute", lambda *values: begun.append(values[2])
    )
    elsewhere(sqlite_database)
    assert [text for text in begun if text.startswith("BEGIN")] == ["BEGIN DEFERRED"] * 5


def oldest(db: Database) -> int | None:
    with db.read() as connection:
        return residue.oldest(connection, label_set(db))


def test_the_oldest_of_the_living_is_known(database: Database) -> None:
    admit(database, registration("resp_1", age=3 * DAY), registration("resp_2", age=2 * DAY))
    assert oldest(database) == moment.to_us(NOW - 3 * DAY)
    settle(database, [settled(only(take(database, "resp_1")), lent.DELETED)])
    assert oldest(database) == moment.to_us(NOW - 2 * DAY)
    settle(database, [settled(only(take(database, "resp_2")), lent.YES)])
    assert oldest(database) is None
