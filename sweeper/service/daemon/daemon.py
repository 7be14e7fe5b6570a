"""The daemon: it has the ledger's post or stands by, hears signals, and keeps its tasks alive."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import event
from sweeper.ledger.database import Database
from sweeper.service.alarm.alarms import Alarms
from sweeper.service.daemon import reload, supervision
from sweeper.service.daemon.post import Post
from sweeper.service.daemon.rounds import Around, Rounds
from sweeper.service.daemon.vitals import Role, Vitals

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STANDS_BY: Final = 2.0
"""Seconds between two tries to take the post."""
_LOOKS: Final = 2.0
"""Seconds between two looks into the spool and at what stops accounts."""
_ALARMS: Final = 60.0
"""Seconds between two looks for what somebody must be told, where nothing has happened."""


@dataclass(slots=True, kw_only=True)
class Daemon:
    """Runs until a signal ends it, or until one of its parts dies.

    `beside` are further tasks, by their names, that live as long; `doom` is called when something
    has died, and sees to it that the process ends soon, whatever hangs; `reloaded` hears of each
    new configuration.
    """

    config: Config
    db: Database
    around: Around
    vitals: Vitals
    doom: Callable[[], None]
    reloaded: Callable[[Config], None]
    beside: Mapping[str, Coroutine[None, None, None]] = field(default_factory=dict)
    _ending: asyncio.Event = field(default_factory=asyncio.Event)
    _reload: asyncio.Event = field(default_factory=asyncio.Event)
    _rounds: Rounds | None = None

    async def run(self) -> None:
        """Return when a signal has ended it and all is written; raises what ended it else.

        Signals are ignored from then on: none can turn a good end into another.
        """
        self._listen()
        self._tell_doubts()
        others = {"reload": self._reloads(), "watchdog": self._watchdog(), **self.beside}
        try:
            await supervision.together(self._serve(), others, died=self._died)
        except Exception as fault:
            self.around.emit(_failed(fault))
            raise
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        self.around.emit(event.DaemonStopped())

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def hear(number: int, _frame: FrameType | None) -> None:
            heard = self._reload.set if number == signal.SIGHUP else lambda: self._end(number)
            loop.call_soon_threadsafe(heard)

        for number in _SIGNALS:
            signal.signal(number, hear)

    def _tell_doubts(self) -> None:
        if self.config.warnings:
            self.around.emit(event.ConfigurationDoubted(warnings=self.config.warnings))

    def _end(self, number: int) -> None:
        """End; told so again, in haste."""
        name, sweeping = signal.Signals(number).name, self.vitals.sweeping
        hurry = self._ending.is_set()
        self.around.emit(event.DaemonStopping(signal=name, sweeping=sweeping, hurried=hurry))
        self.around.notifier.stopping("finishing what is in flight" if sweeping else "ending")
        self._stop(hurry=hurry)

    def _stop(self, *, hurry: bool) -> None:
        self.vitals.role = Role.STOPPING
        self._ending.set()
        if self._rounds is not None:
            self._rounds.end(hurry=hurry)

    def _died(self) -> None:
        self.doom()
        self._stop(hurry=True)

    async def _serve(self) -> None:
        """Have the post and sweep, or stand by until it is free."""
        is_told = False
        while not self._ending.is_set():
            self.vitals.pulse.beat()
            post = Post(self.db)
            if await self._takes(post):
                is_told = False
                try:
                    await supervision.together(
                        self._active(post), self._around_sweeps(), died=self._died
                    )
                finally:
                    self._rounds = None
                    await post.leave()
                continue
            if not is_told and self.vitals.failing is None:
                is_told = True
                self._stand_by()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STANDS_BY):
                    await self._ending.wait()

    async def _takes(self, post: Post) -> bool:
        """Try to take the post; a ledger that is away for a moment is tried again later."""
        try:
            taken = await post.take()
        except errors.LedgerReplaced:
            raise
        except errors.LedgerError as fault:
            if self.vitals.role is Role.STARTING:
                raise
            if self.vitals.failing is None:
                self.around.emit(
                    event.SweepFailed(
                        code=fault.code,
                        detail=fault.message,
                        hint=fault.hint,
                        retry_seconds=_STANDS_BY,
                    )
                )
            self.vitals.failing = fault.message
            return False
        self.vitals.failing = None
        return taken

    def _stand_by(self) -> None:
        self.vitals.role = Role.STANDBY
        detail = "another sweeper run is at work on this ledger"
        self.around.emit(event.DaemonStandsBy(detail=detail))
        self.around.notifier.ready(f"standing by: {detail}")

    async def _active(self, post: Post) -> None:
        """Sweep until told to end, or until the post is lost."""
        self.vitals.role = Role.ACTIVE
        rounds = self._rounds
        assert rounds is not None, "the rounds were made before"
        lost = asyncio.create_task(post.lost())
        lost.add_done_callback(lambda _: rounds.end())
        try:
            await rounds.run()
        finally:
            lost.cancel()

    def _around_sweeps(self) -> Mapping[str, Coroutine[None, None, None]]:
        self._rounds = Rounds(
            config=self.config, db=self.db, around=self.around, vitals=self.vitals
        )
        return {"intake": self._looks(self._rounds), "alarms": self._alarms(self._rounds)}

    async def _looks(self, rounds: Rounds) -> None:
        while True:
            await asyncio.sleep(_LOOKS)
            # What is wrong with the ledger is told by the next sweep, all but a file exchanged.
            try:
                await rounds.take_in()
                await rounds.look_for_lifted_stops()
                await rounds.look_for_replaced_keys()
            except errors.LedgerReplaced:
                if not self.vitals.sweeping:
                    raise
                rounds.end()  # the sweep meets it too, when what is in flight has been heard
            except errors.LedgerError:
                continue

    async def _alarms(self, rounds: Rounds) -> None:
        alarms = Alarms(rounds.config, self.db, self.around.emit)
        while True:
            alarms.config, failing = rounds.config, self.vitals.failing
            try:
                missed = await rounds.missed_or_untold()
            except errors.LedgerError:
                # Whether a run was missed is not known now, which is no reason to say that none
                # was: only that sweeps fail, if they do.
                if failing is not None:
                    await alarms.look(missed=None, failing=failing)
            else:
                await alarms.look(missed=missed, failing=failing)
            with suppress(TimeoutError):
                async with asyncio.timeout(_ALARMS):
                    await rounds.looked.wait()
            rounds.looked.clear()

    async def _watchdog(self) -> None:
        """Pass on that the loop that sweeps has got on since the last sign of life, if it has."""
        notifier, pulse, told = self.around.notifier, self.vitals.pulse, -1
        while True:
            await asyncio.sleep(notifier.interval)
            if pulse.beats != told:
                notifier.alive()
            told = pulse.beats

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self.around.notifier.reloading()
            try:
                new = await asyncio.to_thread(
                    reload.take_up, self.config, self.around.load, self.around.environ
                )
            except errors.ConfigurationError as fault:
                self.around.emit(
                    event.ConfigurationRefused(detail=fault.message, faults=fault.faults)
                )
                self.around.notifier.ready("the new configuration was refused; the old one stands")
            else:
                await self._adopt(new)

    async def _adopt(self, new: Config) -> None:
        sections = reload.changed(self.config, new)
        self.config = new
        self.reloaded(new)
        if self._rounds is not None:
            now = reload.binds_a_running_sweep(sections)
            self._rounds.adopt(new, sections, now=now)
        self.around.emit(event.ConfigurationReloaded(changed=sections))
        self._tell_doubts()
        taken, rounds = "configuration taken up", self._rounds
        self.around.notifier.ready(taken if rounds is None else rounds.status(taken))
        if rounds is not None:
            # Where the ledger cannot take it now, the next sweep sees to it.
            with suppress(errors.LedgerError):
                await rounds.keep_schedule()


def _failed(fault: Exception) -> event.DaemonFailed:
    """Of a fault that nobody foresaw only the kind is told: its text may hold anything."""
    if isinstance(fault, errors.SweeperError):
        return event.DaemonFailed(code=fault.code, detail=fault.message, hint=fault.hint)
    detail = f"{type(fault).__name__}, which is a fault of sweeper's"
    return event.DaemonFailed(code="internal", detail=detail, hint=None)
