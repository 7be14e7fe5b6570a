"""Count what is still due after a sweep, by the reason why it is still there."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from sweeper.ledger import claims, database, responses, tables

_R = tables.responses
_LIVE: sa.ColumnElement[str] = sa.literal_column("'live'")
_CLAIMED: sa.ColumnElement[str] = sa.literal_column("'claimed'")
_VERIFYING: sa.ColumnElement[str] = sa.literal_column("'verifying'")
_QUARANTINED: sa.ColumnElement[str] = sa.literal_column("'quarantined'")

_NEVER: Final = -(2**63)
_EVER: Final = 2**63 - 1
"""A cut-off before and one after everything."""

_PAGE: Final = 20_000
UNTRIED: Final = "untried"
"""Neither tried in this sweep nor kept by anything in the ledger: the sweep knows why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Which responses a sweep could have planned; times in microseconds."""

    sweep_id: str
    newest_pk: int
    now: int


def live(
    db: database.Database,
    cuts: Iterable[tuple[int, int]],
    bounds: Bounds,
    read: Callable[[], None] = lambda: None,
) -> Mapping[int, Counter[str]]:
    """Count live responses that are due, by label set and reason.

    A reason is the last outcome if this sweep found it, `backing_off`, `waiting` or `untried`.
    Pages are read in transactions of their own, so that no commit waits for a count; `read` is
    called after each.
    """
    counted: dict[int, Counter[str]] = {}
    for label_set_id, cutoff in cuts:
        counts = counted.setdefault(label_set_id, Counter())
        after: tuple[int, int] | None = (-(2**63), 0)
        while after is not None:
            after = _page(db, (label_set_id, cutoff), bounds, after, counts)
            read()
    return counted


def _page(
    db: database.Database,
    cut: tuple[int, int],
    bounds: Bounds,
    after: tuple[int, int],
    counts: Counter[str],
) -> tuple[int, int] | None:
    with db.read() as connection:
        text = connection.execute(
            _reasons(connection.dialect.name),
            {
                "label_set_id": cut[0],
                "cutoff": cut[1],
                "after_created_at": after[0],
                "after_id": after[1],
                "sweep_id": bounds.sweep_id,
                "newest_pk": bounds.newest_pk,
                "now": bounds.now,
            },
        ).scalar_one()
    rows = json.loads(text or "[]")
    counts.update(reason for _, _, reason in rows if reason is not None)
    return (rows[-1][0], rows[-1][1]) if len(rows) == _PAGE else None


@cache
def _reasons(dialect: str) -> sa.Select[str]:
    def given(name: str) -> sa.BindParameter[int]:
        return sa.bindparam(name, type_=tables.BIG)

    reason = sa.case(
        (_R.c.id > given("newest_pk"), None),
        (_R.c.sweep_id == sa.bindparam("sweep_id", type_=sa.Text), _R.c.outcome),
        (_R.c.next_try_at > given("now"), "backing_off"),
        (claims.has_child(), "waiting"),
        else_=UNTRIED,
    )
    page = (
        sa.select(_R.c.created_at, _R.c.id, reason.label("reason"))
        .where(
            _R.c.state == _LIVE,
            _R.c.label_set_id == given("label_set_id"),
            _R.c.created_at <= given("cutoff"),
            sa.tuple_(_R.c.created_at, _R.c.id)
            > sa.tuple_(given("after_created_at"), given("after_id")),
        )
        .order_by(_R.c.created_at, _R.c.id)
        .limit(_PAGE)
        .subquery("page")
    )
    return sa.select(database.as_array(dialect, page.c.created_at, page.c.id, page.c.reason))


def elsewhere(
    db: database.Database,
    cuts: Iterable[tuple[int, int]],
    newest_pk: int,
    *,
    configured: Collection[str],
) -> Counter[str]:
    """Count what is due but not live, by reason; each label set in a transaction of its own.

    `verifying` is everything whose yes is not yet verified, `stopped` what another process or a
    crash left claimed. `quarantined` is what is due, what has no time of creation, and
    everything at accounts that are not `configured`, where no policy can tell what is due.
    """
    due = dict(cuts)
    with db.read() as connection:
        sets = responses.label_sets(connection)
        claimed = connection.execute(_claimed(), {"newest_pk": newest_pk}).all()
        verifying = connection.execute(_verifying()).scalar_one()
    stopped = sum(at <= due.get(label_set_id, _NEVER) for label_set_id, at in claimed)
    counted = Counter(stopped=stopped, verifying=verifying)
    for one in sets:
        is_ours = one.account in configured
        values = {
            "label_set_id": one.id,
            "cutoff": due.get(one.id, _NEVER) if is_ours else _EVER,
            "newest_pk": newest_pk if is_ours else _EVER,
        }
        with db.read() as connection:
            for statement in _aside():
                counted["quarantined"] += connection.execute(statement, values).scalar_one()
    return +counted


# Small partial indexes answer these. They are passed over where a condition on the key itself
# would let the table be walked in its order, so the key is hidden in a sum.
_KNOWN: Final = (_R.c.id + sa.literal_column("0")) <= sa.bindparam("newest_pk", type_=tables.BIG)


@cache
def _claimed() -> sa.Select[Any]:
    """What is claimed at this moment: no more than a few seconds' work for each sweeper."""
    return sa.select(_R.c.label_set_id, _R.c.created_at).where(
        _R.c.state == _CLAIMED, _R.c.token.is_not(None), _KNOWN
    )


@cache
def _verifying() -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(_R).where(_R.c.state == _VERIFYING)


@cache
def _aside() -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Of one label set: what is due by the cut-off, and what has no time of creation."""
    of_one = (
        sa.select(sa.func.count())
        .select_from(_R)
        .where(
            _R.c.state == _QUARANTINED,
            _R.c.label_set_id == sa.bindparam("label_set_id", type_=tables.BIG),
        )
    )
    cutoff = sa.bindparam("cutoff", type_=tables.BIG)
    return of_one.where(_R.c.created_at <= cutoff, _KNOWN), of_one.where(_R.c.created_at.is_(None))


def oldest(connection: sa.Connection, label_set_id: int) -> int | None:
    """When the oldest live response of a label set was created, in microseconds."""
    at: int | None = connection.execute(
        sa.select(sa.func.min(_R.c.created_at)).where(
            _R.c.state == _LIVE, _R.c.label_set_id == label_set_id
        )
    ).scalar_one()
    return at
