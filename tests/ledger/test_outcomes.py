"""Outcomes: state, attempt, count and record are written together, or not at all."""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sweeper import errors
from sweeper.domain.outcome import Outcome, Settlement
from sweeper.domain.response import State
from sweeper.ledger import claims, outcomes, tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from tests.support import invariants, lent
from tests.support.lent import GIVEN_BACK, SECOND, only, put, settle, settled, take
from tests.support.registered import NOW, NOW_US, admit, by_id, registration, rows

LATER = timedelta(minutes=3)
AT = NOW_US + 5 * SECOND
_AFTER_DELETE = (
    lent.YES,
    lent.DELETED,
    GIVEN_BACK,
    lent.REJECTED,
    lent.again(Outcome.FAILING, touched=True),
    lent.again(Outcome.NOT_VISIBLE),
    lent.absent(Outcome.ALREADY_ABSENT),
    lent.absent(Outcome.ABSENT_AFTER_ATTEMPT),
    lent.absent(Outcome.EXPIRED_BY_PROVIDER),
)
_AFTER_GET = (
    lent.VERIFIED,
    lent.UNDECIDED,
    lent.again(Outcome.STILL_PRESENT),
    Settlement(state=State.VERIFYING, verify_at=NOW),
    Settlement(state=State.GONE, outcome=Outcome.DELETED),
)


def records(db: Database, kind: str) -> list[dict[str, Any]]:
    found = (json.loads(row["body"]) for row in rows(db, tables.records))
    return [record for record in found if record["type"] == kind]


def live_count(db: Database) -> int:
    return sum(row["live_count"] for row in rows(db, tables.label_sets))


def one(db: Database, settlement: Settlement, **given: Any) -> dict[str, Any]:
    """What the ledger holds of `resp_1` after a first claim of it was settled so."""
    admit(db, registration("resp_1"))
    settle(db, [settled(only(take(db, "resp_1")), settlement, **given)])
    invariants.check(db)
    return by_id(db)["resp_1"]


