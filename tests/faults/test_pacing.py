"""Too fast for the provider: its limits are found, kept and waited for, and never hammered at.

The sockets are real, the hours are not: the loop's clock goes on to the next timer when all is
quiet.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain import event
from sweeper.domain.pacing import Pacer
from sweeper.domain.policy import Policy
from sweeper.engine import planning
from sweeper.engine.pace import Pace
from sweeper.engine.sweep import Ended
from sweeper.ledger import responses
from sweeper.ledger.database import Database
from sweeper.sandbox.connection import Exchange
from sweeper.sandbox.journal import Arrival
from sweeper.sandbox.limit import Limit
from sweeper.sandbox.server import Sandbox
from sweeper.service import standing
from sweeper.service.daemon.vitals import STALLED_AFTER
from tests.support import limits, virtual
from tests.support.limits import Behaviour
from tests.support.sweeping import DAY, Running, Site

HOUR = 3600.0
FRESH = Policy(name="fresh", delete_after=14 * DAY, deadline=timedelta(minutes=30))


class Limited(Sandbox):
    """A provider with a limit of any kind."""

    def __init__(self, limit: limits.Limit | None) -> None:
        self._own = limit
        super().__init__()

    def _assemble(self, limit: Limit) -> Exchange:
        return super()._assemble(limit if self._own is None else _Counted(self._own))


class _Counted(Limit):
    def __init__(self, limit: limits.Limit) -> None:
        super().__init__(rate=None, burst=1)
        self._limit = limit

    def allows(self, _account: str) -> bool:
        return self._limit.take(asyncio.get_running_loop().time()) is None


class Hours:
    """A site in a time of its own, in which sweeps follow one another in one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.running: Running | None = None
        self._pacers: dict[str, Pacer] = {}

    @asynccontextmanager
    async def begun(
        self, limit: limits.Limit | None = None, *, rate: float = 20.0
    ) -> AsyncIterator[None]:
        with virtual.living():
            async with Limited(limit) as sandbox:
                self.site = Site(self._db, sandbox)
                self.clock = virtual.LoopClock()
                self.account = self.site.account("main", rate_per_second=rate, max_in_flight=16)
                yield

    def _begin(self, running: Running) -> None:
        self.running = running
        running.watch.clock = self.clock
        for name, account in running.accounts.items():
            if name in self._pacers:
                account.pace = Pace(self._pacers[name], account.pulse)

    async def sweep(self, **rules: Any) -> Ended:
        ended = await self.site.sweep(self.account, early=self._begin, **rules)
        assert self.running is not None
        for name, account in self.running.accounts.items():
            self._pacers[name] = account.pace.pacer
        return ended

    async def finished(self) -> None:
        """Sweep until all is gone; a yes that is an hour old is verified by a sweep of its own."""
        while set(self.site.states().values()) != {("gone", "deleted")}:
            await asyncio.sleep(60)
            await self.sweep()

    @property
    def arrivals(self) -> list[Arrival]:
        return self.site.sandbox.journal.entries

    @property
    def pulse_age(self) -> float:
        """Seconds since the running sweep last gave a sign of life."""
        assert self.running is not None
        return self.running.accounts["main"].pulse.age()

    def late(self) -> int:
        """How many responses are past their deadline now, as people are told."""
        with self.site.db.read() as connection:
            sets = responses.label_sets(connection)
        ruled, _ = planning.rule(sets, [FRESH], self.clock.wall())
        return sum(one.count for one in standing.late(self.site.db, ruled, self.clock.wall()))


@pytest.fixture
def hours(sqlite_database: Database) -> Hours:
    sqlite_database.engine.dispose()
    sa.event.listen(
        sqlite_database.engine,
        "connect",
        lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close(),
    )
    return Hours(sqlite_database)


