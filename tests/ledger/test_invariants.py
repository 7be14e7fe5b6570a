"""A ledger that contradicts itself is found out, whatever was changed behind its back."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain.outcome import Outcome
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger import invariants, records, tables
from sweeper.ledger.database import Database
from sweeper.ledger.records import Entry
from tests.support import lent
from tests.support.lent import only, put, settle, settled, take
from tests.support.registered import NOW_US, admit, registration, rows

_LOG = tables.records


def lived(db: Database) -> None:
    """One response of each kind, told apart by its name; each outcome has its record."""
    names = ("deleted", "verified", "absent", "open", "claimed", "live", "doubtful")
    for name in names:
        admit(db, registration(name))
    yes = only(take(db, "verified"))
    settle(db, [settled(yes, lent.YES)])
    settle(db, [settled(only(lent.verifications(db)), lent.VERIFIED)])
    for name, settlement in (
        ("deleted", lent.DELETED),
        ("absent", lent.absent(Outcome.ALREADY_ABSENT)),
        ("open", lent.again(Outcome.NOT_VISIBLE)),
        ("doubtful", lent.again(Outcome.FAILING, touched=True)),
    ):
        settle(db, [settled(only(take(db, name)), settlement)])
    take(db, "claimed")


def change(db: Database, table: sa.Table, where: Any = None, **values: object) -> None:
    statement = sa.update(table).values(**values)
    with db.write() as connection:
        connection.execute(statement if where is None else statement.where(where))


def forget(db: Database, table: sa.Table, where: Any) -> None:
    with db.write() as connection:
        connection.execute(sa.delete(table).where(where))


def of(db: Database, name: str) -> dict[str, Any]:
    (row,) = [row for row in rows(db) if row["response_id"] == name]
    return row


def rewrite(db: Database, name: str, **fields: object) -> None:
    """Change fields of a response's newest record, in canonical form."""
    where = _LOG.c.seq == of(db, name)["record_seq"]
    with db.read() as connection:
        body = json.loads(connection.execute(sa.select(_LOG.c.body).where(where)).scalar_one())
    change(db, _LOG, where, body=record.canonical({**body, **fields}))


def add(db: Database, **fields: object) -> None:
    with db.write() as connection:
        entry = Entry(type=RecordType.DELETION_OUTCOME, fields=fields)
        records.append(connection, [entry], now=NOW_US)


_OF_RECORDS: dict[str, tuple[Callable[[Database], None], str]] = {
    "one is missing": (lambda db: forget(db, _LOG, _LOG.c.seq == 3), "records: 3 is missing"),
    "some are missing": (
        lambda db: forget(db, _LOG, _LOG.c.seq.between(2, 4)),
        "records: 2 to 4 are missing",
    ),
    "the first is missing": (lambda db: forget(db, _LOG, _LOG.c.seq == 0), "0 is missing"),
    "the newest is missing": (
        lambda db: forget(db, _LOG, _LOG.c.seq == len(rows(db, _LOG)) - 1),
        "is missing",
    ),
    "all are missing": (lambda db: forget(db, _LOG, _LOG.c.seq >= 0), "records: 0 to "),
    "no JSON": (lambda db: change(db, _LOG, _LOG.c.seq == 1, body="{"), "it is no JSON object"),
    "no object": (lambda db: change(db, _LOG, _LOG.c.seq == 1, body="[]"), "it is no JSON object"),
    "too deep": (
        lambda db: change(db, _LOG, _LOG.c.seq == 1, body='{"a":' + "[" * 9000 + "]" * 9000 + "}"),
        "it is no JSON object",
    ),
    "not canonical": (
        lambda db: change(db, _LOG, _LOG.c.seq == 1, body=_LOG.c.body + " "),
        "record 1: it is not in canonical form",
    ),
    "another type": (
        lambda db: change(db, _LOG, _LOG.c.seq == 1, type="run.summary"),
        "record 1: it says another type",
    ),
    "another place": (
        lambda db: rewrite(db, "open", seq=99),
        "it says another seq",
    ),
    "another log": (lambda db: rewrite(db, "open", log="sweeper/x/1"), "it says another log"),
    "dated backwards": (
        lambda db: rewrite(db, "absent", at="2099-01-01T00:00:00.000000Z"),
        "it is dated after the one behind it",
    ),
    "tried before it was due": (
        lambda db: rewrite(
            db, "open", due_at="2026-06-02T00:00:00.000000Z", last_attempt_at=record.instant(NOW_US)
        ),
        "tried before it was due",
    ),
    "deleted without a yes": (
        lambda db: rewrite(db, "deleted", evidence={"status": 404, "body": "ok"}),
        "it says deleted, and rests on no yes",
    ),
    "deleted without evidence": (
        lambda db: rewrite(db, "deleted", evidence=None),
        "it says deleted, and rests on no yes",
    ),
    "verified without a look": (
        lambda db: rewrite(
            db, "verified", evidence={"status": 200, "body": "ok", "verify_get": 200}
        ),
        "it says verified, and rests on no look",
    ),
    "a second end": (
        lambda db: add(db, item="somebody's", outcome="already_absent", supersedes=None),
        "3 responses are gone, and 4 records tell of an end",
    ),
    "the head is missing": (
        lambda db: forget(db, tables.ledger, tables.ledger.c.id == 1),
        "ledger: its only row is missing",
    ),
}

