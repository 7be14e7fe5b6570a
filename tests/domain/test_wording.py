"""Numbers and lengths as people read them."""

from datetime import timedelta

import pytest

from sweeper.domain import wording


@pytest.mark.parametrize(
    "length, text",
    [
        (timedelta(0), "less than a second"),
        (timedelta(seconds=0.6), "1 s"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(hours=3, minutes=10, seconds=5), "3 h 10 min"),
        (timedelta(days=2, seconds=9), "2 d 9 s"),
        (timedelta(days=400), "400 d"),
    ],
)
def test_a_length_is_told_in_its_two_largest_units(length: timedelta, text: str) -> None:
    assert wording.length(length) == text


def test_one_is_not_many() -> None:
    assert wording.counted(1) == "1 response"
    assert wording.counted(0) == "0 responses"
    assert wording.counted(2000, "live ") == "2,000 live responses"


@pytest.mark.parametrize(
    "reason, text",
    [
        ("account:main:not_found", "account main was stopped (not found)"),
        ("guard", "a guard refused it"),
        ("something new", "something new"),
    ],
)
def test_why_a_sweep_stopped_is_told_in_words(reason: str, text: str) -> None:
    assert wording.stopped(reason) == text
