"""What a person says is right about a response, and whether that makes anything due earlier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sweeper.domain import decision
from sweeper.domain.policy import Policy, deciding


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What is right; None leaves what stands. Labels are given as a whole."""

    created_at: datetime | None = None
    labels: Mapping[str, str] | None = None
    subject: str | None = None
    previous_response_id: str | None = None

    @property
    def is_empty(self) -> bool:
        given = (self.created_at, self.labels, self.subject, self.previous_response_id)
        return all(each is None for each in given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Which policy decides and when that makes a response due and late; None is never."""

    policy: str | None = None
    due_at: datetime | None = None
    deadline_at: datetime | None = None


NEVER = Basis()
"""Nothing is known by which it could be due."""


def basis(
    policies: Sequence[Policy],
    account: str,
    labels: Mapping[str, str] | None,
    created_at: datetime | None,
) -> Basis:
    """Judge by these values alone, whatever state a response is in."""
    rule = deciding(policies, account, labels)
    if rule is None:
        return NEVER
    if created_at is None:
        return Basis(policy=rule.name)
    return Basis(
        policy=rule.name,
        due_at=decision.due_at(rule, created_at),
        deadline_at=decision.deadline_at(rule, created_at),
    )


def is_earlier(before: Basis, after: Basis) -> bool:
    """Whether what was due later, or never, is now due sooner."""
    if after.due_at is None:
        return False
    return before.due_at is None or after.due_at < before.due_at
