"""Say numbers and lengths of time the way people read them."""

from datetime import timedelta


def length(of: timedelta) -> str:
    """A length of time in its two largest units: 3 h 10 min."""
    seconds = round(of.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "less than a second"


def counted(number: int, kind: str = "") -> str:
    """So many responses in words: 1 live response, 2,000 live responses."""
    return f"{number:,} {kind}response{'' if number == 1 else 's'}"