def picked(row: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


# Every kind of settlement


def test_a_yes_that_is_to_be_verified_is_kept_with_its_time_and_key(database: Database) -> None:
    row = one(database, lent.YES, at=AT, answer="yes", status=200)
    assert picked(row, "state", "outcome", "yes_at", "yes_key") == ("verifying", None, AT, "key-1")
    assert picked(row, "verify_at", "touched", "ambiguous", "failures") == (NOW_US, 1, 0, 0)
    assert picked(row, "token", "claim_deadline", "finished_at", "sweep_id") == (None,) * 4
    (attempt,) = rows(database, tables.attempts)
    assert picked(attempt, "answered_at", "answer", "status", "unsent") == (AT, "yes", 200, 0)
    assert records(database, "deletion.outcome") == []
    assert live_count(database) == 1


def test_a_yes_without_verification_is_deleted(database: Database) -> None:
    row = one(database, lent.DELETED, at=AT, policy="p", due_at=5, deadline_at=6)
    assert picked(row, "state", "outcome", "verified", "yes_at") == ("gone", "deleted", 0, AT)
    assert picked(row, "finished_at", "policy", "due_at", "deadline_at") == (AT, "p", 5, 6)
    assert picked(row, "sweep_id", "verify_at", "next_try_at") == ("sweep-1", None, None)
    (record,) = records(database, "deletion.outcome")
    assert (record["item"], record["outcome"], record["seq"]) == (
        row["item"],
        "deleted",
        row["record_seq"],
    )
    assert live_count(database) == 0


@pytest.mark.parametrize(
    "outcome",
    [Outcome.ALREADY_ABSENT, Outcome.ABSENT_AFTER_ATTEMPT, Outcome.EXPIRED_BY_PROVIDER],
)
def test_an_absence_is_gone_but_not_deleted(database: Database, outcome: Outcome) -> None:
    row = one(database, lent.absent(outcome), at=AT, answer="absent", status=404)
    assert picked(row, "state", "outcome", "finished_at") == ("gone", outcome, AT)
    assert picked(row, "yes_at", "verified", "touched") == (None, 0, 0)
    assert live_count(database) == 0


@pytest.mark.parametrize("outcome", [Outcome.FAILING, Outcome.UNCONFIRMED, Outcome.NOT_VISIBLE])
@pytest.mark.parametrize("touched", [False, True])
def test_what_stays_open_is_live_until_its_next_try(
    database: Database, outcome: Outcome, *, touched: bool
) -> None:
    row = one(database, lent.again(outcome, touched=touched, after=LATER), answer="lost")
    assert picked(row, "state", "outcome", "next_try_at") == ("live", outcome, lent.us(LATER))
    assert picked(row, "failures", "touched", "ambiguous") == (1, touched, touched)
    assert picked(row, "attempts", "finished_at", "sweep_id") == (1, None, "sweep-1")
    assert live_count(database) == 1
    settle(database, [settled(only(take(database, "resp_1", now=lent.us(LATER))), GIVEN_BACK)])
    row = by_id(database)["resp_1"]
    assert picked(row, "outcome", "failures", "touched") == (outcome, 1, touched)


def test_what_is_given_back_unsent_was_no_attempt(database: Database) -> None:
    row = one(database, GIVEN_BACK, unsent=True)
    assert picked(row, "state", "outcome", "next_try_at") == ("live", None, None)
    assert picked(row, "claims", "attempts", "failures", "touched") == (1, 0, 0, 0)
    (attempt,) = rows(database, tables.attempts)
    assert picked(attempt, "unsent", "answer") == (1, None)
    assert records(database, "deletion.outcome") == []


def test_the_first_and_the_last_attempt_are_those_that_were_sent(database: Database) -> None:
    row = one(database, GIVEN_BACK, unsent=True)
    assert picked(row, "first_attempt_at", "last_attempt_at") == (None, None)
    for at, settlement, unsent in (
        (NOW_US + 1, lent.again(Outcome.FAILING), False),
        (NOW_US + 2, lent.again(Outcome.FAILING), False),
        (NOW_US + 3, GIVEN_BACK, True),
    ):
        claim = only(take(database, "resp_1", now=at))
        settle(database, [settled(claim, settlement, unsent=unsent)])
    row = by_id(database)["resp_1"]
    assert picked(row, "first_attempt_at", "last_attempt_at") == (NOW_US + 1, NOW_US + 2)
    assert picked(row, "claims", "attempts") == (4, 2)


def test_a_stop_charges_nothing_to_the_response(database: Database) -> None:
    row = one(database, GIVEN_BACK, answer="credential", status=401)
    assert picked(row, "state", "outcome", "failures", "attempts") == ("live", None, 0, 1)
    (attempt,) = rows(database, tables.attempts)
    assert picked(attempt, "answer", "status", "unsent") == ("credential", 401, 0)


def test_what_the_provider_rejects_is_set_aside(database: Database) -> None:
    row = one(database, lent.REJECTED, answer="rejected", status=422)
    assert picked(row, "state", "outcome") == ("quarantined", "rejected")
    assert picked(row, "quarantine_reason", "finished_at") == ("rejected", None)
    assert live_count(database) == 0
    assert take(database, "resp_1") == []


def verifying(db: Database) -> Claim:
    one(db, lent.YES, at=NOW_US)
    (claim,) = lent.verifications(db)
    return claim


def test_a_verified_deletion_keeps_the_time_of_its_yes(database: Database) -> None:
    settle(database, [settled(verifying(database), lent.VERIFIED, at=AT)])
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "outcome", "verified") == ("gone", "deleted", 1)
    assert picked(row, "yes_at", "finished_at", "attempts") == (NOW_US, AT, 1)
    assert live_count(database) == 0
    invariants.check(database)


