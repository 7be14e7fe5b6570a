"""Read-only queries behind what people are shown: lateness, open work, attempts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from sweeper.ledger import backlog, database, tables

_R = tables.responses
_A = tables.accounts
_LIVE: sa.ColumnElement[str] = sa.literal_column("'live'")
_CLAIMED: sa.ColumnElement[str] = sa.literal_column("'claimed'")
_VERIFYING: sa.ColumnElement[str] = sa.literal_column("'verifying'")
_QUARANTINED: sa.ColumnElement[str] = sa.literal_column("'quarantined'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """How many responses of a label set are past a moment, and when the oldest was created."""

    count: int
    oldest_created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One DELETE that was sent or about to be sent; times in microseconds.

    `answer` None with `unsent` false: nobody knows what became of it.
    """

    number: int
    sweep_id: str
    claimed_at: int
    unsent: bool
    answered_at: int | None
    answer: str | None
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Responses of an account that the provider said it deleted, and that are not gone.

    `readable` of them could be read when they were last looked for.
    """

    account: str
    count: int
    readable: int


def overdue(db: database.Database, cuts: Sequence[tuple[int, int]]) -> Mapping[int, Overdue]:
    """Count, by label set, what was created at or before its cut-off and is not gone.

    What lives or is set aside is a range of an index for each label set, read in transactions of
    their own; what is being deleted or verified is little, and read at once.
    """
    found = _moving(db, cuts)
    for label_set_id, cutoff in cuts:
        counts = backlog.due(db, backlog.Cut(label_set_id, cutoff), 0, lambda: False)
        values = {"label_set_id": label_set_id, "cutoff": cutoff}
        with db.read() as connection:
            number, oldest_aside = connection.execute(_overdue_aside(), values).one()
            oldest = connection.execute(_oldest(), values).scalar_one_or_none()
        ages = [at for at in (oldest, oldest_aside) if at is not None]
        if ages:
            late = Overdue(count=sum(counts) + number, oldest_created_at=min(ages))
            found[label_set_id] = _both(late, found.get(label_set_id))
    return found


def _moving(db: database.Database, cuts: Sequence[tuple[int, int]]) -> dict[int, Overdue]:
    cutoffs = dict(cuts)
    found: dict[int, Overdue] = {}
    for state in (_CLAIMED, _VERIFYING):
        narrowed = _R.c.token.is_not(None) if state is _CLAIMED else sa.true()
        statement = sa.select(_R.c.label_set_id, _R.c.created_at).where(
            _R.c.state == state, narrowed
        )
        with db.read() as connection:
            rows = connection.execute(statement).all()
        for key, created_at in rows:
            if key in cutoffs and created_at <= cutoffs[key]:
                late = Overdue(count=1, oldest_created_at=created_at)
                found[key] = _both(late, found.get(key))
    return found


def _both(one: Overdue, other: Overdue | None) -> Overdue:
    if other is None:
        return one
    return Overdue(
        count=one.count + other.count,
        oldest_created_at=min(one.oldest_created_at, other.oldest_created_at),
    )


@cache
def _overdue_aside() -> sa.Select[Any]:
    columns: tuple[Any, ...] = (sa.func.count(), sa.func.min(_R.c.created_at))
    return sa.select(*columns).where(_R.c.state == _QUARANTINED, *_in_cut())


@cache
def _oldest() -> sa.Select[Any]:
    return (
        sa.select(_R.c.created_at)
        .where(_R.c.state == _LIVE, *_in_cut())
        .order_by(_R.c.created_at)
        .limit(1)
    )


def _in_cut() -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _R.c.label_set_id == sa.bindparam("label_set_id", type_=tables.BIG),
        _R.c.created_at <= sa.bindparam("cutoff", type_=tables.BIG),
    )


def aside(connection: sa.Connection) -> Mapping[str, Mapping[str, int]]:
    """Count, by account, what is not simply live: claimed, verifying or quarantined."""
    counted: dict[str, dict[str, int]] = {}
    for name, state, condition in (
        ("claimed", _CLAIMED, _R.c.token.is_not(None)),
        ("verifying", _VERIFYING, sa.true()),
        ("quarantined", _QUARANTINED, sa.true()),
    ):
        statement = (
            sa.select(_A.c.name, sa.func.count())
            .join_from(_R, _A, _R.c.account_id == _A.c.id)
            .where(_R.c.state == state, condition)
            .group_by(_A.c.name)
        )
        for account, count in connection.execute(statement):
            counted.setdefault(account, {})[name] = count
    return counted


def quarantine_reasons(connection: sa.Connection) -> Mapping[str, int]:
    """Count what is set aside by the reason why."""
    statement = (
        sa.select(_R.c.quarantine_reason, sa.func.count().label("number"))
        .where(_R.c.state == _QUARANTINED)
        .group_by(_R.c.quarantine_reason)
        .order_by(_R.c.quarantine_reason)
    )
    return {row.quarantine_reason: row.number for row in connection.execute(statement)}


def incidents(connection: sa.Connection) -> Sequence[Incident]:
    """Look, by account, for what is there, or may be, although the provider said it is gone.

    The account's own answers after that may have been of any kind: an incident is over only when
    its responses are gone.
    """
    readable = sa.func.count().filter(_R.c.outcome == "still_present")
    statement = (
        sa.select(_A.c.name, sa.func.count().label("number"), readable.label("readable"))
        .join_from(_R, _A, _R.c.account_id == _A.c.id)
        .where(sa.text(tables.KEPT_AFTER_YES))
        .group_by(_A.c.name)
        .order_by(_A.c.name)
    )
    return [
        Incident(account=row.name, count=row.number, readable=row.readable)
        for row in connection.execute(statement)
    ]


def attempts(connection: sa.Connection, response_pk: int) -> Sequence[Attempt]:
    table = tables.attempts
    return [
        Attempt(
            number=row.number,
            sweep_id=row.sweep_id,
            claimed_at=row.claimed_at,
            unsent=bool(row.unsent),
            answered_at=row.answered_at,
            answer=row.answer,
            status=row.status,
        )
        for row in connection.execute(
            sa.select(table).where(table.c.response_pk == response_pk).order_by(table.c.number)
        )
    ]


def open_outcomes(connection: sa.Connection, cuts: Sequence[tuple[int, int]]) -> Mapping[str, int]:
    """Count live responses that are due and were tried, by what was found last."""
    cut = database.rows(connection, "cuts", "label_set_id", "cutoff")
    statement = (
        sa.select(_R.c.outcome, sa.func.count().label("number"))
        .where(
            _R.c.label_set_id == cut.c.label_set_id,
            _R.c.created_at <= cut.c.cutoff,
            _R.c.state == _LIVE,
            _R.c.outcome.in_(backlog.OUTCOMES_OPEN),
        )
        .group_by(_R.c.outcome)
        .order_by(_R.c.outcome)
    )
    rows = connection.execute(statement, {"cuts": json.dumps(cuts)})
    return {row.outcome: row.number for row in rows}
