"""What a sweep would delete, counted; the guards that refuse or bound it; how long it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

SHARE_COUNTS_FROM: Final = 100
"""Fewer planned responses than this are no share worth judging."""

CONTROL_REQUESTS: Final = 6
"""The most that an account's controls ask before the first claim: the account check and a GET
of up to five planned responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSetDue:
    """What is due of one label set: `due` = planned + capped + waiting + backing_off."""

    label_set_id: int
    account: str
    labels: str
    policy: str
    delete_after: timedelta
    deadline: timedelta
    cutoff: datetime
    due: int
    backing_off: int = 0
    waiting: int = 0
    planned: int = 0
    capped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPlan:
    """What is planned at one account.

    `live` counts all of its live responses, due or not. `ids_sha256` is the streamed hash of
    the planned ids; nothing registered after row `newest_pk` is part of the plan.
    """

    account: str
    live: int
    sets: tuple[LabelSetDue, ...]
    ids_sha256: str
    newest_pk: int

    @property
    def due(self) -> int:
        return sum(one.due for one in self.sets)

    @property
    def planned(self) -> int:
        return sum(one.planned for one in self.sets)

    @property
    def capped(self) -> int:
        return sum(one.capped for one in self.sets)

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.sets)

    @property
    def backing_off(self) -> int:
        return sum(one.backing_off for one in self.sets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one sweep would delete, at all accounts.

    `no_account` counts what is due at accounts that are not configured, `no_account_by` the
    same by name; `unmatched` counts live responses that no policy matches, which are not due.
    """

    made_at: datetime
    accounts: tuple[AccountPlan, ...]
    no_account: int = 0
    no_account_by: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0
    held: int = 0

    @property
    def due(self) -> int:
        kept = self.held + self.capped + self.waiting + self.backing_off + self.no_account
        return self.planned + kept

    @property
    def planned(self) -> int:
        return sum(one.planned for one in self.accounts)

    @property
    def capped(self) -> int:
        return sum(one.capped for one in self.accounts)

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self.accounts)

    @property
    def backing_off(self) -> int:
        return sum(one.backing_off for one in self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Limits per account; 0 blocks, nothing disables. ValueError outside their ranges."""

    max_deletions_per_sweep: int
    max_share_per_sweep: float
    max_deletions_per_day: int

    def __post_init__(self) -> None:
        if self.max_deletions_per_sweep < 0 or self.max_deletions_per_day < 0:
            raise ValueError("a number of deletions cannot be negative")
        if not 0 <= self.max_share_per_sweep <= 1:
            raise ValueError("max_share_per_sweep must lie between 0 and 1")


def refusal(plan: AccountPlan, guards: Guards) -> str | None:
    """Return the sentence that says why this account's plan is refused; None lets it pass."""
    name = refusing(plan, guards)
    if name is None:
        return None
    if not getattr(guards, name):
        why = f"{name} = 0 blocks every deletion"
    elif name == "max_deletions_per_sweep":
        why = f"{name} allows {guards.max_deletions_per_sweep}"
    else:
        why = f"{name} allows {guards.max_share_per_sweep:.4g} of the {plan.live} live responses"
    return f'Refused for account "{plan.account}": {plan.planned} deletions are planned, but {why}.'


def refusing(plan: AccountPlan, guards: Guards) -> str | None:
    """Name the guard that refuses this account's plan, as it is called in the configuration."""
    if plan.planned > guards.max_deletions_per_sweep:
        return "max_deletions_per_sweep"
    if plan.planned > _most_by_share(plan.live, guards):
        return "max_share_per_sweep"
    return None


def most_at_once(live: int, guards: Guards) -> int:
    """Return how many deletions no guard refuses at an account of so many live responses."""
    return min(guards.max_deletions_per_sweep, _most_by_share(live, guards))


def _most_by_share(live: int, guards: Guards) -> int:
    share = _share(guards)
    return max(SHARE_COUNTS_FROM - 1, int(share * live)) if share else 0


def allowance(guards: Guards, *, claimed_last_day: int, max_now: int | None) -> int:
    """Return how many may be planned at an account now; the rest is capped.

    `claimed_last_day` counts first DELETEs claimed in the last 24 hours; `max_now` is what the
    person who started the sweep allows.
    """
    left = max(0, guards.max_deletions_per_day - claimed_last_day)
    return left if max_now is None else max(0, min(left, max_now))


def requests(planned: int, verifying: int, *, verify: bool) -> int:
    """Return how many requests a sweep sends at most when no answer makes it ask again.

    `verifying` counts what still waits for its verification from before.
    """
    reads = planned + verifying if verify else 0
    if planned + reads == 0:
        return 0
    return planned + reads + CONTROL_REQUESTS


def duration(requests: int, rate_per_second: float) -> timedelta:
    """Return how long that many requests take at the rate that is really used."""
    if not rate_per_second > 0:
        raise ValueError("the rate must be positive")
    return timedelta(seconds=requests / rate_per_second)


def _share(guards: Guards) -> Fraction:
    # As it was written: 0.29 of 100 is 29, which binary fractions miss.
    return Fraction(str(guards.max_share_per_sweep))
