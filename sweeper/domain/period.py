"""The period that a report is about, as people write it: 30d, 2026-01-31, RFC 3339."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sweeper.domain import duration
from sweeper.domain.response import EARLIEST

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_EXAMPLE: Final = "write a day as 2026-01-31 (UTC), or a time as 2026-01-31T10:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` on, up to but not including `until`."""

    since: datetime
    until: datetime


def read(since: str, until: str | None, now: datetime) -> Period:
    """Read both ends; a length of time as `since` counts back from the end.

    What lies ahead of `now` is left out. ValueError where a text is neither, or where nothing
    lies between the ends.
    """
    end = now if until is None else min(now, moment(until))
    begin = _before(since, end)
    if begin >= end:
        raise ValueError("the period ends before it begins")
    return Period(since=begin, until=end)


def _before(text: str, end: datetime) -> datetime:
    if _DAY.match(text):
        return moment(text)
    try:
        length = duration.parse(text)
    except ValueError as fault:
        reason = str(fault)
        if duration.FOREVER in reason:  # what a policy may say, and hardly what is meant here
            reason = f"{text!r} is no time: write a length as 7d"
        raise ValueError(f"{reason}; or {_EXAMPLE}") from None
    if length is None or end - EARLIEST < length:
        return EARLIEST  # there is nothing older
    return end - length


def moment(text: str) -> datetime:
    """Read a day, which begins at midnight UTC, or an RFC 3339 time with its offset."""
    is_day = _DAY.fullmatch(text) is not None
    if not is_day and _RFC3339.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no time: {_EXAMPLE}")
    try:
        found = datetime.fromisoformat(text.upper())
        found = found.replace(tzinfo=UTC) if is_day else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} names a time that does not exist") from None
    return max(found, EARLIEST)
