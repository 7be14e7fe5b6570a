"""Read what happened in a period: how responses left the living, and how sweeps ended."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.domain.outcome import Outcome
from sweeper.ledger import database, tables

_R = tables.responses
_S = tables.sweeps
_GONE: sa.ColumnElement[str] = sa.literal_column("'gone'")
_IS_CLOSED = _R.c.outcome == sa.literal_column(f"'{Outcome.CLOSED.value}'")
"""Nobody knows whether it is gone, so it is neither late nor in time."""
_PAGE: Final = 10_000


class Gone(NamedTuple):
    """How many responses of an account left alike in one page of the period.

    `late_seconds` is from when they were due to when that was proved, rounded up; None where no
    policy had made them due, and where a person closed them, which proves nothing.
    """

    account_id: int
    policy: str | None
    outcome: str
    verified: int
    late_seconds: int | None
    past_deadline: int
    number: int


class SweepCount(NamedTuple):
    """How many sweeps ended alike; `complete` None: they never ended."""

    complete: bool | None
    stop_reason: str | None
    number: int


def gone(
    db: database.Database, since: int, until: int, *, policy: str | None = None
) -> Iterator[Gone]:
    """Read what left between two moments, the second excluded, in microseconds.

    Page by page in the order of time, each in a short transaction, so that no commit waits.
    """
    after: tuple[int, int] | None = (since, -1)
    while after is not None:
        given = {"after_at": after[0], "after_id": after[1], "policy": policy}
        with db.read() as connection:
            border = connection.execute(_border(), {**given, "until": until}).one_or_none()
            last = (until, -1) if border is None else (border[0], border[1])
            text = connection.execute(
                _page(connection.dialect.name, policy is not None),
                {**given, "last_at": last[0], "last_id": last[1]},
            ).scalar_one()
        yield from (Gone(*row) for row in json.loads(text or "[]"))
        after = None if border is None else last


def sweeps(connection: sa.Connection, since: int, until: int) -> list[SweepCount]:
    """Count the sweeps that began between two moments, the second excluded, by how they ended."""
    statement = (
        sa.select(_S.c.complete, _S.c.stop_reason, sa.func.count())
        .where(_S.c.started_at >= since, _S.c.started_at < until)
        .group_by(_S.c.complete, _S.c.stop_reason)
        .order_by(_S.c.complete, _S.c.stop_reason)
    )
    return [
        SweepCount(None if complete is None else bool(complete), stop_reason, count)
        for complete, stop_reason, count in connection.execute(statement)
    ]


@cache
def _border() -> sa.Select[Any]:
    """The last row of a page, where more follow."""
    return (
        sa.select(_R.c.finished_at, _R.c.id)
        .where(_R.c.state == _GONE, *_beyond(), _R.c.finished_at < _given("until"))
        .order_by(_R.c.finished_at, _R.c.id)
        .limit(1)
        .offset(_PAGE - 1)
    )


@cache
def _page(dialect: str, of_one_policy: bool) -> sa.Select[Any]:
    late = _R.c.finished_at - _R.c.due_at
    page = (
        sa.select(
            _R.c.account_id,
            _R.c.policy,
            _R.c.outcome,
            _R.c.verified,
            sa.case(
                (sa.or_(_R.c.due_at.is_(None), _IS_CLOSED), None),
                (late <= 0, 0),
                else_=(late + 999_999) // 1_000_000,
            ).label("late_seconds"),
            sa.case(
                (_IS_CLOSED, 0), (_R.c.finished_at > _R.c.deadline_at, 1), else_=0
            ).label("past_deadline"),
        )
        .where(
            _R.c.state == _GONE,
            *_beyond(),
            _R.c.finished_at <= _given("last_at"),
            sa.tuple_(_R.c.finished_at, _R.c.id)
            <= sa.tuple_(_given("last_at"), _given("last_id")),
        )
    )  # fmt: skip
    if of_one_policy:
        page = page.where(_R.c.policy == sa.bindparam("policy", type_=sa.Text))
    rows = page.subquery("page")
    counted = (
        sa.select(*rows.c, sa.func.count().label("number")).group_by(*rows.c).subquery("alike")
    )
    return sa.select(database.as_array(dialect, *counted.c))


def _beyond() -> tuple[sa.ColumnElement[bool], ...]:
    # The time is said by itself too: both databases then read no more of the index.
    return (
        _R.c.finished_at >= _given("after_at"),
        sa.tuple_(_R.c.finished_at, _R.c.id) > sa.tuple_(_given("after_at"), _given("after_id")),
    )


def _given(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=tables.BIG)
