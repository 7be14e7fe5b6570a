"""Plans: their sums, the guards, and how long they take."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import plan
from sweeper.domain.plan import AccountPlan, Guards, LabelSetDue, Plan

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
OPEN = Guards(max_deletions_per_sweep=10**9, max_share_per_sweep=1, max_deletions_per_day=10**9)

COUNTS = st.integers(0, 10**6)
SHARES = st.floats(0, 1)
GUARDS = st.builds(
    Guards,
    max_deletions_per_sweep=COUNTS,
    max_share_per_sweep=SHARES,
    max_deletions_per_day=COUNTS,
)


def of_set(**counts: int) -> LabelSetDue:
    return LabelSetDue(
        label_set_id=1,
        account="main",
        labels="{}",
        policy="p",
        delete_after=DAY,
        deadline=DAY,
        cutoff=NOW - DAY,
        due=sum(counts.values()),
        **counts,
    )


def of_account(*sets: LabelSetDue, live: int = 10**6) -> AccountPlan:
    return AccountPlan(account="main", live=live, sets=sets, ids_sha256="0" * 64, newest_pk=9)


def refused(planned: int, guards: Guards, live: int = 10**6) -> str | None:
    return plan.refusal(of_account(of_set(planned=planned), live=live), guards)


def test_an_account_s_numbers_are_the_sums_of_its_label_sets() -> None:
    found = of_account(
        of_set(planned=1, capped=2, waiting=3, backing_off=4),
        of_set(planned=10, capped=20, waiting=30, backing_off=40),
    )

    assert (found.planned, found.capped, found.waiting, found.backing_off) == (11, 22, 33, 44)
    assert found.due == 110


def test_what_is_due_is_planned_or_has_its_reason() -> None:
    one = of_account(of_set(planned=1, capped=2, waiting=3, backing_off=4))
    other = of_account(of_set(planned=10, capped=20, waiting=30, backing_off=40))

    found = Plan(
        made_at=NOW,
        accounts=(one, other),
        no_account=500,
        no_account_by={"old": 500},
        unmatched=7,
        held=1000,
    )

    assert (found.planned, found.capped, found.waiting, found.backing_off) == (11, 22, 33, 44)
    assert found.due == 110 + 500 + 1000


def test_an_empty_plan_is_due_of_nothing() -> None:
    assert Plan(made_at=NOW, accounts=()).due == 0


@given(GUARDS, COUNTS, COUNTS)
def test_nothing_planned_is_never_refused(guards: Guards, live: int, claimed: int) -> None:
    assert refused(0, guards, live) is None


@given(GUARDS, COUNTS, COUNTS, COUNTS)
def test_what_refuses_a_plan_refuses_every_greater_one(
    guards: Guards, live: int, one: int, other: int
) -> None:
    smaller, greater = sorted([one, other])

    if refused(smaller, guards, live) is not None:
        assert refused(greater, guards, live) is not None


@given(GUARDS, st.integers(1, 10**6), COUNTS)
def test_zero_blocks_and_never_disables(guards: Guards, planned: int, live: int) -> None:
    none = Guards(max_deletions_per_sweep=0, max_share_per_sweep=1, max_deletions_per_day=1)
    no_share = Guards(max_deletions_per_sweep=10**9, max_share_per_sweep=0, max_deletions_per_day=1)
    no_day = Guards(max_deletions_per_sweep=1, max_share_per_sweep=1, max_deletions_per_day=0)

    assert "0 blocks" in (refused(planned, none, live) or "")
    assert "0 blocks" in (refused(planned, no_share, live) or "")
    assert plan.allowance(no_day, claimed_last_day=0, max_now=planned) == 0


def test_the_number_refuses_what_lies_above_it() -> None:
    guards = Guards(max_deletions_per_sweep=50, max_share_per_sweep=1, max_deletions_per_day=0)

    assert refused(50, guards) is None
    assert refused(51, guards) == (
        'Refused for account "main": 51 deletions are planned,'
        " but max_deletions_per_sweep allows 50."
    )


@pytest.mark.parametrize(
    "planned, live, share, passes",
    [
        (99, 99, 0.01, True),
        (100, 400, 0.25, True),
        (101, 400, 0.25, False),
        (100, 399, 0.25, False),
        (100, 0, 0.25, False),
        (290, 1000, 0.29, True),
        (291, 1000, 0.29, False),
        (1000, 1000, 1, True),
        (100, 10**9, 0.0000001, True),
        (101, 10**9, 0.0000001, False),
    ],
)
def test_the_share_counts_from_a_hundred_upwards_and_exactly(
    planned: int, live: int, share: float, passes: bool
) -> None:
    guards = Guards(
        max_deletions_per_sweep=10**9, max_share_per_sweep=share, max_deletions_per_day=0
    )

    assert (refused(planned, guards, live) is None) is passes


def test_a_refusal_for_the_share_tells_both_numbers() -> None:
    guards = Guards(
        max_deletions_per_sweep=10**9, max_share_per_sweep=0.25, max_deletions_per_day=0
    )

    assert refused(200, guards, 400) == (
        'Refused for account "main": 200 deletions are planned,'
        " but max_share_per_sweep allows 0.25 of the 400 live responses."
    )


@pytest.mark.parametrize(
    "limits",
    [(-1, 0.5, 1), (1, 0.5, -1), (1, -0.1, 1), (1, 1.1, 1), (1, float("nan"), 1)],
)
def test_guards_outside_their_ranges_cannot_be_made(limits: tuple[int, float, int]) -> None:
    per_sweep, share, per_day = limits
    with pytest.raises(ValueError, match=r"negative|between 0 and 1"):
        Guards(
            max_deletions_per_sweep=per_sweep,
            max_share_per_sweep=share,
            max_deletions_per_day=per_day,
        )


@pytest.mark.parametrize(
    "claimed, max_now, allowed",
    [
        (0, None, 100),
        (30, None, 70),
        (100, None, 0),
        (130, None, 0),
        (30, 20, 20),
        (30, 200, 70),
        (0, 0, 0),
        (0, -1, 0),
    ],
)
def test_the_lowest_bound_allows(claimed: int, max_now: int | None, allowed: int) -> None:
    guards = Guards(max_deletions_per_sweep=1, max_share_per_sweep=1, max_deletions_per_day=100)

    assert plan.allowance(guards, claimed_last_day=claimed, max_now=max_now) == allowed


@given(GUARDS, COUNTS, st.none() | st.integers(-5, 10**6))
def test_no_bound_is_ever_passed(guards: Guards, claimed: int, max_now: int | None) -> None:
    allowed = plan.allowance(guards, claimed_last_day=claimed, max_now=max_now)

    assert 0 <= allowed <= guards.max_deletions_per_day
    assert allowed + claimed <= max(claimed, guards.max_deletions_per_day)
    assert max_now is None or allowed <= max(0, max_now)


@pytest.mark.parametrize(
    "planned, verifying, verify, sent",
    [
        (0, 0, True, 0),
        (0, 0, False, 0),
        (10, 0, False, 16),
        (10, 0, True, 26),
        (10, 5, True, 31),
        (0, 5, True, 11),
        (0, 5, False, 0),
        (10, 5, False, 16),
    ],
)
def test_every_request_is_counted(planned: int, verifying: int, verify: bool, sent: int) -> None:
    assert plan.requests(planned, verifying, verify=verify) == sent


def test_the_time_a_plan_takes_is_its_requests_over_the_rate() -> None:
    assert plan.duration(60, 1.0) == timedelta(minutes=1)
    assert plan.duration(0, 1.0) == timedelta(0)
    assert plan.duration(60, float("inf")) == timedelta(0)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_no_time_is_told_for_no_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        plan.duration(1, rate)


@given(GUARDS, COUNTS, COUNTS)
def test_no_guard_refuses_what_is_said_to_be_most_and_one_more_is_refused(
    guards: Guards, live: int, planned: int
) -> None:
    most = plan.most_at_once(live, guards)
    for count in (most, most + 1, planned):
        part = of_account(of_set(planned=count), live=live)
        name = plan.refusing(part, guards)
        assert (name is None) == (count <= most) == (plan.refusal(part, guards) is None)
        assert name is None or name in (plan.refusal(part, guards) or "")
