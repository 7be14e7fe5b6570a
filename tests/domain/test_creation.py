"""When a response was created: which times are read and which are refused."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import creation
from sweeper.domain.response import EARLIEST

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(0), NOW - EARLIEST).map(lambda age: NOW - age)
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@given(MOMENTS, OFFSETS)
def test_a_text_with_an_offset_is_read_exactly(moment: datetime, offset: timezone) -> None:
    assert creation.read(moment.astimezone(offset).isoformat(), NOW) == moment


@given(MOMENTS)
def test_microseconds_are_read_exactly(moment: datetime) -> None:
    us = (moment - EPOCH) // timedelta(microseconds=1)

    assert creation.read_us(us, NOW) == moment


@given(MOMENTS)
def test_seconds_are_read_to_the_microsecond(moment: datetime) -> None:
    assert abs(creation.read(moment.timestamp(), NOW) - moment) <= timedelta(microseconds=1)
    assert creation.read(int(moment.timestamp()), NOW) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2026-01-31T10:00:00Z", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31t10:00:00z", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31 10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T10:00:00.123456789-00:30", datetime(2026, 1, 31, 10, 30, 0, 123456, UTC)),
    ],
)
def test_these_texts_are_read(text: str, moment: datetime) -> None:
    found = creation.read(text, NOW)

    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [None, True, False, math.nan, [], {}, b"1763769600", timedelta(1), NOW],
)
def test_what_is_neither_a_number_nor_a_text_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="Unix seconds or an RFC 3339 time"):
        creation.read(value, NOW)
    with pytest.raises(ValueError, match="Unix seconds or an RFC 3339 time"):
        creation.read_us(value, NOW)


@pytest.mark.parametrize(
    "value, reason",
    [
        (1763769600000, "milliseconds"),
        (1763769600000.5, "milliseconds"),
        (10**400, "milliseconds"),
        (math.inf, "milliseconds"),
        (-math.inf, "Unix seconds"),
        (-1, "before 2020"),
        (0, "before 2020"),
        (-(10**400), "before 2020"),
        (int(EARLIEST.timestamp()) - 1, "before 2020"),
        (NOW.timestamp() + 86_401, "ahead"),
        ("1763769600", "RFC 3339"),
        ("2026-01-31", "RFC 3339"),
        ("2026-01-31T10:00:00", "RFC 3339"),
        ("20260131T100000Z", "RFC 3339"),
        ("2026-01-31T10:00Z", "RFC 3339"),
        ("2026-01-31T10:00:00Z\n", "RFC 3339"),
        ("2026-W05-6T10:00:00Z", "RFC 3339"),
        ("\u0662026-01-31T10:00:00Z", "RFC 3339"),
        ("", "RFC 3339"),
        ("2026-02-30T10:00:00Z", "exist"),
        ("2026-01-31T10:00:60Z", "exist"),
        ("2026-01-31T10:00:00+25:00", "exist"),
        ("0001-01-01T00:00:00+01:00", "exist"),
        ("9999-12-31T23:59:59-01:00", "exist"),
        ("2019-12-31T23:59:59Z", "before 2020"),
        ("2020-01-01T00:00:00+00:01", "before 2020"),
        ("2026-11-23T10:00:01Z", "ahead"),
    ],
)
def test_a_doubtful_time_is_refused_with_the_reason(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        creation.read(value, NOW)


def test_both_ends_of_what_is_allowed_are_allowed() -> None:
    assert creation.read(EARLIEST.timestamp(), NOW) == EARLIEST
    assert creation.read("2020-01-01T00:00:00Z", NOW) == EARLIEST
    assert creation.read("2026-11-23T10:00:00Z", NOW) == NOW + creation.AHEAD


@pytest.mark.parametrize("value", [1763769600, 2**63, -(2**63), -1, 10**400])
def test_microseconds_out_of_all_bounds_are_refused_even_without_a_clock(value: object) -> None:
    with pytest.raises(ValueError, match="before 2020 or after 9999"):
        creation.read_us(value, None)


def test_without_a_clock_no_time_is_refused_for_lying_ahead() -> None:
    ahead = datetime(2999, 1, 1, tzinfo=UTC)
    us = (ahead - EPOCH) // timedelta(microseconds=1)

    assert creation.read_us(us, None) == ahead
    with pytest.raises(ValueError, match="ahead"):
        creation.read_us(us, NOW)
