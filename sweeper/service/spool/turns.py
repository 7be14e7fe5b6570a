"""Let a sweep and its daemon take in the spool by turns, away from the event loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sweeper.service.spool.spool import Spool, Taken

if TYPE_CHECKING:
    from sweeper.engine.account import Emit

_TURN: Final = 1.0
"""Seconds after which who waits for its turn says that the other one gets on."""


class _Ended(Exception):
    """Nobody waits any more for what is taken in."""


class Turns:
    """Takes in the spool in a thread, one turn at a time; what happens is told from the loop."""

    def __init__(self, spool: Spool, emit: "Emit") -> None:
        self._spool = spool
        self._emit = emit
        self._lock = asyncio.Lock()
        self._steps = 0

    async def __call__(self, got_on: Callable[[], None]) -> int | None:
        """Take in what can be; how many files stay unread, None where nobody can know.

        Cancelling ends it after the transaction that is under way. Raises LedgerError.
        """
        await self._wait(got_on)
        try:
            taken = await self._take(got_on)
        finally:
            self._lock.release()
        for happened in taken.happened:
            self._emit(happened)
        return taken.unread

    async def _wait(self, got_on: Callable[[], None]) -> None:
        while True:
            before = self._steps
            with suppress(TimeoutError):
                async with asyncio.timeout(_TURN):
                    await self._lock.acquire()
                return
            if self._steps != before:
                got_on()

    async def _take(self, got_on: Callable[[], None]) -> Taken:
        ended = threading.Event()

        def step() -> None:
            self._steps += 1
            got_on()
            if ended.is_set():
                raise _Ended

        work = asyncio.ensure_future(asyncio.to_thread(self._spool.take, step))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            ended.set()
            await asyncio.wait([work])
            work.exception()
            raise
