"""Write what became of claimed responses: state, attempt, count and record in one transaction."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.outcome import Settlement
from sweeper.domain.response import State
from sweeper.evidence.record import RecordType
from sweeper.ledger import claims, database, records, tables
from sweeper.ledger.records import Entry

_R = tables.responses
_LEFT: Final = frozenset({State.GONE, State.QUARANTINED})
"""States in which a response no longer counts as live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One claim and what is to be written of it; times in microseconds.

    `unsent` gives the claim back: nothing reached the wire. `answer` and `status` stand with the
    attempt. `entry` is the record, which every outcome has.
    """

    claim: claims.Claim
    settlement: Settlement
    at: int
    answer: str | None = None
    status: int | None = None
    unsent: bool = False
    key: str | None = None
    policy: str | None = None
    due_at: int | None = None
    deadline_at: int | None = None
    entry: Entry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one settling transaction did.

    `late` were fenced off, but recorded. `freed` are the responses that the gone ones continued.
    """

    late: frozenset[int]
    freed: tuple[int, ...]


def settle(
    connection: sa.Connection, batch: Sequence[Settled], *, sweep_id: str, now: int
) -> Written:
    """Settle a batch; a claim whose token is no longer the response's changes no state.

    Its answer is still written down, as a late outcome: what was seen is never dropped.
    """
    if not batch:
        return Written(late=frozenset(), freed=())
    held, conflicting = _held(connection, batch)
    late = frozenset(row.claim.pk for row in batch) - held
    fenced = [row for row in batch if row.claim.pk in held]
    seqs = _record(connection, batch, late, now)
    statements = _statements(connection.dialect.name)
    attempts = [_attempt(row) for row in batch if not row.claim.is_verification]
    if attempts:
        connection.execute(statements.attempts, {"answered": json.dumps(attempts)})
    connection.execute(
        statements.settle,
        {"rows": json.dumps([_values(row, seqs) for row in fenced]), "the_sweep_id": sweep_id},
    )
    _count(connection, fenced, conflicting)
    freed = {
        row.claim.parent_id
        for row in fenced
        if row.settlement.state is State.GONE and row.claim.parent_id is not None
    }
    return Written(late=late, freed=tuple(sorted(freed)))


class _Statements(NamedTuple):
    held: sa.Select[str]
    settle: sa.Update
    attempts: sa.Update


@cache
def _statements(dialect: str) -> _Statements:
    tokens = database.rows_for(dialect, "tokens", "pk", "token:text")
    held = sa.select(
        database.as_array(dialect, _R.c.id, _R.c.quarantine_reason.is_not(None))
    ).where(_R.c.id == tokens.c.pk, _R.c.token == tokens.c.token)
    new = database.rows_for(
        dialect,
        "rows",
        *("pk", "state:text", "outcome:text", "verified", "touched", "ambiguous", "counted"),
        "unsent",
        *("next_try_at", "verify_at", "yes_at", "yes_key:text", "finished_at"),
        *("policy:text", "due_at", "deadline_at", "record_seq", "quarantine:text"),
    )
    aside = sa.and_(new.c.state == "live", _R.c.quarantine_reason.is_not(None))
    said = new.c.outcome.is_not(None)
    settle = (
        sa.update(_R)
        .where(_R.c.id == new.c.pk)
        .values(
            state=sa.case((aside, "quarantined"), else_=new.c.state),
            quarantine_reason=sa.func.coalesce(new.c.quarantine, _R.c.quarantine_reason),
            token=None,
            claim_deadline=None,
            outcome=sa.func.coalesce(new.c.outcome, _R.c.outcome),
            sweep_id=sa.case(
                (said, sa.bindparam("the_sweep_id", type_=sa.Text)), else_=_R.c.sweep_id
            ),
            verified=new.c.verified,
            touched=sa.case((new.c.touched == 1, 1), else_=_R.c.touched),
            ambiguous=_R.c.ambiguous + new.c.ambiguous,
            failures=_R.c.failures + new.c.counted,
            attempts=_R.c.attempts - new.c.unsent,
            first_attempt_at=_sent(new.c.unsent, sa.func.min, _R.c.first_attempt_at),
            last_attempt_at=_sent(new.c.unsent, sa.func.max, _R.c.last_attempt_at),
            next_try_at=new.c.next_try_at,
            verify_at=new.c.verify_at,
            yes_at=sa.func.coalesce(new.c.yes_at, _R.c.yes_at),
            yes_key=sa.func.coalesce(new.c.yes_key, _R.c.yes_key),
            finished_at=new.c.finished_at,
            policy=sa.func.coalesce(new.c.policy, _R.c.policy),
            due_at=sa.func.coalesce(new.c.due_at, _R.c.due_at),
            deadline_at=sa.func.coalesce(new.c.deadline_at, _R.c.deadline_at),
            record_seq=sa.func.coalesce(new.c.record_seq, _R.c.record_seq),
        )
    )
    done = database.rows_for(
        dialect,
        "answered",
        *("pk", "number", "token:text", "at", "answer:text", "status", "unsent"),
    )
    table = tables.attempts
    attempts = (
        sa.update(table)
        .where(
            table.c.response_pk == done.c.pk,
            table.c.number == done.c.number,
            table.c.token == done.c.token,
        )
        .values(
            answered_at=done.c.at,
            answer=done.c.answer,
            status=done.c.status,
            unsent=done.c.unsent,
        )
    )
    return _Statements(held=held, settle=settle, attempts=attempts)


