"""The wait before the next try grows, is spread, and ends at six hours."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import backoff

JITTER = st.floats(0, 1, exclude_max=True)


@given(failures=st.integers(0, 10_000), jitter=JITTER)
def test_a_wait_lies_between_nothing_and_one_second_doubled_for_each_answer(
    failures: int, jitter: float
) -> None:
    wait = backoff.delay(failures, jitter)
    assert timedelta(0) <= wait <= timedelta(hours=6)
    if failures < 20:
        assert wait <= timedelta(seconds=2**failures)


@given(failures=st.integers(0, 50), jitter=JITTER)
def test_one_more_answer_never_shortens_the_wait(failures: int, jitter: float) -> None:
    assert backoff.delay(failures, jitter) <= backoff.delay(failures + 1, jitter)


@pytest.mark.parametrize(
    "failures,seconds",
    [(0, 0.5), (1, 1), (2, 2), (10, 512), (14, 8192), (15, 10_800), (99, 10_800)],
)
def test_half_the_jitter_is_half_the_longest_wait(failures: int, seconds: float) -> None:
    assert backoff.delay(failures, 0.5) == timedelta(seconds=seconds)