def test_a_verification_that_shows_nothing_changes_nothing(database: Database) -> None:
    settle(database, [settled(verifying(database), lent.UNDECIDED, at=AT, key="key-2")])
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "outcome", "token") == ("verifying", None, None)
    assert picked(row, "verify_at", "yes_at", "yes_key") == (
        NOW_US + 2 * SECOND,
        NOW_US,
        "key-1",
    )
    assert picked(row, "failures", "attempts") == (1, 1)
    (attempt,) = rows(database, tables.attempts)
    assert attempt["answered_at"] == NOW_US
    invariants.check(database)


def test_a_verification_is_told_by_what_the_yes_was_got(database: Database) -> None:
    admit(database, registration("resp_1"))
    by = {"policy": "p", "due_at": 5, "deadline_at": 6, "policies_sha256": "aa"}
    of_the_yes = {"yes_date": 7, "yes_request_id": "req-1"}
    claim = only(take(database, "resp_1"))
    settle(database, [settled(claim, lent.YES, **by, **of_the_yes)])
    (claim,) = lent.verifications(database)
    assert {name: getattr(claim, name) for name in by | of_the_yes} == by | of_the_yes
    settle(database, [settled(claim, lent.again(Outcome.STILL_PRESENT))])
    row = by_id(database)["resp_1"]
    assert {name: row[name] for name in by | of_the_yes} == by | of_the_yes
    settle(database, [settled(only(take(database, "resp_1")), lent.YES, policies_sha256="bb")])
    row = by_id(database)["resp_1"]
    assert picked(row, "policies_sha256", "policy") == ("bb", "p")
    assert picked(row, "yes_date", "yes_request_id") == (None, None)


def test_what_is_still_present_is_live_again_and_remembers_the_yes(database: Database) -> None:
    settle(database, [settled(verifying(database), lent.again(Outcome.STILL_PRESENT))])
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "outcome", "verify_at") == ("live", "still_present", None)
    assert picked(row, "yes_at", "touched") == (NOW_US, 1)
    assert live_count(database) == 1
    (claim,) = take(database, "resp_1")
    assert (claim.yes_at, claim.touched) == (NOW_US, 1)
    invariants.check(database)


def test_nobody_can_write_deleted_without_a_yes(database: Database) -> None:
    admit(database, registration("resp_1"))
    claim = take(database, "resp_1")
    with pytest.raises(errors.LedgerError):
        settle(database, [settled(only(claim), lent.absent(Outcome.DELETED))])
    assert by_id(database)["resp_1"]["state"] == "claimed"
    assert records(database, "deletion.outcome") == []


def test_each_outcome_supersedes_the_one_before(database: Database) -> None:
    admit(database, registration("resp_1"))
    for outcome in (Outcome.FAILING, Outcome.NOT_VISIBLE):
        settle(database, [settled(only(take(database, "resp_1")), lent.again(outcome))])
    settle(database, [settled(only(take(database, "resp_1")), lent.DELETED)])
    first, second, third = records(database, "deletion.outcome")
    assert first["supersedes"] is None
    assert second["supersedes"] == first["seq"]
    assert third["supersedes"] == second["seq"] == third["seq"] - 1
    invariants.check(database)


def test_an_empty_batch_writes_nothing(database: Database) -> None:
    before = rows(database, tables.records)
    assert settle(database, []) == outcomes.Written(late=frozenset(), known=frozenset(), freed=())
    assert rows(database, tables.records) == before


# The fence


def test_a_fenced_outcome_changes_nothing_but_is_told(database: Database) -> None:
    admit(database, registration("resp_1"))
    (old,) = take(database, "resp_1")
    lent.free(database)
    (new,) = take(database, "resp_1")
    before = by_id(database)["resp_1"]
    written = settle(database, [settled(old, lent.DELETED, at=AT, answer="yes", status=200)])
    assert written == outcomes.Written(late=frozenset([old.fence]), known=frozenset(), freed=())
    assert by_id(database)["resp_1"] == before | {"yes_at": AT, "yes_key": "key-1"}
    assert live_count(database) == 1
    assert records(database, "deletion.outcome") == []
    (late,) = records(database, "deletion.late_outcome")
    assert (late["item"], late["outcome"]) == (old.item, "deleted")
    first, second = rows(database, tables.attempts)
    assert picked(first, "answered_at", "answer", "status") == (AT, "yes", 200)
    assert picked(second, "answered_at", "answer", "token") == (None, None, new.token)
    settle(database, [settled(new, lent.absent(Outcome.ABSENT_AFTER_ATTEMPT))])
    invariants.check(database)


