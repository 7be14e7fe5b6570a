"""The clock guard at work: without a time that can be trusted nothing is deleted."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sweeper.domain import event
from sweeper.engine.clock import Clock, ClockWatch
from sweeper.evidence import record
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from tests.support import registered, sweeping
from tests.support.sweeping import DAY, Running, Site

HOUR = timedelta(hours=1)


class Moved(Clock):
    """Both clocks of a machine that slept, or whose wall clock alone was set."""

    def __init__(self) -> None:
        self.slept = timedelta(0)
        self.set = timedelta(0)

    def wall(self) -> datetime:
        return super().wall() + self.slept + self.set

    def boot(self) -> float:
        return super().boot() + self.slept.total_seconds()


class TestASweep:
    @pytest.mark.parametrize("off", [HOUR, -HOUR, timedelta(minutes=3), -timedelta(minutes=3)])
    async def test_a_clock_that_the_provider_contradicts_deletes_nothing(
        self, either: Site, off: timedelta
    ) -> None:
        either.store(3)
        either.sandbox.clock.advance(off)
        ended = await either.sweep()
        assert either.deleted() == []
        assert set(either.states().values()) == {("live", None)}
        assert ended.summary.stop_reason == "clock"
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        assert not ended.summary.complete
        (told,) = either.told(event.ClockDoubted)
        assert "Date" in told.detail
        assert len(either.records("clock.anomaly")) == 1

    async def test_within_the_skew_all_goes(self, site: Site) -> None:
        site.store(3)
        site.sandbox.clock.advance(60)
        assert (await site.sweep()).summary.complete

    async def test_without_a_date_nothing_is_deleted(self, either: Site) -> None:
        either.store(3)
        either.sandbox.clock.shows_date = False
        ended = await either.sweep()
        assert either.deleted() == []
        assert ended.summary.stop_reason == "clock"

    async def test_unless_the_machine_is_to_be_trusted(self, either: Site) -> None:
        either.store(3)
        either.sandbox.clock.shows_date = False
        assert (await either.sweep(trust_local=True)).summary.complete

    async def test_even_then_a_date_that_disagrees_counts(self, site: Site) -> None:
        site.store(3)
        site.sandbox.clock.advance(HOUR)
        ended = await site.sweep(trust_local=True)
        assert site.deleted() == []
        assert ended.summary.stop_reason == "clock"

    async def test_a_clock_that_goes_wrong_in_the_middle_ends_it_and_the_records_say_so(
        self, either: Site
    ) -> None:
        either.store(60)
        either.fault(method="DELETE", delay=0.1)
        mine = either.account("main", max_in_flight=2, verify=False)
        async with either.opened(mine) as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(lambda: either.records("deletion.outcome"))
            good = registered.rows(either.db, tables.ledger)[0]["last_good_at"]
            either.sandbox.clock.advance(HOUR)
            ended = await task
        assert ended.summary.stop_reason == "clock"
        assert len(either.deleted()) < 60
        doubted = [one for one in either.records() if one.get("clock") == "doubted"]
        assert doubted
        last_good = registered.rows(either.db, tables.ledger)[0]["last_good_at"]
        assert last_good >= good
        sound = [one["at"] for one in either.records() if one["seq"] < doubted[0]["seq"]]
        assert {one["at"] for one in doubted} == {max(sound[-1], record.instant(last_good))}
        assert "claimed" not in {state for state, _ in either.states().values()}

    async def test_behind_the_last_good_time_nothing_is_even_admitted(self, either: Site) -> None:
        with either.db.write() as connection:
            ahead = int((datetime.now(UTC) + HOUR).timestamp() * 1e6)
            connection.execute(tables.ledger.update().values(last_good_at=ahead))
            connection.execute(tables.registrations.insert().values(account="main"))
        ended = await either.sweep()
        assert either.sandbox.journal.entries == []
        assert len(registered.rows(either.db, tables.registrations)) == 1
        assert ended.summary.stop_reason == "clock"
        assert not ended.summary.complete
        (summary,) = either.records("run.summary")
        assert summary["at"].startswith(
            datetime.fromtimestamp(ahead / 1e6, tz=UTC).isoformat(timespec="seconds")[:19]
        )

    async def test_after_a_long_sleep_the_provider_is_asked_for_the_time_first(
        self, site: Site
    ) -> None:
        site.store(30)
        clock = Moved()

        def sleep(happened: event.Event) -> None:
            if isinstance(happened, event.AccountChecked):
                clock.slept = timedelta(minutes=11)
                site.sandbox.clock.advance(clock.slept)

        site.events = sweeping.Listening(sleep)
        ended = await site.sweep(early=lambda running: wear(running, clock))
        assert site.sandbox.journal.targets().count("/verifyApiKey") == 2
        assert ended.summary.complete

    async def test_so_it_is_where_the_provider_names_no_account(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.store(4)
            clock = Moved()

            def sleep(happened: event.Event) -> None:
                if isinstance(happened, event.AccountChecked):
                    clock.slept = timedelta(minutes=11)
                    site.sandbox.clock.advance(clock.slept)

            site.events = sweeping.Listening(sleep)
            ended = await site.sweep(
                site.account("main", provider="openai"), early=lambda one: wear(one, clock)
            )
            assert ended.summary.complete

    async def test_it_is_asked_once_and_no_more(self, site: Site) -> None:
        site.store(3)
        clock = Moved()

        def sleep(happened: event.Event) -> None:
            if isinstance(happened, event.AccountChecked):
                clock.slept = timedelta(minutes=11)
                site.sandbox.clock.shows_date = False

        site.events = sweeping.Listening(sleep)
        ended = await site.sweep(early=lambda running: wear(running, clock))
        assert ended.summary.stop_reason == "clock"
        assert site.sandbox.journal.targets().count("/verifyApiKey") == 2
        assert site.deleted() == []

    async def test_a_wall_clock_that_jumps_deletes_nothing_more(self, site: Site) -> None:
        site.store(3, age=20 * DAY)
        clock = Moved()

        def jump(happened: event.Event) -> None:
            if isinstance(happened, event.AccountChecked):
                clock.set = HOUR

        site.events = sweeping.Listening(jump)
        ended = await site.sweep(early=lambda running: wear(running, clock))
        assert ended.summary.stop_reason == "clock"
        assert site.deleted() == []


def wear(running: Running, clock: Clock) -> None:
    """Let a sweep live by this clock."""
    running.watch.clock = clock


class TestAWatch:
    def test_a_date_is_old_after_ten_minutes_on_the_boot_clock(self) -> None:
        clock = Moved()
        watch = ClockWatch(clock=clock, skew=timedelta(minutes=2), trust_local=False)
        assert watch.is_old("main")
        watch.saw("main", datetime.now(UTC))
        assert not watch.is_old("main")
        watch.saw("main", None)
        clock.slept = timedelta(minutes=9)
        assert not watch.is_old("main")
        clock.slept = timedelta(minutes=11)
        assert watch.is_old("main")

    def test_an_account_is_vouched_for_by_its_own_provider_only(
        self, sqlite_database: Database
    ) -> None:
        watch = ClockWatch(clock=Moved(), skew=timedelta(minutes=2), trust_local=False)
        watch.saw("near", datetime.now(UTC))
        with sqlite_database.read() as connection:
            assert watch.doubt(connection, "near") is None
            assert watch.doubt(connection, "main") == "The provider has not sent a Date yet."

    def test_a_provider_that_disagrees_raises_doubt_for_every_account(
        self, sqlite_database: Database
    ) -> None:
        clock = Moved()
        watch = ClockWatch(clock=clock, skew=timedelta(minutes=2), trust_local=False)
        watch.saw("near", datetime.now(UTC))
        watch.saw("main", datetime.now(UTC) + DAY)
        with sqlite_database.read() as connection:
            for account in ("near", "main", None):
                said = watch.doubt(connection, account)
                assert said == "The wall clock is 86400 s behind the provider's Date."
            clock.slept = timedelta(minutes=11)  # too long ago to speak against it any more
            watch.saw("near", clock.wall() + timedelta(seconds=1))
            assert watch.doubt(connection, "near") is None

    def test_a_clock_that_was_mended_since_the_last_sweep_raises_no_doubt_in_the_next(
        self, sqlite_database: Database
    ) -> None:
        clock = Moved()
        watch = ClockWatch(clock=clock, skew=timedelta(minutes=2), trust_local=False)
        watch.planned()
        clock.set = timedelta(minutes=30)
        with sqlite_database.read() as connection:
            assert watch.doubt(connection) is not None
            watch.begun()
            assert watch.doubt(connection) is None
