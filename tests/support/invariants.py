"""What must hold of every ledger after every transaction, whatever happened before."""

import json
from collections import Counter, defaultdict
from typing import Any

from sweeper.evidence import record
from sweeper.ledger import invariants, tables
from sweeper.ledger.database import Database
from tests.support.registered import rows

_LIVING = {"live", "claimed", "verifying"}
_PROVED = {"deleted", "absent_after_attempt", "already_absent", "expired_by_provider", "closed"}


def check(db: Database) -> None:
    """Raise AssertionError where the ledger's tables or its log contradict one another."""
    examined = invariants.examine(db)
    assert examined.faults == ()
    assert examined.whole
    responses = rows(db, tables.responses)
    told = _log(db, [row["response_id"] for row in responses])
    _counts(db, responses)
    _attempts(db, responses)
    _outcomes(responses, told)
    for row in responses:
        _row(row)


def _log(db: Database, ids: list[str]) -> dict[int, dict[str, Any]]:
    """Check the log by itself; return the records by their sequence numbers."""
    (head,) = rows(db, tables.ledger)
    found = rows(db, tables.records)
    assert [row["seq"] for row in found] == list(range(head["log_size"]))
    told = {}
    for row in found:
        body = json.loads(row["body"])
        assert record.canonical(body) == row["body"]
        assert (body["seq"], body["type"], body["log"]) == (
            row["seq"],
            row["type"],
            head["log_origin"],
        )
        assert not [name for name in ids if name in row["body"]]
        told[row["seq"]] = body
    dates = [body["at"] for body in told.values()]
    assert dates == sorted(dates)
    assert dates[-1] == record.instant(head["log_last_at"])
    return told


def _counts(db: Database, responses: list[dict[str, Any]]) -> None:
    real = Counter(row["label_set_id"] for row in responses if row["state"] in _LIVING)
    kept = {row["id"]: row["live_count"] for row in rows(db, tables.label_sets)}
    assert kept == {key: real[key] for key in kept}


def _attempts(db: Database, responses: list[dict[str, Any]]) -> None:
    written: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(db, tables.attempts):
        written[row["response_pk"]].append(row)
    for row in responses:
        made = written[row["id"]]
        assert [one["number"] for one in made] == list(range(1, row["claims"] + 1))
        assert row["attempts"] >= sum(not one["unsent"] for one in made)
        assert len(made) >= row["attempts"]
        if row["state"] == "claimed":
            assert made[-1]["token"] == row["token"]
            assert made[-1]["answered_at"] is None


def _outcomes(responses: list[dict[str, Any]], told: dict[int, dict[str, Any]]) -> None:
    """The newest outcome of each response stands in one record, and it replaces the one before."""
    about: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for body in told.values():
        if body["type"] == "deletion.outcome":
            about[body["item"]].append(body)
    late_yeses = {
        body["item"]
        for body in told.values()
        if body["type"] == "deletion.late_outcome" and body["outcome"] == "deleted"
    }
    for row in responses:
        chain = about[row["item"]]
        before = [None, *(body["seq"] for body in chain)]
        assert [body["supersedes"] for body in chain] == before[:-1]
        assert row["record_seq"] == before[-1]
        assert row["outcome"] == (chain[-1]["outcome"] if chain else None)
        ends = [body for body in chain if body["outcome"] in _PROVED]
        assert ends == (chain[-1:] if row["state"] == "gone" else [])
        if row["item"] in late_yeses:
            assert row["state"] == "gone" or (row["yes_at"] is not None and row["touched"])


def _row(row: dict[str, Any]) -> None:
    assert (row["token"] is None) == (row["claim_deadline"] is None)
    if row["token"] is not None:
        assert row["state"] in {"claimed", "verifying"}
    if row["state"] == "verifying":
        assert row["yes_at"] is not None
        assert row["verify_at"] is not None
    if row["outcome"] == "deleted":
        assert row["yes_at"] is not None
        assert row["touched"] == 1
    if row["state"] == "live":
        assert row["quarantine_reason"] is None
    if row["ambiguous"]:
        assert row["touched"] == 1
