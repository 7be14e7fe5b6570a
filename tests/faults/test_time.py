"""Time lies: by a wrong clock nothing is deleted, whatever it says, and a mended one heals all."""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import creation, event, moment
from sweeper.engine.clock import Clock
from sweeper.engine.planning import Planner, Scope
from sweeper.evidence import record
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from tests.daemon.conftest import Start
from tests.service.test_schedule import ZONES
from tests.support import command, registered, sweeping, truth
from tests.support.command import Run
from tests.support.daemon import Daemon
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal
from tests.support.sweeping import DAY, OPEN, TWO_WEEKS, Running, Site

YEAR = 365 * DAY
HOUR = timedelta(hours=1)
ONCE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where the ledger has no part in it."""
ASTRAY = Path(command.__file__).parent / "astray"


class Astray(Clock):
    """A machine whose wall clock is `off`, and which has `slept`."""

    def __init__(self, off: timedelta = timedelta(0)) -> None:
        self.off = off
        self.slept = timedelta(0)

    def wall(self) -> datetime:
        return super().wall() + self.slept + self.off

    def boot(self) -> float:
        return super().boot() + self.slept.total_seconds()


def by(clock: Clock) -> sweeping.Early:
    """Let a sweep live by this clock."""

    def early(running: Running) -> None:
        running.watch.clock = clock

    return early


class TestAClockThatIsWrong:
    @pytest.mark.parametrize("off", [YEAR, -DAY])
    async def test_it_deletes_nothing_and_the_next_sweep_by_a_mended_one_does(
        self, either: Site, off: timedelta
    ) -> None:
        (first,) = either.store(1)
        assert (await either.sweep()).summary.complete
        due, young = either.store(3), either.store(3, age=2 * DAY)
        clock = Astray(off)
        for _ in range(3):
            ended = await either.sweep(early=by(clock))
            assert ended.summary.stop_reason == "clock"
            assert not ended.summary.complete
            assert ended.summary.remaining_by_reason
            assert "stopped" in ended.summary.remaining_by_reason
        assert either.deleted() == [first]
        clock.off = timedelta(0)
        assert (await either.sweep(early=by(clock))).summary.complete
        assert set(either.deleted()) == {first, *due}
        assert either.sandbox.kept() == frozenset(young)
        assert {either.states()[name] for name in young} == {("live", None)}

    async def test_what_is_recorded_after_one_that_was_ahead_says_that_its_time_is_not_its_own(
        self, site: Site
    ) -> None:
        """No record is dated before the one before it, so the wrong time stays in the log."""
        site.know("resp_never", age=DAY)
        with site.db.write() as connection:
            connection.execute(tables.registrations.insert().values(account="main"))
        await site.sweep(early=by(Astray(YEAR)))
        (name,) = site.store(1)
        before = datetime.now(UTC)
        assert (await site.sweep()).summary.outcomes == {"deleted": 1}
        (told,) = site.records("deletion.outcome")
        assert told["at"] > record.instant(moment.to_us(before + 364 * DAY))
        assert told["clock"] == "doubted"
        assert record.instant(moment.to_us(before)) <= told["last_attempt_at"]
        assert told["last_attempt_at"] <= record.instant(moment.to_us(datetime.now(UTC)))
        assert site.deleted() == [name]
        sound = [one for one in site.records() if one["at"] < told["at"]]
        assert all("clock" not in one for one in sound)

    async def test_a_step_of_the_time_service_in_the_middle_ends_a_sweep_that_allows_less(
        self, either: Site
    ) -> None:
        young = either.store(5, age=14 * DAY - timedelta(seconds=60))
        due = either.store(40)
        either.fault(method="DELETE", delay=0.1)
        slow = either.account("main", max_in_flight=2, verify=False)
        clock = Astray()
        either.events = sweeping.Listening(
            lambda happened: step(clock, happened, timedelta(seconds=90))
        )
        ended = await either.sweep(slow, early=by(clock), skew=timedelta(minutes=1))
        assert ended.summary.stop_reason == "clock"
        assert 0 < len(either.deleted()) < 40
        (told,) = either.told(event.ClockDoubted)
        assert "90 s" in told.detail
        either.mend()
        either.events = []
        assert "claimed" not in {state for state, _ in either.states().values()}
        clock.off = timedelta(0)
        assert (await either.sweep(early=by(clock), skew=timedelta(minutes=1))).summary.complete
        assert sorted(either.deleted()) == sorted(due)
        assert either.sandbox.kept() == frozenset(young)

    async def test_where_no_date_comes_a_clock_set_a_year_ahead_deletes_nothing_more(
        self, either: Site
    ) -> None:
        """In SQLite nothing but the boot clock tells of it."""
        young = either.store(5, age=2 * DAY)
        either.store(40)
        either.sandbox.clock.shows_date = False
        either.fault(method="DELETE", delay=0.1)
        slow = either.account("main", max_in_flight=2, verify=False)
        clock = Astray()
        either.events = sweeping.Listening(lambda happened: step(clock, happened, YEAR))
        ended = await either.sweep(slow, early=by(clock), trust_local=True)
        assert ended.summary.stop_reason == "clock"
        assert 0 < len(either.deleted()) < 40
        claimed = [row["claimed_at"] for row in registered.rows(either.db, tables.attempts)]
        assert max(claimed) < moment.to_us(datetime.now(UTC))
        (told,) = either.told(event.ClockDoubted)
        assert re.search("set by [0-9]+ s since|ahead of the database's clock", told.detail)
        assert set(young) <= either.sandbox.kept()

    @pytest.mark.parametrize("seconds", [90, -90])
    async def test_a_step_within_the_skew_brings_nothing_forward_in_a_sweep_that_has_planned(
        self, either: Site, seconds: int
    ) -> None:
        young = either.store(5, age=14 * DAY - timedelta(seconds=60))
        due = either.store(40)
        clock = Astray()
        either.events = sweeping.Listening(
            lambda happened: step(clock, happened, timedelta(seconds=seconds))
        )
        assert (await either.sweep(early=by(clock))).summary.outcomes == {"deleted": 40}
        assert sorted(either.deleted()) == sorted(due)
        assert either.sandbox.kept() == frozenset(young)

    async def test_without_a_date_nothing_goes_until_one_comes(self, either: Site) -> None:
        names = either.store(4)
        either.sandbox.clock.shows_date = False
        for _ in range(2):
            ended = await either.sweep()
            assert ended.summary.stop_reason == "clock"
        assert either.deleted() == []
        assert {told.detail for told in either.told(event.ClockDoubted)} == {
            "The provider has not sent a Date yet."
        }
        either.sandbox.clock.shows_date = True
        assert (await either.sweep()).summary.complete
        assert sorted(either.deleted()) == sorted(names)


def step(clock: Astray, happened: event.Event, by_how_much: timedelta) -> None:
    """Set the wall clock when the first response is gone."""
    if isinstance(happened, event.ResponseSettled):
        clock.off = by_how_much


class TestAMachineThatSlept:
    async def test_what_was_claimed_before_is_given_back_and_claimed_anew(self, site: Site) -> None:
        names = site.store(40)
        site.fault(method="DELETE", after=3, times=1, delay=0.05)
        clock = Astray()
        mine = site.account("main", rate_per_second=200.0, max_in_flight=2, verify=False)
        async with site.opened(mine) as running:
            running.watch.clock = clock
            task = asyncio.create_task(running.sweep.run())
            await site.sandbox.wait_until(lambda: len(site.deleted()) == 4)
            clock.slept = timedelta(hours=8)
            site.sandbox.clock.advance(clock.slept)
            ended = await task
        assert ended.summary.complete
        assert sorted(site.deleted()) == sorted(names)
        unsent = [row for row in registered.rows(site.db, tables.attempts) if row["unsent"]]
        assert unsent


@pytest.fixture
def clocks(rehearsal: Rehearsal) -> Path:
    """Where a process finds how wrong its clocks are."""
    path = rehearsal.folder / "clocks"
    path.write_text("0 0")
    return path


def move(clocks: Path, *, wrong: timedelta = timedelta(0), slept: timedelta = timedelta(0)) -> None:
    """Set the clocks of the running process, and return when it goes by them."""
    told = f"{wrong.total_seconds()} {slept.total_seconds()}"
    new = clocks.with_suffix(".new")
    new.write_text(told)
    new.replace(clocks)
    wait_for(lambda: clocks.with_suffix(".followed").read_text() == told, "process that follows")


def clock_of_the_database(rehearsal: Rehearsal, *, slept: timedelta) -> None:
    """Let the server of PostgreSQL have slept too; SQLite has no clock."""
    with rehearsal.database() as db:
        if db.is_sqlite:
            return
        with db.write() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS asleep")
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION asleep.clock_timestamp() RETURNS timestamptz"
                " LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp()"
                f" + interval '{slept.total_seconds()} seconds' $$"
            )
            path = "asleep, pg_catalog, public"
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = {path}")


def living(start: Start, rehearsal: Rehearsal, clocks: Path) -> Daemon:
    """Start a daemon by these clocks, which looks at them often."""
    path = os.pathsep.join([str(ASTRAY), str(command.ROOT)])
    return start(rehearsal.config, PYTHONPATH=path, CLOCKS=str(clocks), WATCHDOG_USEC="900000")


class TestADaemon:
    @pytest.mark.parametrize(
        "database_url,wrong",
        [("sqlite", YEAR), ("sqlite", -DAY), ("postgresql", YEAR)],
        indirect=["database_url"],
    )
    def test_it_heals_when_its_clock_does(
        self, rehearsal: Rehearsal, start: Start, clocks: Path, wrong: timedelta
    ) -> None:
        rehearsal.responses(1)
        rehearsal.write('[schedule]\nevery = "1s"\n')
        daemon = living(start, rehearsal, clocks)
        assert daemon.wait("sweep_finished")["complete"]
        move(clocks, wrong=wrong)
        known = len(daemon.of("sweep_finished"))
        due = rehearsal.responses(3)
        rehearsal.responses(3, age=timedelta(days=2))
        for number in range(known + 2, known + 4):
            stopped = daemon.wait("sweep_finished", number)
            assert stopped["stop_reason"] == "clock"
            assert not stopped["complete"]
        status = command.process("-c", rehearsal.config, "status", "--json")
        assert status.code == 3
        assert status.last["withheld"] == ["clock"]
        assert rehearsal.requests("DELETE") == 1
        move(clocks)
        wait_for(lambda: not rehearsal.stored() & set(due), "deletion after the clock was mended")
        done = len(daemon.of("sweep_finished"))
        assert daemon.wait("sweep_finished", done + 2)["complete"]
        assert daemon.child.poll() is None
        assert daemon.end() == 0
        assert truth.violations(rehearsal) == []
        assert truth.unsettled(rehearsal) == []

    def test_eight_hours_of_sleep_are_made_up_for_by_one_sweep(
        self, rehearsal: Rehearsal, start: Start, clocks: Path
    ) -> None:
        rehearsal.write('[schedule]\nevery = "1h"\n')
        clock_of_the_database(rehearsal, slept=timedelta(0))
        daemon = living(start, rehearsal, clocks)
        daemon.wait("sweep_finished")
        rehearsal.responses(2)
        slept = timedelta(hours=8)
        rehearsal.sandbox.call(lambda one: one.clock.advance(slept))
        clock_of_the_database(rehearsal, slept=slept)
        move(clocks, slept=slept)
        assert daemon.wait("sweep_finished", 2)["outcomes"] == {"deleted": 2}
        (missed,) = daemon.of("runs_missed")
        assert missed["count"] in (7, 8)
        assert truth.unsettled(rehearsal) == []
        rehearsal.sandbox.call(lambda one: one.clock.advance(HOUR))
        clock_of_the_database(rehearsal, slept=slept + HOUR)
        move(clocks, slept=slept + HOUR)
        daemon.wait("sweep_finished", 3)
        assert len(daemon.of("sweep_started")) == 3
        assert daemon.end() == 0


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    "zone,day",
    [(name, day) for name, *days in ZONES for day in days],
    indirect=["zone"],
    ids=[f"{name}-{day[1]:02}-{day[2]:02}" for name, *days in ZONES for day in days],
)
def test_a_day_of_23_or_25_hours_makes_nothing_due_sooner_or_later(
    sqlite_database: Database, day: tuple[int, int, int]
) -> None:
    """Two weeks are 336 hours in every zone, on whichever side of the change they begin."""
    midnight = datetime(*day, tzinfo=UTC)
    due = {f"resp_{hours}": midnight - 14 * DAY + timedelta(hours=hours) for hours in range(-6, 30)}
    batch = [
        sweeping._registration(name, "main", created_at, None, None)
        for name, created_at in due.items()
    ]
    registered.admit(sqlite_database, *batch, now=moment.to_us(midnight + 14 * DAY))
    scope = Scope(policies=(TWO_WEEKS,), accounts=frozenset({"main"}), guards=OPEN)
    for hours in range(-6, 30):
        plan = Planner(sqlite_database, scope, midnight + timedelta(hours=hours)).make()
        assert plan.planned == hours + 7


class TestTimesOfCreation:
    @pytest.mark.parametrize(
        "written",
        [
            1763769600000,  # milliseconds
            1763769600000000,  # microseconds
            0,
            -1,
            1577836799,  # a second before 2020
            4102444800.5,  # in the year 2100
            1e300,
            "1763769600",
            "2026-01-31T10:00:00",  # no offset
            "2016-12-31T23:59:60Z",  # a leap second, and long ago
            "2026-06-30T23:59:60Z",
            "2026-02-30T10:00:00Z",
            True,
            None,
        ],
    )
    @ONCE
    def test_one_that_is_none_is_refused_by_name_and_never_due(
        self, rehearsal: Rehearsal, run: Run, written: object
    ) -> None:
        line = {"id": "resp_x", "account": "main", "labels": {"app": "support"}}
        told = run(
            "-c",
            rehearsal.config,
            "responses",
            "import",
            "-",
            "--json",
            stdin=json.dumps({**line, "created_at": written}).encode(),
        )
        assert told.code == 1
        assert (told.last["added"], told.last["rejected"]) == (0, 1)
        assert "created_at" in told.out
        assert run("-c", rehearsal.config, "sweep", "--json").last["due"] == 0
        assert rehearsal.requests("DELETE") == 0
        assert rehearsal.rows() == []

    @pytest.mark.parametrize(
        "microseconds",
        [0, -1, 1763769600, 1763769600000, 1577836799999999, 4102444800000000, 2**62, -(2**62)],
    )
    async def test_one_that_was_written_into_the_database_is_set_aside_and_never_due(
        self, either: Site, microseconds: int
    ) -> None:
        names = either.sandbox.seed(1, age=20 * DAY)
        with either.db.write() as connection:
            connection.execute(
                sa.insert(tables.registrations).values(
                    account="main", response_id=names[0], created_at=microseconds, labels="{}"
                )
            )
        ended = await either.sweep()
        assert either.deleted() == []
        assert [row["state"] for row in either.rows.values()] == ["quarantined"]
        assert ended.summary.outcomes == {}

    @given(st.integers() | st.floats() | st.text(max_size=40) | st.booleans() | st.none())
    def test_whatever_is_written_is_a_time_between_2020_and_tomorrow_or_none(
        self, written: object
    ) -> None:
        now = datetime(2026, 11, 23, tzinfo=UTC)
        try:
            read = creation.read(written, now)
        except ValueError:
            return
        assert datetime(2020, 1, 1, tzinfo=UTC) <= read <= now + DAY

    async def test_the_year_2038_is_a_year_like_any_other(self, site: Site) -> None:
        now = datetime(2038, 1, 20, tzinfo=UTC)
        clock = Astray(now - datetime.now(UTC))
        site.sandbox.clock.set(now)
        made = {"resp_before": now - 15 * DAY, "resp_after": now - 13 * DAY}
        for name, created_at in made.items():
            registered.admit(
                site.db,
                sweeping._registration(name, "main", created_at, None, None),
                now=moment.to_us(now),
            )
        (due,) = site.sandbox.seed(1, age=20 * DAY)
        registered.admit(
            site.db,
            sweeping._registration(due, "main", now - 20 * DAY, None, None),
            now=moment.to_us(now),
        )
        await site.sweep(early=by(clock))
        assert site.states()[due] == ("gone", "deleted")
        assert site.states()["resp_after"] == ("live", None)
        assert "resp_after" not in site.deleted()


@pytest.mark.parametrize(
    "length",
    [
        "0",
        "0d",
        "-1d",
        "+1d",
        "30",
        "30x",
        "1mo",
        "1y",
        "1.5d",
        "",
        " 30d",
        "36526d",
        "9" * 30 + "d",
    ],
)
@ONCE
def test_a_retention_that_is_none_is_refused_before_anything_is_sent(
    rehearsal: Rehearsal, run: Run, length: str
) -> None:
    rehearsal.responses(2)
    text = re.sub(
        'delete_after = "14d"', f'delete_after = "{length}"', rehearsal.config.read_text()
    )
    rehearsal.config.write_text(text)
    told: Any = run("-c", rehearsal.config, "sweep", "--json")
    assert told.code == 10
    assert "delete_after" in told.err
    assert rehearsal.requests() == 0
