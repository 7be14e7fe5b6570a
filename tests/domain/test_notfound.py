"""An account that looks like the wrong one is stopped before it does harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain.notfound import NotFound


def after(marks: str, *, expect_absent: int = 0) -> NotFound:
    breaker = NotFound(expect_absent=expect_absent)
    for mark in marks:
        breaker = breaker.absent() if mark == "A" else breaker.yes()
    return breaker


@pytest.mark.parametrize(
    "marks,tripped",
    [
        ("", False),
        ("AAAA", False),
        ("AAAAA", True),
        ("AAAAYA", False),
        ("YYYAAAAA", True),
        ("AY" * 10, False),
        ("AAY" + "AY" * 8 + "A", True),
        ("A" * 4 + "Y" + "A" * 4 + "Y" + "AA", False),
        ("A" * 4 + "Y" + "A" * 4 + "Y" + "AAA", True),
        ("A" * 4 + "Y" + "A" * 4 + "Y" * 10 + "AAA", False),
    ],
)
def test_five_in_a_row_or_eleven_of_the_last_twenty_trip(marks: str, tripped: bool) -> None:
    assert after(marks).tripped is tripped


def test_what_a_person_expects_to_be_absent_is_not_counted() -> None:
    breaker = after("A" * 5, expect_absent=3)
    assert breaker == NotFound(recent="AA", expect_absent=0)
    assert after("YAAA", expect_absent=3) == NotFound(recent="Y")


@given(st.text("AY", max_size=60))
def test_the_breaker_judges_the_last_twenty_and_nothing_older(marks: str) -> None:
    breaker = after(marks)
    assert breaker.recent == marks[-20:]
    assert breaker.tripped == (marks.endswith("AAAAA") or marks[-20:].count("A") > 10)
    assert breaker.tripped == NotFound(recent=marks).tripped
    assert not NotFound(recent="A" * 11 + "Y" * 10 + "AA").tripped


@given(st.text("AY", max_size=40), st.integers(0, 50))
def test_expecting_more_never_trips_earlier(marks: str, expected: int) -> None:
    if after(marks, expect_absent=expected + 1).tripped:
        assert after(marks, expect_absent=expected).tripped
