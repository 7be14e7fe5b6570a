"""Register what a file or a person gives: checked line by line, admitted batch by batch."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import moment, registration
from sweeper.domain.registration import Fault, Registration, Skipped
from sweeper.engine.clock import ClockWatch
from sweeper.ledger import admission
from sweeper.ledger.database import Database
from sweeper.service import assembly
from sweeper.service.lines import Line

if TYPE_CHECKING:
    from sqlalchemy import Connection

BATCH: Final = 20_000
"""Lines in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of the lines so far; the counts after the first, but the last, add up to it.

    Of what was `added`, so much is at accounts that are not configured.
    """

    read: int = 0
    added: int = 0
    completed: int = 0
    known: int = 0
    skipped: int = 0
    rejected: int = 0
    no_account: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            read=self.read + other.read,
            added=self.added + other.added,
            completed=self.completed + other.completed,
            known=self.known + other.known,
            skipped=self.skipped + other.skipped,
            rejected=self.rejected + other.rejected,
            no_account=self.no_account + other.no_account,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A line that was not kept; the reason is safe to show.

    `start` is the byte at which it begins, where that is known.
    """

    line: int
    reason: str
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What became of one batch, once it is committed."""

    tally: Tally
    rejected: Sequence[Rejected]


Value = Registration | Skipped | Fault
"""What a line says, once it is read."""
Also = Callable[["Connection", Batch], None]
"""What else is written in a batch's transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Judges lines by one configuration and one clock, and admits them batch by batch.

    Without a default a line must name its account, unless only one is configured. `longest` says
    how long an id may be at an account, `accounts` which of them are configured.
    """

    db: Database
    watch: ClockWatch
    accounts: Collection[str]
    longest: Callable[[str], int]
    default_account: str | None

    def doubt(self) -> str | None:
        """Why no line can be judged now: the clock is known to be wrong."""
        with self.db.read() as connection:
            return self.watch.doubt(connection)

    def admit(self, page: Sequence[Line], also: Also | None = None) -> Batch:
        """Register the lines in one transaction, or reject them."""
        now = self.watch.clock.wall()
        values = [
            each.value
            if isinstance(each.value, Fault)
            else registration.read_line(
                each.value,
                now=now,
                default_account=self.default_account,
                longest=self.longest,
            )
            for each in page
        ]
        return self._admit(page, values, now, also)

    def _admit(
        self, page: Sequence[Line], values: Sequence[Value], now: datetime, also: Also | None
    ) -> Batch:
        good = [value for value in values if isinstance(value, Registration)]
        if not good and also is None:
            return self._batch(page, values, admission.Counts())
        with self.db.write() as connection:
            counts = admission.admit(connection, good, moment.to_us(now))
            batch = self._batch(page, values, counts)
            if also is not None:
                also(connection, batch)
        return batch

    def _batch(
        self, page: Sequence[Line], values: Sequence[Value], counts: admission.Counts
    ) -> Batch:
        judged = list(zip(page, values, strict=True))
        rejected = [
            Rejected(line=line.number, reason=_reason(value), start=line.start)
            for line, value in judged
            if isinstance(value, Fault)
        ]
        if counts.rejected:
            good = [line for line, value in judged if isinstance(value, Registration)]
            rejected += [
                Rejected(line=good[index].number, reason=why, start=good[index].start)
                for index, why in counts.rejected
            ]
        added_at = counts.added_at.items()
        tally = Tally(
            read=len(page),
            added=counts.added,
            completed=counts.completed,
            known=counts.known,
            skipped=sum(isinstance(value, Skipped) for value in values),
            rejected=len(rejected),
            no_account=sum(count for account, count in added_at if account not in self.accounts),
        )
        return Batch(tally=tally, rejected=sorted(rejected, key=lambda each: each.line))


def desk(
    config: Config, db: Database, watch: ClockWatch, *, default_account: str | None = None
) -> Desk:
    if default_account is None and len(config.accounts) == 1:
        default_account = config.accounts[0].name
    return Desk(
        db=db,
        watch=watch,
        accounts=frozenset(str(each.name) for each in config.accounts),
        longest=assembly.longest_ids(config),
        default_account=default_account,
    )


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
    here = desk(config, db, assembly.watch(config), default_account=default_account)
    remaining = iter(lines)
    while page := list(itertools.islice(remaining, batch)):
        doubt = here.doubt()
        if doubt is not None:
            raise errors.LedgerError(
                f"nothing more was registered, because the clock may be wrong: {doubt}",
                hint="mend the time service, then register it again: what is known is only counted",
            )
        yield here.admit(page)


def _reason(fault: Fault) -> str:
    return f"{fault.reason}: {fault.detail}" if fault.detail else fault.reason
