"""Reading responses: by id, by page, and what of a label set is due."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.ledger import accounts, responses, tables
from sweeper.ledger.database import Database
from sweeper.ledger.responses import Candidate
from tests.support import explained
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration

ALL = 2**62


def put(db: Database, response_id: str, **values: object) -> None:
    """Bring a response into another state, as a sweep would."""
    with db.write() as connection:
        connection.execute(
            sa.update(tables.responses)
            .where(tables.responses.c.response_id == response_id)
            .values(**values)
        )


def gone(db: Database, response_id: str) -> None:
    put(db, response_id, state="gone", outcome="closed", finished_at=1)


def cutoff(age: timedelta) -> int:
    return moment.to_us(NOW - age)


def leaves(db: Database, age: timedelta = DAY, **options: Any) -> Sequence[Candidate]:
    with db.read() as connection:
        (label_set,) = responses.label_sets(connection)
        given: dict[str, Any] = {"newest_pk": ALL, "now": NOW_US, "limit": 100} | options
        return responses.leaves(connection, label_set.id, cutoff(age), **given)


def names(found: Sequence[Any]) -> list[str]:
    return [one.response_id for one in found]


# Looking up


def test_a_response_is_found_with_all_that_is_known_of_it(database: Database) -> None:
    admit(database, registration("resp_0"))
    admit(
        database,
        registration("resp_1", labels={"app": "chat"}, subject="u-1", previous="resp_0"),
    )
    with database.read() as connection:
        found = responses.show(connection, "resp_1")
        (parent,) = responses.find(connection, "resp_0")
    assert found.account == "main"
    assert found.labels == '{"app":"chat"}'
    assert found.created_at == found.first_created_at == cutoff(DAY)
    assert found.state is State.LIVE
    assert found.verified is False
    assert (found.subject, found.previous_response_id) == ("u-1", "resp_0")
    assert found.parent_id == parent.id
    assert found.attempts == found.failures == 0


def test_an_id_that_nobody_registered_is_unknown(database: Database) -> None:
    with database.read() as connection, pytest.raises(errors.UnknownResponse):
        responses.show(connection, "resp_1")


def test_an_id_in_several_accounts_must_be_told_apart(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_1", account="other"))
    with database.read() as connection:
        assert len(responses.find(connection, "resp_1")) == 2
        with pytest.raises(errors.UsageError, match="main, other"):
            responses.show(connection, "resp_1")
        assert responses.show(connection, "resp_1", "other").account == "other"
        with pytest.raises(errors.UnknownResponse):
            responses.show(connection, "resp_1", "third")


def test_responses_are_listed_in_pages_by_state_and_account(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(5)))
    admit(database, registration("resp_x", account="other"))
    gone(database, "resp_3")
    with database.read() as connection:
        first = responses.list(connection, limit=2)
        rest = responses.list(connection, after=first[-1].id)
        live = responses.list(connection, state=State.LIVE, account="main")
        assert names(responses.list(connection, state=State.GONE)) == ["resp_3"]
    assert names([*first, *rest]) == [*(f"resp_{n}" for n in range(5)), "resp_x"]
    assert names(live) == ["resp_0", "resp_1", "resp_2", "resp_4"]


def test_children_are_those_that_are_not_gone(database: Database) -> None:
    admit(
        database,
        registration("resp_0"),
        *(registration(f"resp_{n}", previous="resp_0") for n in (1, 2, 3)),
    )
    gone(database, "resp_2")
    with database.read() as connection:
        found = responses.children(connection, by_id(database)["resp_0"]["id"])
    assert names(found) == ["resp_1", "resp_3"]


def test_label_sets_are_read_with_their_accounts_and_counts(database: Database) -> None:
    admit(
        database,
        registration("resp_1", labels={"app": "a"}),
        registration("resp_2", labels={"app": "a"}),
        registration("resp_3", account="other"),
    )
    with database.read() as connection:
        found = responses.label_sets(connection)
    assert [(row.account, row.labels, row.live_count) for row in found] == [
        ("main", '{"app":"a"}', 2),
        ("other", "{}", 1),
    ]


def test_the_newest_key_is_that_of_the_last_admission(database: Database) -> None:
    with database.read() as connection:
        assert responses.newest_pk(connection) == 0
    admit(database, registration("resp_1"), registration("resp_2"))
    with database.read() as connection:
        assert responses.newest_pk(connection) == max(row["id"] for row in by_id(database).values())


# What is due


def test_what_is_due_is_counted_for_each_label_set_up_to_its_own_cutoff(
    database: Database,
) -> None:
    admit(
        database,
        *(registration(f"a_{n}", labels={"app": "a"}, age=n * DAY) for n in range(5)),
        *(registration(f"b_{n}", labels={"app": "b"}, age=n * DAY) for n in range(5)),
        registration("c_1", labels={"app": "c"}),
    )
    put(database, "a_2", next_try_at=NOW_US + 1)
    put(database, "a_3", next_try_at=NOW_US)
    gone(database, "b_4")
    with database.read() as connection:
        a, b, c = (row.id for row in responses.label_sets(connection))
        counts = responses.due_counts(
            connection, [(a, cutoff(DAY)), (b, cutoff(3 * DAY)), (c, cutoff(2 * DAY))], NOW_US
        )
        assert responses.due_counts(connection, [], NOW_US) == {}
    assert counts == {a: (3, 1), b: (1, 0)}


def test_leaves_come_oldest_first_and_only_as_far_as_they_are_due(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}", age=n * DAY) for n in (3, 1, 4, 2)))
    found = leaves(database, 2 * DAY)
    assert names(found) == ["resp_4", "resp_3", "resp_2"]
    assert found[0].created_at == cutoff(4 * DAY)
    assert found[0].parent_id is None


def test_a_page_of_leaves_goes_on_after_the_last_even_among_equal_times(
    database: Database,
) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(7)))
    found: list[Candidate] = []
    after = None
    while page := leaves(database, limit=2, after=after):
        found.extend(page)
        after = (page[-1].created_at, page[-1].id)
    assert names(found) == [f"resp_{n}" for n in range(7)]


def test_what_waits_or_left_is_no_leaf(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(7)))
    put(database, "resp_0", next_try_at=NOW_US + 1)
    put(database, "resp_1", next_try_at=NOW_US)
    put(database, "resp_2", state="claimed", token="t", claims=1)
    put(database, "resp_3", state="verifying", yes_at=1)
    put(database, "resp_4", state="quarantined", quarantine_reason="rejected")
    gone(database, "resp_5")
    assert names(leaves(database)) == ["resp_1", "resp_6"]


def test_what_was_admitted_after_the_plan_is_no_leaf(database: Database) -> None:
    admit(database, registration("resp_1"))
    newest = by_id(database)["resp_1"]["id"]
    admit(database, registration("resp_2", age=2 * DAY))
    assert names(leaves(database, newest_pk=newest)) == ["resp_1"]


def test_a_response_that_something_living_continues_is_no_leaf(database: Database) -> None:
    admit(database, registration("resp_0"), registration("resp_1", previous="resp_0"))
    assert names(leaves(database)) == ["resp_1"]
    put(database, "resp_1", state="quarantined", quarantine_reason="rejected")
    assert names(leaves(database)) == []
    gone(database, "resp_1")
    assert names(leaves(database)) == ["resp_0"]


def test_parents_come_with_how_many_keep_them_and_whether_they_may_be_tried(
    database: Database,
) -> None:
    admit(
        database,
        *(registration(f"resp_{n}", age=2 * DAY) for n in range(3)),
        *(registration(f"child_{n}", previous="resp_0") for n in range(3)),
        registration("child_3", previous="resp_1"),
    )
    gone(database, "child_0")
    put(database, "resp_1", next_try_at=NOW_US + 1)
    keys = [row["id"] for name, row in by_id(database).items() if name.startswith("resp_")]
    with database.read() as connection:
        found = responses.parents(connection, [*keys, *keys], NOW_US)
        assert responses.parents(connection, [], NOW_US) == []
    assert [(row.response_id, row.children, row.eligible) for row in found] == [
        ("resp_0", 2, True),
        ("resp_1", 1, False),
        ("resp_2", 0, True),
    ]
    assert found[0].created_at == cutoff(2 * DAY)


# How it is found


def plan(db: Database, statement: sa.Select[Any], **values: object) -> str:
    """How SQLite will go about a statement."""
    compiled = statement.compile(db.engine)
    given = {**compiled.params, **values}
    ordered = tuple(given[name] for name in compiled.positiontup or ())
    with db.read() as connection:
        found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", ordered)
        return "\n".join(row.detail for row in found)


def test_what_is_due_is_counted_by_the_index_of_the_living(sqlite_database: Database) -> None:
    how = plan(
        sqlite_database, responses.due_counts_statement("sqlite"), cuts="[[1,5]]", now=NOW_US
    )
    assert "ix_responses_live (label_set_id=? AND created_at<?)" in how
    assert "SCAN responses" not in how


def test_leaves_are_read_in_order_by_the_index_of_the_living(sqlite_database: Database) -> None:
    how = plan(
        sqlite_database,
        responses.leaves_statement("sqlite"),
        label_set_id=1,
        cutoff=5,
        newest_pk=9,
        now=NOW_US,
        after_created_at=1,
        after_id=1,
        limit=10,
    )
    assert "ix_responses_live (label_set_id=? AND created_at>? AND created_at<?)" in how
    assert "ix_responses_children (parent_id=?)" in how
    assert "SCAN responses" not in how
    assert "TEMP B-TREE" not in how


def test_leaves_are_read_by_an_index_in_postgresql_too(postgresql_database: Database) -> None:
    statement = responses.leaves_statement("postgresql")
    values = {
        "label_set_id": 1,
        "cutoff": 5,
        "newest_pk": 9,
        "now": NOW_US,
        "after_created_at": 1,
        "after_id": 1,
        "limit": 10,
    }
    with postgresql_database.read() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        text = f"EXPLAIN {statement.compile(connection)}"
        how = "\n".join(row[0] for row in connection.exec_driver_sql(text, values))
    assert "ix_responses_live" in how


@pytest.mark.parametrize("state", [State.CLAIMED, State.VERIFYING, State.QUARANTINED])
def test_the_few_that_are_not_live_are_listed_without_walking_the_rest(
    sqlite_database: Database, state: State
) -> None:
    admit(sqlite_database, *(registration(f"resp_{n}", age=(9 - n) * DAY) for n in range(9)))
    for number in range(5):
        values = {"state": state, "token": None, "claims": 1, "yes_at": 1, "quarantine_reason": "r"}
        if state is State.CLAIMED:
            values["token"] = "t"
        put(sqlite_database, f"resp_{number}", **values)
    with explained.statements(sqlite_database) as steps, sqlite_database.read() as connection:
        first = responses.list(connection, state=state, limit=3)
        rest = responses.list(connection, state=state, after=first[-1].id)
    assert names([*first, *rest]) == [f"resp_{n}" for n in range(5)]
    assert [step for step in steps if f"ix_responses_{state.value}" in step]
    assert not [step for step in explained.walks(steps) if "responses" in step]


# The next moment


def next_moment(db: Database, after: int) -> int | None:
    with db.read() as connection:
        return responses.next_moment(connection, after)


def test_the_next_moment_is_the_earliest_at_which_something_is_tried_or_verified(
    database: Database,
) -> None:
    assert next_moment(database, 0) is None
    admit(database, *(registration(f"resp_{n}") for n in range(4)))
    put(database, "resp_0", next_try_at=30)
    put(database, "resp_1", next_try_at=50)
    put(database, "resp_2", state="verifying", yes_at=1, verify_at=40)
    assert [next_moment(database, after) for after in (0, 29, 30, 40, 50)] == [30, 30, 40, 50, None]


def test_what_is_set_aside_or_gone_waits_for_no_moment(database: Database) -> None:
    admit(database, registration("resp_0"), registration("resp_1"))
    put(database, "resp_0", state="quarantined", quarantine_reason="r", next_try_at=30)
    put(database, "resp_1", state="gone", outcome="closed", finished_at=1, next_try_at=30)
    assert next_moment(database, 0) is None


OPEN = ("still_present", "unconfirmed", "not_visible", "failing", "rejected")


@pytest.mark.parametrize("outcome", OPEN)
def test_what_was_found_last_is_listed_in_every_state_but_gone(
    database: Database, outcome: str
) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(8)))
    put(database, "resp_0", outcome=outcome)
    put(database, "resp_1", outcome=outcome, state="claimed", token="t")
    put(database, "resp_2", outcome=outcome, state="verifying", yes_at=1)
    put(database, "resp_3", outcome=outcome, state="quarantined", quarantine_reason="r")
    put(database, "resp_4", outcome=next(one for one in OPEN if one != outcome))
    put(database, "resp_5", outcome="deleted", yes_at=1, state="gone", finished_at=1)
    put(database, "resp_6", state="verifying", yes_at=1)
    with database.read() as connection:
        every = responses.tried(connection, Outcome(outcome))
        first = responses.tried(connection, Outcome(outcome), limit=3)
        live = responses.tried(connection, Outcome(outcome), state=State.LIVE)
        ours = responses.tried(connection, Outcome(outcome), account="main")
        elsewhere = responses.tried(connection, Outcome(outcome), account="other")
        found = responses.by_keys(connection, every)
        deleted = responses.list(connection, outcome=Outcome.DELETED)
    assert names(found) == ["resp_0", "resp_1", "resp_2", "resp_3"]
    assert (first, live, elsewhere, ours) == (every[:3], every[:1], [], every)
    assert names(deleted) == ["resp_5"]


def test_what_was_found_last_is_listed_without_walking_the_rest(sqlite_database: Database) -> None:
    admit(sqlite_database, *(registration(f"resp_{n}") for n in range(3)))
    put(sqlite_database, "resp_1", outcome="still_present")
    with explained.statements(sqlite_database) as steps, sqlite_database.read() as connection:
        found = responses.by_keys(connection, responses.tried(connection, Outcome.STILL_PRESENT))
    assert names(found) == ["resp_1"]
    assert [step for step in steps if "ix_responses_open" in step]
    assert "SCAN responses" not in steps
    assert not [step for step in steps if "(rowid>" in step]


def test_a_stopped_account_waits_for_a_person_and_not_for_a_moment(database: Database) -> None:
    admit(database, registration("resp_0"), registration("resp_1", account="other"))
    put(database, "resp_0", next_try_at=30)
    put(database, "resp_1", next_try_at=50)
    with database.write() as connection:
        main = accounts.ensure(connection, ["main"])["main"]
        connection.execute(
            sa.insert(tables.breakers).values(account_id=main, breaker="payment", opened_at=1)
        )
    assert next_moment(database, 0) == 50


def test_the_next_moment_is_found_without_walking_what_lives(
    sqlite_database: Database,
) -> None:
    with explained.statements(sqlite_database) as steps:
        next_moment(sqlite_database, 7)
    assert [step for step in steps if "ix_responses_next_try" in step]
    assert not [step for step in explained.walks(steps) if "responses" in step]
