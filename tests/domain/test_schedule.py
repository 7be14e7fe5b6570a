"""A run that was asked for happened, or is missed: nothing between, and nothing twice."""

from datetime import UTC, datetime, timedelta
from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import schedule
from sweeper.domain.schedule import GRACE, Missed, Ran, Schedule

START = datetime(2026, 1, 31, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def ran(begun: float, ended: float) -> Ran:
    return Ran(started_at=at(begun), finished_at=at(ended))


def missed(times: list[float], sweeps: list[Ran], until: float) -> list[float]:
    found = list(schedule.missed([at(each) for each in times], sweeps, at(until)))
    return [(each - START) / timedelta(minutes=1) for each in found]


def test_a_schedule_is_an_interval_or_cron_and_never_both_or_none() -> None:
    assert Schedule(every=timedelta(minutes=1)) != Schedule(cron="* * * * *")
    for both in ({}, {"every": timedelta(minutes=1), "cron": "* * * * *"}):
        with pytest.raises(AssertionError):
            Schedule(**both)  # type: ignore[arg-type]  # that is the fault


def test_without_a_sweep_every_time_is_missed() -> None:
    assert missed([0, 15, 30], [], 45) == [0, 15, 30]
    assert missed([], [ran(0, 1)], 45) == []


def test_a_sweep_that_begins_before_the_next_time_meets_the_last_one() -> None:
    assert missed([0, 15, 30], [ran(0, 1), ran(29, 29.5), ran(30, 31)], 45) == []
    assert missed([0, 15, 30], [ran(0, 1), ran(14, 14.5), ran(30, 31)], 45) == [15]


def test_a_sweep_that_runs_through_a_time_meets_it() -> None:
    assert missed([0, 15, 30, 45], [ran(-5, 30)], 60) == [45]


def test_of_sweeps_that_overlap_the_longest_counts() -> None:
    assert missed([15, 30, 45], [ran(0, 31), ran(1, 2)], 60) == [45]
    assert missed([15, 30, 45], [ran(1, 2), ran(0, 31)], 60) == [45]


def test_one_sweep_that_began_late_does_not_meet_what_came_before() -> None:
    assert missed([0, 15, 30, 45], [ran(46, 47)], 60) == [0, 15, 30]


def test_nothing_is_missed_before_its_grace_has_passed() -> None:
    grace = GRACE / timedelta(minutes=1)
    assert missed([0], [], grace) == [0]
    assert missed([0], [], grace - 0.001) == []


def test_a_run_may_begin_within_its_grace_although_the_next_time_has_come() -> None:
    assert missed([0, 0.1, 0.2], [ran(0.9, 0.95)], 5) == []
    assert missed([0, 0.1, 0.2], [ran(1.05, 1.1)], 5) == [0]


def test_what_was_missed_is_counted_with_the_first_and_the_last() -> None:
    assert schedule.tally([]) is None
    assert schedule.tally(at(each) for each in (3, 7, 9)) == Missed(
        count=3, first=at(3), last=at(9)
    )


MINUTES = st.integers(0, 300)
SWEEPS = st.lists(
    st.tuples(MINUTES, st.integers(0, 60)).map(lambda pair: ran(pair[0], pair[0] + pair[1])),
    max_size=8,
)
TIMES = st.lists(MINUTES, unique=True, max_size=12).map(sorted)


def _is_met(at_: datetime, following: datetime, sweeps: list[Ran]) -> bool:
    """The same in other words: asked of every sweep, one by one."""
    through = any(one.started_at < at_ <= one.finished_at for one in sweeps)
    before = any(at_ <= one.started_at < following for one in sweeps)
    soon = any(at_ <= one.started_at <= at_ + GRACE for one in sweeps)
    return through or before or soon


@given(TIMES, SWEEPS, st.integers(0, 60))
def test_a_time_is_missed_exactly_if_no_sweep_met_it(
    minutes: list[int], sweeps: list[Ran], after: int
) -> None:
    times = [at(each) for each in minutes]
    until = at(max(minutes, default=0) + after)
    expected = [
        each
        for each, following in zip_longest(times, times[1:], fillvalue=until)
        if each + GRACE <= until and not _is_met(each, following, sweeps)
    ]

    assert list(schedule.missed(times, sweeps, until)) == expected


@given(TIMES, SWEEPS, SWEEPS, st.integers(0, 60))
def test_another_sweep_never_makes_a_run_missed(
    minutes: list[int], sweeps: list[Ran], more: list[Ran], after: int
) -> None:
    times = [at(each) for each in minutes]
    until = at(max(minutes, default=0) + after)

    fewer = schedule.missed(times, [*sweeps, *more], until)
    assert set(fewer) <= set(schedule.missed(times, sweeps, until))


@given(TIMES, SWEEPS, st.integers(0, 60), st.integers(0, 400))
def test_what_was_missed_stays_missed_however_late_it_is_asked(
    minutes: list[int], sweeps: list[Ran], after: int, later: int
) -> None:
    """But for the last time, which a sweep may still meet until the next one."""
    times = [at(each) for each in minutes]
    until = at(max(minutes, default=0) + after)

    first = list(schedule.missed(times, sweeps, until))
    second = schedule.missed(times, sweeps, until + timedelta(minutes=later))
    assert set(first) - set(times[-1:]) <= set(second)