def quickly(
    limit: Callable[[], limits.Limit] | None = None, **given: Any
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Let a test's hours pass in a moment, against a provider with such a limit."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, hours: Hours, **values: Any) -> None:
            async def body() -> None:
                async with hours.begun(limit() if limit else None, **given):
                    await test(*args, hours=hours, **values)

            virtual.run(body())

        return run

    return decorate


def refusals(hours: Hours) -> list[Arrival]:
    return [one for one in hours.arrivals if one.status in (429, 503)]


def after(hours: Hours, one: Arrival) -> float:
    """Seconds between an arrival and the next one, of whatever kind, that was not on its way."""
    later = [other.at - one.at for other in hours.arrivals if other.at > one.at + 0.02]
    return min(later)


class TestAPauseThatIsAskedFor:
    @pytest.mark.parametrize("status", [429, 503])
    @quickly()
    async def test_in_seconds_it_holds_every_request_of_the_account_back(
        self, hours: Hours, status: int
    ) -> None:
        names = hours.site.store(40)
        hours.site.fault(method="DELETE", after=10, times=1, status=status, retry_after=30)
        ended = await hours.sweep()
        (refused,) = refusals(hours)
        assert 30 <= after(hours, refused) < 30.2
        assert ended.summary.outcomes == {"deleted": 40}
        # Whoever waited was not charged for it: one was tried twice, all others once.
        assert sorted(row["attempts"] for row in hours.site.rows.values()) == [1] * 39 + [2]
        assert set(hours.site.deleted()) == set(names)
        (told,) = hours.site.told(event.Throttled)
        assert told.pause_seconds == 30

    @pytest.mark.parametrize("form", ["imf", "rfc850", "asctime"])
    @pytest.mark.parametrize("ahead", [-110, 110])
    @quickly()
    async def test_until_a_date_it_counts_by_the_providers_clock_and_not_by_ours(
        self, hours: Hours, form: str, ahead: float
    ) -> None:
        hours.site.store(6)
        hours.clock.off = timedelta(seconds=ahead)
        pause = {"seconds": 40, "form": form}
        hours.site.fault(method="DELETE", after=2, times=1, status=429, retry_after=pause)
        ended = await hours.sweep()
        (refused,) = refusals(hours)
        assert 39 <= after(hours, refused) < 41.2
        assert ended.summary.complete

    @pytest.mark.parametrize(
        "value,pause",
        [
            ("1" + "0" * 20, HOUR),
            ("Fri, 31 Dec 9999 23:59:59 GMT", HOUR),
            ("Thu, 01 Jan 1970 00:00:00 GMT", None),
            ("0", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("1e3", None),
            ("5, 6", None),
            ("\u0665".encode().decode("latin-1"), None),
            ("soon", None),
            ("Mon, 23 Nov 2026 10:00:00 +0100", None),
        ],
    )
    @quickly()
    async def test_absurd_ones_last_an_hour_at_most_and_garbage_is_none(
        self, hours: Hours, value: str, pause: float | None
    ) -> None:
        hours.site.store(6)
        hours.site.fault(
            method="DELETE", after=2, times=1, status=429, headers={"Retry-After": value}
        )
        await hours.sweep()
        (refused,) = refusals(hours)
        if pause is None:
            assert after(hours, refused) < 1
        else:
            assert pause <= after(hours, refused) < pause + 0.2
        await hours.finished()
        (told,) = hours.site.told(event.Throttled)
        assert (told.pause_seconds or None) == pause
        assert told.rate_per_second == pytest.approx(20 * 0.99 * 0.9)

    @quickly()
    async def test_a_date_without_the_providers_own_says_nothing(self, hours: Hours) -> None:
        hours.site.store(6)
        hours.site.fault(
            method="DELETE",
            after=2,
            times=1,
            status=429,
            retry_after={"seconds": 1800, "form": "imf"},
            headers={"Date": None},
        )
        await hours.finished()
        assert after(hours, refusals(hours)[0]) < 1

    @quickly()
    async def test_an_hour_of_it_is_waited_for_with_signs_of_life_and_little_else(
        self, hours: Hours
    ) -> None:
        hours.site.store(30)
        hours.site.fault(method="DELETE", after=5, times=1, status=429, retry_after=3600)
        ages: list[float] = []
        task = asyncio.create_task(hours.sweep())
        await hours.site.sandbox.wait_until(lambda: refusals(hours))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual.Loop)
        turns = loop.turns
        while not task.done():
            ages.append(hours.pulse_age)
            await asyncio.sleep(10)
        await task
        await hours.finished()
        assert max(ages) < STALLED_AFTER / 2
        assert loop.turns - turns < 3.5 * HOUR


@pytest.mark.parametrize("guides", [False, True], ids=["says nothing", "says when"])
@pytest.mark.parametrize(
    "kind,rate",
    [
        pytest.param(kind, rate, id=f"{kind}, {rate * 60:.0f} a minute")
        for kind in limits.KINDS
        for rate in (10 / 60, 1.0, 10.0)
        if limits.is_possible(kind, rate)
    ],
)
def test_half_the_configured_rate_is_used_and_hardly_exceeded_whatever_limits_it(
    kind: str, rate: float, *, guides: bool
) -> None:
    """What it costs to find the limit is not counted; `python -m tests.bench` tells more rates."""
    used, refused = limits.steady(kind, rate, Behaviour(latency=0.2, guides=guides))
    assert used >= 0.95
    assert refused <= 0.02


class TestWithoutGuidance:
    @quickly(lambda: limits.Bucket(5.0, 5), rate=10.0)
    async def test_half_the_configured_rate_is_used_on_the_wire_too(self, hours: Hours) -> None:
        hours.site.store(300)
        ended = await hours.sweep()
        assert ended.summary.outcomes == {"deleted": 300}
        first = hours.arrivals[0].at
        steady = [one for one in hours.arrivals if 50 <= one.at - first < 120]
        taken = [one for one in steady if one.status != 429]
        assert len(taken) / (5.0 * 70) >= 0.95
        assert len(taken) / len(steady) >= 0.98

    @quickly(lambda: limits.FixedWindow(10 / 60, 60), rate=1.0)
    async def test_an_account_without_a_payment_method_gets_its_ten_a_minute(
        self, hours: Hours
    ) -> None:
        hours.site.store(40)
        while set(hours.site.states().values()) != {("gone", "deleted")}:
            await hours.sweep()
            await asyncio.sleep(60)
        minutes = (hours.arrivals[-1].at - hours.arrivals[0].at) / 60
        taken = len(hours.arrivals) - len(refusals(hours))
        assert minutes < 1.2 * taken / 10 + 1
        assert len(refusals(hours)) < 12 * minutes


class TestAStorm:
    @quickly()
    @pytest.mark.parametrize("lasts,answer", [(6 * HOUR, {}), (HOUR, {"retry_after": 1})])
    async def test_it_is_asked_once_a_minute_whether_it_is_over_and_lateness_is_told_meanwhile(
        self, hours: Hours, lasts: float, answer: dict[str, Any]
    ) -> None:
        hours.site.store(60, age=14 * DAY + timedelta(minutes=1))
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual.Loop)
        task = asyncio.create_task(hours.sweep(policies=(FRESH,)))
        await hours.site.sandbox.wait_until(lambda: len(hours.site.deleted()) == 20)
        assert hours.late() == 0
        hours.site.fault(status=429, **answer)
        began, turns, ages = loop.time(), loop.turns, [0.0]
        loop.call_later(lasts, hours.site.mend)
        while loop.time() < began + lasts:
            await asyncio.sleep(60)
            ages.append(hours.pulse_age)
        assert not task.done()
        assert hours.late() >= 35
        storm = [one.at for one in hours.arrivals if one.status == 429]
        assert len(storm) < lasts / 60 + 60
        settled = [at for at in storm if at > began + 600]
        assert all(59.9 < later - earlier < 66 for earlier, later in pairwise(settled))
        assert max(ages) < STALLED_AFTER / 2
        assert loop.turns - turns < 8 * lasts
        await task
        assert hours.arrivals[-1].at < began + lasts + 120
        await hours.finished()
        assert hours.late() == 0

    @quickly()
    async def test_sweeps_that_begin_in_it_ask_little_and_the_first_one_after_it_deletes(
        self, hours: Hours
    ) -> None:
        hours.site.store(20)
        hours.site.fault(status=429)
        for _ in range(24):
            ended = await hours.sweep()
            assert not ended.summary.complete
            assert ended.summary.remaining == 20
            await asyncio.sleep(15 * 60)
        assert hours.site.deleted() == []
        assert len(hours.arrivals) <= 24 * 3
        hours.site.mend()
        assert (await hours.sweep()).summary.outcomes == {"deleted": 20}
