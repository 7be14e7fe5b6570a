"""Write what became of claimed responses: state, attempt, count and record in one transaction."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any, Final, NamedTuple

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


Fence = tuple[int, str]
"""A response and the token of one claim of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """One claim and what is to be written of it; times in microseconds.

    `unsent` gives the claim back: nothing reached the wire. `at` is the time of the answer;
    `answer` and `status` stand with the attempt. `yes_date` and `yes_request_id` are kept of a yes
    that is to be verified. `entry` is the record, which every outcome has; `late_entry` makes the
    one of a yes that has none of its own, should it come too late.
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
    policies_sha256: str | None = None
    yes_date: int | None = None
    yes_request_id: str | None = None
    entry: Entry | None = None
    late_entry: Callable[[], Entry] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one settling transaction did.

    `late` were fenced off, but recorded, now or when the word of that commit was lost. `known` had
    been written in time before: that word was lost. `freed` are the responses that the gone ones
    continued.
    """

    late: frozenset[Fence]
    known: frozenset[Fence]
    freed: tuple[int, ...]


def settle(
    connection: sa.Connection, batch: Sequence[Settled], *, sweep_id: str, now: int
) -> Written:
    """Settle a batch; a claim whose token is no longer the response's changes no state.

    Its answer is still written down, as a late outcome: what was seen is never dropped. What was
    settled before is not written again.
    """
    if not batch:
        return Written(late=frozenset(), known=frozenset(), freed=())
    held, conflicting = _held(connection, batch)
    fenced = [row for index, row in enumerate(batch) if index in held]
    others = [row for index, row in enumerate(batch) if index not in held]
    known, known_late = _known(connection, others)
    written = known | known_late
    lost = [row for row in others if row.claim.fence not in written]
    late = frozenset(row.claim.fence for row in lost)
    new = [row for row in batch if row.claim.fence not in written] if written else batch
    seqs = _record(connection, new, late, now)
    statements = _statements(connection.dialect.name)
    attempts = [_attempt(row) for row in new if not row.claim.is_verification]
    if attempts:
        connection.execute(statements.attempts, {"answered": json.dumps(attempts)})
    if said := [_yes(row) for row in lost if row.settlement.yes]:
        connection.execute(statements.late_yes, {"said": json.dumps(said)})
    for verdict, rows in _by_verdict(fenced).items():
        values = json.dumps([_values(row, seqs) for row in rows])
        shared = {**verdict._asdict(), "the_sweep_id": sweep_id}
        connection.execute(statements.settle, {**shared, "rows": values})
    _count(connection, fenced, conflicting)
    freed = {
        row.claim.parent_id
        for row in fenced
        if row.settlement.state is State.GONE and row.claim.parent_id is not None
    }
    return Written(late=late | known_late, known=known, freed=tuple(sorted(freed)))


class _Statements(NamedTuple):
    held: sa.Select[str]
    known: sa.Select[int, bool]
    settle: sa.Update
    attempts: sa.Update
    late_yes: sa.Update


class _Verdict(NamedTuple):
    """What is written of every response that was settled alike, by the names it is bound to."""

    the_state: str
    the_outcome: str | None
    the_verified: int
    the_touched: int
    the_ambiguous: int
    the_counted: int
    the_unsent: int
    the_yes: int
    the_yes_key: str | None
    the_policy: str | None
    the_policies: str | None
    the_quarantine: str | None


@cache
def _statements(dialect: str) -> _Statements:
    tokens = database.rows_for(dialect, "tokens", "pk", "token:text")
    held = sa.select(
        database.as_array(dialect, tokens.c.ord, _R.c.quarantine_reason.is_not(None))
    ).where(_R.c.id == tokens.c.pk, _R.c.token == tokens.c.token)
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
    return _Statements(
        held=held,
        known=_written_before(dialect),
        settle=_settle(dialect),
        attempts=attempts,
        late_yes=_late_yes(dialect),
    )


