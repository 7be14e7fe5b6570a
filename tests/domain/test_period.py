"""A period is read as people write it, and never silently as something else."""

from datetime import UTC, datetime, timedelta

import pytest

from sweeper.domain import period
from sweeper.domain.period import Period
from sweeper.domain.response import EARLIEST

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "since,until,begin,end",
    [
        ("30d", None, NOW - 30 * DAY, NOW),
        ("1d12h", None, NOW - 1.5 * DAY, NOW),
        ("2026-05-01", None, datetime(2026, 5, 1, tzinfo=UTC), NOW),
        ("2026-01-01", "2026-02-01", FEBRUARY - 31 * DAY, FEBRUARY),
        ("7d", "2026-02-01", FEBRUARY - 7 * DAY, FEBRUARY),
        ("2026-05-31T14:00:00+02:00", None, NOW - DAY, NOW),
        ("2026-05-31t12:00:00z", None, NOW - DAY, NOW),
    ],
)
def test_days_times_and_lengths_before_the_end_are_read(
    since: str, until: str | None, begin: datetime, end: datetime
) -> None:
    assert period.read(since, until, NOW) == Period(since=begin, until=end)


def test_what_lies_ahead_is_left_out() -> None:
    assert period.read("2026-05-01", "2026-07-01", NOW).until == NOW


@pytest.mark.parametrize("since", ["forever", "36500d", "1900-01-01", "0001-01-02T00:00:00Z"])
def test_nothing_begins_before_the_first_response(since: str) -> None:
    assert period.read(since, None, NOW).since == EARLIEST


@pytest.mark.parametrize(
    "since,until,told",
    [
        ("2026-06-02", None, "ends before it begins"),
        ("2026-02-01", "2026-02-01", "ends before it begins"),
        ("30", None, "a number needs its unit"),
        ("1 month", None, "months differ in length"),
        ("2026-05-01T10:00:00", None, "is no time"),
        ("2026-02-30", None, "does not exist"),
        ("2026-13-01T00:00:00Z", None, "does not exist"),
        ("0001-01-01T00:00:00+14:00", None, "does not exist"),
        ("2026-05-01x", None, "is no time"),
        ("30d", "7d", "is no time"),
        ("30d", "1763769600", "is no time"),
        ("30d", "yesterday", "is no time"),
        (
            "yesterday",
            None,
            "^'yesterday' is no time: write a length as 7d; or write a day as 2026",
        ),
        ("0d", None, "is no time: write a length as 7d; or write a day as 2026"),
        ("30d", "٢٠٢٦-01-01", "is no time"),
    ],
)
def test_what_is_doubtful_is_refused_with_what_would_be_right(
    since: str, until: str | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        period.read(since, until, NOW)


@pytest.mark.parametrize("since", ["yesterday", "", "0d", "+7d", "30", "x" * 200])
def test_nobody_who_asks_for_a_day_is_offered_forever(since: str) -> None:
    with pytest.raises(ValueError, match="write a day as") as caught:
        period.read(since, None, NOW)

    assert "forever" not in str(caught.value)
