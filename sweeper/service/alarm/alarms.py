"""See what is wrong, and have the alarm command tell somebody, once and then every hour."""

import asyncio
import json
import os
import signal
from collections.abc import Collection, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Final

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import alarm, event
from sweeper.domain.alarm import Alarm, Condition, Kind
from sweeper.domain.schedule import Missed
from sweeper.engine.account import Emit
from sweeper.ledger.database import Database
from sweeper.service import sweeping
from sweeper.service.alarm import command as alarm_command
from sweeper.service.alarm import trouble
from sweeper.service.alarm.book import Book, Look

AT_ONCE: Final = 4
"""Commands that run at one time."""
AFTER_SWEEP: Final = 60.0
"""Seconds that a single sweep may spend on telling, when it is done."""

_BY_THE_LEDGER: Final = frozenset(Kind) - {Kind.MISSED_RUN}


def tell_after_sweep(config: Config, db: Database, emit: Emit) -> None:
    """Tell what is wrong after a single sweep: for a minute at most, or until a signal comes."""
    if config.alarm is not None:
        asyncio.run(_within(AFTER_SWEEP, Alarms(config, db, emit).look_after_sweep()))


def tell_that_none_runs(config: Config, emit: Emit, why: str) -> None:
    """Tell that no sweep can run, without the ledger, which is what fails: once for each call.

    For a minute at most, or until a signal comes; without an alarm command nothing is done.
    """
    if config.alarm is not None:
        asyncio.run(_within(AFTER_SWEEP, _tell_without_ledger(config.alarm, emit, why)))


async def _tell_without_ledger(command: Sequence[str], emit: Emit, why: str) -> None:
    now = datetime.now(UTC)
    found = list(trouble.missed_run(None, why))
    for one in alarm.step({}, found, {Kind.MISSED_RUN}, now, most=AT_ONCE).to_tell:
        await _is_heard(one, command, emit)


async def _is_heard(one: Alarm, command: Sequence[str], emit: Emit) -> bool:
    """Run the command, and say by an event what came of it."""
    told = alarm.document(one, datetime.now(UTC))
    wrong = await alarm_command.tell(command, json.dumps(told).encode() + b"\n", environ=os.environ)
    named = {"alarm": one.id, "state": one.state.value, "summary": one.sentence}
    if wrong is None:
        emit(event.AlarmTold(**named))
    else:
        emit(event.AlarmUntold(**named, detail=wrong))
    return wrong is None


async def _within(seconds: float, looking: Coroutine[None, None, None]) -> None:
    """Give this up after some time, or on SIGINT or SIGTERM, which have no other effect."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(looking)
    before = {number: signal.getsignal(number) for number in sweeping.SIGNALS}
    for number in before:
        loop.add_signal_handler(number, task.cancel)
    try:
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
        await asyncio.wait([task])
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
    if not task.cancelled():
        task.result()


class Alarms:
    """Tells what is wrong to the command that is configured; without one, nothing is done.

    One for each process; `config` may be exchanged for another. `emit` hears, in the loop, of
    what was told.
    """

    def __init__(self, config: Config, db: Database, emit: Emit) -> None:
        self.config = config
        self._db = db
        self._emit = emit
        self._book = Book(db)

    async def look(self, *, missed: Missed | None, failing: str | None) -> None:
        """Look what is wrong and tell what is to be told now; returns when all of that is told.

        `missed` are runs that did not happen, `failing` says why no sweep can run at present.
        A ledger that cannot be read raises nothing: what is known is told from memory. When
        this is cancelled, the commands that run are ended.
        """
        await self._look(list(trouble.missed_run(missed, failing)), judges_runs=True)

    async def look_after_sweep(self) -> None:
        """Do the same after a single sweep, which knows nothing of a schedule."""
        await self._look([], judges_runs=False)

    async def _look(self, found: Sequence[Condition], *, judges_runs: bool) -> None:
        command = self.config.alarm
        if command is None:
            return
        told: set[str] = set()
        while taken := await asyncio.to_thread(self._taken, found, told, judges_runs=judges_runs):
            told.update(one.id for one in taken)
            async with asyncio.TaskGroup() as telling:
                for one in taken:
                    telling.create_task(self._tell(one, command))

    def _taken(
        self, found: Sequence[Condition], told: Collection[str], *, judges_runs: bool
    ) -> Sequence[Alarm]:
        judged: Collection[Kind] = set(Kind) if judges_runs else _BY_THE_LEDGER
        try:
            found = [*found, *trouble.found(self.config, self._db)]
        except errors.LedgerError:
            # Nobody knows what else is wrong. That no run is known to be missed says nothing
            # either, while the ledger that would tell cannot be read.
            judged = {one.kind for one in found}
        # No more are taken than can be told before another process would tell them.
        look = Look(found=found, judged=judged, told=told, most=AT_ONCE)
        return self._book.take(look, datetime.now(UTC))

    async def _tell(self, one: Alarm, command: Sequence[str]) -> None:
        heard = await _is_heard(one, command, self._emit)
        await asyncio.to_thread(self._book.settle, one, datetime.now(UTC), heard=heard)
