"""Merge registrations into responses: validated, linked, counted and recorded, under one lock."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from sweeper.domain import moment, registration
from sweeper.domain.registration import Fault, Registration, Verdict
from sweeper.ledger import admitted, registrations, strays
from sweeper.ledger.standings import Standing, Standings
from sweeper.ledger.strays import Stray

_LOCK: Final = 0x5377_6561
"""The PostgreSQL advisory lock under which one process at a time admits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of a batch; `rejected` gives the position in it, from 0, and the reason.

    `added_at` says at which accounts so many were added.
    """

    added_at: Mapping[str, int] = field(default_factory=dict)
    completed: int = 0
    known: int = 0
    rejected: tuple[tuple[int, str], ...] = ()

    @property
    def added(self) -> int:
        return sum(self.added_at.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What became of one page of registrations, and whether there are more."""

    counts: Counts
    left: bool


def admit(connection: sa.Connection, batch: Sequence[Registration | Stray], now: int) -> Counts:
    """Merge a batch into the responses; best in batches of up to 50,000.

    Another's registration of a known response is known, completes it or conflicts with it: what
    conflicts is rejected, and the known response is set aside for a person. `now` is in
    microseconds.
    """
    lock(connection)
    if not batch:
        return Counts()
    known = Standings(connection, batch)
    tally, added = Counter[Verdict](), Counter[str]()
    rejected: list[tuple[int, str]] = []
    for index, row in enumerate(batch):
        found = known.find(row)
        if isinstance(row, Stray):
            _take_stray(known, row, found)
            rejected.append((index, f"{row.fault.reason}: {row.fault.detail}"))
        elif found is None:
            known.add(row)
            added[row.account] += 1
        elif not found.is_response:
            rejected.append((index, "a row of this id that broke the rules was set aside before"))
        else:
            merged = found.merge(row)
            tally[merged.verdict] += 1
            if merged.verdict is Verdict.CONFLICTING:
                rejected.append((index, f"conflicting: {merged.detail}"))
    admitted.write(connection, known, now)
    return Counts(
        added_at=added,
        completed=tally[Verdict.COMPLETED],
        known=tally[Verdict.KNOWN],
        rejected=tuple(rejected),
    )


def drain(
    connection: sa.Connection,
    *,
    now: int,
    limit: int = 5000,
    judge_time: bool = True,
    longest: Callable[[str], int] | None = None,
) -> Drained:
    """Admit the first `limit` registrations and take them out of their table.

    With `judge_time` off, while the clock is in doubt, no time is rejected for lying ahead.
    `longest` gives the longest id that an account's profile allows.
    """
    lock(connection)
    page = registrations.page(connection, limit + 1)
    taken = page[:limit]
    latest = moment.from_us(now) if judge_time else None
    batch: list[Registration | Stray] = []
    for row in taken:
        read = registration.read_row(
            account=row.account,
            response_id=row.response_id,
            created_at=row.created_at,
            labels=row.labels,
            subject=row.subject,
            previous_response_id=row.previous_response_id,
            now=latest,
            longest=longest,
        )
        batch.append(strays.place(row, read) if isinstance(read, Fault) else read)
    counts = admit(connection, batch, now)
    if taken:
        registrations.remove(connection, [row.id for row in taken])
    return Drained(counts=counts, left=len(page) > limit)


def lock(connection: sa.Connection) -> None:
    """Wait until nobody else admits, and keep others waiting until this transaction ends.

    SQLite's writing transaction is such a lock by itself.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def _take_stray(known: Standings, row: Stray, found: Standing | None) -> None:
    if found is None:
        known.add(row)
    elif row.is_named and found.is_response:
        found.is_disputed = True
