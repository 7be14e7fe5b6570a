"""When sweeps are to run, and which of those runs did not happen."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

GRACE: Final = timedelta(minutes=1)
"""How late a run may begin before it counts as one that did not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Either an interval, counted from 1970 so that every process agrees, or cron in UTC."""

    every: timedelta | None = None
    cron: str | None = None

    def __post_init__(self) -> None:
        assert (self.every is None) != (self.cron is None), "one of both says when"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A sweep that came to its end: from when to when it ran."""

    started_at: datetime
    finished_at: datetime


def missed(times: Iterable[datetime], ran: Iterable[Ran], until: datetime) -> Iterator[datetime]:
    """Which of the scheduled `times` saw no sweep that came to its end.

    `times` are in order, without gaps. A time is met by a sweep that ran through it or began
    before the next one; until `GRACE` has passed none is missed.
    """
    sweeps = deque(sorted(ran, key=lambda one: one.started_at))
    latest_end: datetime | None = None
    ahead = iter(times)
    at = next(ahead, None)
    while at is not None:
        following = next(ahead, None)
        while sweeps and sweeps[0].started_at < at:
            end = sweeps.popleft().finished_at
            latest_end = end if latest_end is None else max(latest_end, end)
        ran_through = latest_end is not None and latest_end >= at
        began = sweeps and (
            sweeps[0].started_at < (following or until) or sweeps[0].started_at <= at + GRACE
        )
        if not ran_through and not began and at + GRACE <= until:
            yield at
        at = following


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """How many runs did not happen, from the first to the last of them."""

    count: int
    first: datetime
    last: datetime


def tally(found: Iterable[datetime]) -> Missed | None:
    """Count what was missed, however many; None where nothing was."""
    first = last = None
    count = 0
    for at in found:
        first, last, count = first or at, at, count + 1
    if first is None or last is None:
        return None
    return Missed(count=count, first=first, last=last)
