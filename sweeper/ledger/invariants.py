"""Hold the ledger against itself: what must be true of it after every transaction."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa

from sweeper.domain.outcome import TERMINAL, Outcome
from sweeper.domain.response import State
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger import tables
from sweeper.ledger.database import Database

MOST_TOLD: Final = 20
_PAGE: Final = 500
"""How many rows one transaction reads, so that none keeps a commit waiting for long."""
_R = tables.responses
_A = tables.attempts
_WITH_AN_ANSWER: Final = frozenset({RecordType.DELETION_OUTCOME, RecordType.DELETION_LATE_OUTCOME})


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found, one sentence each, and how much was looked at.

    `whole` says that nothing was left out; otherwise only the newest records, and those of the
    newest responses that there was time for, were looked at.
    """

    faults: Sequence[str]
    records: int
    responses: int
    whole: bool


def examine(db: Database, *, enough: Callable[[], bool] = lambda: False) -> Examined:
    """Read the log and the responses, the newest first, in short transactions, as sweeps go on.

    `enough` is asked between them whether to end; memory does not grow with the ledger. Ends
    early too when twenty faults were found. Raises what reading the ledger raises.
    """
    look = _Look(db=db, enough=enough)
    look.log()
    look.responses()
    look.totals()
    return Examined(
        faults=tuple(look.faults[:MOST_TOLD]),
        records=look.records_read,
        responses=look.responses_read,
        whole=look.whole,
    )


@dataclass(slots=True, kw_only=True)
class _Look:
    """Goes through the ledger once; `ends` counts records of an end, `gone` what they ended."""

    db: Database
    enough: Callable[[], bool]
    faults: list[str] = field(default_factory=list)
    records_read: int = 0
    responses_read: int = 0
    size: int = 0
    ends: int = 0
    gone: int = 0
    whole: bool = False

    @property
    def is_over(self) -> bool:
        return len(self.faults) >= MOST_TOLD or self.enough()

    def log(self) -> None:
        """Every record is there once, canonical, in its place, and later than the one before."""
        with self.db.read() as connection:
            head = connection.execute(sa.select(tables.ledger)).mappings().one_or_none()
        if head is None:
            self.faults.append("ledger: its only row is missing")
            return
        self.size = below = int(head["log_size"])
        after = record.instant(head["log_last_at"])
        while below > 0 and not self.is_over:
            with self.db.read() as connection:
                page = connection.execute(_records(below)).all()
            if not page or page[0].seq != below - 1:
                first = page[0].seq + 1 if page else 0
                self.faults.append(f"records: {_span(first, below - 1)} missing")
            for row in page:
                expected = {"seq": row.seq, "type": row.type, "log": head["log_origin"]}
                body, wrong = _read(row.body, expected)
                self.faults += [f"record {row.seq}: {each}" for each in wrong]
                if body is None:
                    continue
                if str(body.get("at")) > after:
                    self.faults.append(f"record {row.seq}: it is dated after the one behind it")
                after = str(body.get("at"))
                self.faults += [f"record {row.seq}: {each}" for each in _of_record(body)]
                self.ends += _is_end(body)
            self.faults += _gaps([row.seq for row in page])
            self.records_read += len(page)
            below = page[-1].seq if page else 0

    def responses(self) -> None:
        """Every response says what its attempts and its newest record say."""
        below: int | None = None
        while not self.is_over:
            with self.db.read() as connection:
                page = [dict(row) for row in connection.execute(_responses(below)).mappings()]
                if not page:
                    return
                attempts = _attempts(connection, page[-1]["id"], page[0]["id"])
                bodies = _bodies(connection, [row["record_seq"] for row in page])
            for row in page:
                made = attempts.get(row["id"], ())
                told = bodies.get(row["record_seq"])
                wrong = [*_of_response(row), *_of_attempts(row, made), *_of_outcome(row, told)]
                self.faults += [f"response {row['response_id']!r}: {each}" for each in wrong]
                self.gone += row["state"] == State.GONE and (row["record_seq"] or 0) < self.size
            self.responses_read += len(page)
            below = page[-1]["id"]

    def totals(self) -> None:
        """What is gone has one record each, and the living are as many as are counted."""
        if self.is_over:
            return
        if self.ends != self.gone:
            self.faults.append(
                f"{self.gone} responses are gone, and {self.ends} records tell of an end"
            )
        with self.db.read() as connection:
            wrong = connection.execute(_MISCOUNTED).all()
        self.faults += [
            f"label set {row.id}: {row.live_count} living are counted, {row.living} are there"
            for row in wrong
        ]
        self.whole = True


def _records(below: int) -> sa.Select[Any]:
    table = tables.records
    return (
        sa.select(table.c.seq, table.c.type, table.c.body)
        .where(table.c.seq < below)
        .order_by(table.c.seq.desc())
        .limit(_PAGE)
    )


def _responses(below: int | None) -> sa.Select[Any]:
    every = sa.select(_R).order_by(_R.c.id.desc()).limit(_PAGE)
    return every if below is None else every.where(_R.c.id < below)


def _attempts(
    connection: sa.Connection, first: int, last: int
) -> Mapping[int, Sequence[Mapping[str, Any]]]:
    found: dict[int, list[Mapping[str, Any]]] = {}
    wanted = sa.select(_A).where(_A.c.response_pk.between(first, last))
    for row in connection.execute(wanted.order_by(_A.c.response_pk, _A.c.number)).mappings():
        found.setdefault(row["response_pk"], []).append(dict(row))
    return found


