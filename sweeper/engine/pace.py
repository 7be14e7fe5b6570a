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
_SAME_PAUSE: Final = 1.0
"""Seconds by which a pause must grow to be told of again."""


class Pace:
    """Gives the requests of one account their slots, in order, one at a time.

    Slots are given under a lock, so that a stall of the process delays requests and never bunches
    them up. `stop` ends every wait at once.
    """

    def __init__(self, pacer: Pacer, pulse: Pulse | None = None) -> None:
        self._pacer = pacer
        self._pulse = pulse or Pulse()
        self._turn = asyncio.Lock()
        self._stopped = False
        self._roused = asyncio.Event()
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
        if self._turn.locked() or self._stopped or self._pacer.opens_at(now) > now:
            return False
        self._pacer, _ = pacing.reserve(self._pacer, now)
        return True

    async def _next(self, latest: float) -> bool:
        """Wait for the slot as it stands at each moment: answers may bring it nearer or put it off.

        It is taken when it is there, so that whoever gives up takes none from others.
        """
        async with self._turn:
            began = _now()
            while not self._stopped:
                at = self._pacer.opens_at(began)
                if at > latest:
                    return False
                if at <= _now():
                    self._pacer, _ = pacing.reserve(self._pacer, began)
                    self._pacer = pacing.sent(self._pacer, _now())
                    self.waited += at - began
                    return True
                await self._nearer(at)
            return False

    def within(self, seconds: float) -> int:
        """How many slots the next `seconds` hold."""
        return pacing.slots_within(self._pacer, _now(), seconds)

    def throttled(self, pause: timedelta | None, took: float = 0.0) -> bool:
        """Go on more slowly after a refusal that `took` so many seconds to come.

        And not before the time that the provider named, if any. Says whether that changed
        anything worth telling: of refusals close together only the first does.
        """
        before, now = self._pacer, _now()
        self._pacer = pacing.throttled(self._pacer, now, now - took)
        if pause:
            self._pacer = pacing.paused(self._pacer, now + pause.total_seconds())
        self._roused.set()
        is_longer = self._pacer.paused_until - max(now, before.paused_until) > _SAME_PAUSE
        return self._pacer.spacing > before.spacing or is_longer

    def recovered(self, took: float = 0.0) -> None:
        """Take up that an answer was no refusal, which `took` so many seconds to come."""
        was_barred, now = self._pacer.barred, _now()
        self._pacer = pacing.recovered(self._pacer, now, now - took)
        if was_barred:
            self._roused.set()

    def stop(self) -> None:
        self._stopped = True
        self._roused.set()

    async def _nearer(self, at: float) -> None:
        """Wait a while for that moment, without being late for it."""
        left = at - _now()
        if left > 1.5 * _TICK:
            await self._nap(min(_LONGEST_NAP, max(left - 2.5 * _TICK, _TICK / 2)))
            self._pulse.beat()
            return
        if left > 1.5 * _DOZE:
            _doze()
        await asyncio.sleep(0)

    async def _nap(self, seconds: float) -> None:
        self._roused.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._roused.wait()
        except TimeoutError:
            pass


def _doze() -> None:
    time.sleep(_DOZE)


def _now() -> float:
    return asyncio.get_running_loop().time()
