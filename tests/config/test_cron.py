"""A cron text is taken only if everybody would read it the same way."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.config import cron
from sweeper.domain.schedule import Schedule
from sweeper.service import schedule


@pytest.mark.parametrize(
    "text,kept",
    [
        ("17 */2 * * mon-fri", "17 */2 * * mon-fri"),
        ("  0\t0  * * * ", "0 0 * * *"),
        ("0 3 * * SUN", "0 3 * * sun"),
        ("0,30 8-18 1,15 jan-jun/2 *", "0,30 8-18 1,15 jan-jun/2 *"),
        ("5-59/15 * * * mon-fri/2", "5-59/15 * * * mon-fri/2"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 last * *", "0 0 last * *"),
    ],
)
def test_what_has_one_meaning_is_taken(text: str, kept: str) -> None:
    assert cron.check(text) == kept


@pytest.mark.parametrize(
    "text,reason",
    [
        ("", "it has 0 fields"),
        ("0 * * *", "it has 4 fields"),
        ("0 0 * * * *", "it has 6 fields"),
        ("@daily", "it has 1 fields"),
        ("0 0 ? * *", "a field holds numbers, names"),
        ("0 0 * * fri#2", "a field holds numbers, names"),
        ("\u0661 0 * * *", "a field holds numbers, names"),
        ("0 0 * * 0", "write days of the week by name"),
        ("0 0 * * 1-5", "write days of the week by name"),
        ("0 0 * * mon,6", "write days of the week by name"),
        ("0 0 * * mon-fri/2,6", "write days of the week by name"),
        ("0 0 * * */2", "write days of the week by name"),
        ("0 0 * * mon,*/2", "write days of the week by name"),
        ("5/15 * * * *", "a step stands behind"),
        ("0,5/15 * * * *", "a step stands behind"),
        ("0 0 * * mon/2", "a step stands behind"),
        ("0 0 13 * fri", "give a day of the month or one of the week"),
        ("0 0 */2 * fri", "give a day of the month or one of the week"),
        ("60 * * * *", "the minute cannot be read"),
        ("0 24 * * *", "the hour cannot be read"),
        ("0 -1 * * *", "the hour cannot be read"),
        ("0 0 32 * *", "the day of the month cannot be read"),
        ("0 0 0 * *", "the day of the month cannot be read"),
        ("0 0 * 13 *", "the month cannot be read"),
        ("0 0 * foo *", "the month cannot be read"),
        ("0 0 * * sun-mon", "the day of the week cannot be read"),
        ("0 0 * * funday", "the day of the week cannot be read"),
        ("*/0 * * * *", "the minute cannot be read"),
        ("1--2 * * * *", "the minute cannot be read"),
        (", * * * *", "the minute cannot be read"),
        ("0 0 30 2 *", "it never comes"),
        ("0 0 31 4,6,9,11 *", "it never comes"),
    ],
)
def test_what_is_doubtful_is_refused_with_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        cron.check(text)


def _next(text: str, after: datetime) -> datetime:
    return next(
        schedule.times(Schedule(cron=cron.check(text)), after, after + timedelta(days=1500))
    )


def test_days_go_by_the_names_that_people_know() -> None:
    saturday = datetime(2026, 1, 31, 12, tzinfo=UTC)
    names = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
    for place, name in enumerate(names, start=1):
        assert _next(f"0 0 * * {name}", saturday) == datetime(2026, 1, 31, tzinfo=UTC) + timedelta(
            days=place
        )


def test_a_leap_day_is_waited_for() -> None:
    assert _next("0 0 29 2 *", datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2028, 2, 29, tzinfo=UTC
    )


@given(st.text(alphabet="0159*/,- monjalst", max_size=24))
def test_any_text_is_taken_or_refused_and_what_is_taken_stays_as_it_is(text: str) -> None:
    with suppress(ValueError):
        kept = cron.check(text)
        assert cron.check(kept) == kept
