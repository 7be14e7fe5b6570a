"""The sandbox's own clock, ticking by the boot clock and movable, and HTTP's forms of a date."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from enum import StrEnum
from typing import assert_never

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class DateForm(StrEnum):
    """The three ways RFC 9110 lets a date be written."""

    IMF = "imf"
    RFC850 = "rfc850"
    ASCTIME = "asctime"


def boot_seconds() -> float:
    """Seconds since boot; no change of the machine's wall clock moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def http_date(seconds: float, form: DateForm = DateForm.IMF) -> str:
    """A date for a header; `seconds` are Unix seconds."""
    imf = formatdate(seconds, usegmt=True)
    day, number, month, year, clock, _ = imf.replace(",", "").split()
    match form:
        case DateForm.IMF:
            return imf
        case DateForm.RFC850:
            name = next(name for name in _DAYS if name.startswith(day))
            return f"{name}, {number}-{month}-{year[2:]} {clock} GMT"
        case DateForm.ASCTIME:
            return f"{day} {month} {int(number):2d} {clock} {year}"
        case _:
            assert_never(form)


class Clock:
    """Starts at the wall clock's time; afterwards only the sandbox's owner moves it."""

    def __init__(self, *, ticks: Callable[[], float] = boot_seconds) -> None:
        self._ticks = ticks
        self._offset = time.time() - ticks()
        self._written: tuple[int, bytes] = (-1, b"")
        self.shows_date = True
        """False leaves the Date header out of every answer."""

    def now(self) -> float:
        """Unix seconds."""
        return self._ticks() + self._offset

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now(), tz=UTC)

    def set(self, moment: datetime) -> None:
        """Go on from this moment; a moment without a zone is refused."""
        if moment.tzinfo is None:
            raise ValueError("the sandbox's clock takes a moment with a zone, such as UTC")
        self._offset = moment.timestamp() - self._ticks()

    def advance(self, step: timedelta | float) -> None:
        """Go forward, or back by a negative step; a number means seconds."""
        self._offset += step.total_seconds() if isinstance(step, timedelta) else step

    def date(self) -> bytes | None:
        """The value of the Date header now, or None where none is shown."""
        if not self.shows_date:
            return None
        second = int(self.now())
        if self._written[0] != second:
            self._written = (second, http_date(second).encode())
        return self._written[1]
