"""Whether the daemon is alive and ready, what keeps it from being so, and its figures."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.domain.outcome import Breaker
from sweeper.domain.response import State
from sweeper.engine import planning
from sweeper.ledger import accounts, probe, reports, responses, schema, sweeps
from sweeper.ledger.database import Database
from sweeper.ledger.sweeps import SweepRow
from sweeper.service import standing
from sweeper.service.daemon.reading import Reading
from sweeper.service.daemon.vitals import Role, Vitals
from sweeper.telemetry.metrics import Metrics, Overdue, Snapshot

_PATIENCE: Final = 1.5
"""Seconds that a question waits for one thing of the ledger: three times at most, one by one."""
_PROBE_EVERY: Final = 1.0
_SURVEY_EVERY: Final = 15.0
_TEXT_EVERY: Final = 1.0
"""Seconds for which what was found is told again: whoever asks all the time slows no sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """What is read anew whenever somebody asks: it costs next to nothing."""

    stopped: Sequence[tuple[str, Breaker]]
    log_size: int
    withheld: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surveyed:
    """What is counted, and therefore seldom; `at` is when, in seconds of the monotonic clock."""

    snapshot: Snapshot
    at: float


class Health:
    """Answers for the daemon. Its methods are called in the loop; what they read, in threads.

    The ledger is never waited for longer than 5 s, and never asked more than is good for it.
    """

    def __init__(self, config: Config, db: Database, vitals: Vitals, metrics: Metrics) -> None:
        self._db = db
        self._vitals = vitals
        self._metrics = metrics
        self._written = Reading(self._write, fresh=_PROBE_EVERY, patience=_PATIENCE)
        self._probed = Reading(self._probe, fresh=_PROBE_EVERY, patience=_PATIENCE)
        self._surveyed = Reading(self._survey, fresh=_SURVEY_EVERY, patience=_PATIENCE, costly=True)
        self._text: tuple[float, bytes] | None = None
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Judge by this configuration from now on."""
        self._config = config
        self._names = frozenset(str(account.name) for account in config.accounts)
        self._metrics.expect(
            sorted(self._names),
            [
                (name, policy.name)
                for policy in config.policies
                for name in sorted(self._names)
                if policy.match.accounts is None or name in policy.match.accounts
            ],
        )
        self._probed.renew()
        self._surveyed.renew()
        self._text = None

    @property
    def behind_proxy(self) -> bool:
        """Whether something stands before the listener that knows who may ask."""
        return self._config.behind_proxy

    @property
    def role(self) -> str:
        return self._vitals.role.value

    @property
    def is_stalled(self) -> bool:
        """Whether a sweep is running that does not get on; asks nobody."""
        return self._vitals.is_stalled

    async def ready(self) -> Sequence[str]:
        """The reasons why the daemon cannot do its duty; none when it can.

        A standby is ready while the ledger is: its duty is to be there.
        """
        match self._vitals.role:
            case Role.STARTING | Role.STOPPING as role:
                found = await self._ledger()
                return list(dict.fromkeys([role.value, *self._held_back(), *_named(found)]))
            case Role.STANDBY:
                return _named(await self._ledger())
            case Role.ACTIVE:
                own = list(self._own_reasons())
                found, overdue = await asyncio.gather(self._ledger(), self._overdue())
                if isinstance(found, errors.LedgerError):
                    return list(dict.fromkeys([*own, *_named(found)]))
                return [*own, *self._reasons(found), *overdue]
            case unforeseen:
                assert_never(unforeseen)

    async def _ledger(self) -> _Probed | errors.LedgerError:
        """What the ledger says of itself, or why it cannot be used.

        One that others keep busy all the time is well as long as its log grows.
        """
        try:
            seen = await self._probed.value()
            if not await self._is_written():
                later = await self._probed.value()
                if later.log_size == seen.log_size:
                    return errors.LedgerError("the ledger cannot be written to")
        except errors.LedgerError as fault:
            return fault
        return seen

    async def _is_written(self) -> bool:
        """Whether a write came through; False while others keep the ledger busy."""
        try:
            return await self._written.value()
        except errors.LedgerError:
            if self._written.is_running:
                return False
            raise

    def _held_back(self) -> Iterator[str]:
        """What is to be written waits, whatever the ledger says to somebody who only looks."""
        if not self._vitals.gate.is_open:
            yield "ledger"

    def _own_reasons(self) -> Iterator[str]:
        yield from self._held_back()
        if self._vitals.is_stalled:
            yield "sweep_stalled"
        if self._vitals.failing is not None:
            yield "sweep_failing"
        if self._vitals.unread_spool_files != 0:
            yield "spool"

    def _reasons(self, probed: _Probed) -> Iterator[str]:
        for account, breaker in probed.stopped:
            if account in self._names:
                yield f"account_stopped:{account}:{breaker.value}"
        yield from probed.withheld

    async def _overdue(self) -> Sequence[str]:
        try:
            surveyed = await self._surveyed.value()
        except errors.LedgerError:
            return ["overdue_unknown"]
        return [f"overdue:{policy}" for policy in sorted(surveyed.snapshot.overdue)]

    async def metrics(self) -> bytes:
        """All figures as Prometheus reads them, at most a second old."""
        now = time.monotonic()
        if self._text is None or now - self._text[0] >= _TEXT_EVERY:
            seen = await self.snapshot()
            if seen is None:
                self._metrics.forget()
            else:
                self._metrics.show(seen)
            self._metrics.next_sweep(self._vitals.next_sweep_at)
            self._text = now, self._metrics.text()
        return self._text[1]

    async def snapshot(self) -> Snapshot | None:
        """How things stand in the ledger; None where that cannot be known."""
        try:
            surveyed = await self._surveyed.value()
        except errors.LedgerError:
            return None
        return _by_now(surveyed)

    @property
    def stopped(self) -> Sequence[Mapping[str, object]]:
        """What stops configured accounts, and how much is past its time there.

        By what is known right after somebody asked whether all is ready; nobody waits for it. The
        numbers are None where they are not known.
        """
        probed, surveyed = self._probed.known, self._surveyed.known
        kept = {} if surveyed is None else _by_now(surveyed).kept
        return [
            _named_stop(account, breaker, kept.get(account))
            for account, breaker in (() if probed is None else probed.stopped)
            if account in self._names
        ]

    def _write(self) -> bool:
        try:
            while not probe.writable(self._db):
                pass  # others keep it busy: it has waited, and waits again
        except errors.LedgerError:
            self._metrics.ledger_failed()
            raise
        return True

    def _probe(self) -> _Probed:
        try:
            schema.check(self._db)
            with self._db.read() as connection:
                stopped = accounts.open_breakers(connection)
                finished = sweeps.latest(connection, finished=True)
                log_size = probe.log_size(connection)
        except errors.LedgerError:
            self._metrics.ledger_failed()
            raise
        return _Probed(
            stopped=[(one.account, one.breaker) for one in stopped],
            log_size=log_size,
            withheld=[why for row in finished for why in standing.withheld(row)],
        )

    def _survey(self) -> _Surveyed:
        now, at = datetime.now(UTC), time.monotonic()
        config = self._config
        with self._db.read() as connection:
            sets = responses.label_sets(connection)
            aside = reports.aside(connection)
            finished = sweeps.latest(connection, finished=True)
            complete = sweeps.latest(connection, complete=True)
            stopped = accounts.open_breakers(connection)
            records = probe.log_size(connection)
        ruled, _ = planning.rule(sets, config.policies, now)
        late = standing.late(self._db, ruled, now)
        living: Counter[str] = Counter()
        for one in sets:
            living[one.account] += one.live_count
        stops = standing.stops(self._db, stopped, ruled, now)
        snapshot = Snapshot(
            responses=_by_state(living, aside),
            overdue={one.policy: _overdue(one.count, one.oldest) for one in late},
            breakers={(one.account, one.breaker) for one in stopped},
            kept={one.by.account: _overdue(one.kept.count, one.kept.oldest) for one in stops},
            held=_held(finished),
            records=records,
            last_finished_sweep=_ended(finished),
            last_complete_sweep=_ended(complete),
        )
        return _Surveyed(snapshot=snapshot, at=at)


def _by_state(
    living: Mapping[str, int], aside: Mapping[str, Mapping[str, int]]
) -> Mapping[tuple[str, State], int]:
    """Of each account how much is in which state; what is claimed or verified is living too."""
    counted: dict[tuple[str, State], int] = {}
    for account in {*living, *aside}:
        others = {State(name): count for name, count in aside.get(account, {}).items()}
        moving = others.get(State.CLAIMED, 0) + others.get(State.VERIFYING, 0)
        counted[account, State.LIVE] = max(0, living.get(account, 0) - moving)
        counted.update({(account, state): count for state, count in others.items()})
    return counted


def _overdue(count: int, oldest: timedelta) -> Overdue:
    return Overdue(count=count, oldest_seconds=oldest.total_seconds())


def _by_now(surveyed: _Surveyed) -> Snapshot:
    """What was counted, with lengths of time as they are by now."""
    seen, since = surveyed.snapshot, time.monotonic() - surveyed.at
    return replace(seen, overdue=_older(seen.overdue, since), kept=_older(seen.kept, since))


def _older(late: Mapping[str, Overdue], seconds: float) -> Mapping[str, Overdue]:
    """The same a little later."""
    return {
        name: replace(one, oldest_seconds=one.oldest_seconds + seconds if one.count else 0.0)
        for name, one in late.items()
    }


def _named_stop(account: str, breaker: Breaker, kept: Overdue | None) -> Mapping[str, object]:
    count = None if kept is None else kept.count
    oldest = round(kept.oldest_seconds, 3) if kept is not None and kept.count else None
    return {
        "account": account,
        "breaker": breaker.value,
        "kept": count,
        "oldest_seconds": oldest,
    }


def _held(finished: Sequence[SweepRow]) -> int:
    """What the last sweep found to be held; nothing where none has run."""
    summaries = [row.summary for row in finished if row.summary is not None]
    held = summaries[0].get("held") if summaries else 0
    return held if isinstance(held, int) else 0


def _ended(found: Sequence[SweepRow]) -> datetime | None:
    ends = [row.finished_at for row in found if row.finished_at is not None]
    return moment.from_us(ends[0]) if ends else None


def _named(found: _Probed | errors.LedgerError) -> list[str]:
    if isinstance(found, errors.SchemaMismatch):
        return ["schema"]
    return ["ledger"] if isinstance(found, errors.LedgerError) else []
