"""Reads the few header fields that matter, and takes anything odd for absent."""

import functools
import re
from datetime import UTC, datetime, timedelta

LONGEST_PAUSE = timedelta(hours=1)
"""No provider makes an account wait longer than this at once."""

_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(f"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_SECONDS = re.compile("[0-9]+")
_REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,128}")
_ACCOUNT_ID = re.compile("[A-Za-z0-9._-]{1,128}")
_LATEST_SHORT_YEAR = 69


class Fields(dict[bytes, bytes]):
    """Header fields by name in lower case; one that came twice holds both, joined by a comma."""

    __slots__ = ()

    @classmethod
    def of(cls, headers: list[tuple[bytes, bytes]]) -> "Fields":
        fields = cls(headers)
        if len(fields) != len(headers):
            for name in fields:
                fields[name] = b", ".join(value for key, value in headers if key == name)
        return fields

    def text(self, name: str) -> str:
        return self.get(name.encode(), b"").decode("latin-1")

    def __repr__(self) -> str:
        return "Fields(***)"

    @property
    def date(self) -> datetime | None:
        return http_date(self.text("date"))

    @property
    def retry_after(self) -> timedelta | None:
        """How long to wait, between 0 and an hour; a date counts from the answer's own `Date`."""
        value = self.text("retry-after")
        if _SECONDS.fullmatch(value):
            digits = value.lstrip("0")[:5] or "0"
            return min(timedelta(seconds=int(digits)), LONGEST_PAUSE)
        until, now = http_date(value), self.date
        if until is None or now is None:
            return None
        return min(max(until - now, timedelta(0)), LONGEST_PAUSE)

    @property
    def request_id(self) -> str | None:
        value = self.text("x-request-id") or self.text("request-id")
        return value if _REQUEST_ID.fullmatch(value) else None

    @property
    def media_type(self) -> str:
        return self.text("content-type").partition(";")[0].strip().lower()

    @property
    def is_encoded(self) -> bool:
        """Whether the body came compressed although `identity` was asked for."""
        return self.text("content-encoding").lower() not in ("", "identity")

    def account_id(self, name: str) -> str | None:
        value = self.text(name)
        return value if is_account_id(value) else None


def is_account_id(value: str) -> bool:
    """Whether this may stand in a header as the name of a provider's account."""
    return _ACCOUNT_ID.fullmatch(value) is not None


@functools.lru_cache(maxsize=64)
def http_date(value: str) -> datetime | None:
    """Read one of the three forms of RFC 9110 §5.6.7; None for anything else.

    A year of two digits is taken for 1970 to 2069, since no clock may be asked here.
    """
    for form in _DATES:
        found = form.fullmatch(value)
        if found is not None:
            return _moment(found)
    return None


def _moment(found: re.Match[str]) -> datetime | None:
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += 2000 if year <= _LATEST_SHORT_YEAR else 1900
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            int(found["second"]),
            tzinfo=UTC,
        )
    except ValueError:
        return None
