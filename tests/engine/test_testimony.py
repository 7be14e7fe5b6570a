"""What a record says of a settlement, and what it says when the clock was in doubt."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.domain.outcome import Outcome, Settlement
from sweeper.domain.response import State
from sweeper.engine import testimony
from sweeper.engine.deletion import Finished
from sweeper.engine.testimony import Ruling, Witness
from sweeper.evidence import record
from sweeper.ledger import tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from tests.support import lent, registered
from tests.support.registered import DAY, NOW, NOW_US

WITNESS = Witness(
    provider="fireworks", account="main", key="key-1", policies_sha256="00", rulings={}
)
ANSWERED = NOW - timedelta(seconds=2)
YES = Answer(kind=AnswerKind.YES, status=200, body=Body.OK, date=ANSWERED, request_id="req-7")


def finished(db: Database, settlement: Settlement, *, unsent: bool = False) -> Finished:
    registered.admit(db, registered.registration("resp_1"))
    (claim,) = lent.take(db, "resp_1")
    return Finished(claim=claim, settlement=settlement, at=NOW, unsent=unsent)


def test_what_has_no_outcome_has_no_record(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.GIVEN_BACK, unsent=True))
    assert settled.entry is None
    assert testimony.doubted(settled) is settled


def test_an_attempt_that_was_not_sent_is_not_counted(sqlite_database: Database) -> None:
    aside = Settlement(state=State.QUARANTINED, outcome=Outcome.REJECTED)
    settled = WITNESS.settled(finished(sqlite_database, aside, unsent=True))
    assert settled.entry is not None
    assert settled.entry.fields["attempts"] == 0
    assert settled.entry.fields["policy"] is None
    assert settled.entry.fields["due_at"] is None


def test_a_record_in_doubt_says_so_and_keeps_the_rest(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.again(Outcome.FAILING)))
    doubted = testimony.doubted(settled)
    assert settled.entry is not None
    assert doubted.entry is not None
    assert doubted.entry.fields == {**settled.entry.fields, "clock": "doubted"}


def test_no_record_names_the_response(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.again(Outcome.FAILING)))
    assert "resp_1" not in repr(settled.entry)


def ruled(claim: Claim, policy: str, keep: timedelta, sha256: str) -> Witness:
    ruling = Ruling.of(policy, keep, DAY)
    return replace(WITNESS, policies_sha256=sha256, rulings={claim.label_set_id: ruling})


def told(db: Database, kind: str) -> list[dict[str, Any]]:
    found = (json.loads(row["body"]) for row in registered.rows(db, tables.records))
    return [one for one in found if one["type"] == kind]


def test_a_record_names_the_policy_that_deleted(database: Database) -> None:
    """Between the yes and its verification the policy was edited."""
    yes = replace(finished(database, lent.YES), answer=YES)
    weeks = ruled(yes.claim, "two weeks", 14 * DAY, "aa")
    lent.settle(database, [weeks.settled(yes)])
    (claim,) = lent.verifications(database)
    edited = ruled(claim, "ninety days", 90 * DAY, "bb")
    undecided = Finished(claim=claim, settlement=lent.UNDECIDED, at=NOW)
    lent.settle(database, [edited.settled(undecided)])
    (claim,) = lent.verifications(database, now=lent.us(DAY))
    verified = Finished(claim=claim, settlement=lent.VERIFIED, at=NOW)
    lent.settle(database, [edited.settled(verified)])
    due_at = claim.created_at + 14 * 86_400_000_000
    (body,) = told(database, "deletion.outcome")
    assert (body["policy"], body["policy_sha256"]) == ("two weeks", "aa")
    assert body["due_at"] == record.instant(due_at)
    row = registered.by_id(database)["resp_1"]
    assert (row["policy"], row["policies_sha256"]) == ("two weeks", "aa")
    assert (row["due_at"], row["deadline_at"]) == (due_at, due_at + 86_400_000_000)
    event = edited.told(verified, sweep_id="s", late=False)
    assert (event.policy, event.overdue) == ("two weeks", timedelta(0))
    overdue = replace(verified, at=NOW + 15 * DAY)
    assert edited.told(overdue, sweep_id="s", late=False).overdue == DAY


def test_a_verified_deletion_rests_on_the_yes_that_was_stored(database: Database) -> None:
    lent.settle(database, [WITNESS.settled(replace(finished(database, lent.YES), answer=YES))])
    (claim,) = lent.verifications(database)
    lent.settle(
        database,
        [
            WITNESS.settled(
                Finished(claim=claim, settlement=lent.VERIFIED, at=NOW, verify_status=404)
            )
        ],
    )
    (body,) = told(database, "deletion.outcome")
    assert body["evidence"] == {
        "status": 200,
        "body": "ok",
        "date": record.instant(NOW_US - 2_000_000),
        "request_id": "req-7",
        "control": "none",
        "verify_get": 404,
    }


def test_a_yes_that_comes_too_late_has_a_record_and_an_event(database: Database) -> None:
    late = replace(finished(database, lent.YES), answer=YES)
    lent.free(database)
    witness = ruled(late.claim, "two weeks", 14 * DAY, "aa")
    written = lent.settle(database, [testimony.doubted(witness.settled(late))])
    assert written.late == {late.claim.fence}
    (body,) = told(database, "deletion.late_outcome")
    assert (body["outcome"], body["verified"], body["policy"]) == ("deleted", False, "two weeks")
    assert (body["clock"], body["evidence"]["request_id"]) == ("doubted", "req-7")
    assert told(database, "deletion.outcome") == []
    event = witness.told(late, sweep_id="s", late=True)
    assert (event.outcome, event.verified, event.late) == (Outcome.DELETED, False, True)


def test_a_response_that_was_never_sent_for_has_no_times_of_attempts(
    sqlite_database: Database,
) -> None:
    never = WITNESS.settled(finished(sqlite_database, lent.REJECTED, unsent=True)).entry
    assert never is not None
    assert never.fields["first_attempt_at"] is None
    assert never.fields["last_attempt_at"] is None


def test_what_is_not_sent_again_tells_no_time_of_its_own(sqlite_database: Database) -> None:
    lent.settle(
        sqlite_database, [WITNESS.settled(finished(sqlite_database, lent.again(Outcome.FAILING)))]
    )
    (claim,) = lent.take(sqlite_database, "resp_1", now=NOW_US + 5)
    aside = Finished(claim=claim, settlement=lent.REJECTED, at=NOW, unsent=True)
    entry = WITNESS.settled(aside).entry
    assert entry is not None
    assert entry.fields["attempts"] == 1
    assert entry.fields["first_attempt_at"] == record.instant(NOW_US)
    assert entry.fields["last_attempt_at"] is None
