"""Whether one response is due, by which policy, and what keeps it, as one plain sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from sweeper.domain import duration
from sweeper.domain.outcome import Outcome
from sweeper.domain.policy import Policy, deciding
from sweeper.domain.response import ResponseId, State

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_MOST_NAMED: Final = 3
_FOUND: Final[Mapping[str, str]] = {
    Outcome.STILL_PRESENT: " An incident: the provider said that it deleted it, and it could still"
    " be read.",
    Outcome.UNCONFIRMED: " The last answer proves neither that it is deleted nor that it is not.",
    Outcome.NOT_VISIBLE: " It was not found, which does not prove yet that it is deleted.",
    Outcome.FAILING: " The last try failed: nobody answered, or the provider could not do it then.",
}
"""What the last try found, of responses that are not gone."""


class Verdict(StrEnum):
    """What is to be said of one response now."""

    DUE = "due"
    NOT_DUE = "not_due"
    FOREVER = "forever"
    UNMATCHED = "unmatched"
    WAITING = "waiting"
    """Due, but a response that continues it is not gone."""
    BACKING_OFF = "backing_off"
    """Due, but the next try has not come."""
    NO_ACCOUNT = "no_account"
    """Due, but its account is not configured."""
    CLAIMED = "claimed"
    VERIFYING = "verifying"
    QUARANTINED = "quarantined"
    GONE = "gone"
    CLOSED = "closed"
    """Nothing more is sent, at a person's word; that it is deleted is not proved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the ledger and the configuration say of one response.

    `waiting_for` are the responses that continue it and are not gone; `configured` tells
    whether its account stands in the configuration, `stopped` whether a breaker is open there;
    `outcome` is the last one. Labels are None where the ledger's cannot be read.
    """

    state: State
    account: str
    created_at: datetime | None
    labels: Mapping[str, str] | None = field(default_factory=dict)
    next_try_at: datetime | None = None
    waiting_for: tuple[ResponseId, ...] = ()
    quarantine_reason: str | None = None
    configured: bool = True
    stopped: bool = False
    outcome: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict, the deciding policy's name with its times, and what people are told."""

    verdict: Verdict
    policy: str | None
    due_at: datetime | None
    deadline_at: datetime | None
    sentence: str


def cutoff(policy: Policy, now: datetime) -> datetime | None:
    """Return the time at or before which responses were created that are due now."""
    if policy.delete_after is None:
        return None
    if now - _FIRST < policy.delete_after:
        return _FIRST
    return now - policy.delete_after


def due_at(policy: Policy, created_at: datetime) -> datetime | None:
    """Return when a response of that age is due; None is never."""
    return None if policy.delete_after is None else _later(created_at, policy.delete_after)


def deadline_at(policy: Policy, created_at: datetime) -> datetime | None:
    """Return when a response of that age is late."""
    due = due_at(policy, created_at)
    return None if due is None else _later(due, policy.deadline)


def decide(facts: Facts, policies: Sequence[Policy], now: datetime) -> Decision:
    """Judge one response: only the verdict DUE lets it be planned."""
    rule = deciding(policies, facts.account, facts.labels)
    due = deadline = None
    if rule is not None and facts.created_at is not None:
        due, deadline = due_at(rule, facts.created_at), deadline_at(rule, facts.created_at)
    reason = _reason(rule, due, deadline, now)
    verdict, sentence = _judge(facts, rule, due, reason, now)
    return Decision(
        verdict=verdict,
        policy=None if rule is None else rule.name,
        due_at=due,
        deadline_at=deadline,
        sentence=sentence + _FOUND.get(facts.outcome or "", ""),
    )


def _judge(
    facts: Facts, rule: Policy | None, due: datetime | None, reason: str, now: datetime
) -> tuple[Verdict, str]:
    match facts.state:
        case State.GONE if facts.outcome == Outcome.CLOSED:
            return Verdict.CLOSED, "Closed by a person; that it is deleted is not proved."
        case State.GONE:
            return Verdict.GONE, f"Gone{_told(facts.outcome)}."
        case State.QUARANTINED:
            why = facts.quarantine_reason or "no reason is given"
            return Verdict.QUARANTINED, f"Set aside ({why}): kept until a person decides."
        case State.VERIFYING:
            return Verdict.VERIFYING, (
                "The provider said that it is deleted; next it is checked"
                " that it can no longer be read."
            )
        case State.CLAIMED:
            return Verdict.CLAIMED, f"A sweep is deleting it: {reason}."
        case State.LIVE:
            return _judge_live(facts, rule, due, reason, now)
        case _:
            assert_never(facts.state)


def _judge_live(
    facts: Facts, rule: Policy | None, due: datetime | None, reason: str, now: datetime
) -> tuple[Verdict, str]:
    if rule is None:
        return Verdict.UNMATCHED, f"Kept: {reason}."
    if rule.delete_after is None:
        return Verdict.FOREVER, f"Kept: {reason}."
    if due is None or due > now:
        return Verdict.NOT_DUE, f"Kept: {reason}."
    sentence = reason[0].upper() + reason[1:]
    waits = _waits(facts, now)
    if waits:
        return waits[0][0], f"{sentence}; {'; '.join(text for _, text in waits)}."
    return Verdict.DUE, f"{sentence}; the next sweep deletes it."


def _reason(
    rule: Policy | None, due: datetime | None, deadline: datetime | None, now: datetime
) -> str:
    """Return which policy decides and when, as the middle of a sentence."""
    if rule is None:
        return "no policy matches it"
    if rule.delete_after is None:
        return f'policy "{rule.name}" keeps it for ever'
    if due is None or deadline is None:
        return "nobody knows when it was created"
    by = f'by policy "{rule.name}" ({duration.render(rule.delete_after)} after creation)'
    if due > now:
        return f"due at {_instant(due)} {by}"
    late = f", late since {_instant(deadline)}" if deadline < now else ""
    return f"due since {_instant(due)} {by}{late}"


def _waits(facts: Facts, now: datetime) -> list[tuple[Verdict, str]]:
    """Return what a due response waits for; the first is the reason it is counted under."""
    waits = []
    if not facts.configured:
        text = f'nothing is deleted for it: the account "{facts.account}" is not configured'
        waits.append((Verdict.NO_ACCOUNT, text))
    if facts.next_try_at is not None and facts.next_try_at > now:
        waits.append(
            (
                Verdict.BACKING_OFF,
                f"tried again at {_instant(facts.next_try_at)}{_told(facts.outcome)}",
            )
        )
    if facts.waiting_for:
        waits.append((Verdict.WAITING, _children(facts.waiting_for)))
    if facts.stopped:
        # It is planned all the same: a sweep may find that the account can go on.
        text = f'nothing is deleted for it while the account "{facts.account}" is stopped'
        waits.append((Verdict.DUE, text))
    return waits


def _children(ids: Sequence[ResponseId]) -> str:
    more = len(ids) - _MOST_NAMED
    named = ", ".join(ids[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    if len(ids) == 1:
        return f"waits for 1 response that continues it: {named}"
    return f"waits for {len(ids)} responses that continue it: {named}"


def _told(outcome: str | None) -> str:
    return "" if outcome is None else f" ({outcome.replace('_', ' ')})"


def _later(moment: datetime, length: timedelta) -> datetime:
    # A time that somebody wrote into the ledger may lie at the end of the calendar.
    return _LAST if _LAST - moment < length else moment + length


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
