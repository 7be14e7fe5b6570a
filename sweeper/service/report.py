"""What happened in a period, and what is still open now: deletions, lateness, sweeps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.domain.lateness import Lateness, Spread
from sweeper.domain.period import Period
from sweeper.domain.schedule import Missed
from sweeper.ledger import accounts, history, schedules, sweeps
from sweeper.ledger.database import Database
from sweeper.service import inquiry, outstanding
from sweeper.service import schedule as runs
from sweeper.service.outstanding import Outstanding

SOMETHING_LEFT: Final = "something_left"
"""Why a sweep was not complete that nothing stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Responses of an account that left alike; `policy` is the one that had made them due.

    `past_deadline` were proved gone later than promised. `lateness` is from when they were due;
    None where no policy had made them so, and of what a person closed.
    """

    account: str
    policy: str | None
    outcome: str
    responses: int
    verified: int
    past_deadline: int
    lateness: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """How the sweeps ended that began in the period. The newest may still be `running`."""

    begun: int
    complete: int
    incomplete: Mapping[str, int]
    died: int
    running_or_died: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRun:
    """The scheduled runs that did not happen, as far as schedules are known: `since` then."""

    since: datetime
    missed: Missed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One period. `open` is None while the clock may be wrong, for `open_unknown_because`.

    `not_run` is None where no daemon has followed a schedule until the period ended.
    """

    made_at: datetime
    period: Period
    policy: str | None
    settled: Sequence[Settled]
    open: Sequence[Outstanding] | None
    open_unknown_because: str | None
    sweeps: Sweeps
    not_run: NotRun | None

    @property
    def outcomes(self) -> Mapping[str, int]:
        counted: Counter[str] = Counter()
        for one in self.settled:
            counted[one.outcome] += one.responses
        return dict(sorted(counted.items()))

    @property
    def verified(self) -> int:
        return sum(one.verified for one in self.settled)


def make(config: Config, db: Database, period: Period, *, only: str | None = None) -> Report:
    """Read the ledger; what is registered is admitted first. `only` is one policy's name.

    Raises UsageError for a policy that is neither configured nor told of in the period.
    """
    doubt = inquiry.admit(config, db)
    now = datetime.now(UTC)
    settled = _settled(db, period, only)
    names = [policy.name for policy in config.policies]
    if only is not None and only not in names and not settled:
        raise errors.UsageError(
            f"no policy is called {only!r}, and nothing was deleted by one in this period",
            hint=f"configured are: {', '.join(names) or 'none'}",
        )
    return Report(
        made_at=now,
        period=period,
        policy=only,
        settled=settled,
        open=None if doubt is not None else outstanding.find(config, db, now, only=only),
        open_unknown_because=doubt,
        sweeps=_sweeps(db, period),
        not_run=_not_run(db, period),
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    lateness: Lateness
    responses: int = 0
    verified: int = 0
    past_deadline: int = 0


def _settled(db: Database, period: Period, only: str | None) -> Sequence[Settled]:
    since, until = moment.to_us(period.since), moment.to_us(period.until)
    tallies: dict[tuple[int, str | None, str], _Tally] = {}
    for row in history.gone(db, since, until, policy=only):
        key = row.account_id, row.policy, row.outcome
        tally = tallies.setdefault(key, _Tally(lateness=Lateness()))
        tally.responses += row.number
        tally.verified += row.number * row.verified
        tally.past_deadline += row.number * row.past_deadline
        if row.late_seconds is not None:
            tally.lateness.add(row.late_seconds, row.number)
    with db.read() as connection:
        names = {row.id: row.name for row in accounts.every(connection)}
    found = [
        Settled(
            account=names[account_id],
            policy=policy,
            outcome=outcome,
            responses=tally.responses,
            verified=tally.verified,
            past_deadline=tally.past_deadline,
            lateness=tally.lateness.spread(),
        )
        for (account_id, policy, outcome), tally in tallies.items()
    ]
    return sorted(found, key=lambda one: (one.account, one.policy or "", one.outcome))


def _sweeps(db: Database, period: Period) -> Sweeps:
    since, until = moment.to_us(period.since), moment.to_us(period.until)
    with db.read() as connection:
        counts = history.sweeps(connection, since, until)
        newest = sweeps.latest(connection)
    # One sweep at a time: what another one followed cannot be running any more.
    running = sum(row.finished_at is None and since <= row.started_at < until for row in newest)
    unended = sum(one.number for one in counts if one.complete is None)
    return Sweeps(
        begun=sum(one.number for one in counts),
        complete=sum(one.number for one in counts if one.complete),
        incomplete={
            one.stop_reason or SOMETHING_LEFT: one.number for one in counts if one.complete is False
        },
        died=unended - running,
        running_or_died=running,
    )


def _not_run(db: Database, period: Period) -> NotRun | None:
    with db.read() as connection:
        known = schedules.history(connection)
    if not known or moment.from_us(known[0][0]) >= period.until:
        return None
    since = max(period.since, moment.from_us(known[0][0]))
    return NotRun(since=since, missed=runs.missed(db, since, period.until))
