"""Register what a file or a person gives: checked line by line, admitted batch by batch."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import moment, registration
from sweeper.domain.registration import Fault, Registration, Skipped
from sweeper.engine.clock import ClockWatch
from sweeper.ledger import admission
from sweeper.ledger.database import Database
from sweeper.service import assembly
from sweeper.service.lines import Line

BATCH: Final = 20_000
"""Lines in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of the lines so far; the counts after the first add up to it."""

    read: int = 0
    added: int = 0
    completed: int = 0
    known: int = 0
    skipped: int = 0
    rejected: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            read=self.read + other.read,
            added=self.added + other.added,
            completed=self.completed + other.completed,
            known=self.known + other.known,
            skipped=self.skipped + other.skipped,
            rejected=self.rejected + other.rejected,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A line that was not kept; the reason is safe to show."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of one batch, once it is committed."""

    tally: Tally
    rejected: Sequence[Rejected]


def register(
    db: Database,
    lines: Iterable[Line],
    *,
    config: Config,
    default_account: str | None = None,
    batch: int = BATCH,
) -> Iterator[Batch]:
    """Register the lines; each batch is yielded when it is committed.

    Who stops asking keeps what was yielded. Without a default a line must name its account,
    unless only one is configured. Raises LedgerError while the clock is known to be wrong: no
    line is judged by it, and of that batch nothing is kept.
    """
    if default_account is None and len(config.accounts) == 1:
        default_account = config.accounts[0].name
    longest = assembly.longest_ids(config)
    watch = assembly.watch(config)
    remaining = iter(lines)
    while page := list(itertools.islice(remaining, batch)):
        now = _trusted(db, watch)
        values = [
            each.value
            if isinstance(each.value, Fault)
            else registration.read_line(
                each.value, now=now, default_account=default_account, longest=longest
            )
            for each in page
        ]
        yield _admit(db, page, values, now)


def _trusted(db: Database, watch: ClockWatch) -> datetime:
    with db.read() as connection:
        doubt = watch.doubt(connection)
    if doubt is not None:
        raise errors.LedgerError(
            f"nothing more was registered, because the clock may be wrong: {doubt}",
            hint="mend the time service, then register it again: what is known is only counted",
        )
    return watch.clock.wall()


def _admit(
    db: Database,
    page: Sequence[Line],
    values: Sequence[Registration | Skipped | Fault],
    now: datetime,
) -> Batch:
    numbers = [
        line.number
        for line, value in zip(page, values, strict=True)
        if isinstance(value, Registration)
    ]
    good = [value for value in values if isinstance(value, Registration)]
    counts = admission.Counts()
    if good:
        with db.write() as connection:
            counts = admission.admit(connection, good, moment.to_us(now))
    rejected = [
        Rejected(line=line.number, reason=_reason(value))
        for line, value in zip(page, values, strict=True)
        if isinstance(value, Fault)
    ]
    rejected += [Rejected(line=numbers[index], reason=why) for index, why in counts.rejected]
    tally = Tally(
        read=len(page),
        added=counts.added,
        completed=counts.completed,
        known=counts.known,
        skipped=sum(isinstance(value, Skipped) for value in values),
        rejected=len(rejected),
    )
    return Batch(tally=tally, rejected=sorted(rejected, key=lambda each: each.line))


def _reason(fault: Fault) -> str:
    return f"{fault.reason}: {fault.detail}" if fault.detail else fault.reason
