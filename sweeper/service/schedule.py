"""When sweeps are to run by the configured schedule, and which of those runs did not happen."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sweeper.domain import duration, moment
from sweeper.domain import schedule as runs
from sweeper.domain.schedule import Missed, Ran, Schedule
from sweeper.ledger import schedules, sweeps
from sweeper.ledger.database import Database

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = timedelta(microseconds=1)
_REGULAR: Final = "schedule"
_MOST_MISSED: Final = 50_000
"""Runs that are looked for at most: a clock that is years ahead asks for millions."""
_CLOSEST: Final = timedelta(minutes=1)
"""The least time between two runs by cron."""
NEXT_TRY: Final = "next_try"


class _Onward(BaseTrigger):  # type: ignore[misc]  # the library has no types
    """Fires next after now, never for the moments before.

    APScheduler collects all of those that have passed, only to run once: where a clock is set a
    year ahead, that is millions, in the loop that sweeps.
    """

    def __init__(self, schedule: Any) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime | None:
        found: datetime | None = self._schedule.get_next_fire_time(None, now + _MOMENT)
        return found


class Bells:
    """Rings when a sweep is to run: by the schedule, and once at a moment between.

    A job does nothing but ring: what APScheduler ends or drops can then never cut a sweep short.
    """

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring = ring
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            event_loop=asyncio.get_running_loop(),
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def start(self, schedule: Schedule) -> None:
        """Ring from now on; by this schedule, if it rings already."""
        self.follow(schedule)
        if not self._scheduler.running:
            self._scheduler.start()

    def follow(self, schedule: Schedule) -> None:
        """Ring by this schedule from now on."""
        self._schedule = schedule
        self._scheduler.add_job(
            self._rung,
            _Onward(_trigger(schedule)),
            args=[_REGULAR],
            id=_REGULAR,
            replace_existing=True,
        )

    def once(self, at: datetime | None) -> None:
        """Ring at this moment too, and at no other moment that was named before."""
        if at is None:
            if self._scheduler.get_job(NEXT_TRY) is not None:
                self._scheduler.remove_job(NEXT_TRY)
            return
        self._scheduler.add_job(
            self._rung, DateTrigger(at), args=[NEXT_TRY], id=NEXT_TRY, replace_existing=True
        )

    def heed_the_clock(self, now: datetime) -> None:
        """Go by the wall clock where it was set, or where the machine slept.

        APScheduler's timer counts by a clock that does neither: asked for a time next week, it
        would ring late by as long as the machine slept.
        """
        at = self.next_at
        times_set = [getattr(job, "next_run_time", None) for job in self._scheduler.get_jobs()]
        if any(one is not None and one < now for one in times_set):
            self._scheduler.wakeup()
        elif at is not None and next(times(self._schedule, now, at), at) < at:
            self.follow(self._schedule)

    @property
    def next_at(self) -> datetime | None:
        """When the next sweep runs by the schedule."""
        job = self._scheduler.get_job(_REGULAR)
        # A job has no such time before the scheduler runs.
        found: datetime | None = getattr(job, "next_run_time", None)
        return found

    async def _rung(self, why: str) -> None:
        # A plain function would be run in another thread.
        self._ring(why)

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


def render(schedule: Schedule) -> str:
    """Say a schedule in a few words."""
    if schedule.cron is not None:
        return f"cron {schedule.cron} (UTC)"
    return f"every {duration.render(schedule.every)}"


def times(schedule: Schedule, after: datetime, until: datetime) -> Iterator[datetime]:
    """The moments later than `after`, up to `until`, at which a schedule asks for a sweep."""
    trigger = _trigger(schedule)
    at = trigger.get_next_fire_time(None, after + _MOMENT)
    while at is not None and at <= until:
        yield at.astimezone(UTC)
        at = trigger.get_next_fire_time(at, at + _MOMENT)


def missed(db: Database, since: datetime, until: datetime) -> Missed | None:
    """The runs that were asked for between two moments and did not happen; None where all did.

    What counts is the schedule that was in force at each moment: where no daemon has ever
    followed one, nothing was asked for. The last 50,000 runs are looked at.
    """
    with db.read() as connection:
        history = schedules.history(connection)
        ran = [
            Ran(started_at=moment.from_us(begun), finished_at=moment.from_us(ended))
            for begun, ended in sweeps.finished_between(
                connection, moment.to_us(since), moment.to_us(until)
            )
        ]
    return runs.tally(runs.missed(_asked(history, since, until), ran, until))


def _asked(
    history: Sequence[tuple[int, Schedule]], since: datetime, until: datetime
) -> Iterator[datetime]:
    """Every moment of the span at which the schedule of that time asked for a sweep."""
    for index, (begins, schedule) in enumerate(history):
        ends = until if index + 1 == len(history) else moment.from_us(history[index + 1][0])
        ends = min(until, ends)
        seen = max(since, moment.from_us(begins), _looked_from(schedule, ends))
        yield from times(schedule, seen, ends)


def _looked_from(schedule: Schedule, until: datetime) -> datetime:
    span = _MOST_MISSED * (schedule.every or _CLOSEST)
    return until - span if until - _EPOCH > span else _EPOCH


def _trigger(schedule: Schedule) -> Any:
    if schedule.cron is not None:
        return CronTrigger.from_crontab(schedule.cron, timezone=UTC)
    assert schedule.every is not None, "a schedule has an interval or is cron"
    return IntervalTrigger(seconds=schedule.every.total_seconds(), start_date=_EPOCH, timezone=UTC)
