"""The ways in which a request can be mistreated: the values that a fault is made of."""

from dataclasses import dataclass
from enum import StrEnum

from sweeper.sandbox.clock import DateForm


class Manner(StrEnum):
    """How a request is treated."""

    ANSWER = "answer"
    """Answered: as the API would, or with what the fault says in its place."""
    LIE = "lie"
    """Answered as the API would, but nothing is done."""
    CLOSE = "close"
    """The connection is closed without an answer."""
    RESET = "reset"
    """The connection is reset without an answer."""
    SILENCE = "silence"
    """Never answered; the connection stays open until the client leaves."""


class Ending(StrEnum):
    """What happens to the connection after an answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """The answer in portions: so many bytes, then so many seconds of waiting."""

    bytes: int
    seconds: float
    head: bool = False
    """True drips the status line and the headers too, not only the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAfter:
    """A Retry-After of so many seconds from the sandbox's now; form None writes the number."""

    seconds: float
    form: DateForm | None = None
