"""Wait for the next slot of an account's rate."""

import asyncio
import time
from datetime import timedelta
from math import inf
from typing import Final

from sweeper.domain import pacing
from sweeper.domain.pacing import Pacer
from sweeper.engine.pulse import Pulse

_TICK: Final = 0.001
"""Seconds that the event loop's timers count by; they may come two of them late."""
_DOZE: Final = 0.0002
"""Seconds for which the loop stands still, where its timers are too coarse to wait by."""
_LONGEST_NAP: Final = 5.0
"""Seconds after which a wait says that it goes on."""


class Pace:
    """Gives the requests of one account their slots, in order, one at a time.

    Slots are given under a lock, so that a stall of the process delays requests and never bunches
    them up. `stop` ends every wait at once.
    """

    def __init__(self, pacer: Pacer, pulse: Pulse | None = None) -> None:
        self._pacer = pacer
        self._pulse = pulse or Pulse()
        self._turn = asyncio.Lock()
        self._stopped = asyncio.Event()
        self.waited = 0.0

    @property
    def pacer(self) -> Pacer:
        """How things stand, for whoever goes on at this rate in the same process."""
        return self._pacer

    @property
    def rate(self) -> float:
        """Requests per second, as the provider's answers leave it."""
        return 1 / self._pacer.spacing

    async def slot(self, within: float | None = None) -> bool:
        """Wait for the next slot; False when the account was stopped meanwhile.

        False too when none comes `within` so many seconds, as soon as that is known.
        """
        if (within is None or within > 0) and self._taken_at_once():
            return True
        try:
            async with asyncio.timeout(within):
                return await self._next(inf if within is None else _now() + within)
        except TimeoutError:
            return False

    def _taken_at_once(self) -> bool:
        """Take the slot that is open already, if nobody waits: the common case of a high rate."""
        now = _now()
        if self._turn.locked() or self._stopped.is_set() or self._pacer.opens_at(now) > now:
            return False
        self._pacer, _ = pacing.reserve(self._pacer, now)
        return True

    async def _next(self, latest: float) -> bool:
        async with self._turn:
            began = _now()
            if self._stopped.is_set() or self._pacer.opens_at(began) > latest:
                return False
            self._pacer, at = pacing.reserve(self._pacer, began)
            await self._until(at)
            while self._pacer.paused_until > _now() and not self._stopped.is_set():
                if self._pacer.paused_until > latest:
                    return False
                await self._until(self._pacer.paused_until)
            self.waited += max(0.0, at - began)
            self._pacer = pacing.sent(self._pacer, _now())
            return not self._stopped.is_set()

    def within(self, seconds: float) -> int:
        """How many slots the next `seconds` hold."""
        return pacing.slots_within(self._pacer, _now(), seconds)

    def throttled(self, pause: timedelta | None) -> bool:
        """Wait as long as the provider asked; without its guidance, go on more slowly.

        Says whether that changed anything: of refusals close together only the first does.
        """
        before = self._pacer
        if pause:
            self._pacer = pacing.paused(self._pacer, _now() + pause.total_seconds())
        else:
            self._pacer = pacing.throttled(self._pacer, _now())
        return self._pacer != before

    def recovered(self) -> None:
        self._pacer = pacing.recovered(self._pacer, _now())

    def stop(self) -> None:
        self._stopped.set()

    async def _until(self, at: float) -> None:
        while not self._stopped.is_set():
            left = at - _now()
            if left <= 0:
                return
            if left > 1.5 * _TICK:
                await self._nap(min(_LONGEST_NAP, max(left - 2.5 * _TICK, _TICK / 2)))
                self._pulse.beat()
                continue
            if left > 1.5 * _DOZE:
                _doze()
            await asyncio.sleep(0)

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass


def _doze() -> None:
    time.sleep(_DOZE)


def _now() -> float:
    return asyncio.get_running_loop().time()
