"""How well limits of every kind are used that nobody told us, in virtual time."""

from collections.abc import Callable, Iterator

from tests.support import limits
from tests.support.limits import Behaviour

_RATES = (10 / 60, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0)
"""Requests a second that the provider really takes; twice as many are configured."""


def measure(*, tell: Callable[[str], None]) -> None:
    """Print for each kind of limit and rate the percentages that are used, and refused."""
    for guides in (False, True):
        tell(f"\nlimits, half of what is configured: used / refused, {_said(guides)}")
        tell(" " * 24 + "".join(f"{rate * 60:>10.0f}/min" for rate in _RATES))
        for kind in limits.KINDS:
            tell(f"{kind:24}" + "".join(_cells(kind, guides=guides)))


def _cells(kind: str, *, guides: bool) -> Iterator[str]:
    for rate in _RATES:
        if not limits.is_possible(kind, rate):
            yield " " * 14
            continue
        used, refused = limits.steady(kind, rate, Behaviour(latency=0.2, guides=guides))
        yield f"{used:>8.1%}/{refused:>5.2%}"


def _said(guides: bool) -> str:
    return "with Retry-After" if guides else "without Retry-After"