def _sent(
    unsent: sa.ColumnElement[int],
    pick: Callable[[sa.ColumnElement[int]], sa.ColumnElement[int]],
    otherwise: sa.ColumnElement[int],
) -> sa.ColumnElement[int]:
    """The time of the first or last attempt that was sent, once this one turned out not to be."""
    table = tables.attempts
    sent = (
        sa.select(pick(table.c.claimed_at))
        .where(table.c.response_pk == _R.c.id, table.c.unsent == 0)
        .correlate(_R)
        .scalar_subquery()
    )
    return sa.case((unsent == 1, sent), else_=otherwise)


def _held(
    connection: sa.Connection, batch: Sequence[Settled]
) -> tuple[frozenset[int], frozenset[int]]:
    statement = _statements(connection.dialect.name).held
    claims.lock(connection, [row.claim.pk for row in batch])
    tokens = json.dumps([[row.claim.pk, row.claim.token] for row in batch])
    text = connection.execute(statement, {"tokens": tokens}).scalar_one()
    found = json.loads(text or "[]")
    return frozenset(pk for pk, _ in found), frozenset(pk for pk, conflict in found if conflict)


def _record(
    connection: sa.Connection, batch: Sequence[Settled], late: frozenset[int], now: int
) -> Mapping[int, int]:
    entries: list[Entry] = []
    owners: list[int] = []
    for row in batch:
        if row.entry is None:
            continue
        lost = row.claim.pk in late
        entries.append(
            Entry(type=RecordType.DELETION_LATE_OUTCOME, fields=row.entry.fields)
            if lost
            else row.entry
        )
        owners.append(row.claim.pk)
    if not entries:
        return {}
    seqs = records.append(connection, entries, now=now)
    return {pk: seq for pk, seq in zip(owners, seqs, strict=True) if pk not in late}


def _attempt(row: Settled) -> list[object]:
    claim = row.claim
    return [
        *(claim.pk, claim.number, claim.token),
        *(row.at, row.answer, row.status, int(row.unsent)),
    ]


def _values(row: Settled, seqs: Mapping[int, int]) -> list[object]:
    settlement = row.settlement
    gone = settlement.state is State.GONE
    return [
        row.claim.pk,
        settlement.state.value,
        None if settlement.outcome is None else settlement.outcome.value,
        int(settlement.verified),
        int(settlement.touched),
        int(settlement.touched and not settlement.yes),
        int(settlement.counted),
        int(row.unsent),
        _optional_us(settlement.next_try_at),
        _optional_us(settlement.verify_at),
        row.at if settlement.yes else None,
        row.key if settlement.yes else None,
        row.at if gone else None,
        row.policy,
        row.due_at,
        row.deadline_at,
        seqs.get(row.claim.pk),
        "rejected" if settlement.state is State.QUARANTINED else None,
    ]


def _optional_us(at: datetime | None) -> int | None:
    return None if at is None else moment.to_us(at)


def _count(
    connection: sa.Connection, fenced: Sequence[Settled], conflicting: frozenset[int]
) -> None:
    """Take those that left the living off their label sets' counts."""
    left = Counter(
        row.claim.label_set_id
        for row in fenced
        if row.settlement.state in _LEFT
        or (row.settlement.state is State.LIVE and row.claim.pk in conflicting)
    )
    claims.uncount(connection, left)
