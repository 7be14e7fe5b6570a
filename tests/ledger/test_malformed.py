"""Claims whose rows break the rules are found, and set aside with what of them can be read."""

from typing import Any

import pytest

from sweeper.ledger import malformed, tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from sweeper.ledger.malformed import Misfit
from tests.support import invariants, lent
from tests.support.lent import put, take
from tests.support.registered import NOW_US, admit, by_id, registration, rows


def claimed(db: Database, *names: str) -> list[Claim]:
    admit(db, *(registration(name) for name in names))
    return take(db, *names)


def set_aside(db: Database, misfits: list[Misfit]) -> None:
    with db.write() as connection:
        malformed.set_aside(connection, misfits, now=NOW_US)


def test_what_admission_lets_in_is_no_misfit(database: Database) -> None:
    taken = claimed(database, "resp_1", "a" * 128, "-_0")
    lent.settle(database, [lent.settled(one, lent.YES) for one in taken[:1]])
    assert malformed.find([*taken, *lent.verifications(database)]) == []


@pytest.mark.parametrize(
    "wrong, reason",
    [
        ({"response_id": "../x"}, "bad_id"),
        ({"response_id": "a" * 1025}, "bad_id"),
        ({"created_at": 0}, "bad_created_at"),
        ({"created_at": None}, "bad_created_at"),
        ({"created_at": 2**63 - 1}, "bad_created_at"),
        ({"item": "0" * 31}, "bad_row"),
        ({"item": "0" * 32 + "\n"}, "bad_row"),
        ({"salt": None}, "bad_row"),
        ({"salt": "A" * 64}, "bad_row"),
        ({"registered_at": -1}, "bad_row"),
        ({"failures": 2**30}, "bad_row"),
        ({"attempts": -1}, "bad_row"),
        ({"ambiguous": -1}, "bad_row"),
        ({"record_seq": 2**53}, "bad_row"),
        ({"yes_at": -1}, "bad_row"),
        ({"policy": "x" * 1025}, "bad_row"),
    ],
)
def test_what_nobody_can_have_written_is_one(
    sqlite_database: Database, wrong: dict[str, Any], reason: str
) -> None:
    (claim,) = claimed(sqlite_database, "resp_1")
    odd = claim._replace(**wrong)
    assert malformed.find([claim, odd]) == [Misfit(odd, f"malformed:{reason}")]


@pytest.mark.parametrize(
    "right",
    [
        {"response_id": "a" * 1024},
        {"failures": 2**30 - 1},
        {"record_seq": 2**53 - 1},
        {"registered_at": 0},
        {"policy": "x" * 1024, "policies_sha256": None, "yes_key": None},
    ],
)
def test_what_lies_at_a_bound_is_none(sqlite_database: Database, right: dict[str, Any]) -> None:
    (claim,) = claimed(sqlite_database, "resp_1")
    assert malformed.find([claim._replace(**right)]) == []


def test_nothing_is_written_where_there_is_none(database: Database) -> None:
    before = rows(database, tables.records)
    set_aside(database, [])
    assert rows(database, tables.records) == before


def test_one_that_was_to_be_deleted_keeps_what_can_be_read(database: Database) -> None:
    (bad, good) = claimed(database, "resp_1", "resp_2")
    odd = bad._replace(registered_at=-1, failures=-1, salt="x", first_attempt_at=-5, created_at=3)
    set_aside(database, [Misfit(odd, "malformed:bad_row")])
    row = by_id(database)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", "malformed:bad_row")
    assert (row["token"], row["claim_deadline"], row["next_try_at"]) == (None, None, None)
    assert (row["created_at"], row["first_created_at"]) == (None, None)
    assert (row["registered_at"], row["failures"], row["salt"]) == (NOW_US, 0, None)
    assert row["first_attempt_at"] is None
    assert (row["item"], row["attempts"], row["claims"]) == (bad.item, 0, 1)
    assert by_id(database)["resp_2"]["token"] == good.token
    sent = {one["response_pk"]: one["unsent"] for one in rows(database, tables.attempts)}
    assert sent == {bad.pk: 1, good.pk: 0}
    assert [one["live_count"] for one in rows(database, tables.label_sets)] == [1]
    assert '"reason":"malformed:bad_row"' in rows(database, tables.records)[-1]["body"]
    invariants.check(database)


def test_one_that_was_to_be_verified_has_no_attempt_to_give_back(database: Database) -> None:
    (claim,) = claimed(database, "resp_1")
    lent.settle(database, [lent.settled(claim, lent.YES)])
    (odd,) = lent.verifications(database)
    set_aside(database, [Misfit(odd._replace(item="odd"), "malformed:bad_row")])
    row = by_id(database)["resp_1"]
    assert (row["state"], row["verify_at"], row["attempts"]) == ("quarantined", None, 1)
    assert row["item"] not in ("odd", claim.item)
    assert [one["unsent"] for one in rows(database, tables.attempts)] == [0]
    assert f'"item":"{row["item"]}"' in rows(database, tables.records)[-1]["body"]
    invariants.check(database)


def test_a_dispute_outlasts_it(database: Database) -> None:
    (claim,) = claimed(database, "resp_1")
    put(database, "resp_1", quarantine_reason="conflicting")
    set_aside(database, [Misfit(claim, "malformed:bad_row")])
    assert by_id(database)["resp_1"]["quarantine_reason"] == "conflicting"


def test_a_response_is_never_claimed_once_more_than_its_column_holds(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    put(database, "resp_1", claims=2**31 - 1)
    assert [one.response_id for one in take(database, "resp_1", "resp_2")] == ["resp_2"]


def test_what_was_never_sent_for_has_no_times_of_attempts(database: Database) -> None:
    (claim,) = claimed(database, "resp_1")
    set_aside(database, [Misfit(claim, "malformed:bad_row")])
    row = by_id(database)["resp_1"]
    assert (row["attempts"], row["first_attempt_at"], row["last_attempt_at"]) == (0, None, None)
    assert [one["unsent"] for one in rows(database, tables.attempts)] == [1]
