"""Rates are read and written in one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.config import rate


@given(st.integers(1, 999_999_999), st.sampled_from(["second", "minute"]))
def test_a_rate_that_is_written_is_read_back(number: int, unit: str) -> None:
    per_second = rate.parse(f"{number}/{unit}")
    assert rate.parse(rate.render(per_second)) == per_second


@pytest.mark.parametrize(
    "text,shown",
    [
        ("60/minute", "60/minute"),
        ("100/second", "6000/minute"),
        ("999999999/second", "999999999/second"),
    ],
)
def test_a_rate_is_shown_per_minute_where_that_can_be_read_back(text: str, shown: str) -> None:
    assert rate.render(rate.parse(text)) == shown


@pytest.mark.parametrize(
    "text,per_second", [("60/minute", 1.0), ("1/minute", 1 / 60), ("7/second", 7.0)]
)
def test_a_rate_is_kept_in_requests_per_second(text: str, per_second: float) -> None:
    assert rate.parse(text) == per_second


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "0/second",
        "-1/second",
        "1.5/second",
        "1/hour",
        "\u0661/second",
        "1 / second",
        60,
        None,
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="60/minute"):
        rate.parse(text)
