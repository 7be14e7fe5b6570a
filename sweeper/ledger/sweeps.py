"""Open, close and look up sweeps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from sweeper.evidence.record import RecordType
from sweeper.ledger import records, tables
from sweeper.ledger.records import Entry

INTERRUPTED: Final = "interrupted"
"""Why a sweep stopped that was told to, and left undone what it would have done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """One sweep; `finished_at` and what follows are None while it runs or after it died."""

    id: str
    started_at: int
    finished_at: int | None
    complete: bool | None
    stop_reason: str | None
    summary: Mapping[str, object] | None

    @property
    def stop_reasons(self) -> Sequence[str]:
        """Everything that stopped it, or a part of it; `stop_reason` is the first."""
        told = (self.stop_reason, *(one.get("reason") for one in self._stops))
        return list(dict.fromkeys(one for one in told if isinstance(one, str)))

    def kept_by(self, reason: str) -> int | None:
        """How many responses were kept for this reason; None where that was not counted."""
        counts = [one.get("kept") for one in self._stops if one.get("reason") == reason]
        known = [count for count in counts if isinstance(count, int)]
        return sum(known) if known else None

    @property
    def _stops(self) -> Sequence[Mapping[str, object]]:
        stops = (self.summary or {}).get("stops")
        return [one for one in stops if isinstance(one, dict)] if isinstance(stops, list) else []


def begin(connection: sa.Connection, sweep_id: str, *, now: int) -> None:
    """Open a sweep, after all that were begun before it, however far behind the clock is.

    What came of it would else be hidden by what came of them. `now` is in microseconds.
    """
    newest = connection.execute(sa.select(sa.func.max(tables.sweeps.c.started_at))).scalar_one()
    started_at = now if newest is None else max(now, newest + 1)
    connection.execute(sa.insert(tables.sweeps).values(id=sweep_id, started_at=started_at))


def redate(connection: sa.Connection, *, now: int) -> None:
    """Date what does not lie before now right before it, in microseconds.

    What a clock has dated that was ahead must not hide what comes after.
    """
    table = tables.sweeps
    ahead = sa.update(table).where(table.c.started_at >= now)
    ended = sa.case((table.c.finished_at.is_not(None), now - 1))
    connection.execute(ahead.values(started_at=now - 1, finished_at=ended))


def keep_policies(connection: sa.Connection, sha256: str, *, now: int) -> bool:
    """Record the set of policies that is in force; says whether it is another than before."""
    known = connection.execute(sa.select(tables.ledger.c.policies_sha256)).scalar_one()
    if known == sha256:
        return False
    entry = Entry(type=RecordType.POLICY_EFFECTIVE, fields={"policies_sha256": sha256})
    records.append(connection, [entry], now=now)
    connection.execute(sa.update(tables.ledger).values(policies_sha256=sha256))
    return True


def finish(
    connection: sa.Connection,
    sweep_id: str,
    *,
    complete: bool,
    stop_reason: str | None,
    summary: Mapping[str, object],
    finished_at: int,
    now: int,
) -> None:
    """Close a sweep with its numbers, and record them at `now`, the time for records."""
    began = tables.sweeps.c.started_at
    connection.execute(
        sa.update(tables.sweeps)
        .where(tables.sweeps.c.id == sweep_id)
        .values(
            finished_at=sa.case((began > finished_at, began), else_=finished_at),
            complete=int(complete),
            stop_reason=stop_reason,
            summary=json.dumps(summary, sort_keys=True),
        )
    )
    fields = {name: value for name, value in summary.items() if name != "type"}
    records.append(connection, [Entry(type=RecordType.RUN_SUMMARY, fields=fields)], now=now)


def latest(
    connection: sa.Connection,
    limit: int = 1,
    *,
    finished: bool = False,
    complete: bool = False,
    by_itself: bool = False,
) -> list[SweepRow]:
    """The newest sweeps first; of those that came to their end, or were `complete`, if so asked.

    With `by_itself` those that were interrupted are left out.
    """
    statement = sa.select(tables.sweeps).order_by(tables.sweeps.c.started_at.desc()).limit(limit)
    if finished:
        statement = statement.where(tables.sweeps.c.finished_at.is_not(None))
    if by_itself:
        reason = sa.func.coalesce(tables.sweeps.c.stop_reason, "")
        statement = statement.where(reason != INTERRUPTED)
    if complete:
        statement = statement.where(tables.sweeps.c.complete == 1)
    return [
        SweepRow(
            id=row.id,
            started_at=row.started_at,
            finished_at=row.finished_at,
            complete=None if row.complete is None else bool(row.complete),
            stop_reason=row.stop_reason,
            summary=None if row.summary is None else json.loads(row.summary),
        )
        for row in connection.execute(statement)
    ]


def finished_between(connection: sa.Connection, since: int, until: int) -> list[tuple[int, int]]:
    """When the sweeps began and ended that came to their end; of those that touch the span.

    One that was interrupted came to an end that was not its own. Times are in microseconds; a
    sweep may have begun long before `since`.
    """
    table = tables.sweeps
    statement = (
        sa.select(table.c.started_at, table.c.finished_at)
        .where(
            table.c.finished_at >= since,
            table.c.started_at <= until,
            sa.func.coalesce(table.c.stop_reason, "") != INTERRUPTED,
        )
        .order_by(table.c.started_at)
    )
    return [(row.started_at, row.finished_at) for row in connection.execute(statement)]
