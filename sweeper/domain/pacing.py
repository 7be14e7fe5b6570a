"""When the next request may go out, so that an account's rate is kept and never burst.

Each request reserves the next slot and is sent when it comes. Slots stand at least one spacing
apart whatever happened before, so nothing that was missed is made up for. Refusals lower the rate
by a tenth; answers and time bring it back, quickly at first, slowly near the rate at which it was
refused, and quickly again beyond. That keeps more than 95 % of a limit in use that nobody told
us, at less than 2 % refused, whether it is a bucket's or a window's, of a second or of a minute.
While nothing but refusals comes, one request at a time asks whether it is over.
"""

from dataclasses import dataclass, replace
from math import floor, inf, isfinite
from typing import Final

_SHARE: Final = 0.99
_CUT: Final = 0.9
_CUT_EVERY: Final = 1.0
_SLOWEST: Final = 1 / 60
_CLIMB_SECONDS: Final = 200.0
"""How long at least it takes back to the rate that was refused: longer than three windows of a
minute, in which a rate that is a little too high is refused only at the end."""
_CLIMB_ANSWERS: Final = 200
"""In how many answers it is done, where these take longer: so few of them are refusals."""
_CLIMB_IDLE: Final = 3600.0
"""Seconds in which it is done where there are hardly any answers."""
_FIRST_PROBE: Final = 1.0
_PROBES_GROW: Final = 1.25
_LAST_PROBE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacer:
    """One account's limiter; every time is in seconds of one monotonic clock.

    `rate` is what is configured, in requests per second; `share` of it is used at most, so that
    a server which counts a little differently still agrees. `allowed` is the part of it that
    refusals have left, `ceiling` the part at which the last one came, `climbed` how much of the
    way back there is done. `barred`: all that was sent since `refused_at` was refused, so that
    `probing` seconds lie between two requests at least. `last_at` is the last slot.
    """

    rate: float
    share: float = _SHARE
    allowed: float = 1.0
    ceiling: float = 1.0
    climbed: float = 1.0
    probing: float = 0.0
    barred: bool = False
    last_at: float = -inf
    paused_until: float = -inf
    refused_at: float = -inf
    cut_at: float = -inf
    climbed_at: float = -inf

    def __post_init__(self) -> None:
        if not (self.rate > 0 and isfinite(self.rate)):
            raise ValueError("a rate is a finite number of requests per second above zero")

    @property
    def spacing(self) -> float:
        """Seconds between two slots as things stand."""
        return max(self.probing, 1 / (self.rate * self.share * self.allowed))

    def opens_at(self, now: float) -> float:
        """When the next slot is, not before now."""
        return max(now, self.last_at + self.spacing, self.paused_until)


def reserve(pacer: Pacer, now: float) -> tuple[Pacer, float]:
    """Take the next slot; any half-open window of w seconds holds at most ⌈w·rate⌉ of them."""
    slot = pacer.opens_at(now)
    return replace(pacer, last_at=slot), slot


def sent(pacer: Pacer, at: float) -> Pacer:
    """Keep the rate behind a request that left later than its slot: after a stall or a pause.

    Only the full rate's spacing is kept, so being late by a hundredth of it costs nothing.
    """
    return replace(pacer, last_at=max(pacer.last_at, at - pacer.spacing * (1 - pacer.share)))


def paused(pacer: Pacer, until: float) -> Pacer:
    """Give no slot before `until`; a longer pause that is already running stays."""
    return replace(pacer, paused_until=max(pacer.paused_until, until))


def throttled(pacer: Pacer, now: float, asked_at: float) -> Pacer:
    """Slow down after a refusal of what was sent at `asked_at`.

    By a tenth, once a second at most; where nothing was answered otherwise since the refusal
    before, to single requests, up to a minute apart. What was sent before that refusal was known
    tells nothing new. There is a request a minute at least, unless less is configured.
    """
    if asked_at < pacer.refused_at:
        return pacer
    if pacer.barred:
        probing = min(_LAST_PROBE, max(_FIRST_PROBE, pacer.probing * _PROBES_GROW))
        last_at = max(pacer.last_at, now)
        return replace(pacer, probing=probing, refused_at=now, last_at=last_at)
    pacer = replace(pacer, barred=True, refused_at=now)
    return pacer if now - pacer.cut_at < _CUT_EVERY else _cut(pacer, now)


def recovered(pacer: Pacer, now: float, asked_at: float) -> Pacer:
    """Give a little back for an answer that was no refusal, to what was sent at `asked_at`."""
    if pacer.barred and asked_at >= pacer.refused_at:
        pacer = replace(pacer, barred=False, probing=0.0)
    return pacer if pacer.allowed >= 1.0 else _climb(pacer, now)


def slots_within(pacer: Pacer, now: float, seconds: float) -> int:
    """How many slots can still be had until `seconds` from now."""
    left = now + seconds - pacer.opens_at(now)
    return 0 if left < 0 else 1 + floor(left / pacer.spacing)


def _cut(pacer: Pacer, now: float) -> Pacer:
    slowest = min(1.0, _SLOWEST / pacer.rate)
    lowered = max(slowest, pacer.allowed * _CUT)
    return replace(
        pacer, allowed=lowered, ceiling=pacer.allowed, climbed=0.0, cut_at=now, climbed_at=now
    )


def _climb(pacer: Pacer, now: float) -> Pacer:
    """Go on along a cubic: from a tenth below the ceiling to it, flat there, and on beyond."""
    since = max(0.0, now - pacer.climbed_at)
    step = min(since / _CLIMB_SECONDS, max(1 / _CLIMB_ANSWERS, since / _CLIMB_IDLE))
    climbed = pacer.climbed + step
    reached = pacer.ceiling * (1 - (1 - _CUT) * (1 - climbed) ** 3)
    allowed = min(1.0, max(pacer.allowed, reached))
    return replace(pacer, allowed=allowed, climbed=climbed, climbed_at=now)
