"""The schedule counts in UTC, whatever the zone; what did not run is computed from the ledger."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine

from sweeper.domain import moment
from sweeper.domain.schedule import Missed, Schedule
from sweeper.ledger import schedules, tables
from sweeper.ledger.database import Database
from sweeper.service import schedule
from sweeper.service.schedule import Bells

QUARTERS = Schedule(every=timedelta(minutes=15))
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ZONES = [
    # Each with a day on which its clocks go forward, and one on which they go back.
    ("America/New_York", (2026, 3, 8), (2026, 11, 1)),
    ("America/Santiago", (2026, 9, 6), (2026, 4, 5)),
    ("America/St_Johns", (2026, 3, 8), (2026, 11, 1)),
    ("Europe/Berlin", (2026, 3, 29), (2026, 10, 25)),
    ("Europe/London", (2026, 3, 29), (2026, 10, 25)),
    ("Africa/Casablanca", (2026, 3, 22), (2026, 2, 15)),
    ("Asia/Beirut", (2026, 3, 29), (2026, 10, 25)),
    ("Australia/Lord_Howe", (2026, 10, 4), (2026, 4, 5)),
    ("Pacific/Auckland", (2026, 9, 27), (2026, 4, 5)),
]
CHANGES = pytest.mark.parametrize(
    "zone,day",
    [(name, day) for name, *days in ZONES for day in days],
    indirect=["zone"],
    ids=[f"{name}-{day[1]:02}-{day[2]:02}" for name, *days in ZONES for day in days],
)


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@CHANGES
@pytest.mark.parametrize(
    "rule,apart",
    [
        (QUARTERS, timedelta(minutes=15)),
        (Schedule(cron="*/15 * * * *"), timedelta(minutes=15)),
        (Schedule(cron="30 * * * *"), timedelta(hours=1)),
        (Schedule(cron="30 2 * * *"), timedelta(days=1)),
    ],
)
def test_a_change_of_the_clocks_changes_nothing(
    zone: None, day: tuple[int, int, int], rule: Schedule, apart: timedelta
) -> None:
    assert os.environ["TZ"]
    begin = datetime(*day, tzinfo=UTC) - timedelta(days=2)
    found = list(schedule.times(rule, begin, begin + timedelta(days=4)))
    assert len(found) == timedelta(days=4) / apart
    assert {later - earlier for earlier, later in pairwise(found)} == {apart}


@CHANGES
async def test_the_bell_rings_once_an_hour_on_a_day_on_which_one_is_skipped_or_comes_twice(
    zone: None, day: tuple[int, int, int]
) -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    bells = Bells(rung.put_nowait)
    begin = datetime(*day, tzinfo=UTC) - timedelta(hours=12)
    with time_machine.travel(begin, tick=False) as clock:
        bells.start(Schedule(cron="30 * * * *"))
        for hours in range(48):
            at = begin + timedelta(hours=hours, minutes=30)
            assert bells.next_at == at
            clock.move_to(at + timedelta(seconds=1))
            bells.heed_the_clock(datetime.now(UTC))
            async with asyncio.timeout(10):
                await rung.get()
        bells.stop()
    assert rung.empty()


def test_an_interval_is_counted_from_1970_so_that_every_process_agrees() -> None:
    found = list(schedule.times(QUARTERS, NOON - timedelta(hours=1), NOON))
    assert [f"{at:%H:%M}" for at in found] == ["11:15", "11:30", "11:45", "12:00"]
    odd = Schedule(every=timedelta(minutes=7))
    (first, *_) = schedule.times(odd, NOON, NOON + timedelta(hours=1))
    assert (first - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(minutes=7) == timedelta(0)


def test_days_of_the_week_are_those_that_are_named() -> None:
    found = list(schedule.times(Schedule(cron="0 3 * * sun"), NOON, NOON + timedelta(days=14)))
    assert [f"{at:%A}" for at in found] == ["Sunday", "Sunday"]


async def test_a_bell_rings_by_the_schedule_and_once_at_a_moment_between() -> None:
    rung: asyncio.Queue[str] = asyncio.Queue()
    bells = Bells(rung.put_nowait)
    bells.start(Schedule(every=timedelta(seconds=1)))
    bells.once(datetime.now(UTC) + timedelta(seconds=0.2))
    heard: list[str] = []
    async with asyncio.timeout(10):
        while heard.count("schedule") < 2 or "next_try" not in heard:
            heard.append(await rung.get())
    assert heard.count("next_try") == 1
    bells.once(datetime.now(UTC) + timedelta(hours=1))
    bells.once(None)
    bells.once(None)
    bells.stop()
    bells.stop()


async def test_a_moment_that_has_passed_rings_at_once() -> None:
    rung = asyncio.Event()
    bells = Bells(lambda _why: rung.set())
    bells.start(Schedule(cron="0 0 1 1 *"))
    bells.once(datetime.now(UTC) - timedelta(hours=3))
    async with asyncio.timeout(10):
        await rung.wait()
    bells.stop()


@pytest.mark.parametrize("rule", [Schedule(every=timedelta(hours=1)), Schedule(cron="0 * * * *")])
async def test_a_machine_that_slept_rings_as_soon_as_it_wakes(rule: Schedule) -> None:
    rung = asyncio.Event()
    bells = Bells(lambda _why: rung.set())
    with time_machine.travel(NOON + minutes(1), tick=False) as clock:
        bells.start(rule)
        bells.heed_the_clock(datetime.now(UTC))
        await asyncio.sleep(0)
        assert not rung.is_set()
        clock.shift(timedelta(hours=8))
        bells.heed_the_clock(datetime.now(UTC))
        async with asyncio.timeout(10):
            await rung.wait()
        assert bells.next_at == NOON + timedelta(hours=9)
    bells.stop()


async def test_a_next_try_that_came_while_the_machine_slept_is_rung_for_as_it_wakes() -> None:
    rung = asyncio.Event()
    bells = Bells(lambda _why: rung.set())
    with time_machine.travel(NOON, tick=False) as clock:
        bells.start(Schedule(cron="0 0 1 1 *"))
        bells.once(NOON + timedelta(hours=2))
        clock.shift(timedelta(hours=3))
        bells.heed_the_clock(datetime.now(UTC))
        async with asyncio.timeout(10):
            await rung.wait()
    bells.stop()


async def test_before_it_has_begun_and_after_its_end_there_is_no_next_time() -> None:
    bells = Bells(lambda _why: None)
    bells.follow(QUARTERS)
    assert bells.next_at is None
    bells.start(QUARTERS)
    assert bells.next_at is not None
    bells.start(Schedule(cron="0 0 1 1 *"))
    assert bells.next_at is not None
    assert (bells.next_at.month, bells.next_at.day) == (1, 1)
    bells.stop()
    bells.follow(QUARTERS)


@pytest.mark.parametrize("rule", [Schedule(every=timedelta(seconds=1)), Schedule(cron="* * * * *")])
async def test_a_clock_that_is_set_years_ahead_rings_once_and_at_once(rule: Schedule) -> None:
    """All the moments that were passed over are not even looked at: there are 60 million."""
    rung: asyncio.Queue[str] = asyncio.Queue()
    bells = Bells(rung.put_nowait)
    with time_machine.travel(NOON + minutes(1), tick=False) as clock:
        bells.start(rule)
        clock.shift(timedelta(days=700))
        began = time.monotonic()
        bells.heed_the_clock(datetime.now(UTC))
        async with asyncio.timeout(10):
            await rung.get()
        assert time.monotonic() - began < 1
        assert bells.next_at is not None
        assert bells.next_at - datetime.now(UTC) <= minutes(1)
    bells.stop()
    assert rung.empty()


@pytest.mark.parametrize("rule", [Schedule(every=timedelta(hours=1)), Schedule(cron="0 * * * *")])
async def test_a_clock_that_was_set_back_puts_no_sweep_off(rule: Schedule) -> None:
    bells = Bells(lambda _why: None)
    with time_machine.travel(NOON + minutes(1), tick=False) as clock:
        bells.start(rule)
        clock.shift(-timedelta(days=1))
        bells.heed_the_clock(datetime.now(UTC))
        assert bells.next_at == NOON - timedelta(hours=23)
    bells.stop()


def test_a_schedule_is_told_in_a_few_words() -> None:
    assert schedule.render(QUARTERS) == "every 15m"
    assert schedule.render(Schedule(cron="17 */2 * * mon-fri")) == ("cron 17 */2 * * mon-fri (UTC)")


def keep(db: Database, rule: Schedule, since: datetime) -> None:
    with db.write() as connection:
        schedules.keep(connection, rule, now=moment.to_us(since))


def ran(db: Database, *spans: tuple[datetime, datetime | None]) -> None:
    with db.write() as connection:
        for number, (began, ended) in enumerate(spans):
            values: dict[str, Any] = {"id": f"s{number}", "started_at": moment.to_us(began)}
            if ended is not None:
                values |= {"finished_at": moment.to_us(ended), "complete": 1}
            connection.execute(sa.insert(tables.sweeps).values(values))


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_where_no_daemon_ever_followed_a_schedule_nothing_was_missed(database: Database) -> None:
    assert schedule.missed(database, NOON - timedelta(days=9), NOON) is None


def test_runs_that_did_not_happen_are_counted_with_the_first_and_the_last(
    database: Database,
) -> None:
    keep(database, QUARTERS, NOON - timedelta(hours=2))
    ran(database, (NOON - minutes(119), NOON - minutes(118)))
    assert schedule.missed(database, NOON - timedelta(hours=2), NOON + minutes(5)) == Missed(
        count=8, first=NOON - minutes(105), last=NOON
    )


def test_a_sweep_that_died_is_a_run_that_did_not_happen(database: Database) -> None:
    keep(database, QUARTERS, NOON - minutes(20))
    ran(database, (NOON - minutes(15), None), (NOON + minutes(0.5), NOON + minutes(1)))
    assert schedule.missed(database, NOON - minutes(20), NOON + minutes(5)) == Missed(
        count=1, first=NOON - minutes(15), last=NOON - minutes(15)
    )


def test_runs_within_a_long_sweep_happened(database: Database) -> None:
    keep(database, QUARTERS, NOON - timedelta(hours=2))
    ran(database, (NOON - timedelta(hours=3), NOON + minutes(20)))
    assert schedule.missed(database, NOON - timedelta(hours=2), NOON + minutes(16)) is None


def test_each_moment_is_judged_by_the_schedule_that_was_in_force_then(
    database: Database,
) -> None:
    keep(database, Schedule(every=timedelta(hours=1)), NOON - timedelta(hours=4))
    keep(database, QUARTERS, NOON - timedelta(hours=1))
    found = schedule.missed(database, NOON - timedelta(days=1), NOON + minutes(2))
    assert found is not None
    # At 9, 10 and 11 by the first one, at 11:15, 11:30, 11:45 and 12 by the second.
    assert (found.count, found.first) == (7, NOON - timedelta(hours=3))


def test_a_schedule_that_stays_the_same_is_kept_once(database: Database) -> None:
    keep(database, QUARTERS, NOON)
    keep(database, QUARTERS, NOON + minutes(1))
    keep(database, Schedule(cron="0 * * * *"), NOON + minutes(2))
    keep(database, QUARTERS, NOON + minutes(3))
    with database.read() as connection:
        history = schedules.history(connection)
    assert [rule for _, rule in history] == [QUARTERS, Schedule(cron="0 * * * *"), QUARTERS]


def test_a_run_that_is_only_just_due_is_not_missed_yet(database: Database) -> None:
    keep(database, QUARTERS, NOON - minutes(1))
    assert schedule.missed(database, NOON - minutes(1), NOON + minutes(0.5)) is None


def test_of_millions_of_runs_that_were_missed_the_last_fifty_thousand_are_counted(
    sqlite_database: Database,
) -> None:
    keep(sqlite_database, Schedule(every=timedelta(seconds=1)), NOON - timedelta(days=700))
    found = schedule.missed(sqlite_database, NOON - timedelta(days=700), NOON + minutes(1))
    assert found is not None
    assert 49_900 <= found.count <= 50_000
    assert found.last == NOON
