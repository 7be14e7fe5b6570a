"""Slots on a real loop: never too many, none in a pause, and nobody waits for a stopped account."""

import asyncio
import time
from datetime import timedelta
from itertools import pairwise
from math import ceil

import pytest

from sweeper.domain.pacing import Pacer
from sweeper.engine.pace import Pace
from tests.support.sweeping import Site

_NOTED_LATE = 0.03
"""Seconds by which a busy machine may be late to note one slot and not the next."""


async def slots(pace: Pace, count: int, workers: int = 4) -> list[float]:
    """Take that many slots with several workers; when each came."""
    came: list[float] = []

    async def work() -> None:
        while len(came) < count:
            assert await pace.slot()
            came.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(work() for _ in range(workers)))
    return came


def most_within(times: list[float], window: float) -> int:
    """The most that fell into any half-open window of that length."""
    return max(sum(start <= at < start + window for at in times) for start in times)


def narrowest(times: list[float]) -> float:
    """The shortest time between two that follow one another."""
    return min(after - before for before, after in pairwise(times))


class TestSlots:
    async def test_no_window_holds_more_than_its_share(self) -> None:
        rate = 200.0
        came = await slots(Pace(Pacer(rate=rate)), 60)
        for window in (0.1, 0.2):
            assert most_within(came, window - _NOTED_LATE) <= ceil(window * rate)

    async def test_a_stall_bunches_nothing_up(self) -> None:
        pace = Pace(Pacer(rate=10))

        async def stall() -> None:
            await asyncio.sleep(0)
            time.sleep(0.25)  # noqa: ASYNC251 - the loop itself is what stalls

        task = asyncio.create_task(stall())
        assert narrowest(await slots(pace, 4)) >= 0.1 - _NOTED_LATE
        await task

    async def test_idleness_saves_up_no_burst(self) -> None:
        pace = Pace(Pacer(rate=10))
        first = await slots(pace, 1, workers=1)
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.3)
        assert narrowest([*first, *await slots(pace, 3)]) >= 0.1 - _NOTED_LATE

    async def test_a_pause_is_kept_by_those_who_wait_already(self) -> None:
        pace = Pace(Pacer(rate=20))
        assert await pace.slot()
        waiting = [asyncio.create_task(pace.slot()) for _ in range(3)]
        await asyncio.sleep(0)
        began = time.monotonic()
        pace.throttled(timedelta(seconds=0.3))
        assert await asyncio.gather(*waiting) == [True] * 3
        assert time.monotonic() - began >= 0.3

    async def test_a_refusal_without_a_time_slows_down(self) -> None:
        pace = Pace(Pacer(rate=100))
        before = pace.rate
        pace.throttled(timedelta(0))
        assert pace.rate == pytest.approx(before * 0.9)

    async def test_refusals_close_together_are_told_once(self) -> None:
        pace = Pace(Pacer(rate=100))
        assert pace.throttled(None, took=0.01)
        assert not pace.throttled(None, took=0.02)

    async def test_a_pause_is_told_again_only_where_it_grows(self) -> None:
        pace = Pace(Pacer(rate=100))
        assert pace.throttled(timedelta(seconds=30), took=0.01)
        assert not pace.throttled(timedelta(seconds=30), took=0.01)
        assert pace.throttled(timedelta(seconds=60), took=0.01)

    async def test_an_answer_wakes_who_waits_to_ask_whether_it_is_over(self) -> None:
        pace = Pace(Pacer(rate=1000, barred=True, probing=60.0, refused_at=0.0))
        assert await pace.slot()
        waiting = asyncio.create_task(pace.slot())
        await asyncio.sleep(0)
        pace.recovered(took=0.01)
        assert await asyncio.wait_for(waiting, 2)

    async def test_who_gives_up_takes_no_slot_from_others(self) -> None:
        pace = Pace(Pacer(rate=5))
        assert await pace.slot()
        assert await pace.slot(0.05) is False
        began = time.monotonic()
        assert await pace.slot()
        assert time.monotonic() - began < 0.3

    async def test_how_long_requests_have_waited_is_counted(self) -> None:
        pace = Pace(Pacer(rate=10))
        assert await pace.slot()
        assert pace.waited == 0
        assert await pace.slot()
        assert 0.05 < pace.waited < 0.11


class TestStop:
    async def test_it_wakes_everybody_at_once(self) -> None:
        pace = Pace(Pacer(rate=1 / 60))
        assert await pace.slot()
        waiting = [asyncio.create_task(pace.slot()) for _ in range(5)]
        await asyncio.sleep(0)
        pace.stop()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 1) == [False] * 5
        assert await pace.slot() is False

    async def test_it_ends_a_pause(self) -> None:
        pace = Pace(Pacer(rate=100))
        pace.throttled(timedelta(hours=1))
        waiting = asyncio.create_task(pace.slot())
        await asyncio.sleep(0)
        pace.stop()
        assert await asyncio.wait_for(waiting, 1) is False


class TestWithin:
    async def test_who_cannot_wait_so_long_is_told_at_once(self) -> None:
        pace = Pace(Pacer(rate=100))
        pace.throttled(timedelta(hours=1))
        began = time.monotonic()
        assert await pace.slot(5) is False
        assert time.monotonic() - began < 1
        assert pace.within(5) == 0

    async def test_who_waits_behind_another_gives_up_in_time(self) -> None:
        pace = Pace(Pacer(rate=100))
        pace.throttled(timedelta(seconds=0.5))
        first = asyncio.create_task(pace.slot())
        await asyncio.sleep(0)
        began = time.monotonic()
        assert await pace.slot(0.1) is False
        assert time.monotonic() - began < 0.4
        assert await first

    async def test_a_pause_that_begins_meanwhile_is_not_waited_for(self) -> None:
        pace = Pace(Pacer(rate=5))
        assert await pace.slot()
        waiting = asyncio.create_task(pace.slot(30))
        await asyncio.sleep(0)
        pace.throttled(timedelta(hours=1))
        assert await asyncio.wait_for(waiting, 2) is False

    async def test_who_waits_long_hears_at_once_that_it_will_be_too_long(self) -> None:
        pace = Pace(Pacer(rate=1 / 60))
        assert await pace.slot()
        waiting = asyncio.create_task(pace.slot(120))
        await asyncio.sleep(0)
        pace.throttled(timedelta(hours=1))
        assert await asyncio.wait_for(waiting, 2) is False

    async def test_who_is_too_late_already_takes_no_slot_from_others(self) -> None:
        pace = Pace(Pacer(rate=1 / 60))
        assert await pace.slot(-1) is False
        assert await pace.slot(1)
        assert await pace.slot(1) is False

    async def test_a_slot_that_comes_in_time_is_given(self) -> None:
        pace = Pace(Pacer(rate=100))
        assert await pace.slot(1)
        assert await pace.slot(1)


async def test_a_sweep_keeps_to_the_rate_on_the_wire(site: Site) -> None:
    rate = 100.0
    site.store(25)
    await site.sweep(site.account("main", rate_per_second=rate, max_in_flight=8))
    times = [one.at for one in site.sandbox.journal.entries]
    assert len(times) == 52
    for window in (0.1, 0.2, 0.4):
        assert most_within(times, window - _NOTED_LATE) <= ceil(window * rate)
