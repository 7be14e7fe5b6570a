"""Count what is due of a label set, page by page, so that no commit waits for a count."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.ledger import claims, database, tables
from sweeper.ledger.responses import DueCount

_R = tables.responses
_LIVE: sa.ColumnElement[str] = sa.literal_column("'live'")
_GONE: sa.ColumnElement[str] = sa.literal_column("'gone'")

_PAGE: Final = 50_000
_WAITING_PAGE: Final = 10_000
"""Rows in one transaction, where their continuations are looked at too."""
_GENERATIONS: Final = 50
"""How far down a response's continuations are followed."""

OUTCOMES_OPEN: Final = ("failing", "not_visible", "unconfirmed", "still_present")
"""Outcomes of responses that are live and tried again."""
UNTRIED: Final = "untried"
"""Neither tried yet nor kept by anything in the ledger."""


class Cut(NamedTuple):
    """What is due of a label set: created at or before the cut-off, in microseconds."""

    label_set_id: int
    cutoff: int


def due(db: database.Database, cut: Cut, now: int, is_stopped: Callable[[], bool]) -> DueCount:
    """Count the live responses that are due: those that may be tried now, and those not yet.

    `now` is in microseconds. What was counted so far is returned when it is stopped.
    """
    values = {"label_set_id": cut.label_set_id, "cutoff": cut.cutoff, "now": now}
    rows = later = 0
    for in_page, later_in_page in _pages(db, _due, _PAGE, values, is_stopped):
        rows, later = rows + in_page, later + later_in_page
    return DueCount(rows - later, later)


def waiting(
    db: database.Database,
    cut: Cut,
    cuts: Sequence[Cut],
    *,
    newest_pk: int,
    now: int,
    is_stopped: Callable[[], bool],
) -> int:
    """Count the due responses that may be tried now but are kept by what continues them.

    One is kept when anything living in its line cannot be deleted now; `cuts` say what is due at
    its account. Only as far as 50 generations down: what something further down keeps is left out.
    """
    values = {
        "label_set_id": cut.label_set_id,
        "cutoff": cut.cutoff,
        "now": now,
        "newest_pk": newest_pk,
        "cuts": json.dumps([list(one) for one in cuts]),
    }
    pages = _pages(db, _waiting, _WAITING_PAGE, values, is_stopped)
    return sum(kept for (kept,) in pages)


def reasons(db: database.Database, cut: Cut, now: int) -> Counter[str]:
    """Count the live responses that are due by what keeps them: each of them once.

    A reason is what was found last, else `backing_off` or `waiting`, else `untried`. `now` is in
    microseconds.
    """
    values = {"label_set_id": cut.label_set_id, "cutoff": cut.cutoff, "now": now}
    counted: Counter[str] = Counter()
    for (text,) in _pages(db, _reasons, _WAITING_PAGE, values, lambda: False):
        counted.update(dict(json.loads(text or "[]")))
    return counted


def _pages(
    db: database.Database,
    counted: Callable[[str], sa.Select[Any]],
    size: int,
    values: Mapping[str, object],
    is_stopped: Callable[[], bool],
) -> Iterator[tuple[Any, ...]]:
    """Count page by page, from border to border, each in a transaction of its own."""
    after: tuple[object, object] | None = (-(2**63), 0)
    while after is not None and not is_stopped():
        given = {**values, "after_created_at": after[0], "after_id": after[1]}
        with db.read() as connection:
            border = connection.execute(_border(size), given).one_or_none()
            until = (values["cutoff"], 2**63 - 1) if border is None else (border[0], border[1])
            given |= {"until_created_at": until[0], "until_id": until[1]}
            page = connection.execute(counted(connection.dialect.name), given).one()
        yield tuple(page)
        after = None if border is None else until


@cache
def _border(size: int) -> sa.Select[Any]:
    """The last row of a page, where there are as many."""
    return (
        sa.select(_R.c.created_at, _R.c.id)
        .where(*_of_one(), _R.c.created_at <= _given("cutoff"), _key() > _given_key("after"))
        .order_by(_R.c.created_at, _R.c.id)
        .limit(1)
        .offset(size - 1)
    )


