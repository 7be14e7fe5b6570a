"""What an answer proves about one response, and what becomes of the response."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from sweeper.domain import backoff
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.response import State

VERIFY_WINDOW = timedelta(minutes=10)
"""How long after a yes a 404 to a GET is believed without controls around it."""


class Outcome(StrEnum):
    """The last thing that was proved about a response."""

    DELETED = "deleted"
    ABSENT_AFTER_ATTEMPT = "absent_after_attempt"
    ALREADY_ABSENT = "already_absent"
    EXPIRED_BY_PROVIDER = "expired_by_provider"
    CLOSED = "closed"
    STILL_PRESENT = "still_present"
    UNCONFIRMED = "unconfirmed"
    NOT_VISIBLE = "not_visible"
    REJECTED = "rejected"
    FAILING = "failing"


TERMINAL = frozenset(
    {
        Outcome.DELETED,
        Outcome.ABSENT_AFTER_ATTEMPT,
        Outcome.ALREADY_ABSENT,
        Outcome.EXPIRED_BY_PROVIDER,
        Outcome.CLOSED,
    }
)
"""The outcomes of responses that are gone."""


class Breaker(StrEnum):
    """Why an account is stopped."""

    CREDENTIAL = "credential"
    PAYMENT = "payment"
    CONFIGURATION = "configuration"
    IDENTITY = "identity"
    NOT_FOUND = "not_found"
    INTERCEPTED = "intercepted"
    UNREACHABLE = "unreachable"
    TLS = "tls"


_STOPS = {
    AnswerKind.CREDENTIAL: Breaker.CREDENTIAL,
    AnswerKind.PAYMENT: Breaker.PAYMENT,
    AnswerKind.MISCONFIGURED: Breaker.CONFIGURATION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a response before an answer is judged.

    `touched`: an earlier attempt may have been carried out. `failures`: answers so far that spoke
    of it, for the back-off. `lifetime`: how long the provider keeps a response by itself.
    `label_set_seen`: this key has seen, by a yes or a GET 200, a response of the same label set.
    `yes_here`: the yes came to this key and base URL. `yes_same_account`: it came to another key of
    the account that the provider names. `get_seen`: a GET by id has answered 200 to this key.
    """

    created_at: datetime
    touched: bool
    failures: int
    lifetime: timedelta | None
    verify: bool
    label_set_seen: bool
    yes_at: datetime | None
    yes_here: bool
    yes_same_account: bool
    get_seen: bool

    @property
    def asked_before(self) -> bool:
        """Whether an earlier attempt of ours can be why the response is absent."""
        return self.touched or self.yes_at is not None

    def expired(self, now: datetime) -> bool:
        """Whether the provider itself has removed the response by now."""
        return self.lifetime is not None and self.created_at + self.lifetime <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of a response; `outcome` None leaves the one it had.

    `touched`: the DELETE just answered may have been carried out. `yes`: it was answered yes, to
    be kept with the time. `counted`: one more answer for the back-off. `verify_at` is set exactly
    when the state is `verifying`. `stop`: the account must stop.
    """

    state: State
    outcome: Outcome | None = None
    verified: bool = False
    touched: bool = False
    yes: bool = False
    counted: bool = False
    next_try_at: datetime | None = None
    verify_at: datetime | None = None
    stop: Breaker | None = None


def after_delete(
    answer: Answer, facts: Facts, *, now: datetime, jitter: float
) -> Settlement | None:
    """Judge the answer to a DELETE; None when a 404 must be checked by `settle_absence`."""
    if answer.kind is AnswerKind.YES:
        return _after_yes(facts, now)
    touched = answer.may_have_been_carried_out
    again = _next_try(answer, facts, now, jitter)
    match answer.kind:
        case AnswerKind.ABSENT:
            return None
        case AnswerKind.REJECTED:
            return Settlement(state=State.QUARANTINED, outcome=Outcome.REJECTED, counted=True)
        case AnswerKind.CREDENTIAL | AnswerKind.PAYMENT | AnswerKind.MISCONFIGURED:
            return Settlement(state=State.LIVE, touched=touched, stop=_STOPS[answer.kind])
        case AnswerKind.NOT_SENT:
            return Settlement(state=State.LIVE)
        case AnswerKind.MISPLACED:
            return _open(Outcome.NOT_VISIBLE, again)
        case AnswerKind.THROTTLED:
            # It speaks of the account and not of the response, which is not put off for it.
            return _open(Outcome.FAILING, again, touched=touched, counted=False)
        case AnswerKind.CONFLICT | AnswerKind.UNAVAILABLE | AnswerKind.LOST:
            return _open(Outcome.FAILING, again, touched=touched)
        case AnswerKind.UNCLEAR | AnswerKind.PRESENT | AnswerKind.HTML:
            return _open(Outcome.UNCONFIRMED, again, touched=touched)
        case _:
            assert_never(answer.kind)


def settle_absence(
    get: Answer | None, facts: Facts, *, bracketed: bool, now: datetime, jitter: float
) -> Settlement:
    """Judge a 404 to a DELETE by the GET of the same id that followed, if one was answered.

    `bracketed`: controls stand around both answers. The time that the provider asks for is kept.
    """
    again = _next_try(get, facts, now, jitter)
    if get is None:
        return _open(Outcome.NOT_VISIBLE, again)
    if get.kind in _STOPS:
        return Settlement(state=State.LIVE, stop=_STOPS[get.kind])
    if get.kind is AnswerKind.PRESENT:
        return _open(Outcome.UNCONFIRMED, again)
    proved = _absence(facts, now) if get.kind is AnswerKind.ABSENT and bracketed else None
    if proved is None:
        return _open(Outcome.NOT_VISIBLE, again)
    return Settlement(state=State.GONE, outcome=proved)


def settle_verification(
    answer: Answer, facts: Facts, *, bracketed: bool, now: datetime, jitter: float
) -> Settlement:
    """Judge the GET that verifies a yes; what stays undecided changes nothing."""
    again = _next_try(answer, facts, now, jitter)
    if answer.kind in _STOPS:
        return Settlement(state=State.VERIFYING, verify_at=now, stop=_STOPS[answer.kind])
    if answer.kind is AnswerKind.PRESENT:
        return _open(Outcome.STILL_PRESENT, again)
    if answer.kind is AnswerKind.ABSENT and _verifies(facts, now, bracketed=bracketed):
        return Settlement(state=State.GONE, outcome=Outcome.DELETED, verified=True)
    counted = answer.kind is not AnswerKind.THROTTLED
    return Settlement(state=State.VERIFYING, counted=counted, verify_at=again)


def without_verification(facts: Facts) -> Settlement:
    """Settle a yes whose verification is no longer wanted; ValueError when there was no yes."""
    if facts.yes_at is None:
        raise ValueError("only a response whose deletion was answered yes is deleted")
    return Settlement(state=State.GONE, outcome=Outcome.DELETED)


def counts_as_not_found(answer: Answer, facts: Facts, now: datetime) -> bool:
    """Whether this 404 to a DELETE speaks for a wrong account and counts in its breaker."""
    missing = answer.kind in (AnswerKind.ABSENT, AnswerKind.MISPLACED)
    return missing and not facts.asked_before and not facts.expired(now)


def _after_yes(facts: Facts, now: datetime) -> Settlement:
    if facts.verify:
        return Settlement(state=State.VERIFYING, touched=True, yes=True, verify_at=now)
    return Settlement(state=State.GONE, outcome=Outcome.DELETED, touched=True, yes=True)


def _absence(facts: Facts, now: datetime) -> Outcome | None:
    """Name a proved absence; None where this key has never seen anything of the kind."""
    if facts.asked_before:
        return Outcome.ABSENT_AFTER_ATTEMPT
    if facts.expired(now):
        return Outcome.EXPIRED_BY_PROVIDER
    return Outcome.ALREADY_ABSENT if facts.label_set_seen else None


def _verifies(facts: Facts, now: datetime, *, bracketed: bool) -> bool:
    if facts.yes_at is None or not facts.get_seen:
        return False
    if facts.yes_here:
        return bracketed or abs(now - facts.yes_at) <= VERIFY_WINDOW
    # A key that took the other's place must be one that would see the response if it were there.
    return bracketed and facts.yes_same_account and facts.label_set_seen


def _open(
    outcome: Outcome, again: datetime, *, touched: bool = False, counted: bool = True
) -> Settlement:
    return Settlement(
        state=State.LIVE, outcome=outcome, touched=touched, counted=counted, next_try_at=again
    )


def _next_try(answer: Answer | None, facts: Facts, now: datetime, jitter: float) -> datetime:
    """When to try again: as the provider asked, else by the back-off with this answer counted."""
    if answer is not None and answer.kind is AnswerKind.THROTTLED and answer.retry_after:
        return now + answer.retry_after
    return now + backoff.delay(facts.failures + 1, jitter)