def test_a_settlement_waits_for_who_takes_the_claim_back(postgresql_database: Database) -> None:
    db = postgresql_database
    admit(db, registration("resp_1"))
    claim, key = only(take(db, "resp_1")), lent.account_id(db)
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            assert claims.free(connection, key) == 1
            late = pool.submit(settle, db, [settled(claim, lent.DELETED)])
            lent.wait_for_a_lock(db)
        assert late.result(timeout=30).late == {claim.fence}
    assert by_id(db)["resp_1"]["state"] == "live"
    invariants.check(db)


def test_a_settlement_is_written_once(database: Database) -> None:
    admit(database, registration("resp_1"))
    (claim,) = take(database, "resp_1")
    assert settle(database, [settled(claim, lent.DELETED)]).late == frozenset()
    before = by_id(database)["resp_1"]
    kept = before, rows(database, tables.records), rows(database, tables.attempts)
    written = settle(database, [settled(claim, lent.again(Outcome.FAILING), at=AT)])
    assert written.late == frozenset()
    assert written.known == {claim.fence}
    assert kept == (
        by_id(database)["resp_1"],
        rows(database, tables.records),
        rows(database, tables.attempts),
    )
    assert live_count(database) == 0
    invariants.check(database)


@pytest.mark.parametrize("settlement", _AFTER_DELETE)
def test_what_was_settled_is_known_even_after_the_next_claim(
    database: Database, settlement: Settlement
) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(2)))
    first, second = take(database, "resp_0", "resp_1")
    settle(database, [settled(first, settlement)])
    take(database, "resp_0", now=lent.us(LATER))
    before = by_id(database)["resp_0"], rows(database, tables.records)
    written = settle(database, [settled(first, settlement), settled(second, GIVEN_BACK)])
    assert written.late == frozenset()
    assert written.known == {first.fence}
    assert (by_id(database)["resp_0"], rows(database, tables.records)) == before
    assert by_id(database)["resp_1"]["state"] == "live"
    invariants.check(database)


@pytest.mark.parametrize("settlement", _AFTER_GET)
def test_a_verification_that_was_settled_is_known(
    database: Database, settlement: Settlement
) -> None:
    claim = verifying(database)
    settle(database, [settled(claim, settlement)])
    before = by_id(database)["resp_1"], rows(database, tables.records)
    written = settle(database, [settled(claim, settlement)])
    assert written.late == frozenset()
    assert written.known == {claim.fence}
    assert (by_id(database)["resp_1"], rows(database, tables.records)) == before
    invariants.check(database)


def test_a_verification_that_was_taken_back_is_late(database: Database) -> None:
    settle(database, [settled(verifying(database), lent.UNDECIDED)])
    (claim,) = lent.verifications(database, now=AT)
    lent.free(database)
    written = settle(database, [settled(claim, lent.VERIFIED)])
    assert written.late == {claim.fence}
    assert written.known == frozenset()
    assert by_id(database)["resp_1"]["state"] == "verifying"
    (late,) = records(database, "deletion.late_outcome")
    assert late["outcome"] == "deleted"


def test_a_late_outcome_is_recorded_once(database: Database) -> None:
    admit(database, registration("resp_1"))
    claim = only(take(database, "resp_1"))
    lent.free(database)
    assert settle(database, [settled(claim, lent.YES)]).late == {claim.fence}
    again = settle(database, [settled(claim, lent.YES)])
    assert again.late == {claim.fence}, "it is late as it was before"
    assert again.known == frozenset()
    assert len(records(database, "deletion.late_outcome")) == 1


