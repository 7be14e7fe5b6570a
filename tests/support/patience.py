"""Wait for a fact, and say what was lacking when it does not come."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(fact: Callable[[], T | None], what: str, within: float = 30.0) -> T:
    """Ask until the answer is true, and return it."""
    last = time.monotonic() + within
    while True:
        found = fact()
        if found:
            return found
        assert time.monotonic() < last, f"within {within} s there was no {what}"
        time.sleep(0.01)
