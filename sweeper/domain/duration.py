"""Lengths of time as people write them: 30d, 1d12h, P30D, forever; and nothing doubtful."""

import itertools
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

FOREVER: Final = "forever"
LONGEST: Final = timedelta(days=36_525)
"""A hundred years: who means longer writes forever."""

_LONGEST_TEXT = 64
_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_RENDERED: Final = ("d", "h", "m", "s")  # without weeks: 14d says plainly what 2w says
_SUMS = [units for n in range(1, 5) for units in itertools.combinations(_RENDERED, n)]

# A single space may stand before the next number, and nowhere else.
_SUM = re.compile("".join(rf"(?:(?P<{unit}>[0-9]+){unit}(?: (?=[0-9]))?)?" for unit in _UNITS))
_ISO = re.compile(
    r"P(?:(?P<w>[0-9]+)W|(?:(?P<d>[0-9]+)D)?"
    r"(?:T(?=[0-9])(?:(?P<h>[0-9]+)H)?(?:(?P<m>[0-9]+)M)?(?:(?P<s>[0-9]+)S)?)?)"
)

_EXAMPLE = "write for example 30d, 1d12h, 90m, P30D or forever"
# Asked in this order of a text that cannot be read; the first that fits is the plainest reason.
_REASONS: Final = (
    (r"\s*", f"a length of time is missing: {_EXAMPLE}"),
    (r"\s.*|.*\s", f"spaces at the ends are not allowed: {_EXAMPLE}"),
    (r".*[+\-\u2212].*", f"signs are not allowed: {_EXAMPLE}"),
    (r"[0-9.,_\s]+", "a number needs its unit: write for example 30d for thirty days"),
    (r"(?i:.*[0-9]\s*y.*|.*year.*)", "years differ in length: write days, for example 365d"),
    (
        r"(?i:.*[0-9]\s*mo.*|.*month.*)|P?[^T]*[0-9]\s*M.*",
        "months differ in length: write days, for example 30d (90m is ninety minutes)",
    ),
    (r".*[0-9][.,][0-9].*", "only whole numbers are allowed: write 36h for a day and a half"),
    (rf"(?i:{FOREVER})", f"write {FOREVER} in small letters"),
)


def parse(text: str) -> timedelta | None:
    """Read one length of time; None is forever.

    ValueError tells the reason and what would be right: months, years, signs, numbers
    without a unit, zero and more than a hundred years are refused.
    """
    if text == FOREVER:
        return None
    found = _ISO.fullmatch(text) or _SUM.fullmatch(text)
    parts = {} if found is None else {u: n for u, n in found.groupdict().items() if n is not None}
    if len(text) > _LONGEST_TEXT or not parts:
        raise ValueError(_reason(text))
    if not all(int(number) for number in parts.values()):
        raise ValueError(f"zero is not allowed: {_EXAMPLE}")
    seconds = sum(int(n) * (_UNITS[u] // _UNITS["s"]) for u, n in parts.items())
    if seconds > LONGEST // _UNITS["s"]:
        raise ValueError(f"more than a hundred years: write {FOREVER}")
    return timedelta(seconds=seconds)


def render(length: timedelta | None) -> str:
    """Write a length of whole seconds as the shortest sum of days, hours, minutes and seconds.

    What it returns, `parse` reads back. ValueError when `parse` would refuse every text for it.
    """
    if length is None:
        return FOREVER
    if not timedelta(0) < length <= LONGEST or length % _UNITS["s"]:
        raise ValueError("only whole seconds, from one to a hundred years, can be written")
    sums = (_sum(length, units) for units in _SUMS)
    return min((text for text in sums if text is not None), key=len)


def _sum(length: timedelta, units: Sequence[str]) -> str | None:
    text = ""
    for unit in units:
        number, length = divmod(length, _UNITS[unit])
        if number:
            text += f"{number}{unit}"
    return None if length else text


def _reason(text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        return f"a length of time has at most {_LONGEST_TEXT} characters: {_EXAMPLE}"
    for pattern, reason in _REASONS:
        if re.fullmatch(pattern, text, re.DOTALL):
            return reason
    return f"this is no length of time: {_EXAMPLE}; each unit once, in the order w d h m s"