@pytest.mark.parametrize("settlement", [lent.YES, lent.DELETED], ids=["to verify", "deleted"])
def test_a_yes_that_comes_too_late_is_kept_and_recorded(
    database: Database, settlement: Settlement
) -> None:
    admit(database, registration("resp_1"))
    claim = only(take(database, "resp_1"))
    lent.free(database)
    put(database, "resp_1", touched=0, ambiguous=0)
    yes = settled(claim, settlement, at=AT, yes_date=AT - SECOND, yes_request_id="req-1")
    assert settle(database, [yes]).late == {claim.fence}
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "outcome", "touched") == ("live", None, 1)
    assert picked(row, "yes_at", "yes_key") == (AT, "key-1")
    assert picked(row, "yes_date", "yes_request_id") == (AT - SECOND, "req-1")
    (late,) = records(database, "deletion.late_outcome")
    assert (late["item"], late["outcome"]) == (row["item"], "deleted")
    assert records(database, "deletion.outcome") == []
    (again,) = take(database, "resp_1")
    assert (again.yes_at, again.touched) == (AT, 1)
    invariants.check(database)


@pytest.mark.parametrize(
    "meanwhile", [lent.YES, lent.absent(Outcome.ALREADY_ABSENT)], ids=["another yes", "gone"]
)
def test_a_late_yes_changes_no_yes_and_nothing_that_is_gone(
    database: Database, meanwhile: Settlement
) -> None:
    admit(database, registration("resp_1"))
    old = only(take(database, "resp_1"))
    lent.free(database)
    settle(database, [settled(only(take(database, "resp_1")), meanwhile, at=AT)])
    before = by_id(database)["resp_1"]
    settle(database, [settled(old, lent.YES, at=AT + SECOND, key="key-2")])
    assert by_id(database)["resp_1"] == before
    assert len(records(database, "deletion.late_outcome")) == 1


def test_no_other_late_answer_makes_a_yes(database: Database) -> None:
    admit(database, registration("resp_1"))
    claim = only(take(database, "resp_1"))
    lent.free(database)
    before = by_id(database)["resp_1"]
    settle(database, [settled(claim, lent.again(Outcome.UNCONFIRMED, touched=True))])
    settle(database, [settled(claim._replace(token="lost"), GIVEN_BACK)])
    assert by_id(database)["resp_1"] == before
    (late,) = records(database, "deletion.late_outcome")
    assert late["outcome"] == "unconfirmed"


def test_a_mixed_batch_settles_what_is_held_and_only_that(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(6)))
    (lost,) = take(database, "resp_5")
    lent.free(database)
    held = take(database, *(f"resp_{n}" for n in range(5)))
    batch = [
        settled(held[0], lent.DELETED, answer="yes"),
        settled(lost, lent.DELETED, answer="yes"),
        settled(held[1], GIVEN_BACK, unsent=True),
        settled(held[2], lent.YES, answer="yes"),
        settled(held[3], lent.again(Outcome.FAILING), answer="unavailable"),
        settled(held[4], lent.REJECTED, answer="rejected"),
    ]
    assert settle(database, batch).late == {lost.fence}
    states = [by_id(database)[f"resp_{n}"]["state"] for n in range(6)]
    assert states == ["gone", "live", "verifying", "live", "quarantined", "live"]
    assert live_count(database) == 4
    answers = {row["response_pk"]: row["answer"] for row in rows(database, tables.attempts)}
    assert [answers[claim.pk] for claim in (*held, lost)] == [
        *("yes", None, "yes", "unavailable", "rejected"),
        "yes",
    ]
    invariants.check(database)


def test_counts_leave_each_label_set_by_itself(database: Database) -> None:
    admit(
        database,
        *(registration(f"resp_{n}", labels={"app": "a"}) for n in range(3)),
        *(registration(f"resp_{n}", labels={"app": "b"}) for n in range(3, 5)),
    )
    batch = take(database, "resp_0", "resp_1", "resp_3")
    settle(database, [settled(claim, lent.DELETED) for claim in batch])
    assert [row["live_count"] for row in rows(database, tables.label_sets)] == [1, 1]


