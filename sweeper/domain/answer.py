"""What came back from one request to a provider, as a value free of HTTP."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

_REDIRECTS = 300
_NOT_DONE = frozenset({307, 308, 405, 415})
"""Of what goes to the wrong place: asked to go elsewhere, or refused. Any other redirect may
point at what has been done."""


class AnswerKind(StrEnum):
    """What one answer says, judged in the order that docs/architecture.md gives."""

    YES = "yes"
    """A 200 to a DELETE in the profile's success shape."""
    PRESENT = "present"
    """A 200 to a GET by id, to the list (as JSON), or to the account check."""
    ABSENT = "absent"
    """A 404 or 410 whose body is a JSON object with `detail` or `error`."""
    MISPLACED = "misplaced"
    """A 404 or 410 of any other shape: a router's, which proves nothing of the response."""
    REJECTED = "rejected"
    """400, 413, 414 or 422: the provider will not take this id."""
    CONFLICT = "conflict"
    """409 or 423."""
    THROTTLED = "throttled"
    """429, or 503 with Retry-After: the whole account pauses."""
    UNAVAILABLE = "unavailable"
    """408, 425 or any other 5xx but 501."""
    CREDENTIAL = "credential"
    """401, 403 or 407."""
    PAYMENT = "payment"
    """402 or 412: the account is out of money or suspended."""
    MISCONFIGURED = "misconfigured"
    """405, 415, 501 or a redirect: the request went to the wrong place."""
    HTML = "html"
    """A page where an API answer belongs: somebody stands between."""
    UNCLEAR = "unclear"
    """Any other 2xx or 4xx: it proves neither."""
    NOT_SENT = "not_sent"
    """Nobody was reached: certainly nothing was carried out."""
    LOST = "lost"
    """Sent, and no whole answer came: it may have been carried out."""


class Body(StrEnum):
    """What kind of body an answer had; never its text."""

    OK = "ok"
    JSON_DETAIL = "json_detail"
    JSON_ERROR = "json_error"
    JSON_OTHER = "json_other"
    HTML = "html"
    EMPTY = "empty"
    OTHER = "other"
    UNREAD = "unread"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, or the lack of one.

    `date` is the provider's own `Date`. `retry_after` is already measured against that `Date`
    and clamped to an hour. `account_id` is what the account check named. `fault` is a short
    closed word for what went wrong on the way (`timeout`, `reset`, `tls` …), never a message;
    `withdrawn` says that nothing did: it was no longer wanted.
    """

    kind: AnswerKind
    status: int | None = None
    body: Body = Body.NONE
    date: datetime | None = None
    retry_after: timedelta | None = None
    request_id: str | None = None
    account_id: str | None = None
    fault: str | None = None

    @property
    def was_withdrawn(self) -> bool:
        """Whether it was not sent because nobody wanted it sent any more."""
        return self.fault == "withdrawn"

    @property
    def may_have_been_carried_out(self) -> bool:
        """Whether a DELETE that was answered so may have taken effect all the same."""
        match self.kind:
            case AnswerKind.YES | AnswerKind.LOST:
                return True
            case AnswerKind.UNAVAILABLE | AnswerKind.THROTTLED:
                return self.status not in (425, 429)
            case AnswerKind.UNCLEAR | AnswerKind.HTML | AnswerKind.PRESENT:
                return self.status is not None and self.status < _REDIRECTS
            case AnswerKind.MISCONFIGURED:
                return self.status not in _NOT_DONE
            case _:
                return False
