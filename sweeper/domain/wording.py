"""Say numbers and lengths of time the way people read them."""

from datetime import timedelta
from typing import Final

_STOPS: Final = {
    "interrupted": "it was interrupted",
    "guard": "a guard refused it",
    "clock": "the clock could not be trusted",
    "ledger": "the ledger could not be read or written",
}


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


def kept(count: int, oldest: timedelta) -> str:
    """What follows a stop: how much is kept there because of it; nothing where nothing is."""
    if not count:
        return ""
    return f"; {counted(count)} kept past their time there, the oldest by {length(oldest)}"


def stopped(stop_reason: str) -> str:
    """Why a sweep stopped: account:main:credential is an account and its breaker."""
    if stop_reason.startswith("account:"):
        _, account, breaker = stop_reason.split(":", 2)
        return f"account {account} was stopped ({breaker.replace('_', ' ')})"
    return _STOPS.get(stop_reason, stop_reason)
