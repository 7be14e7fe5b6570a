"""How things stand: what is late, stopped, open or set aside, and the last sweep."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.engine import planning
from sweeper.ledger import (
    accounts,
    backlog,
    presence,
    probe,
    registrations,
    reports,
    residue,
    responses,
    sweeps,
)
from sweeper.ledger.accounts import OpenBreaker
from sweeper.ledger.database import Database
from sweeper.ledger.sweeps import SweepRow
from sweeper.service import inquiry
from sweeper.service.spool import spool
from sweeper.service.spool.spool import Left

WITHHELD: Final = ("guard", "clock")
"""Stop reasons of sweeps that were kept from deleting by something else than an account."""
_NO_TIME: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """What is past its deadline by one policy."""

    policy: str
    count: int
    oldest: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How much is past its time and not gone, and for how long the oldest has been."""

    count: int
    oldest: timedelta

    @property
    def oldest_seconds(self) -> float | None:
        return round(self.oldest.total_seconds(), 3) if self.count else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A breaker that stops an account, and what is kept past its time there meanwhile."""

    by: OpenBreaker
    kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How things stand: late, stopped, open, and the last sweep.

    `unwritable` says why nothing can be written to the ledger, so that no sweep can run. Whether a
    `daemon` is at work, and whether the newest sweep is `sweeping` still, is None where that is
    hidden from whoever asks.
    """

    now: datetime
    unwritable: errors.LedgerError | None
    sweep: SweepRow | None
    finished: SweepRow | None
    due: int
    late: Sequence[Late]
    stopped: Sequence[Stopped]
    open: Mapping[str, int]
    aside: Mapping[str, Mapping[str, int]]
    quarantined: Mapping[str, int]
    live: Mapping[str, int]
    unmatched: int
    no_account: Mapping[str, int]
    waiting_for_admission: int
    not_admitted_because: str | None
    spool: Sequence[Left] | None
    rejected: Sequence[Path]
    daemon: bool | None
    sweeping: bool | None

    @property
    def withheld(self) -> Sequence[str]:
        """Why the last sweep that came to its end deleted nothing, or not everywhere: words.

        Told beside what stops an account: neither hides the other.
        """
        return () if self.finished is None else withheld(self.finished)

    @property
    def unread(self) -> Sequence[Left]:
        """What lies in the spool and may hold registrations that nobody knows of."""
        return [one for one in self.spool or () if one.unread]

    @property
    def ok(self) -> bool:
        """Nothing is late, stopped, withheld or set aside, nor can be so without being known."""
        wrong = self.unwritable or self.late or self.stopped or self.quarantined or self.withheld
        lying = [one for one in self.unread if not one.is_fresh]
        return not (wrong or self.not_admitted_because or lying or self.rejected)


def withheld(row: SweepRow) -> Sequence[str]:
    return [reason for reason in WITHHELD if reason in row.stop_reasons]


def status(config: Config, db: Database) -> Status:
    """Admit what is registered, and read how things stand now."""
    unwritable = probe.unwritable(db)
    doubt = None if unwritable else inquiry.admit(config, db)
    now = datetime.now(UTC)
    with db.read() as connection:
        sets = responses.label_sets(connection)
        newest = sweeps.latest(connection)
        finished = sweeps.latest(connection, finished=True)
        opened = accounts.open_breakers(connection)
        aside = reports.aside(connection)
        quarantined = reports.quarantine_reasons(connection)
        waiting = registrations.waiting(connection)
    ruled, unmatched = planning.rule(sets, config.policies, now)
    live: Counter[str] = Counter()
    for one in sets:
        live[one.account] += one.live_count
    due, no_account, outcomes = _due(config, db, ruled, now)
    return Status(
        now=now,
        unwritable=unwritable,
        sweep=newest[0] if newest else None,
        finished=finished[0] if finished else None,
        due=due,
        late=late(db, ruled, now),
        stopped=stops(db, opened, ruled, now),
        open=outcomes,
        aside=aside,
        quarantined=quarantined,
        live=live,
        unmatched=unmatched,
        no_account=no_account,
        waiting_for_admission=waiting,
        not_admitted_because=doubt,
        spool=None if config.spool is None else spool.look(config.spool),
        rejected=[] if config.spool is None else spool.rejected(config.spool),
        daemon=_seen(presence.daemon, db),
        sweeping=_is_sweeping(newest, db),
    )


