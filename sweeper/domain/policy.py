"""Which rule decides about a label set: the first policy of the list that matches it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

DEFAULT_DEADLINE: Final = timedelta(hours=24)

_SECOND = timedelta(seconds=1)


class Unit(StrEnum):
    """Whose age counts."""

    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a policy applies to: every label named, with one of the values given for it.

    `accounts` None is every account; no labels are every label set. An empty set of accounts
    or of values matches nothing.
    """

    accounts: frozenset[str] | None = None
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        labels = {key: frozenset(values) for key, values in self.labels.items()}
        object.__setattr__(self, "labels", MappingProxyType(labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One rule of retention. `delete_after` None keeps for ever.

    `deadline` is the promised slack after a response is due. ValueError when a length is not
    in whole seconds, when `delete_after` is not positive, or when `deadline` is negative.
    """

    name: str
    match: Match = field(default_factory=Match)
    delete_after: timedelta | None
    deadline: timedelta = DEFAULT_DEADLINE
    unit: Unit = Unit.RESPONSE

    def __post_init__(self) -> None:
        if self.delete_after is not None and (
            self.delete_after <= timedelta(0) or self.delete_after % _SECOND
        ):
            raise ValueError("delete_after must be positive and in whole seconds")
        if self.deadline < timedelta(0) or self.deadline % _SECOND:
            raise ValueError("deadline must be in whole seconds and not negative")


def matches(match: Match, account: str, labels: Mapping[str, str]) -> bool:
    if match.accounts is not None and account not in match.accounts:
        return False
    return all(labels.get(key) in values for key, values in match.labels.items())


def deciding(
    policies: Sequence[Policy], account: str, labels: Mapping[str, str] | None
) -> Policy | None:
    """Return the first policy that matches; None: nothing of this label set is ever due.

    No policy matches labels that cannot be read (None), not even one for everything.
    """
    if labels is None:
        return None
    return next((one for one in policies if matches(one.match, account, labels)), None)


def canonical(policies: Sequence[Policy]) -> str:
    """Return the one text of these policies in their order: lengths in seconds, sets sorted."""
    return json.dumps(
        [_plain(policy) for policy in policies],
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )


def fingerprint(policies: Sequence[Policy]) -> str:
    """Return the SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(policies).encode()).hexdigest()


def _plain(policy: Policy) -> dict[str, object]:
    match, after = policy.match, policy.delete_after
    return {
        "name": policy.name,
        "match": {
            "accounts": None if match.accounts is None else sorted(match.accounts),
            "labels": {key: sorted(values) for key, values in match.labels.items()},
        },
        "delete_after": None if after is None else after // _SECOND,
        "deadline": policy.deadline // _SECOND,
        "unit": policy.unit.value,
    }
