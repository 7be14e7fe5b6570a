"""Request rates as people write them: 60/minute, 100/second."""

import re
from typing import Final

_RATE: Final = re.compile(r"([0-9]{1,9})/(second|minute)", re.ASCII)
_SECONDS: Final = {"second": 1, "minute": 60}
_MOST: Final = 999_999_999


def parse(text: object) -> float:
    """Return requests per second; ValueError with what would be right."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError('write a whole number per second or minute, for example "60/minute"')
    return int(found[1]) / _SECONDS[found[2]]


def render(per_second: float) -> str:
    """Return the text of a rate that `parse` gave: per minute, where that many can be written."""
    per_minute = round(per_second * 60)
    return f"{per_minute}/minute" if per_minute <= _MOST else f"{int(per_second)}/second"
