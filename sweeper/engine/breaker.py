"""Stop an account when its answers say that going on would be wrong or useless."""

from dataclasses import dataclass, field
from typing import Final

from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import Breaker

PAGES_IN_A_ROW: Final = 3
FAILURES_IN_A_ROW: Final = 10

_AT_ONCE: Final = {
    AnswerKind.CREDENTIAL: Breaker.CREDENTIAL,
    AnswerKind.PAYMENT: Breaker.PAYMENT,
    AnswerKind.MISCONFIGURED: Breaker.CONFIGURATION,
}
_FAILURES: Final = frozenset({AnswerKind.NOT_SENT, AnswerKind.LOST, AnswerKind.UNAVAILABLE})
PERSISTENT: Final = frozenset(Breaker) - {Breaker.UNREACHABLE}
"""Breakers that stay open until a person or a good answer lifts them; an unreachable provider
is simply tried again by the next sweep."""


@dataclass(slots=True)
class Breakers:
    """Counts what came back to an account, and says when it must stop, and why."""

    _pages: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)

    def note(self, answer: Answer) -> tuple[Breaker, str] | None:
        """The breaker that this answer opens, with what was seen."""
        self._pages = self._pages + 1 if answer.kind is AnswerKind.HTML else 0
        self._failures = self._failures + 1 if answer.kind in _FAILURES else 0
        breaker = _AT_ONCE.get(answer.kind)
        if breaker is not None:
            return breaker, f"the provider answered {answer.status}"
        if self._pages >= PAGES_IN_A_ROW:
            return Breaker.INTERCEPTED, f"{self._pages} answers in a row were HTML pages"
        if self._failures >= FAILURES_IN_A_ROW:
            what = answer.fault or f"status {answer.status}"
            return Breaker.UNREACHABLE, f"{self._failures} requests in a row failed ({what})"
        return None
