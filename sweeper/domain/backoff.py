"""How long a response waits before it is tried again."""

from datetime import timedelta

LONGEST = timedelta(hours=6)
_CEILING = LONGEST.total_seconds()
_DOUBLINGS = 15  # 2 to the 15th seconds are more than six hours


def delay(failures: int, jitter: float) -> timedelta:
    """Full jitter over 1 s doubled once for each of `failures` answers, never above six hours.

    `jitter` lies in [0, 1): the share of the wait that is really taken.
    """
    ceiling = min(_CEILING, float(2 ** min(failures, _DOUBLINGS)))
    return timedelta(seconds=ceiling * jitter)