@cache
def _due(_dialect: str) -> sa.Select[Any]:
    later = sa.func.coalesce(
        sa.func.sum(sa.case((_R.c.next_try_at > _given("now"), 1), else_=0)), 0
    )
    columns: tuple[Any, ...] = (sa.func.count(), later)
    return sa.select(*columns).where(*_in_page())


@cache
def _reasons(dialect: str) -> sa.Select[Any]:
    reason = sa.case(
        (_R.c.outcome.in_(OUTCOMES_OPEN), _R.c.outcome),
        (_R.c.next_try_at > _given("now"), "backing_off"),
        (claims.has_child(), "waiting"),
        else_=UNTRIED,
    )
    page = sa.select(reason.label("reason")).where(*_in_page()).subquery("page")
    counted = (
        sa.select(page.c.reason, sa.func.count().label("number"))
        .group_by(page.c.reason)
        .subquery("counted")
    )
    return sa.select(database.as_array(dialect, counted.c.reason, counted.c.number))


@cache
def _waiting(dialect: str) -> sa.Select[Any]:
    child, further = _R.alias("child"), _R.alias("further")
    come = sa.or_(_R.c.next_try_at.is_(None), _R.c.next_try_at <= _given("now"))
    page = (
        sa.select(_R.c.id)
        .where(*_in_page(), come, _R.c.id + sa.literal_column("0") <= _given("newest_pk"))
        .cte("page")
    )
    line = (
        sa.select(
            page.c.id.label("top"),
            child.c.id,
            _may_go(child, dialect).label("may_go"),
            sa.literal_column("1").label("generation"),
        )
        .join_from(page, child, child.c.parent_id == page.c.id)
        .where(child.c.state != _GONE)
        .cte("line", recursive=True)
    )
    below = (
        sa.select(line.c.top, further.c.id, _may_go(further, dialect), line.c.generation + 1)
        .join_from(line, further, further.c.parent_id == line.c.id)
        .where(further.c.state != _GONE, line.c.may_go == 1, line.c.generation < _GENERATIONS)
    )
    line = line.union_all(below)
    return sa.select(sa.func.count(line.c.top.distinct())).where(line.c.may_go == 0)


def _may_go(row: sa.FromClause, dialect: str) -> sa.ColumnElement[int]:
    """1 where a response is due and may be tried now, 0 otherwise."""
    cuts = database.rows_for(dialect, "cuts", "label_set_id", "cutoff")
    cutoff = (
        sa.select(cuts.c.cutoff).where(cuts.c.label_set_id == row.c.label_set_id).correlate(row)
    )
    # Most conversations stay within one label set, whose cut-off need not be looked up.
    own = sa.case((row.c.label_set_id == _given("label_set_id"), _given("cutoff")))
    return sa.case(
        (
            sa.and_(
                row.c.state == _LIVE,
                row.c.id <= _given("newest_pk"),
                sa.or_(row.c.next_try_at.is_(None), row.c.next_try_at <= _given("now")),
                row.c.created_at <= sa.func.coalesce(own, cutoff.scalar_subquery()),
            ),
            sa.literal_column("1"),
        ),
        else_=sa.literal_column("0"),
    )


def _in_page() -> tuple[sa.ColumnElement[bool], ...]:
    until = _given("until_created_at")
    # The border's time is said by itself too: both databases then read no more of the index.
    return (
        *_of_one(),
        _R.c.created_at <= until,
        _key() > _given_key("after"),
        _key() <= _given_key("until"),
    )


def _of_one() -> tuple[sa.ColumnElement[bool], ...]:
    return (_R.c.state == _LIVE, _R.c.label_set_id == _given("label_set_id"))


def _key() -> sa.Tuple:
    return sa.tuple_(_R.c.created_at, _R.c.id)


def _given_key(name: str) -> sa.Tuple:
    return sa.tuple_(_given(f"{name}_created_at"), _given(f"{name}_id"))


def _given(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=tables.BIG)
