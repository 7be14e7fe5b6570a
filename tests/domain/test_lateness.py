"""How late deletions were is told by nearest rank, never less than it was, in little memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain.lateness import Lateness, Spread

SECONDS = st.integers(min_value=0, max_value=10**9)


def of(*seconds: int) -> Lateness:
    late = Lateness()
    for one in seconds:
        late.add(one)
    return late


def test_none_is_not_zero() -> None:
    assert of().spread() is None
    assert of(0).spread() == Spread(median=0, p99=0, worst=0)


def test_the_middle_one_is_the_lower_of_two() -> None:
    assert of(1, 2, 3, 4).spread() == Spread(median=2, p99=4, worst=4)
    assert of(5, 1, 3).spread() == Spread(median=3, p99=5, worst=5)


def test_one_of_a_hundred_may_be_later_than_the_ninety_nine() -> None:
    assert of(*range(1, 101)).spread() == Spread(median=50, p99=99, worst=100)
    late = Lateness()
    late.add(7, 98)
    late.add(4000, 2)
    assert late.spread() == Spread(median=7, p99=4000, worst=4000)


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_it_tells_what_sorting_all_would_and_at_most_a_two_thousandth_more(
    given: list[int],
) -> None:
    told = of(*given).spread()
    assert told is not None
    for percent, found in ((50, told.median), (99, told.p99)):
        exact = sorted(given)[math.ceil(percent * len(given) / 100) - 1]
        assert exact <= found <= exact + exact // 2048
        assert found == exact or exact >= 4096
    assert told.worst == max(given)
    assert told.median <= told.p99 <= told.worst


@given(st.lists(st.tuples(SECONDS, st.integers(1, 5)), max_size=50))
def test_many_at_once_are_as_many_one_by_one(given: list[tuple[int, int]]) -> None:
    together = Lateness()
    for seconds, count in given:
        together.add(seconds, count)
    assert together.spread() == of(*(one for one, n in given for _ in range(n))).spread()


def test_it_stays_small_whatever_it_is_told() -> None:
    """A hundred thousand different values, over three years."""
    late = Lateness()
    for n in range(100_000):
        late.add(n * 997)
    assert len(late._counts) < 40_000


@pytest.mark.parametrize("seconds,count", [(-1, 1), (0, 0), (3, -1)])
def test_nothing_is_late_by_less_than_nothing(seconds: int, count: int) -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        Lateness().add(seconds, count)
