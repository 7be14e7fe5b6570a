import pytest

from sweeper.sandbox.limit import Limit


class Ticks:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_burst_passes_and_then_the_rate() -> None:
    ticks = Ticks()
    limit = Limit(rate=2, burst=3, ticks=ticks)
    assert [limit.allows("a") for _ in range(4)] == [True, True, True, False]
    ticks.seconds += 0.5
    assert [limit.allows("a") for _ in range(2)] == [True, False]
    assert limit.allows("b")


def test_tokens_are_saved_only_up_to_the_burst() -> None:
    ticks = Ticks()
    limit = Limit(rate=10, burst=2, ticks=ticks)
    limit.allows("a")
    ticks.seconds += 60
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]


def test_without_a_rate_everything_passes() -> None:
    limit = Limit(rate=None, burst=1)
    assert all(limit.allows("a") for _ in range(100))


@pytest.mark.parametrize("rate, burst", [(0, 1), (-1, 1), (1, 0)])
def test_a_limit_that_could_never_pass_anything_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match=r"the (rate|burst) is"):
        Limit(rate=rate, burst=burst)