def _written_before(dialect: str) -> sa.Select[int, bool]:
    """The places of claims that were written, and whether in time: by the last token settled.

    What has an answer and another token than that was written as a late one.
    """
    one = database.rows_for(dialect, "claimed", "pk", "token:text", "number")
    table = tables.attempts
    answered = sa.exists().where(
        table.c.response_pk == one.c.pk,
        table.c.number == one.c.number,
        table.c.token == one.c.token,
        table.c.answered_at.is_not(None),
    )
    in_time = sa.func.coalesce(_R.c.settled_token == one.c.token, sa.false())
    return sa.select(one.c.ord, in_time.label("in_time")).where(
        _R.c.id == one.c.pk, sa.or_(answered, in_time)
    )


def _late_yes(dialect: str) -> sa.Update:
    """Keep a yes that came too late: whatever is found of the response later, we may have done."""
    new = database.rows_for(dialect, "said", *("pk", "at", "key:text", "date", "request_id:text"))
    return (
        sa.update(_R)
        .where(_R.c.id == new.c.pk, _R.c.state != "gone", _R.c.yes_at.is_(None))
        .values(
            touched=1,
            yes_at=new.c.at,
            yes_key=new.c.key,
            yes_date=new.c.date,
            yes_request_id=new.c.request_id,
        )
    )


def _settle(dialect: str) -> sa.Update:
    """Say of rows what their one verdict says: what is bound once is not read for each of them."""
    columns = ("pk", "at", "next_try_at", "verify_at", "due_at", "deadline_at", "record_seq")
    new = database.rows_for(dialect, "rows", *columns, "yes_date", "yes_request_id:text")
    texts = ("state", "outcome", "yes_key", "policy", "policies", "quarantine", "sweep_id")
    said = {name: sa.bindparam(f"the_{name}", type_=sa.Text) for name in texts}
    numbers = ("verified", "touched", "ambiguous", "counted", "unsent", "yes")
    told = {name: sa.bindparam(f"the_{name}", type_=sa.Integer) for name in numbers}
    aside = sa.and_(said["state"] == "live", _R.c.quarantine_reason.is_not(None))
    unsent = told["unsent"]
    kept = sa.func.coalesce
    if_yes = partial(_either, told["yes"] == 1)
    return (
        sa.update(_R)
        .where(_R.c.id == new.c.pk)
        .values(
            state=sa.case((aside, "quarantined"), else_=said["state"]),
            # A dispute that arose meanwhile is not forgotten for a refusal.
            quarantine_reason=kept(_R.c.quarantine_reason, said["quarantine"]),
            token=None,
            claim_deadline=None,
            settled_token=_R.c.token,
            outcome=kept(said["outcome"], _R.c.outcome),
            sweep_id=sa.case((said["outcome"].is_not(None), said["sweep_id"]), else_=_R.c.sweep_id),
            verified=told["verified"],
            touched=sa.case((told["touched"] == 1, 1), else_=_R.c.touched),
            ambiguous=_R.c.ambiguous + told["ambiguous"],
            failures=_R.c.failures + told["counted"],
            attempts=_R.c.attempts - unsent,
            first_attempt_at=_sent(unsent, sa.func.min, _R.c.first_attempt_at),
            last_attempt_at=_sent(unsent, sa.func.max, _R.c.last_attempt_at),
            next_try_at=new.c.next_try_at,
            verify_at=new.c.verify_at,
            yes_at=if_yes(new.c.at, _R.c.yes_at),
            yes_key=kept(said["yes_key"], _R.c.yes_key),
            yes_date=if_yes(new.c.yes_date, _R.c.yes_date),
            yes_request_id=if_yes(new.c.yes_request_id, _R.c.yes_request_id),
            finished_at=sa.case((said["state"] == "gone", new.c.at)),
            policy=kept(said["policy"], _R.c.policy),
            due_at=kept(new.c.due_at, _R.c.due_at),
            deadline_at=kept(new.c.deadline_at, _R.c.deadline_at),
            policies_sha256=kept(said["policies"], _R.c.policies_sha256),
            record_seq=kept(new.c.record_seq, _R.c.record_seq),
        )
    )


