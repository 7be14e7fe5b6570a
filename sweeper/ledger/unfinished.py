"""Count what is due and not gone by the reason why, whatever state it is in."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from sweeper.ledger import backlog, database, tables
from sweeper.ledger.backlog import Cut

_R = tables.responses
_QUARANTINED: sa.ColumnElement[str] = sa.literal_column("'quarantined'")
_FIRST: Final = -(2**63)
"""Before everything: what has no time of creation is due, for nobody knows that it is not."""


def reasons(db: database.Database, cuts: Sequence[Cut], now: int) -> Mapping[int, Counter[str]]:
    """Count by label set, each response once; `now` in microseconds.

    What is live is told apart as in `backlog.reasons`; the rest is `claimed`, `verifying` or
    `quarantined`. Read in short transactions, so that no commit waits for a count.
    """
    found = {cut.label_set_id: backlog.reasons(db, cut, now) for cut in cuts}
    given = {"cuts": json.dumps([list(cut) for cut in cuts])}
    with db.read() as connection:
        for state in ("claimed", "verifying"):
            for key, count in connection.execute(_moving(connection.dialect.name, state), given):
                found[key][state] += count
    for cut in cuts:
        found[cut.label_set_id]["quarantined"] += _aside(db, cut)
    return {key: +counted for key, counted in found.items()}


def undated(db: database.Database, label_set_id: int) -> int:
    """Count what was set aside of a label set because nobody knows when it was created."""
    return _aside(db, Cut(label_set_id, _FIRST))


def _aside(db: database.Database, cut: Cut) -> int:
    with db.read() as connection:
        count: int = connection.execute(_quarantined(), cut._asdict()).scalar_one()
    return count


@cache
def _moving(dialect: str, state: str) -> sa.Select[Any]:
    """What is claimed or verified at this moment: little, found by a small index each."""
    cuts = database.rows_for(dialect, "cuts", "label_set_id", "cutoff")
    narrowed = _R.c.token.is_not(None) if state == "claimed" else sa.true()
    return (
        sa.select(_R.c.label_set_id, sa.func.count())
        .where(
            _R.c.state == sa.literal_column(f"'{state}'"),
            narrowed,
            _R.c.label_set_id == cuts.c.label_set_id,
            _R.c.created_at <= cuts.c.cutoff,
        )
        .group_by(_R.c.label_set_id)
    )


@cache
def _quarantined() -> sa.Select[Any]:
    created_at = sa.func.coalesce(_R.c.created_at, sa.literal_column(str(_FIRST)))
    return (
        sa.select(sa.func.count())
        .select_from(_R)
        .where(
            _R.c.state == _QUARANTINED,
            _R.c.label_set_id == sa.bindparam("label_set_id", type_=tables.BIG),
            created_at <= sa.bindparam("cutoff", type_=tables.BIG),
        )
    )
