"""Say everything that stopped a sweep or a part of it, so that no stop hides another."""

from collections.abc import Iterable, Mapping

from sweeper.domain.event import BreakerOpened
from sweeper.domain.outcome import Breaker
from sweeper.domain.plan import AccountPlan
from sweeper.domain.summary import Cause


def of(
    of_all: Iterable[str],
    stopped: Mapping[str, Breaker],
    told: Mapping[str, BreakerOpened],
    refused: Iterable[AccountPlan],
) -> tuple[Cause, ...]:
    """All causes: first what stopped all of it.

    Then by account what stopped it, with what was `told` of that, if anything was; then the plans
    that a guard refused.
    """
    by_account = []
    for name, breaker in stopped.items():
        seen = told.get(name)
        by_account.append(
            Cause(
                reason=f"account:{name}:{breaker.value}",
                account=name,
                kept=None if seen is None else seen.kept,
                oldest_due_at=None if seen is None else seen.oldest_due_at,
            )
        )
    return (
        *(Cause(reason=one) for one in of_all),
        *by_account,
        *(Cause(reason="guard", account=one.account, kept=one.due) for one in refused),
    )
