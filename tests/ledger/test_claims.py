"""Claims: only what may be deleted is lent, to one sweeper, written down before it is sent."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain.outcome import Outcome
from sweeper.ledger import claims, outcomes, tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from tests.support import explained, invariants, lent
from tests.support.lent import EVERY, SECOND, only, put, settle, settled, take
from tests.support.registered import DAY, NOW_US, admit, by_id, registration, rows

SECONDS = timedelta(seconds=1)


def names(taken: list[Claim]) -> list[str]:
    return [claim.response_id for claim in taken]


def attempts(db: Database) -> list[dict[str, Any]]:
    return rows(db, tables.attempts)


def first_attempts(db: Database, since: int, account: str = "main") -> int:
    key = lent.account_id(db, account)
    with db.read() as connection:
        return claims.first_attempts(connection, key, since)


# What may be claimed


def test_what_is_due_is_claimed_with_its_attempt(database: Database) -> None:
    admit(database, registration("resp_1", labels={"app": "chat"}))
    (claim,) = take(database, "resp_1", token="t1", deadline=NOW_US + 7)
    row = by_id(database)["resp_1"]
    assert (row["state"], row["token"], row["claim_deadline"]) == ("claimed", "t1", NOW_US + 7)
    assert (row["claims"], row["attempts"], row["ambiguous"], row["touched"]) == (1, 1, 0, 0)
    assert (row["first_attempt_at"], row["last_attempt_at"]) == (NOW_US, NOW_US)
    assert attempts(database) == [
        {
            "response_pk": row["id"],
            "number": 1,
            "account_id": row["account_id"],
            "sweep_id": "sweep-1",
            "token": "t1",
            "claimed_at": NOW_US,
            "is_first": 1,
            "unsent": 0,
            "answered_at": None,
            "answer": None,
            "status": None,
        }
    ]
    assert claim == Claim(
        pk=row["id"],
        response_id="resp_1",
        label_set_id=row["label_set_id"],
        number=1,
        token="t1",
        state="claimed",
        created_at=row["created_at"],
        registered_at=NOW_US,
        item=row["item"],
        salt=row["salt"],
        parent_id=None,
        attempts=1,
        ambiguous=0,
        failures=0,
        touched=0,
        first_attempt_at=NOW_US,
        last_attempt_at=NOW_US,
        yes_at=None,
        yes_key=None,
        outcome=None,
        record_seq=None,
    )
    assert not claim.is_verification
    invariants.check(database)


@pytest.mark.parametrize(
    "state",
    [
        {"state": "gone", "outcome": "closed", "finished_at": 1},
        {"state": "quarantined", "quarantine_reason": "rejected"},
        {"state": "verifying", "yes_at": 1, "verify_at": 1},
        {"state": "claimed", "token": "another"},
        {"quarantine_reason": "conflicting"},
        {"next_try_at": NOW_US + 1},
    ],
    ids=["gone", "quarantined", "verifying", "claimed", "conflicting", "backing off"],
)
def test_nothing_is_claimed_but_what_may_be_tried_now(
    database: Database, state: dict[str, object]
) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    put(database, "resp_1", **state)
    before = by_id(database)["resp_1"]
    assert names(take(database, "resp_1", "resp_2")) == ["resp_2"]
    assert by_id(database)["resp_1"] == before
    assert [row["response_pk"] for row in attempts(database)] == [by_id(database)["resp_2"]["id"]]


def test_a_next_try_that_has_come_is_claimed(database: Database) -> None:
    admit(database, registration("resp_1"))
    put(database, "resp_1", next_try_at=NOW_US)
    assert names(take(database, "resp_1")) == ["resp_1"]
    assert by_id(database)["resp_1"]["next_try_at"] is None


def test_the_cut_off_is_judged_again_to_the_microsecond(database: Database) -> None:
    admit(database, registration("resp_1"))
    created_at = by_id(database)["resp_1"]["created_at"]
    assert take(database, "resp_1", cutoff=created_at - 1) == []
    assert names(take(database, "resp_1", cutoff=created_at)) == ["resp_1"]


def test_each_response_is_judged_by_its_own_cut_off(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", labels={"app": "chat"}))
    (first,) = lent.wanted(database, "resp_1", cutoff=EVERY)
    (second,) = lent.wanted(database, "resp_2", cutoff=0)
    agreed = lent.terms(lent.account_id(database))
    with database.write() as connection:
        taken = claims.take(connection, [second, first], agreed)
    assert names(taken) == ["resp_1"]


def test_a_later_time_of_creation_takes_a_planned_response_out(database: Database) -> None:
    admit(database, registration("resp_1", age=DAY))
    cutoff = by_id(database)["resp_1"]["created_at"]
    admit(database, registration("resp_1", age=DAY - timedelta(minutes=5)))
    assert take(database, "resp_1", cutoff=cutoff) == []


def test_what_came_after_the_plan_is_not_claimed(database: Database) -> None:
    admit(database, registration("resp_1"))
    admit(database, registration("resp_2"))
    newest = by_id(database)["resp_1"]["id"]
    assert names(take(database, "resp_2", "resp_1", newest_pk=newest)) == ["resp_1"]


def test_another_label_set_than_the_planned_one_claims_nothing(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", labels={"app": "chat"}))
    (row,), (other,) = lent.wanted(database, "resp_1"), lent.wanted(database, "resp_2")
    agreed = lent.terms(lent.account_id(database))
    with database.write() as connection:
        moved = row._replace(label_set_id=other.label_set_id)
        assert claims.take(connection, [moved], agreed) == []


def test_a_claim_reaches_into_no_other_account(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", account="other"))
    assert names(take(database, "resp_1", "resp_2")) == ["resp_1"]
    assert by_id(database)["resp_2"]["state"] == "live"


@pytest.mark.parametrize(
    "child",
    [
        {},
        {"state": "verifying", "yes_at": 1, "verify_at": 1},
        {"state": "claimed", "token": "another"},
        {"state": "quarantined", "quarantine_reason": "rejected"},
    ],
    ids=["live", "verifying", "claimed", "quarantined"],
)
def test_a_response_waits_for_every_child_that_is_not_gone(
    database: Database, child: dict[str, object]
) -> None:
    admit(database, registration("resp_1"), registration("resp_2", previous="resp_1"))
    if child:
        put(database, "resp_2", **child)
    assert take(database, "resp_1") == []
    put(database, "resp_2", state="gone", outcome="closed", finished_at=1, token=None)
    assert names(take(database, "resp_1")) == ["resp_1"]


def test_parent_and_child_of_one_request_are_not_claimed_together(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", previous="resp_1"))
    assert names(take(database, "resp_1", "resp_2")) == ["resp_2"]


def test_a_second_claim_of_the_same_response_takes_nothing(database: Database) -> None:
    admit(database, registration("resp_1"))
    (claim,) = take(database, "resp_1")
    assert take(database, "resp_1") == []
    assert by_id(database)["resp_1"]["token"] == claim.token
    assert len(attempts(database)) == 1


def test_claims_keep_the_order_in_which_they_were_wanted(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(6)))
    order = [f"resp_{n}" for n in (4, 0, 5, 2, 1)]
    assert names(take(database, *order)) == order


def test_a_response_that_is_wanted_twice_is_claimed_once(database: Database) -> None:
    admit(database, registration("resp_1"))
    assert names(take(database, "resp_1", "resp_1")) == ["resp_1"]
    assert by_id(database)["resp_1"]["claims"] == 1
    invariants.check(database)


def test_nothing_wanted_is_nothing_claimed(database: Database) -> None:
    admit(database, registration("resp_1"))
    assert take(database) == []


def test_later_claims_are_numbered_and_keep_the_first_attempt(database: Database) -> None:
    admit(database, registration("resp_1"))
    settle(database, [settled(only(take(database, "resp_1")), lent.again(Outcome.FAILING))])
    later = NOW_US + SECOND
    (claim,) = take(database, "resp_1", now=later)
    assert (claim.number, claim.attempts, claim.failures) == (2, 2, 1)
    assert (claim.first_attempt_at, claim.last_attempt_at) == (NOW_US, later)
    assert [row["number"] for row in attempts(database)] == [1, 2]
    invariants.check(database)


def test_the_outcome_is_told_only_of_the_same_sweep(database: Database) -> None:
    admit(database, registration("resp_1"))
    settle(database, [settled(only(take(database, "resp_1")), lent.again(Outcome.FAILING))])
    (claim,) = take(database, "resp_1")
    assert (claim.outcome, claim.record_seq) == ("failing", by_id(database)["resp_1"]["record_seq"])
    settle(database, [settled(claim, lent.GIVEN_BACK, unsent=True)])
    (claim,) = take(database, "resp_1", sweep_id="sweep-2")
    assert claim.outcome is None
    assert claim.record_seq is not None


def test_a_rolled_back_claim_leaves_no_attempt(database: Database) -> None:
    admit(database, registration("resp_1"))
    wanted, agreed = lent.wanted(database, "resp_1"), lent.terms(lent.account_id(database))
    with database.write() as connection:
        assert claims.take(connection, wanted, agreed)
        connection.rollback()
    assert attempts(database) == []
    assert by_id(database)["resp_1"]["state"] == "live"


# Verifications


def verifying(db: Database, *ids: str) -> None:
    admit(db, *(registration(name) for name in ids))
    settle(db, [settled(claim, lent.YES) for claim in take(db, *ids)])


def test_a_verification_stays_verifying_and_makes_no_attempt(database: Database) -> None:
    verifying(database, "resp_1")
    (claim,) = lent.verifications(database, token="t2", deadline=NOW_US + 9)
    row = by_id(database)["resp_1"]
    assert claim.is_verification
    assert (row["state"], row["token"], row["claim_deadline"]) == ("verifying", "t2", NOW_US + 9)
    assert (row["claims"], row["attempts"], len(attempts(database))) == (1, 1, 1)
    assert (claim.yes_at, claim.yes_key) == (NOW_US, "key-1")
    assert lent.verifications(database) == []
    invariants.check(database)


def test_verifications_are_due_in_their_time_the_oldest_first(database: Database) -> None:
    verifying(database, "resp_1", "resp_2", "resp_3", "resp_4")
    put(database, "resp_1", verify_at=NOW_US + 1)
    put(database, "resp_2", verify_at=NOW_US - 1)
    put(database, "resp_3", verify_at=NOW_US - 2)
    assert names(lent.verifications(database, 1)) == ["resp_3"]
    assert sorted(names(lent.verifications(database))) == ["resp_2", "resp_4"]


def test_verifications_are_counted_and_claimed_by_account(database: Database) -> None:
    verifying(database, "resp_1", "resp_2")
    admit(database, registration("resp_3", account="other"), registration("resp_4"))
    settle(database, [settled(only(take(database, "resp_3", account="other")), lent.YES)])
    with database.read() as connection:
        assert claims.verifications(connection, lent.account_id(database)) == 2
        assert claims.verifications(connection, lent.account_id(database, "other")) == 1
    assert names(lent.verifications(database, account="other")) == ["resp_3"]


def test_a_verification_is_waiting_when_it_can_be_claimed_now(database: Database) -> None:
    def waits(now: int) -> bool:
        with database.read() as connection:
            return claims.has_verifications(connection, lent.account_id(database), now)

    verifying(database, "resp_1")
    assert not waits(NOW_US - 1)
    assert waits(NOW_US)
    lent.verifications(database)
    assert not waits(NOW_US)


def test_the_unverified_of_an_account_are_named_the_oldest_first(database: Database) -> None:
    verifying(database, "resp_1", "resp_2", "resp_3")
    admit(database, registration("resp_4"), registration("resp_5", account="other"))
    put(database, "resp_3", verify_at=NOW_US - 1)
    put(database, "resp_1", verify_at=NOW_US + 1)
    key, label_set = lent.account_id(database), by_id(database)["resp_1"]["label_set_id"]
    with database.read() as connection:
        found = claims.unverified(connection, key, 2)
    assert found == [("resp_3", label_set), ("resp_2", label_set)]


# Taking back


def test_freed_claims_may_have_been_sent(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", account="other"))
    take(database, "resp_1")
    take(database, "resp_2", account="other")
    assert lent.free(database) == 1
    row, other = by_id(database)["resp_1"], by_id(database)["resp_2"]
    assert (row["state"], row["token"], row["claim_deadline"]) == ("live", None, None)
    assert (row["touched"], row["ambiguous"], row["attempts"]) == (1, 1, 1)
    assert (other["state"], other["touched"]) == ("claimed", 0)
    assert lent.free(database) == 0
    (claim,) = take(database, "resp_1")
    assert (claim.touched, claim.ambiguous, claim.number) == (1, 1, 2)
    invariants.check(database)


def test_freed_verifications_stay_what_they_are(database: Database) -> None:
    verifying(database, "resp_1", "resp_2")
    lent.verifications(database, 1)
    before = by_id(database)["resp_1"]
    assert lent.free(database) == 1
    after = by_id(database)["resp_1"]
    assert after == before | {"token": None, "claim_deadline": None}
    assert after["state"] == "verifying"
    assert (after["touched"], after["ambiguous"]) == (1, 0)
    assert len(lent.verifications(database)) == 2


def test_a_conflict_that_came_while_claimed_sets_a_freed_response_aside(
    database: Database,
) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    take(database, "resp_1", "resp_2")
    admit(database, registration("resp_1", labels={"app": "other"}))
    assert lent.free(database) == 2
    row = by_id(database)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", "conflicting")
    assert by_id(database)["resp_2"]["state"] == "live"
    invariants.check(database)


def test_who_takes_back_waits_in_the_order_of_the_keys(postgresql_database: Database) -> None:
    db = postgresql_database
    admit(db, registration("resp_1"), registration("resp_2"))
    second, first = only(take(db, "resp_2")), only(take(db, "resp_1"))
    assert first.pk < second.pk
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            claims.lock(connection, [first.pk])
            freed = pool.submit(lent.free, db)
            lent.wait_for_a_lock(db)
            connection.execute(
                sa.select(tables.responses.c.id)
                .where(tables.responses.c.id == second.pk)
                .with_for_update(nowait=True)
            )
        assert freed.result(timeout=30) == 2


# The daily bound


def test_first_attempts_are_those_sent_since_a_moment(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(4)))
    admit(database, registration("resp_9", account="other"))
    take(database, "resp_9", account="other")
    take(database, "resp_0", now=NOW_US - 1)
    settle(database, [settled(only(take(database, "resp_1")), lent.again(Outcome.FAILING))])
    settle(database, [settled(only(take(database, "resp_1")), lent.again(Outcome.FAILING))])
    settle(database, [settled(only(take(database, "resp_2")), lent.GIVEN_BACK, unsent=True)])
    take(database, "resp_3")
    assert first_attempts(database, NOW_US) == 2
    assert first_attempts(database, NOW_US - 1) == 3
    assert first_attempts(database, NOW_US, "other") == 1
    take(database, "resp_2")
    assert first_attempts(database, NOW_US) == 3


# How it is done

BOTH = ("responses", "attempts")
WRITING = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")


def scans(plans: list[str]) -> list[str]:
    """What walks through a table, and not through the rows that were given."""
    given = ("_each", "CONSTANT ROW")
    return [
        line
        for line in plans
        if line.startswith("SCAN") and not any(name in line for name in given)
    ]


@pytest.mark.parametrize("analysed", [False, True])
def test_claiming_and_settling_scan_no_table(sqlite_database: Database, *, analysed: bool) -> None:
    db = sqlite_database
    admit(db, *(registration(f"resp_{n}") for n in range(300)))
    key = lent.account_id(db)
    wanted = lent.wanted(db, *(f"resp_{n}" for n in range(20)))
    if analysed:
        with db.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    with explained.statements(db, *BOTH, verbs=WRITING) as plans, db.write() as connection:
        taken = claims.take(connection, wanted, lent.terms(key))
        outcomes.settle(
            connection, [settled(claim, lent.YES) for claim in taken], sweep_id="s", now=NOW_US
        )
        taken = claims.take_verifications(connection, 10, lent.terms(key))
        outcomes.settle(
            connection, [settled(claim, lent.VERIFIED) for claim in taken], sweep_id="s", now=NOW_US
        )
        claims.first_attempts(connection, key, 0)
        claims.verifications(connection, key)
        claims.has_verifications(connection, key, NOW_US)
        claims.unverified(connection, key, 5)
        claims.free(connection, key)
    assert len(taken) == 10
    assert scans(plans) == []
    text = "\n".join(plans)
    assert "ix_responses_verifying" in text
    assert "ix_responses_claimed" in text
    assert "ix_responses_children" in text
    assert "ix_attempts_first" in text


def test_the_statements_walk_through_the_rows_that_are_given(sqlite_database: Database) -> None:
    db = sqlite_database
    admit(db, registration("resp_1"))
    wanted, agreed = lent.wanted(db, "resp_1"), lent.terms(lent.account_id(db))
    with explained.statements(db, *BOTH, verbs=WRITING) as plans, db.write() as connection:
        taken = claims.take(connection, wanted, agreed)
        claimed = plans.copy()
        outcomes.settle(connection, [settled(only(taken), lent.DELETED)], sweep_id="s", now=NOW_US)
    assert claimed[:2] == [
        "SCAN wanted_each VIRTUAL TABLE INDEX 1:",
        "SEARCH responses USING INTEGER PRIMARY KEY (rowid=?)",
    ]
    assert [line for line in plans if "_each" in line and line.startswith("SCAN")]
    held = plans[len(claimed) :]
    assert held[0].startswith("SCAN tokens_each")
    assert "SEARCH responses USING INTEGER PRIMARY KEY (rowid=?)" in held
    assert "SEARCH attempts USING PRIMARY KEY (response_pk=? AND number=?)" in held


def test_postgresql_judges_what_is_wanted_once_though_it_knows_nothing_of_the_table(
    postgresql_database: Database,
) -> None:
    """Never analysed, as after an import: by the index of the living it would read all of them."""
    db = postgresql_database
    admit(db, *(registration(f"resp_{n}") for n in range(3000)))
    wanted = lent.wanted(db, *(f"resp_{n}" for n in range(200)))
    agreed, plans = lent.terms(lent.account_id(db)), []

    def explain(_c: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("UPDATE responses"):
            cursor.execute(f"EXPLAIN {statement}", values)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    sa.event.listen(db.engine, "before_cursor_execute", explain)
    with db.write() as connection:
        assert len(claims.take(connection, wanted, agreed)) == 200
    (plan,) = plans
    assert "ix_responses_live" not in plan
    assert "Materialize" not in plan
    assert "ix_responses_children" in plan


def test_two_connections_that_want_the_same_claim_each_response_once(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    ids = [f"resp_{n:04}" for n in range(2000)]
    admit(db, *(registration(name) for name in ids))
    wanted, key = lent.wanted(db, *ids), lent.account_id(db)
    together = threading.Barrier(2)

    def claim(order: int) -> list[str]:
        agreed = lent.terms(key)
        with db.write() as connection:
            connection.execute(sa.select(1))
            together.wait(timeout=30)
            return names(claims.take(connection, wanted[::order], agreed))

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(claim, (1, -1))
    assert sorted(one + two) == ids
    invariants.check(db)


def test_a_claim_waits_for_another_one_and_then_finds_it_taken(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    admit(db, *(registration(f"resp_{n}") for n in range(3)))
    wanted, key = lent.wanted(db, "resp_0", "resp_1", "resp_2"), lent.account_id(db)
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            first = claims.take(connection, wanted[:2], lent.terms(key))
            second = pool.submit(_claim, db, wanted, key)
            lent.wait_for_a_lock(db)
        assert names(first) == ["resp_0", "resp_1"]
        assert names(second.result(timeout=30)) == ["resp_2"]
    invariants.check(db)


def test_a_verification_is_claimed_by_one_of_two_connections(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    verifying(db, "resp_0", "resp_1")
    key = lent.account_id(db)
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            assert len(claims.take_verifications(connection, 1, lent.terms(key))) == 1
            second = pool.submit(lent.verifications, db)
            lent.wait_for_a_lock(db)
        assert names(second.result(timeout=30)) == ["resp_1"]


def _claim(db: Database, wanted: list[claims.Wanted], key: int) -> list[Claim]:
    with db.write() as connection:
        return claims.take(connection, wanted, lent.terms(key))


def test_a_claim_crosses_into_the_statement_as_one_text(database: Database) -> None:
    """Nothing grows with the number of claims but one parameter."""
    admit(database, *(registration(f"resp_{n}") for n in range(50)))
    seen: list[str] = []

    def see(_c: Any, _k: Any, text: str, values: Any, *_rest: Any) -> None:
        given = values.values() if isinstance(values, dict) else values
        seen.extend(value for value in given if isinstance(value, str) and value.startswith("[["))

    sa.event.listen(database.engine, "before_cursor_execute", see)
    assert len(take(database, *(f"resp_{n}" for n in range(50)))) == 50
    assert {len(json.loads(text)) for text in seen} == {50}
