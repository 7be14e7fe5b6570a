"""Hours of waiting in a moment: a loop whose clock goes on to the next timer when all is quiet.

Sockets and threads are real. As long as one of them is at work the clock stands, but for a little
at each turn of the loop; only when nothing is left to do does it go to the next timer.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple, Unpack

import pytest

from sweeper.engine import pace
from sweeper.engine.clock import Clock

_T = TypeVar("_T")
_Given = TypeVarTuple("_Given")
_TURN = 100e-6
"""Seconds that one turn of the loop takes."""
_GLANCE = 0.02
"""Real seconds for which a thread or another process is waited for at once."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, in seconds; `turns` counts what it has to do."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = 0
        self._at_work = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    @property
    def is_waited_for(self) -> bool:
        """Whether some thread has something to do for this loop."""
        return self._at_work > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Given]], _T], *args: *_Given
    ) -> "asyncio.Future[_T]":
        self._at_work += 1
        done = super().run_in_executor(executor, func, *args)
        done.add_done_callback(self._came_back)
        return done

    def _came_back(self, _done: "asyncio.Future[Any]") -> None:
        self._at_work -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.turns += 1
        found = super().select(0)
        if found or timeout == 0:
            self._loop.now += _TURN
            return found
        if timeout is None or self._loop.is_waited_for:
            return super().select(_GLANCE)
        self._loop.now += timeout
        return found


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run something in such a loop, to its end."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


class LoopClock(Clock):
    """A wall clock that goes with the boot clock, both of them the loop's; `off` is its error."""

    def __init__(self, *, off: timedelta = timedelta(0)) -> None:
        self.off = off
        self._began = datetime.now(UTC) - timedelta(seconds=self.boot())

    def wall(self) -> datetime:
        return self._began + timedelta(seconds=self.boot()) + self.off


@contextmanager
def living() -> Iterator[None]:
    """Let whatever asks the machine's steady clocks in this block hear the running loop's time."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop), "the loop of this test is a real one"
    really = time.clock_gettime

    def clock_gettime(which: int) -> float:
        return loop.time() if which == time.CLOCK_BOOTTIME else really(which)

    def doze() -> None:
        loop.now += 0.0002

    with pytest.MonkeyPatch.context() as machine:
        machine.setattr(time, "monotonic", loop.time)
        machine.setattr(time, "clock_gettime", clock_gettime)
        machine.setattr(pace, "_doze", doze)
        yield
