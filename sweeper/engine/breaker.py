"""Stop an account when its answers say that going on would be wrong or useless."""

from dataclasses import dataclass, field
from typing import Final

from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import Breaker
from sweeper.provider.fault import Fault

PAGES_IN_A_ROW: Final = 3
HANDSHAKES_IN_A_ROW: Final = 3
FAILURES_IN_A_ROW: Final = 10

PASSING: Final = frozenset({Breaker.UNREACHABLE, Breaker.TLS, Breaker.INTERCEPTED})
"""Breakers of what may pass without anybody here doing something: an account that one of them
stopped is on trial when it is tried again, and a daemon tries it between its sweeps too."""

_AT_ONCE: Final = {
    AnswerKind.CREDENTIAL: Breaker.CREDENTIAL,
    AnswerKind.PAYMENT: Breaker.PAYMENT,
    AnswerKind.MISCONFIGURED: Breaker.CONFIGURATION,
}
_FAILURES: Final = frozenset({AnswerKind.NOT_SENT, AnswerKind.LOST, AnswerKind.UNAVAILABLE})
_SERVER_ERRORS: Final = 500


@dataclass(slots=True)
class Breakers:
    """Counts what came back to an account, and says when it must stop, and why.

    On trial the first failure is enough: whoever was stopped asks once whether it may go on.
    `reached` says that the provider has answered something since, whatever it was.
    """

    on_trial: bool = False
    reached: bool = field(default=False, init=False)
    _pages: int = field(default=0, init=False)
    _handshakes: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)

    def note(self, answer: Answer, *, to_delete: bool = False) -> tuple[Breaker, str] | None:
        """The breaker that this answer opens, with what was seen.

        Only the answer to a DELETE ends a trial: a server may let itself be read, and no more.
        """
        is_page, is_down = answer.kind is AnswerKind.HTML, self._is_down(answer)
        self._pages = self._pages + 1 if is_page else 0
        self._handshakes = self._handshakes + 1 if answer.fault == Fault.TLS else 0
        self._failures = self._failures + 1 if is_down else 0
        opened = self._opened(answer)
        if not (is_page or is_down or _comes_back_later(answer)):
            self.reached = True
            self.on_trial = self.on_trial and not to_delete
        return opened

    def _is_down(self, answer: Answer) -> bool:
        """Who says when it will be back is not down, but must be back to pass a trial."""
        return answer.kind in _FAILURES or (self.on_trial and _comes_back_later(answer))

    def _opened(self, answer: Answer) -> tuple[Breaker, str] | None:
        if answer.kind in _AT_ONCE:
            return _AT_ONCE[answer.kind], f"the provider answered {answer.status}"
        if self._pages >= self._most(PAGES_IN_A_ROW):
            return Breaker.INTERCEPTED, self._told(self._pages, "answers", "were HTML pages")
        if self._handshakes >= self._most(HANDSHAKES_IN_A_ROW):
            return Breaker.TLS, self._told(self._handshakes, "TLS handshakes", "failed")
        if self._failures >= self._most(FAILURES_IN_A_ROW):
            what = answer.fault or f"status {answer.status}"
            return Breaker.UNREACHABLE, self._told(self._failures, "requests", f"failed ({what})")
        return None

    def _most(self, in_a_row: int) -> int:
        return 1 if self.on_trial else in_a_row

    def _told(self, count: int, those: str, what: str) -> str:
        if self.on_trial:
            return f"asked once more whether it may go on: the {those} still {what}"
        return f"{count} {those} in a row {what}"


def _comes_back_later(answer: Answer) -> bool:
    """Whether a server error says when to ask again."""
    is_server_error = answer.status is not None and answer.status >= _SERVER_ERRORS
    return answer.kind is AnswerKind.THROTTLED and is_server_error
