"""Read something of the ledger in a thread: one at a time, seldom, and never waited for long."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from sweeper import errors

_T = TypeVar("_T")

_REST: Final = 19.0
"""How much longer than a costly reading took nothing is read: it may cost 5 % of the time."""
_LONGEST_REST: Final = 900.0
_STALE: Final = 4.0
"""How many times its age a costly value may reach while its successor is awaited."""


class Reading(Generic[_T]):
    """A value of the ledger that is read again when somebody asks and it is no longer fresh.

    However many ask, one thread reads. It is a daemon thread: a database that never answers
    keeps nobody waiting, and no process from ending. `fresh` and `patience` are in seconds. A
    `costly` value is read the more seldom the longer that takes, and for a while an old one does.
    """

    def __init__(
        self, read: Callable[[], _T], *, fresh: float, patience: float, costly: bool = False
    ) -> None:
        self._read = read
        self._fresh = fresh
        self._patience = patience
        self._costly = costly
        self._running: asyncio.Future[None] | None = None
        self._value: _T | None = None
        self._fault: Exception | None = None
        self._took = 0.0
        self._read_at: float | None = None

    async def value(self) -> _T:
        """The value; raises LedgerError when it cannot be read, or not in time."""
        if not self._is_younger_than(self._lasts):
            await self._wait()
        if self._fault is not None:
            raise self._fault
        known = self.known
        if known is None:
            raise errors.LedgerError("the ledger did not answer in time")
        return known

    @property
    def known(self) -> _T | None:
        """The value for whoever does not wait; None where there is none, or it is too old."""
        is_good = not self.is_running or (
            self._costly and self._is_younger_than(_STALE * self._lasts)
        )
        is_there = self._fault is None and self._read_at is not None
        return self._value if is_there and is_good else None

    @property
    def is_running(self) -> bool:
        """Whether it is being read at this moment."""
        return self._running is not None

    async def _wait(self) -> None:
        until = time.monotonic() + self._patience
        running = self._running or self._start()
        while True:
            left = max(0.0, until - time.monotonic())
            done, _ = await asyncio.wait({running}, timeout=left)
            if not done or self._running is None:
                return
            running = self._running  # what was read before was outdated meanwhile

    def renew(self) -> None:
        """Have it read anew for whoever asks next: what is known or being read is outdated."""
        self._running = self._read_at = self._fault = None

    @property
    def _lasts(self) -> float:
        return (
            max(self._fresh, min(_REST * self._took, _LONGEST_REST))
            if self._costly
            else self._fresh
        )

    def _is_younger_than(self, seconds: float) -> bool:
        return self._read_at is not None and time.monotonic() - self._read_at < seconds

    def _start(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        running: asyncio.Future[None] = loop.create_future()
        self._running = running
        work = threading.Thread(
            target=self._work, args=(loop, running), name="reading", daemon=True
        )
        work.start()
        return running

    def _work(self, loop: asyncio.AbstractEventLoop, running: asyncio.Future[None]) -> None:
        began = time.monotonic()
        value: _T | None = None
        fault: Exception | None = None
        try:
            value = self._read()
        except Exception as raised:  # noqa: BLE001 - whoever asks for the value gets it
            fault = raised
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(self._done, running, value, fault, began)

    def _done(
        self, running: asyncio.Future[None], value: _T | None, fault: Exception | None, began: float
    ) -> None:
        running.set_result(None)
        if running is not self._running:
            return
        self._running = None
        self._value, self._fault = value, fault
        self._read_at = time.monotonic()
        self._took = self._read_at - began if fault is None else 0.0