# Conflicts and links


def conflict(db: Database) -> None:
    counts = admit(db, registration("resp_1", labels={"app": "another"}))
    assert len(counts.rejected) == 1


@pytest.mark.parametrize(
    "settlement",
    [GIVEN_BACK, lent.again(Outcome.FAILING, after=LATER)],
    ids=["given back", "failing"],
)
def test_a_conflict_while_claimed_sets_aside_at_settlement(
    database: Database, settlement: Settlement
) -> None:
    admit(database, registration("resp_1"))
    claim = take(database, "resp_1")
    conflict(database)
    assert picked(by_id(database)["resp_1"], "state", "quarantine_reason") == (
        "claimed",
        "conflicting",
    )
    assert live_count(database) == 1
    settle(database, [settled(only(claim), settlement)])
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "quarantine_reason") == ("quarantined", "conflicting")
    assert live_count(database) == 0
    invariants.check(database)


def test_a_conflict_while_verifying_lets_the_verification_end(database: Database) -> None:
    claim = verifying(database)
    conflict(database)
    settle(database, [settled(claim, lent.UNDECIDED)])
    assert by_id(database)["resp_1"]["state"] == "verifying"
    assert live_count(database) == 1
    settle(database, [settled(only(lent.verifications(database, now=AT)), lent.VERIFIED)])
    assert by_id(database)["resp_1"]["state"] == "gone"
    assert live_count(database) == 0
    invariants.check(database)


def test_a_conflicting_response_that_is_still_present_is_set_aside(database: Database) -> None:
    claim = verifying(database)
    conflict(database)
    settle(database, [settled(claim, lent.again(Outcome.STILL_PRESENT))])
    row = by_id(database)["resp_1"]
    assert picked(row, "state", "outcome") == ("quarantined", "still_present")
    invariants.check(database)


def test_a_conflicting_response_that_is_rejected_leaves_the_count_once(
    database: Database,
) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    claim = take(database, "resp_1")
    conflict(database)
    settle(database, [settled(only(claim), lent.REJECTED)])
    assert live_count(database) == 1
    invariants.check(database)


def test_the_parents_of_what_is_gone_are_named(database: Database) -> None:
    admit(
        database,
        registration("resp_1"),
        registration("resp_2", previous="resp_1"),
        registration("resp_3", previous="resp_1"),
        registration("resp_4"),
        registration("resp_5", previous="resp_4"),
    )
    held = take(database, "resp_2", "resp_3", "resp_5")
    written = settle(
        database,
        [
            settled(held[0], lent.DELETED),
            settled(held[1], lent.DELETED),
            settled(held[2], lent.again(Outcome.FAILING)),
        ],
    )
    assert written.freed == (by_id(database)["resp_1"]["id"],)


def test_two_claims_of_one_response_in_one_batch_are_told_apart(database: Database) -> None:
    admit(database, registration("resp_1"))
    old = only(take(database, "resp_1", token="old"))
    lent.free(database)
    new = only(take(database, "resp_1", token="new"))
    batch = [settled(old, lent.DELETED), settled(new, lent.again(Outcome.FAILING))]
    assert settle(database, batch).late == {old.fence}
    row = by_id(database)["resp_1"]
    assert (row["state"], row["outcome"]) == ("live", "failing")
    invariants.check(database)


