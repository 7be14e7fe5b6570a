"""The daemon's rounds: one sweep after the other, whenever a bell has rung."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import event, moment
from sweeper.domain.event import Event
from sweeper.domain.outcome import Breaker
from sweeper.domain.schedule import Missed
from sweeper.domain.secret import Secret
from sweeper.engine.account import Emit, Measure
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger import integrity, schedules, schema, sweeps
from sweeper.ledger.database import Database
from sweeper.service import assembly, schedule, sweeping
from sweeper.service.assembly import Workshop
from sweeper.service.daemon import recollection
from sweeper.service.daemon.systemd import Notifier
from sweeper.service.daemon.vitals import Vitals
from sweeper.service.keyring import Keyring
from sweeper.service.schedule import Bells

_BUSY: Final = 5.0
"""Seconds between two tries, while somebody else's sweep is at work on the ledger."""
_WAITS: Final = (5.0, 15.0, 60.0)
"""Seconds between the tries after a fault of the ledger; the last one again and again."""
_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(minutes=1)
"""The least time between two sweeps for retries, and what it grows to while they go on."""
_TAKING_IN: Final = frozenset({"intake", "accounts", "guards"})
"""Sections by which files of the spool are taken in."""
_LASTING: Final = (errors.LedgerReplaced, errors.LedgerDamaged, errors.SchemaMismatch)
"""Faults that no later sweep can mend."""
_BY_KEY: Final = (Breaker.CREDENTIAL.value, Breaker.IDENTITY.value)
"""Breakers that another key may lift."""
_UNWRITTEN: Final = "the ledger does not take what the provider has answered"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a daemon is given: how it reads its configuration, and to whom it tells what happens.

    `redact` hears of every key before it is used; `measure` and `waits` are those of a workshop.
    """

    load: Callable[[], Config]
    environ: Mapping[str, str]
    emit: Emit
    notifier: Notifier
    redact: Callable[[Iterable[Secret]], None]
    measure: Measure | None = None
    waits: Callable[[str, float], None] | None = None


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Sweeps when a bell has rung, one sweep at a time; a bell during a sweep counts once."""

    config: Config
    db: Database
    around: Around
    vitals: Vitals
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever there may be something new to be told about."""
    _rung: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _keyring: Keyring = field(init=False)
    _shop: Workshop = field(init=False)
    _recorder: Recorder = field(init=False)
    _bells: Bells = field(init=False)
    _sweep: Sweep | None = None
    _began: datetime | None = None
    _superseded: bool = False
    _whys: set[str] = field(default_factory=set)
    _pause: timedelta = _PAUSE
    _tries: int = 0
    _told_until: datetime = _EPOCH
    _untold: Missed | None = None
    _stopped: frozenset[tuple[str, str]] = frozenset()
    _lifted: set[tuple[str, str]] = field(default_factory=set)
    _sweep_id: str | None = None
    """The sweep of this round, once it has ended."""
    _kept_back: bool = False
    """Whether this sweep has answers that the ledger did not take: it ends as one that failed."""

    def __post_init__(self) -> None:
        self._keyring = Keyring(environ=self.around.environ, redact=self.around.redact)
        self._shop = self._workshop(self.config)
        self._recorder = Recorder(
            self.db, self.vitals.pulse, gate=self.vitals.gate, emit=self.around.emit
        )
        self._bells = Bells(self.ring)

    def ring(self, why: str) -> None:
        self._whys.add(why)
        self._rung.set()

    def end(self, *, hurry: bool = False) -> None:
        """Sweep no more; a running sweep lets what is in flight finish, for how long it may."""
        self._ended.set()
        self._rung.set()
        if self._sweep is not None:
            self._sweep.stop(sweeps.INTERRUPTED, hurry=hurry)

    async def run(self) -> None:
        """Sweep until told to end; raises what no later sweep can mend."""
        try:
            await self._begin_when_possible()
            while not self._ended.is_set():
                await self._rest()
                if not self._ended.is_set():
                    await self._round()
        finally:
            self._bells.stop()
            await asyncio.to_thread(self._recorder.close)

    def adopt(self, config: Config, sections: Sequence[str], *, now: bool) -> None:
        """Go by another configuration from the next sweep on; `now` begins it at once."""
        self.config = config
        before, new = self._shop, self._workshop(config)
        self._shop = replace(new, pacers=before.pacers, waited=before.waited)
        if _TAKING_IN.isdisjoint(sections):
            self._shop = replace(self._shop, intake=before.intake)
        if "schedule" in sections:
            self._bells.follow(config.schedule)
            self.vitals.next_sweep_at = self._bells.next_at
        if now:
            # A sweep that is only being opened was given the configuration before.
            self._superseded = True
            self.ring("reloaded")
            if self._sweep is not None:
                self._sweep.stop(sweeps.INTERRUPTED)

    async def take_in(self) -> None:
        """Take in what lies in the spool, between sweeps or beside one."""
        self.vitals.unread_spool_files = await self._shop.intake(lambda: None)

    async def look_for_lifted_stops(self) -> None:
        """Ring where somebody has let a stopped account go on."""
        if self._sweep is not None:
            return
        stopped = await asyncio.to_thread(recollection.stops, self.db)
        if self._stopped - stopped:
            self.ring("stop lifted")
        self._stopped = stopped

    async def look_for_replaced_keys(self) -> None:
        """Ring where another key stands in the place of one that stopped its account."""
        names = {account for account, breaker in self._stopped if breaker in _BY_KEY}
        if names and self._sweep is None and await self._keyring.notices(self.config, names):
            self.ring("key replaced")

    async def missed_or_untold(self) -> Missed | None:
        """What is missed now, else what was caught up with since this was asked last."""
        still = await self.missed()
        found, self._untold = self._untold, None
        if still is None and found is not None:
            self.looked.set()  # it is over already, which is to be told next
        return still or found

    async def missed(self) -> Missed | None:
        """The runs since the last finished sweep that did not happen, up to the one at work."""
        return await asyncio.to_thread(recollection.missed, self.db, self._began or _now())

    async def _begin_when_possible(self) -> None:
        while not self._ended.is_set():
            try:
                await self._begin()
            except _LASTING:
                raise
            except errors.LedgerError as fault:
                self._failed(fault)
                await self._rest()
            else:
                return

    async def _begin(self) -> None:
        """Catch up with what should have run while nobody was there."""
        await asyncio.to_thread(integrity.check_at_start, self.db)
        missed = await self.missed()
        now = _now()
        last = await asyncio.to_thread(recollection.last_sweeps, self.db)
        await self.keep_schedule()
        self._bells.start(self.config.schedule)
        self.vitals.next_sweep_at = self._bells.next_at
        self._stopped = await asyncio.to_thread(recollection.stops, self.db)
        self._tell_started(missed)
        if last.finished is None or last.was_cut_short:
            self.ring("first, or after one that came to no end of its own")
            return
        since = moment.from_us(last.finished.started_at)
        if any(schedule.times(self.config.schedule, since, now)):
            self.ring("catch-up")
        else:
            await self._ring_for_next_try(last.finished.started_at, timedelta(0))

    def _tell_started(self, missed: Missed | None) -> None:
        self.around.emit(
            event.DaemonStarted(
                schedule=schedule.render(self.config.schedule),
                next_sweep_at=self._bells.next_at,
            )
        )
        self.around.notifier.ready(self.status("started"))
        self._tell_missed(missed)

    async def _rest(self) -> None:
        while not self._rung.is_set():
            self.vitals.pulse.beat()
            self._bells.heed_the_clock(_now())
            self.vitals.next_sweep_at = self._bells.next_at
            with suppress(TimeoutError):
                async with asyncio.timeout(self.around.notifier.interval):
                    await self._rung.wait()
        self._rung.clear()
        whys, self._whys = self._whys, set()
        # Where many fail for long, each with a time of its own, a sweep for each would be too many.
        again = whys == {schedule.NEXT_TRY}
        self._pause = min(_LONGEST_PAUSE, 2 * self._pause) if again else _PAUSE

    async def _round(self) -> None:
        """One sweep; a fault that may pass rings again a little later."""
        self._sweep_id = None
        try:
            await self.keep_schedule()
            self._tell_missed(await self.missed())
            await self._finished(await self._swept())
        except _LASTING:
            raise
        except (errors.LedgerError, errors.ConfigurationError) as fault:
            self._failed(fault)
        self.looked.set()

    async def _swept(self) -> Ended:
        await asyncio.to_thread(schema.check, self.db)
        config, shop = self.config, replace(self._shop, emit=self._heard)
        self._superseded = self._kept_back = False
        keys = await self._keyring.read(config)
        bounds = assembly.scope(config)
        async with sweeping.prepared(shop, config, keys, bounds, self._recorder) as sweep:
            self._sweep, self._began, self._lifted = sweep, _now(), set()
            self.vitals.sweeping = True
            self.around.notifier.status("sweeping")
            try:
                if self._ended.is_set() or self._superseded:
                    sweep.stop(sweeps.INTERRUPTED)
                return await sweep.run()
            finally:
                self._sweep, self._began = None, None
                self.vitals.sweeping = False

    def _heard(self, happened: Event) -> None:
        if isinstance(happened, event.BreakerClosed):
            self._lifted.add((happened.account, happened.breaker.value))
        if isinstance(happened, event.OutcomeUnwritten):
            # It may be kept for long: no end of the sweep would tell of it.
            self.vitals.failing, self._kept_back = _UNWRITTEN, True
            self.looked.set()
        if isinstance(happened, event.ResponseSettled):
            self._is_written()
        self.around.emit(happened)

    def _is_written(self) -> None:
        """What kept an earlier sweep from running is over, however long this one takes."""
        if self.vitals.failing is not None and not self._kept_back:
            self.vitals.failing = None
            self.looked.set()

    async def _finished(self, ended: Ended) -> None:
        self._sweep_id = ended.summary.sweep_id
        match ended.fault:
            case None:
                pass
            case errors.ConfigurationError():
                self._tell_failed(ended.fault, None)
            case _:
                raise ended.fault
        self._tries, self.vitals.failing = 0, None
        self.vitals.unread_spool_files = ended.summary.unread_spool_files
        self.around.notifier.status(self.status(_result(ended)))
        stopped = await asyncio.to_thread(recollection.stops, self.db)
        if self._stopped - stopped - self._lifted:
            self.ring("stop lifted")
        self._stopped = stopped
        took = ended.summary.finished_at - ended.summary.started_at
        # Whatever came due again while it ran may have come too late for its last look.
        since = moment.to_us(ended.summary.started_at)
        await self._ring_for_next_try(since, max(took, self._pause))

    def _failed(self, fault: errors.SweeperError) -> None:
        """Try again soon; of somebody else's sweep only the first try is told."""
        is_busy = isinstance(fault, errors.LedgerBusy)
        wait = _BUSY if is_busy else _WAITS[min(self._tries, len(_WAITS) - 1)]
        if not is_busy:
            self._tell_failed(fault, wait)
        elif self._tries == 0:
            self.around.emit(event.SweepWaits(detail=fault.message, retry_seconds=wait))
        self._tries += 1
        self.vitals.failing = None if is_busy else fault.message
        asyncio.get_running_loop().call_later(wait, self.ring, "after a fault")

    def _tell_failed(self, fault: errors.SweeperError, wait: float | None) -> None:
        self.around.emit(
            event.SweepFailed(
                code=fault.code,
                detail=fault.message,
                hint=fault.hint,
                retry_seconds=wait,
                sweep_id=self._sweep_id,
            )
        )

    def _tell_missed(self, missed: Missed | None) -> None:
        if missed is not None and missed.last > self._told_until:
            self._told_until, self._untold = missed.last, missed
            self.around.emit(
                event.RunsMissed(count=missed.count, first=missed.first, last=missed.last)
            )

    async def _ring_for_next_try(self, after: int, rest: timedelta) -> None:
        """Ring at the earliest moment at which something is tried again or verified.

        A stopped account that may be able to go on by itself is tried again too.
        """
        names = {str(account.name) for account in self.config.accounts}
        try:
            again = await asyncio.to_thread(recollection.next_try, self.db, after)
            look = await asyncio.to_thread(recollection.next_look, self.db, names, _now())
        except errors.LedgerError:
            again, look, rest = _now(), None, _LONGEST_PAUSE  # nobody knows: then soon
        at = min((one for one in (again, look) if one is not None), default=None)
        self._bells.once(None if at is None else max(at, _now() + rest))

    def status(self, what: str) -> str:
        """What the service manager shows: this, and when the schedule asks for a sweep."""
        at = self._bells.next_at
        told = "never" if at is None else at.strftime("%Y-%m-%d %H:%M:%SZ")
        return f"{what}; next sweep: {told}"

    def _workshop(self, config: Config) -> Workshop:
        around, reread = self.around, self._keyring.reread
        made = sweeping.workshop(
            config, self.db, around.emit, reread=reread, measure=around.measure
        )
        return replace(made, waits=around.waits, pulse=self.vitals.pulse)

    async def keep_schedule(self) -> None:
        """Note in the ledger since when the schedule is in force, unless it is known."""
        if self._ended.is_set():
            return
        now, kept = moment.to_us(_now()), self.config.schedule
        await self._recorder.write(
            lambda c: schedules.keep(c, kept, now=now), is_work=False, patience=0
        )


def _result(ended: Ended) -> str:
    return "last sweep complete" if ended.summary.complete else "last sweep not complete"


def _now() -> datetime:
    return datetime.now(UTC)