def _is_sweeping(newest: Sequence[SweepRow], db: Database) -> bool | None:
    """Whether the newest sweep still runs: one that is finished need not be looked for."""
    if not newest or newest[0].finished_at is not None:
        return False
    return _seen(presence.sweep, db)


def _seen(look: Callable[[Database], bool], db: Database) -> bool | None:
    try:
        return look(db)
    except errors.LedgerError:
        return None


def stopped(config: Config, db: Database) -> Sequence[Stopped]:
    """What stops which account now, and what is kept past its time there."""
    now = datetime.now(UTC)
    with db.read() as connection:
        sets = responses.label_sets(connection)
        opened = accounts.open_breakers(connection)
    ruled, _ = planning.rule(sets, config.policies, now)
    return stops(db, opened, ruled, now)


def kept_at(config: Config, db: Database, account: str) -> Kept:
    """What is past its time at an account now."""
    now = datetime.now(UTC)
    with db.read() as connection:
        sets = [one for one in responses.label_sets(connection) if one.account == account]
    return kept(db, planning.rule(sets, config.policies, now)[0], now)


def stops(
    db: Database, opened: Sequence[OpenBreaker], ruled: Sequence[planning.Ruled], now: datetime
) -> Sequence[Stopped]:
    """What stops accounts, each with what is kept past its time there."""
    by_account = {
        name: kept(db, [one for one in ruled if one.row.account == name], now)
        for name in {one.account for one in opened}
    }
    return [Stopped(by=one, kept=by_account[one.account]) for one in opened]


def kept(db: Database, ruled: Sequence[planning.Ruled], now: datetime) -> Kept:
    """How many live responses are past their time, and for how long the oldest has been."""
    count, oldest = 0, _NO_TIME
    for one in ruled:
        cut = backlog.Cut(one.row.id, moment.to_us(one.cutoff))
        number = sum(backlog.due(db, cut, moment.to_us(now), lambda: False))
        with db.read() as connection:
            created_at = residue.oldest(connection, one.row.id) if number else None
        if created_at is not None:
            count += number
            oldest = max(oldest, now - moment.from_us(created_at) - one.keep)
    return Kept(count=count, oldest=oldest)


def _due(
    config: Config, db: Database, ruled: Sequence[planning.Ruled], now: datetime
) -> tuple[int, Mapping[str, int], Mapping[str, int]]:
    total, outcomes, elsewhere = 0, Counter[str](), Counter[str]()
    for one in ruled:
        cut = backlog.Cut(one.row.id, moment.to_us(one.cutoff))
        number = sum(backlog.due(db, cut, moment.to_us(now), lambda: False))
        with db.read() as connection:
            outcomes.update(reports.open_outcomes(connection, [cut]))
        total += number
        if config.account(one.row.account) is None and number:
            elsewhere[one.row.account] += number
    return total, elsewhere, outcomes


def late(db: Database, ruled: Sequence[planning.Ruled], now: datetime) -> Sequence[Late]:
    """What is past its deadline, by policy; what is not admitted yet is left out."""
    counts: Counter[str] = Counter()
    oldest: dict[str, timedelta] = {}
    cuts = [(one.row.id, moment.to_us(one.cutoff - one.policy.deadline)) for one in ruled]
    found = reports.overdue(db, cuts)
    for one in ruled:
        past_it = found.get(one.row.id)
        if past_it is None:
            continue
        name = one.policy.name
        counts[name] += past_it.count
        past = now - (moment.from_us(past_it.oldest_created_at) + one.keep + one.policy.deadline)
        oldest[name] = max(past, oldest.get(name, timedelta(0)))
    return [Late(policy=name, count=count, oldest=oldest[name]) for name, count in counts.items()]