def test_a_late_outcome_frees_no_parent(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", previous="resp_1"))
    claim = take(database, "resp_2")
    lent.free(database)
    assert settle(database, [settled(only(claim), lent.DELETED)]).freed == ()


def test_a_rolled_back_settlement_leaves_the_claim(database: Database) -> None:
    admit(database, registration("resp_1"))
    claim = take(database, "resp_1")
    before = by_id(database)["resp_1"], rows(database, tables.records)
    with database.write() as connection:
        outcomes.settle(connection, [settled(only(claim), lent.DELETED)], sweep_id="s", now=NOW_US)
        connection.rollback()
    assert (by_id(database)["resp_1"], rows(database, tables.records)) == before
    invariants.check(database)


def test_records_of_outcomes_are_never_dated_back(database: Database) -> None:
    admit(database, registration("resp_1"))
    claim = take(database, "resp_1")
    settle(database, [settled(only(claim), lent.DELETED)], now=NOW_US - 3600 * SECOND)
    invariants.check(database)


# Whatever happens, in any order

_SMALL = st.integers(0, 3)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), _SMALL, st.none() | _SMALL),
        st.tuples(st.just("conflict"), st.integers(0, 1), st.none()),
        st.tuples(st.just("conflict"), st.integers(0, 1), st.none()),
        st.tuples(st.just("take"), _SMALL, _SMALL),
        st.tuples(st.just("verify"), st.integers(1, 3), st.none()),
        st.tuples(st.just("settle"), st.integers(1, 4), st.integers(0, 8)),
        st.tuples(st.just("settle"), st.integers(1, 4), st.integers(0, 8)),
        st.tuples(st.just("free"), st.none(), st.none()),
    ),
    min_size=10,
    max_size=30,
)


class Life:
    """An account's life; the claims it holds stay in hand when they were taken back meanwhile."""

    def __init__(self, db: Database, account: str) -> None:
        self.db = db
        self.account = account
        self.hand: list[Claim] = []
        self._now = itertools.count(NOW_US + 60 * SECOND, SECOND)
        self.admit(0, None)

    def _name(self, number: int | None) -> str | None:
        return None if number is None else f"resp_{self.account}_{number}"

    def admit(self, number: int, previous: int | None, **labels: str) -> None:
        name = self._name(number)
        assert name is not None
        before = None if previous == number else self._name(previous)
        admit(
            self.db,
            registration(name, account=self.account, labels=labels, previous=before),
            now=next(self._now),
        )

    def conflict(self, number: int, _: None) -> None:
        self.admit(number, None, app="another")

    def take(self, first: int, more: int) -> None:
        known = by_id(self.db)
        names = [self._name(number) for number in range(first, first + more + 1)]
        wanted = [name for name in names if name in known]
        self.hand += take(self.db, *wanted, account=self.account, now=next(self._now))

    def verify(self, limit: int, _: None) -> None:
        self.hand += lent.verifications(self.db, limit, account=self.account, now=next(self._now))

    def settle(self, count: int, kind: int) -> None:
        batch, self.hand = self.hand[:count], self.hand[count:]
        kinds = [(_AFTER_GET if one.is_verification else _AFTER_DELETE) for one in batch]
        settle(
            self.db,
            [
                self._settled(one, kinds[index][(kind + index) % len(kinds[index])])
                for index, one in enumerate(batch)
            ],
            now=next(self._now),
        )

    def _settled(self, claim: Claim, settlement: Settlement) -> outcomes.Settled:
        unsent = settlement is GIVEN_BACK and claim.number % 2 == 1
        said = {"answer": "yes", "status": 200} if settlement.yes else {"answer": "any"}
        return settled(claim, settlement, unsent=unsent, **({} if unsent else said))

    def free(self, _: None, __: None) -> None:
        lent.free(self.db, self.account)


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=_STEPS)
@example(steps=[("take", 0, 0), ("conflict", 0, None), ("settle", 1, 2)])
@example(steps=[("take", 0, 0), ("conflict", 0, None), ("free", None, None), ("settle", 1, 0)])
def test_whatever_happens_ledger_and_log_agree(
    database: Database, numbers: Iterator[int], steps: list[tuple[str, Any, Any]]
) -> None:
    life = Life(database, f"account-{next(numbers)}")
    for verb, *given_values in steps:
        getattr(life, verb)(*given_values)
    invariants.check(database)
    life.free(None, None)
    invariants.check(database)


def test_a_response_changed_behind_our_back_is_found(database: Database) -> None:
    """The invariants themselves can fail."""
    one(database, lent.DELETED)
    put(database, "resp_1", outcome="already_absent")
    with pytest.raises(AssertionError):
        invariants.check(database)
