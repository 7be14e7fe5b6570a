"""Moments are whole microseconds, and a number that is none gives the nearest one there is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import moment


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_moment_survives(at: datetime) -> None:
    assert moment.from_us(moment.to_us(at)) == at


@pytest.mark.parametrize(
    "number, year", [(-(2**63), 1), (-(2**60), 1), (2**63 - 1, 9999), (2**60, 9999)]
)
def test_a_number_beyond_all_years_is_the_nearest_moment(number: int, year: int) -> None:
    assert moment.from_us(number).year == year
    assert moment.from_us(number).tzinfo is UTC


def test_a_length_is_whole_microseconds() -> None:
    assert moment.length_us(timedelta(days=1, microseconds=1)) == 86_400_000_001