_OF_RESPONSES: dict[str, tuple[Callable[[Database], None], str]] = {
    "another outcome": (
        lambda db: put(db, "absent", outcome="expired_by_provider"),
        "response 'absent': it is expired_by_provider, and record",
    ),
    "an outcome without a record": (
        lambda db: put(db, "absent", record_seq=None),
        "the record of its outcome is missing",
    ),
    "a record that is not there": (
        lambda db: put(db, "live", record_seq=10**6),
        "response 'live': the record of its outcome is missing",
    ),
    "a record that cannot be read": (
        lambda db: change(db, _LOG, _LOG.c.seq == of(db, "open")["record_seq"], body="{}"),
        "cannot be read",
    ),
    "somebody else's record": (
        lambda db: put(db, "deleted", record_seq=of(db, "absent")["record_seq"]),
        "tells something else",
    ),
    "verified by the row alone": (
        lambda db: put(db, "deleted", verified=1),
        "disagree whether that was verified",
    ),
    "brought to life again": (
        lambda db: put(db, "deleted", state="live", finished_at=None),
        "2 responses are gone, and 3 records tell of an end",
    ),
    "an attempt less": (
        lambda db: forget(
            db, tables.attempts, tables.attempts.c.response_pk == of(db, "open")["id"]
        ),
        "response 'open': it was claimed 1 times, and 0 attempts are written",
    ),
    "an attempt not counted": (
        lambda db: put(db, "open", attempts=0),
        "0 attempts are counted, and 1 are written as sent",
    ),
    "no answer was yes": (
        lambda db: change(
            db,
            tables.attempts,
            tables.attempts.c.response_pk == of(db, "deleted")["id"],
            answer="absent",
        ),
        "response 'deleted': it is said to be deleted, and no attempt was answered yes",
    ),
    "another claim": (
        lambda db: put(db, "claimed", token="other"),
        "its last attempt is not the one of this claim",
    ),
    "half a claim": (
        lambda db: put(db, "claimed", claim_deadline=None),
        "a token or a deadline, but not both",
    ),
    "verified never": (
        lambda db: put(db, "doubtful", state="verifying", yes_at=NOW_US, verify_at=None),
        "nobody knows when",
    ),
    "live and aside": (
        lambda db: put(db, "live", quarantine_reason="rejected"),
        "response 'live': it is live, and has a reason to be set aside",
    ),
    "forgotten that it was touched": (
        lambda db: put(db, "doubtful", touched=0),
        "which is not kept in mind",
    ),
    "miscounted": (
        lambda db: change(db, tables.label_sets, live_count=1),
        "1 living are counted, 4 are there",
    ),
}


@pytest.mark.parametrize("what", [*_OF_RECORDS, *_OF_RESPONSES])
def test_what_was_changed_behind_its_back_is_named(database: Database, what: str) -> None:
    breach, sentence = (_OF_RECORDS | _OF_RESPONSES)[what]
    lived(database)
    assert invariants.examine(database).faults == ()
    breach(database)
    found = invariants.examine(database).faults
    assert [one for one in found if sentence in one], found


def test_a_sound_ledger_is_looked_through_as_a_whole(database: Database) -> None:
    lived(database)
    found = invariants.examine(database)
    assert (found.faults, found.whole) == ((), True)
    assert (found.records, found.responses) == (len(rows(database, _LOG)), 7)


def test_pages_join_without_a_seam(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "_PAGE", 2)
    lived(database)
    found = invariants.examine(database)
    assert (found.faults, found.whole, found.responses) == ((), True, 7)
    forget(database, _LOG, _LOG.c.seq == 3)
    assert "records: 3 is missing" in invariants.examine(database).faults


def test_it_ends_when_that_is_enough_and_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invariants, "_PAGE", 2)
    lived(database)
    change(database, tables.label_sets, live_count=1)
    asked = iter([False, False, True, True, True, True])
    found = invariants.examine(database, enough=lambda: next(asked))
    assert (found.records, found.responses, found.whole) == (4, 0, False)
    assert found.faults == (), "what nobody had time to count is not called wrong"


def test_no_more_than_twenty_faults_are_told(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(30)))
    change(database, tables.responses, quarantine_reason="rejected")
    found = invariants.examine(database)
    assert (len(found.faults), found.whole) == (invariants.MOST_TOLD, False)
