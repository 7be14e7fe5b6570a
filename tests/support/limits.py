"""Providers' request limits of every usual kind, and a pacer that meets them in virtual time."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sweeper.domain import pacing
from sweeper.domain.pacing import Pacer


class Limit(Protocol):
    """Counts one request that comes at `now`: None if it is taken, else the seconds to wait."""

    def take(self, now: float) -> float | None: ...


class Bucket:
    """Tokens come at `rate` a second; up to `burst` are saved up."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def take(self, now: float) -> float | None:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1 - 1e-9:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return None


class FixedWindow:
    """`rate` times `length` requests in each window, whenever in it; windows do not begin at 0."""

    def __init__(self, rate: float, length: float) -> None:
        self.most, self.length = max(1, round(rate * length)), length
        self._window, self._count = -1, 0

    def take(self, now: float) -> float | None:
        into = now + 0.37 * self.length
        window = int(into // self.length)
        if window != self._window:
            self._window, self._count = window, 0
        if self._count >= self.most:
            return (window + 1) * self.length - into
        self._count += 1
        return None


class SlidingWindow:
    """`rate` times `length` requests within any `length` seconds."""

    def __init__(self, rate: float, length: float) -> None:
        self.most, self.length = max(1, round(rate * length)), length
        self._taken: deque[float] = deque()

    def take(self, now: float) -> float | None:
        while self._taken and self._taken[0] <= now - self.length:
            self._taken.popleft()
        if len(self._taken) >= self.most:
            return self._taken[0] + self.length - now
        self._taken.append(now)
        return None


KINDS: dict[str, Callable[[float], Limit]] = {
    "bucket without room": lambda rate: Bucket(rate, 1),
    "bucket of two": lambda rate: Bucket(rate, 2),
    "bucket of five": lambda rate: Bucket(rate, 5),
    "bucket of ten seconds": lambda rate: Bucket(rate, max(2.0, 10 * rate)),
    "bucket of a minute": lambda rate: Bucket(rate, max(2.0, 60 * rate)),
    "each second": lambda rate: FixedWindow(rate, 1),
    "each ten seconds": lambda rate: FixedWindow(rate, 10),
    "each minute": lambda rate: FixedWindow(rate, 60),
    "any second": lambda rate: SlidingWindow(rate, 1),
    "any ten seconds": lambda rate: SlidingWindow(rate, 10),
    "any minute": lambda rate: SlidingWindow(rate, 60),
}
"""What limits a rate of so many requests a second."""


def is_possible(kind: str, rate: float) -> bool:
    """Whether such a window holds a whole number of requests at this rate."""
    limit = KINDS[kind](rate)
    held = rate * limit.length if isinstance(limit, (FixedWindow, SlidingWindow)) else 1.0
    return held >= 1 and abs(held - round(held)) < 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a provider answers: after `latency` seconds or half or twice that, refusals sooner.

    With `guides` it names the whole seconds to wait; `in_flight` are sent at one time at most.
    """

    latency: float = 0.1
    guides: bool = False
    in_flight: int = 64


@dataclass(slots=True, kw_only=True)
class Played:
    """What was sent: when, and whether it was taken; `pacer` is how things stand at the end."""

    pacer: Pacer
    sent: list[tuple[float, bool]]

    def used(self, rate: float, since: float, until: float) -> float:
        """The share of a limit that was used in a span."""
        taken = sum(was for at, was in self.sent if since <= at < until)
        return taken / (rate * (until - since))

    def refused(self, since: float, until: float) -> float:
        """The share of requests that were refused in a span."""
        span = [was for at, was in self.sent if since <= at < until]
        return span.count(False) / max(1, len(span))


def play(
    pacer: Pacer,
    limit: Limit,
    *,
    until: float,
    start: float = 0.0,
    behaviour: Behaviour | None = None,
) -> Played:
    """Send as fast as the pacer lets us, whatever the answers do to it meanwhile."""
    game = _Game(pacer, limit, behaviour or Behaviour())
    now = start
    while now < until:
        now = game.next_slot(now)
        game.send(now)
    return Played(pacer=game.pacer, sent=game.sent)


def steady(kind: str, rate: float, behaviour: Behaviour) -> tuple[float, float]:
    """What is used and refused of such a limit, by a pacer that takes it for twice as high.

    Counted for half an hour, and 1,200 requests at least, after half as long.
    """
    span = max(900.0, 600 / rate)
    limit = KINDS[kind](rate)
    played = play(Pacer(rate=2 * rate), limit, until=3 * span, behaviour=behaviour)
    return played.used(rate, span, 3 * span), played.refused(span, 3 * span)


class _Game:
    def __init__(self, pacer: Pacer, limit: Limit, behaviour: Behaviour) -> None:
        self.pacer = pacer
        self.sent: list[tuple[float, bool]] = []
        self._limit = limit
        self._how = behaviour
        self._chance = random.Random(1)
        self._answers: list[tuple[float, float, float | None]] = []

    def next_slot(self, now: float) -> float:
        """Wait for a slot and for room, hearing every answer that comes before."""
        while True:
            at = self.pacer.opens_at(now)
            crowded = len(self._answers) >= self._how.in_flight
            if not self._answers or (not crowded and self._answers[0][0] > at):
                return at
            now = max(now, self._answers[0][0])
            self._hear(*heapq.heappop(self._answers))

    def send(self, now: float) -> None:
        self.pacer, _ = pacing.reserve(self.pacer, now)
        wait = self._limit.take(now)
        self.sent.append((now, wait is None))
        took = self._how.latency * self._chance.uniform(0.5, 2)
        heapq.heappush(self._answers, (now + (took if wait is None else took / 3), now, wait))

    def _hear(self, at: float, asked_at: float, wait: float | None) -> None:
        if wait is None:
            self.pacer = pacing.recovered(self.pacer, at, asked_at)
            return
        self.pacer = pacing.throttled(self.pacer, at, asked_at)
        if self._how.guides:
            self.pacer = pacing.paused(self.pacer, at + min(3600, math.ceil(wait)))
