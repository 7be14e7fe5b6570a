"""When a response was created: reads times that others wrote, and refuses the doubtful."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from sweeper.domain.response import EARLIEST

AHEAD: Final = timedelta(days=1)
"""How far ahead of our clock a creation may lie."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_BOUNDS = {
    unit: ((EARLIEST - _EPOCH) // unit, (_LAST - _EPOCH) // unit)
    for unit in (_SECOND, _MICROSECOND)
}
"""The first and the last number that may stand for a time, by its unit."""
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def read(value: object, now: datetime) -> datetime:
    """Read Unix seconds (a number) or an RFC 3339 text with an offset; UTC.

    ValueError for anything else: milliseconds, times without an offset, before 2020 or more
    than a day after `now`.
    """
    if isinstance(value, str):
        return _judged(_from_text(value), now)
    if isinstance(value, (int, float)) and value > _BOUNDS[_SECOND][1]:
        raise ValueError("created_at must be in seconds, not in milliseconds")
    return _judged(_from_number(value, _SECOND), now)


def read_us(value: object, now: datetime | None) -> datetime:
    """Read microseconds since 1970; without `now` a time is not judged for lying ahead."""
    return _judged(_from_number(value, _MICROSECOND), now)


def _from_number(value: object, unit: timedelta) -> datetime:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("created_at must be Unix seconds or an RFC 3339 time")
    assert isinstance(value, (int, float))
    first, last = _BOUNDS[unit]
    if not first <= value <= last:
        raise ValueError("created_at lies before 2020 or after 9999")
    return _EPOCH + value * unit


def _from_text(value: str) -> datetime:
    if _RFC3339.fullmatch(value) is None:
        raise ValueError("created_at must be RFC 3339 with an offset, as 2026-01-31T10:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("created_at names a time that does not exist") from None


def _judged(moment: datetime, now: datetime | None) -> datetime:
    if moment < EARLIEST:
        raise ValueError("created_at lies before 2020")
    if now is not None and moment > now + AHEAD:
        raise ValueError("created_at lies more than a day ahead")
    return moment
