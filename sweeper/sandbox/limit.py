"""The provider's request limit: one token bucket per account, in real time."""

import time
from collections.abc import Callable


class Limit:
    """`rate` requests a second with up to `burst` at once; a rate of None lets everything pass."""

    def __init__(
        self, *, rate: float | None, burst: int, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        if rate is not None and rate <= 0:
            raise ValueError("the rate is a positive number of requests a second, or None")
        if burst < 1:
            raise ValueError("the burst is at least 1")
        self._rate = rate
        self._burst = burst
        self._ticks = ticks
        self._buckets: dict[str, tuple[float, float]] = {}

    def allows(self, account: str) -> bool:
        """Take one token of the account's, or say that there is none."""
        if self._rate is None:
            return True
        now = self._ticks()
        tokens, since = self._buckets.get(account, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[account] = (tokens - 1 if allowed else tokens, now)
        return allowed
