"""How late a number of deletions were: median, 99th percentile and worst, in little memory."""

import itertools
from dataclasses import dataclass, field
from typing import Final

_BITS: Final = 12
"""Lengths keep so many significant bits: exact below 4,096 s, within 0.05 % beyond."""
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How late the middle one, all but one of a hundred, and the last one were, in seconds.

    Never less than it was: seconds are rounded up. `worst` is exact.
    """

    median: int
    p99: int
    worst: int


@dataclass(slots=True, kw_only=True)
class Lateness:
    """Takes in any number of latenesses and remembers at most some thousands of values."""

    _counts: dict[int, int] = field(default_factory=dict)
    _worst: int = 0

    def add(self, seconds: int, count: int = 1) -> None:
        """Take in `count` that were late by so many whole seconds; ValueError below zero."""
        if seconds < 0 or count < 1:
            raise ValueError("nothing is late by less than nothing")
        kept = _rounded(seconds)
        self._counts[kept] = self._counts.get(kept, 0) + count
        self._worst = max(self._worst, seconds)

    def spread(self) -> Spread | None:
        """Tell how late they were by nearest rank; None of none."""
        if not self._counts:
            return None
        return Spread(median=self._percentile(50), p99=self._percentile(99), worst=self._worst)

    def _percentile(self, percent: int) -> int:
        """The least value that at least so many of a hundred do not exceed."""
        rank = -(-percent * sum(self._counts.values()) // _PERCENT)
        values = sorted(self._counts)
        reached = itertools.accumulate(self._counts[value] for value in values)
        found = next(value for value, so_far in zip(values, reached, strict=True) if so_far >= rank)
        # What was rounded up may lie beyond the worst, which is exact.
        return min(found, self._worst)


def _rounded(seconds: int) -> int:
    shift = max(0, seconds.bit_length() - _BITS)
    return -(-seconds >> shift) << shift