def _either(
    condition: sa.ColumnElement[bool], one: sa.ColumnElement[Any], otherwise: sa.ColumnElement[Any]
) -> sa.ColumnElement[Any]:
    return sa.case((condition, one), else_=otherwise)


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
    """The places in the batch of claims that still hold, and the responses in conflict."""
    statement = _statements(connection.dialect.name).held
    claims.lock(connection, [row.claim.pk for row in batch])
    tokens = json.dumps([[row.claim.pk, row.claim.token] for row in batch])
    text = connection.execute(statement, {"tokens": tokens}).scalar_one()
    found = json.loads(text or "[]")
    conflicting = frozenset(batch[index].claim.pk for index, conflict in found if conflict)
    return frozenset(index for index, _ in found), conflicting


def _known(
    connection: sa.Connection, others: Sequence[Settled]
) -> tuple[frozenset[Fence], frozenset[Fence]]:
    """Those of the claims that were written before, in time or late, and so hold no longer."""
    if not others:
        return frozenset(), frozenset()
    statement = _statements(connection.dialect.name).known
    told = [[*row.claim.fence, row.claim.number] for row in others]
    found = connection.execute(statement, {"claimed": json.dumps(told)}).all()
    in_time, late = (
        frozenset(others[row.ord].claim.fence for row in found if bool(row.in_time) is which)
        for which in (True, False)
    )
    return in_time, late


def _record(
    connection: sa.Connection, batch: Sequence[Settled], late: frozenset[Fence], now: int
) -> Mapping[int, int]:
    entries: list[Entry] = []
    owners: list[Fence] = []
    for row in batch:
        entry = _late_entry(row) if row.claim.fence in late else row.entry
        if entry is not None:
            entries.append(entry)
            owners.append(row.claim.fence)
    if not entries:
        return {}
    seqs = records.append(connection, entries, now=now)
    return {fence[0]: seq for fence, seq in zip(owners, seqs, strict=True) if fence not in late}


def _late_entry(row: Settled) -> Entry | None:
    entry = row.late_entry() if row.entry is None and row.late_entry is not None else row.entry
    return entry and replace(entry, type=RecordType.DELETION_LATE_OUTCOME)


def _attempt(row: Settled) -> list[object]:
    claim = row.claim
    return [
        *(claim.pk, claim.number, claim.token),
        *(row.at, row.answer, row.status, int(row.unsent)),
    ]


def _yes(row: Settled) -> list[object]:
    return [row.claim.pk, row.at, row.key, row.yes_date, row.yes_request_id]


def _by_verdict(fenced: Sequence[Settled]) -> Mapping[_Verdict, Sequence[Settled]]:
    found: dict[_Verdict, list[Settled]] = {}
    for row in fenced:
        found.setdefault(_verdict(row), []).append(row)
    return found


def _verdict(row: Settled) -> _Verdict:
    settlement = row.settlement
    return _Verdict(
        the_state=settlement.state.value,
        the_outcome=None if settlement.outcome is None else settlement.outcome.value,
        the_verified=int(settlement.verified),
        the_touched=int(settlement.touched),
        the_ambiguous=int(settlement.touched and not settlement.yes),
        the_counted=int(settlement.counted),
        the_unsent=int(row.unsent),
        the_yes=int(settlement.yes),
        the_yes_key=row.key if settlement.yes else None,
        the_policy=row.policy,
        the_policies=row.policies_sha256,
        the_quarantine="rejected" if settlement.state is State.QUARANTINED else None,
    )


def _values(row: Settled, seqs: Mapping[int, int]) -> list[object]:
    settlement = row.settlement
    return [
        *(row.claim.pk, row.at),
        *(_optional_us(settlement.next_try_at), _optional_us(settlement.verify_at)),
        *(row.due_at, row.deadline_at, seqs.get(row.claim.pk)),
        *(row.yes_date, row.yes_request_id),
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