def _bodies(connection: sa.Connection, seqs: Sequence[int | None]) -> Mapping[int, str]:
    table = tables.records
    wanted = [seq for seq in seqs if seq is not None]
    found = connection.execute(sa.select(table.c.seq, table.c.body).where(table.c.seq.in_(wanted)))
    return {row.seq: row.body for row in found}


def _counted() -> sa.Select[Any]:
    """The label sets whose count is wrong; each state is counted in an index of its own."""
    sets = tables.label_sets
    claimed = sa.and_(_is_in(State.CLAIMED), _R.c.token.is_not(None))
    each = [
        sa.select(_R.c.label_set_id, sa.func.count().label("number"))
        .where(where)
        .group_by(_R.c.label_set_id)
        for where in (_is_in(State.LIVE), claimed, _is_in(State.VERIFYING))
    ]
    every = sa.union_all(*each).subquery()
    living = sa.func.coalesce(sa.func.sum(every.c.number), 0)
    return (
        sa.select(sets.c.id, sets.c.live_count, living.label("living"))
        .outerjoin(every, every.c.label_set_id == sets.c.id)
        .group_by(sets.c.id, sets.c.live_count)
        .having(sets.c.live_count != living)
        .order_by(sets.c.id)
        .limit(MOST_TOLD)
    )


def _is_in(state: State) -> sa.ColumnElement[bool]:
    """Partial indexes are used only where their conditions stand in the statement's own text."""
    return _R.c.state == sa.literal_column(f"'{state.value}'")


_MISCOUNTED: Final = _counted()


def _gaps(seqs: Sequence[int]) -> Iterator[str]:
    """What is missing between records that were read from the newest to the oldest."""
    for later, earlier in pairwise(seqs):
        if earlier != later - 1:
            yield f"records: {_span(earlier + 1, later - 1)} missing"


def _span(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"


def _read(text: str, expected: Mapping[str, object]) -> tuple[dict[str, Any] | None, list[str]]:
    """The record in a text, None where there is none, and what is wrong with its form."""
    try:
        body = json.loads(text)
        if not isinstance(body, dict):
            return None, ["it is no JSON object"]
        is_canonical = record.canonical(body) == text
    except (ValueError, RecursionError):
        return None, ["it is no JSON object that a record can be"]
    wrong = [] if is_canonical else ["it is not in canonical form"]
    wrong += [f"it says another {name}" for name in expected if body.get(name) != expected[name]]
    return body, wrong


def _is_end(body: Mapping[str, Any]) -> bool:
    return body.get("type") == RecordType.DELETION_OUTCOME and body.get("outcome") in TERMINAL


def _of_record(body: Mapping[str, Any]) -> Iterator[str]:
    """What a record of an outcome must not say."""
    if body.get("type") not in _WITH_AN_ANSWER:
        return
    due, tried = body.get("due_at"), body.get("last_attempt_at")
    by_policy = body.get("outcome") != Outcome.CLOSED
    if by_policy and due is not None and tried is not None and str(tried) < str(due):
        yield "a deletion was tried before it was due"
    if body.get("outcome") == Outcome.DELETED:
        seen = body.get("evidence") or {}
        if (seen.get("status"), seen.get("body")) != (200, "ok"):
            yield "it says deleted, and rests on no yes of the provider"
        if body.get("verified") and seen.get("verify_get") not in (404, 410):
            yield "it says verified, and rests on no look that found nothing"


def _of_response(row: Mapping[str, Any]) -> Iterator[str]:
    if (row["token"] is None) != (row["claim_deadline"] is None):
        yield "its claim has a token or a deadline, but not both"
    if row["state"] == State.VERIFYING and row["verify_at"] is None:
        yield "it is to be verified, and nobody knows when"
    if row["state"] == State.LIVE and row["quarantine_reason"] is not None:
        yield "it is live, and has a reason to be set aside"
    if (row["outcome"] == Outcome.DELETED or row["ambiguous"]) and not row["touched"]:
        yield "an attempt may have deleted it, which is not kept in mind"


def _of_attempts(row: Mapping[str, Any], made: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if [one["number"] for one in made] != list(range(1, row["claims"] + 1)):
        yield f"it was claimed {row['claims']} times, and {len(made)} attempts are written"
    sent = sum(not one["unsent"] for one in made)
    if not sent <= row["attempts"] <= len(made):
        yield f"{row['attempts']} attempts are counted, and {sent} are written as sent"
    if row["state"] == State.CLAIMED and made:
        last = made[-1]
        if last["token"] != row["token"] or last["answered_at"] is not None:
            yield "it is claimed, and its last attempt is not the one of this claim"
    if row["outcome"] == Outcome.DELETED and not any(
        (one["answer"], one["status"]) == ("yes", 200) for one in made
    ):
        yield "it is said to be deleted, and no attempt was answered yes"


def _of_outcome(row: Mapping[str, Any], text: str | None) -> Iterator[str]:
    if text is None:
        if row["record_seq"] is not None or row["outcome"] is not None:
            yield "the record of its outcome is missing"
        return
    try:
        body = json.loads(text)
        told = (body["type"], body["item"], body["outcome"])
    except (ValueError, TypeError, KeyError, RecursionError):
        yield f"record {row['record_seq']} cannot be read"
        return
    if told != (RecordType.DELETION_OUTCOME, row["item"], row["outcome"]):
        yield f"it is {row['outcome']}, and record {row['record_seq']} tells something else"
    if row["verified"] != int(bool(body.get("verified"))):
        yield f"record {row['record_seq']} and it disagree whether that was verified"
