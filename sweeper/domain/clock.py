"""The clock guard: whether the time may be trusted enough to delete by it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST_AGE = timedelta(minutes=10)
"""How old, on the boot clock, a provider's `Date` may be and still speak for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A `Date` that the provider sent, with both own clocks (`boot` in seconds) on arrival."""

    date: datetime
    wall: datetime
    boot: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All clocks at one moment; `database` where the database has a clock of its own."""

    wall: datetime
    boot: float
    database: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Both own clocks at one moment, to hold against a later one."""

    wall: datetime
    boot: float


def moved(reading: Reading, since: Mark, skew: timedelta) -> str | None:
    """Say that the wall clock was set since a moment; None when it went as the boot clock did."""
    drift = (reading.wall - since.wall) - timedelta(seconds=reading.boot - since.boot)
    if abs(drift) > skew:
        return f"The wall clock was set by {_text(abs(drift))} since the plan was made."
    return None


def doubt(
    reading: Reading,
    *,
    sighting: Sighting | None,
    last_good: datetime | None,
    skew: timedelta,
    trust_local: bool,
) -> str | None:
    """Say in one sentence why the wall clock may be wrong; None when it may be trusted.

    `trust_local` makes up for a missing or old `Date`, never for one that disagrees.
    """
    if sighting is None:
        provider = None if trust_local else "The provider has not sent a Date yet."
    else:
        provider = _against_provider(reading, sighting, skew, trust_local=trust_local)
    return provider or _against_database(reading, skew) or _against_past(reading, last_good, skew)


def _against_provider(
    reading: Reading, sighting: Sighting, skew: timedelta, *, trust_local: bool
) -> str | None:
    age = timedelta(seconds=reading.boot - sighting.boot)
    if age < timedelta(0):
        return f"The boot clock runs {_text(-age)} before the provider's last Date."
    if age > LONGEST_AGE and not trust_local:
        return f"The provider's last Date is {_text(age)} old."
    off = reading.wall - (sighting.date + age)
    if abs(off) > skew:
        return f"The wall clock is {_direction(off)} the provider's Date."
    drift = (reading.wall - sighting.wall) - age
    if abs(drift) > skew:
        return f"The wall clock has moved {_text(abs(drift))} against the boot clock."
    return None


def _against_database(reading: Reading, skew: timedelta) -> str | None:
    if reading.database is None:
        return None
    off = reading.wall - reading.database
    return f"The wall clock is {_direction(off)} the database's clock." if abs(off) > skew else None


def _against_past(reading: Reading, last_good: datetime | None, skew: timedelta) -> str | None:
    if last_good is None:
        return None
    back = last_good - reading.wall
    if back > skew:
        return f"The wall clock is {_text(back)} behind the last time at which it was right."
    return None


def _direction(off: timedelta) -> str:
    return f"{_text(abs(off))} {'behind' if off < timedelta(0) else 'ahead of'}"


def _text(length: timedelta) -> str:
    return f"{length.total_seconds():.0f} s"
