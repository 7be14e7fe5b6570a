"""Decisions: only what is due and free is due, and the sentence says why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import decision
from sweeper.domain.decision import Facts, Verdict, decide
from sweeper.domain.policy import Match, Policy
from sweeper.domain.response import ResponseId, State

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(days=1)
SUPPORT = Policy(
    name="support chats",
    match=Match(labels={"app": frozenset({"support"})}),
    delete_after=14 * DAY,
)
LEGAL = Policy(name="legal", match=Match(labels={"app": frozenset({"legal"})}), delete_after=None)
POLICIES = (LEGAL, SUPPORT)
DUE = Facts(state=State.LIVE, account="main", created_at=NOW - 14 * DAY, labels={"app": "support"})
BY = 'by policy "support chats" (14d after creation)'
IDS = tuple(ResponseId(f"resp_{n}") for n in range(5))

MOMENTS = st.timedeltas(-40_000 * DAY, 40_000 * DAY).map(lambda age: NOW + age)
LENGTHS = st.integers(1, 36_525 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
ANY_POLICY = st.builds(
    Policy, name=st.just("p"), delete_after=st.none() | LENGTHS, deadline=LENGTHS
)
ANY_FACTS = st.builds(
    Facts,
    state=st.sampled_from(State),
    account=st.sampled_from(["main", "other"]),
    created_at=st.none() | MOMENTS,
    labels=st.sampled_from([{}, {"app": "support"}, {"app": "legal"}]),
    next_try_at=st.none() | MOMENTS,
    waiting_for=st.sampled_from([(), IDS]),
    quarantine_reason=st.none() | st.just("conflicting"),
    configured=st.booleans(),
    stopped=st.booleans(),
    outcome=st.none() | st.just("not_visible"),
)


@given(ANY_POLICY, MOMENTS, MOMENTS)
def test_created_by_the_cutoff_is_the_same_as_due(
    policy: Policy, created_at: datetime, now: datetime
) -> None:
    cut, due = decision.cutoff(policy, now), decision.due_at(policy, created_at)

    if cut is None or due is None:
        assert policy.delete_after is None
        assert cut is None
        assert due is None
    else:
        assert (created_at <= cut) == (due <= now)


@given(LENGTHS, MOMENTS, MOMENTS)
def test_the_cutoff_never_moves_back_as_time_goes_on(
    length: timedelta, one: datetime, other: datetime
) -> None:
    policy = Policy(name="p", delete_after=length)

    earlier, later = (decision.cutoff(policy, now) for now in sorted([one, other]))
    assert earlier is not None
    assert later is not None
    assert earlier <= later


@given(LENGTHS, LENGTHS, MOMENTS)
def test_a_longer_policy_makes_nothing_due_earlier(
    one: timedelta, other: timedelta, now: datetime
) -> None:
    shorter, longer = (
        decision.cutoff(Policy(name="p", delete_after=length), now)
        for length in sorted([one, other])
    )
    assert shorter is not None
    assert longer is not None
    assert longer <= shorter


def test_due_is_the_very_moment_and_not_a_microsecond_before() -> None:
    moment = timedelta(microseconds=1)

    assert decide(DUE, POLICIES, NOW).verdict is Verdict.DUE
    assert decide(DUE, POLICIES, NOW - moment).verdict is Verdict.NOT_DUE


def test_a_deadline_follows_the_due_time() -> None:
    assert decision.deadline_at(SUPPORT, NOW) == NOW + 15 * DAY
    assert decision.deadline_at(LEGAL, NOW) is None


def test_times_at_the_ends_of_the_calendar_are_judged_too() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert decision.cutoff(SUPPORT, first) == first
    assert decision.due_at(SUPPORT, last) == last
    assert decision.deadline_at(SUPPORT, last) == last
    assert decide(replace(DUE, created_at=last), POLICIES, NOW).verdict is Verdict.NOT_DUE


@given(ANY_FACTS, MOMENTS)
def test_due_means_live_matched_old_enough_configured_and_free(facts: Facts, now: datetime) -> None:
    found = decide(facts, POLICIES, now)

    free = not facts.waiting_for and (facts.next_try_at is None or facts.next_try_at <= now)
    old = facts.created_at is not None and facts.created_at <= now - 14 * DAY
    due = old and facts.labels == {"app": "support"}
    assert (found.verdict is Verdict.DUE) == (
        facts.state is State.LIVE and due and free and facts.configured
    )


@given(ANY_FACTS, MOMENTS)
def test_every_decision_is_one_sentence_that_agrees_with_its_times(
    facts: Facts, now: datetime
) -> None:
    found = decide(facts, POLICIES, now)

    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence
    assert found.sentence[0].isupper()
    if found.verdict in (Verdict.DUE, Verdict.WAITING, Verdict.BACKING_OFF, Verdict.NO_ACCOUNT):
        assert found.due_at is not None
        assert found.deadline_at is not None
        assert found.due_at <= now
        assert found.sentence.startswith("Due since ")
        assert ("late since" in found.sentence) == (found.deadline_at < now)


@given(ANY_FACTS, MOMENTS, st.sampled_from([(), (LEGAL,)]))
def test_unmatched_is_never_due(facts: Facts, now: datetime, policies: tuple[Policy, ...]) -> None:
    found = decide(replace(facts, labels={"app": "support"}), policies, now)

    assert found.verdict is not Verdict.DUE
    assert (found.policy, found.due_at, found.deadline_at) == (None, None, None)


@pytest.mark.parametrize(
    "changed, verdict, sentence",
    [
        ({}, Verdict.DUE, f"Due since 2026-11-22T10:00:00Z {BY}; the next sweep deletes it."),
        (
            {"created_at": NOW - 15 * DAY - timedelta(seconds=1)},
            Verdict.DUE,
            (
                f"Due since 2026-11-21T09:59:59Z {BY}, late since 2026-11-22T09:59:59Z;"
                " the next sweep deletes it."
            ),
        ),
        (
            {"created_at": NOW - 15 * DAY},
            Verdict.DUE,
            f"Due since 2026-11-21T10:00:00Z {BY}; the next sweep deletes it.",
        ),
        (
            {"created_at": NOW - 13 * DAY},
            Verdict.NOT_DUE,
            f"Kept: due at 2026-11-23T10:00:00Z {BY}.",
        ),
        ({"labels": {}}, Verdict.UNMATCHED, "Kept: no policy matches it."),
        (
            {"labels": {"app": "legal"}},
            Verdict.FOREVER,
            'Kept: policy "legal" keeps it for ever.',
        ),
        ({"created_at": None}, Verdict.NOT_DUE, "Kept: nobody knows when it was created."),
        (
            {"waiting_for": IDS[:1]},
            Verdict.WAITING,
            f"Due since 2026-11-22T10:00:00Z {BY}; waits for 1 response that continues it: resp_0.",
        ),
        (
            {"waiting_for": IDS[:3]},
            Verdict.WAITING,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                " waits for 3 responses that continue it: resp_0, resp_1, resp_2."
            ),
        ),
        (
            {"waiting_for": IDS},
            Verdict.WAITING,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                " waits for 5 responses that continue it: resp_0, resp_1, resp_2 and 2 more."
            ),
        ),
        (
            {"next_try_at": NOW + timedelta(minutes=5), "outcome": "not_visible"},
            Verdict.BACKING_OFF,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                " tried again at 2026-11-22T10:05:00Z (not visible)."
                " It was not found, which does not prove yet that it is deleted."
            ),
        ),
        ({"next_try_at": NOW}, Verdict.DUE, None),
        (
            {"next_try_at": NOW + DAY, "waiting_for": IDS[:1]},
            Verdict.BACKING_OFF,
            (
                f"Due since 2026-11-22T10:00:00Z {BY}; tried again at 2026-11-23T10:00:00Z;"
                " waits for 1 response that continues it: resp_0."
            ),
        ),
        (
            {"configured": False},
            Verdict.NO_ACCOUNT,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                ' nothing is deleted for it: the account "main" is not configured.'
            ),
        ),
        (
            {"stopped": True},
            Verdict.DUE,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                ' nothing is deleted for it while the account "main" is stopped.'
            ),
        ),
        (
            {"stopped": True, "waiting_for": IDS[:1]},
            Verdict.WAITING,
            (
                f"Due since 2026-11-22T10:00:00Z {BY};"
                " waits for 1 response that continues it: resp_0;"
                ' nothing is deleted for it while the account "main" is stopped.'
            ),
        ),
        (
            {"state": State.CLAIMED},
            Verdict.CLAIMED,
            f"A sweep is deleting it: due since 2026-11-22T10:00:00Z {BY}.",
        ),
        (
            {"state": State.VERIFYING},
            Verdict.VERIFYING,
            (
                "The provider said that it is deleted; next it is checked"
                " that it can no longer be read."
            ),
        ),
        (
            {"state": State.QUARANTINED, "quarantine_reason": "conflicting"},
            Verdict.QUARANTINED,
            "Set aside (conflicting): kept until a person decides.",
        ),
        (
            {"state": State.QUARANTINED, "created_at": None},
            Verdict.QUARANTINED,
            "Set aside (no reason is given): kept until a person decides.",
        ),
        (
            {"state": State.GONE, "outcome": "already_absent"},
            Verdict.GONE,
            "Gone (already absent).",
        ),
        ({"state": State.GONE}, Verdict.GONE, "Gone."),
        (
            {"state": State.GONE, "outcome": "closed"},
            Verdict.CLOSED,
            "Closed by a person; that it is deleted is not proved.",
        ),
    ],
)
def test_the_sentence_says_which_policy_decides_and_what_keeps_it(
    changed: dict[str, Any], verdict: Verdict, sentence: str | None
) -> None:
    found = decide(replace(DUE, **changed), POLICIES, NOW)

    assert found.verdict is verdict
    assert sentence is None or found.sentence == sentence


@pytest.mark.parametrize(
    "outcome, words",
    [
        (
            "still_present",
            " An incident: the provider said that it deleted it, and it could still be read.",
        ),
        (
            "unconfirmed",
            " The last answer proves neither that it is deleted nor that it is not.",
        ),
        ("not_visible", " It was not found, which does not prove yet that it is deleted."),
        (
            "failing",
            " The last try failed: nobody answered, or the provider could not do it then.",
        ),
    ],
)
@pytest.mark.parametrize("state", [State.LIVE, State.CLAIMED, State.VERIFYING, State.QUARANTINED])
def test_what_the_last_try_found_is_said_in_every_state_but_gone(
    outcome: str, words: str, state: State
) -> None:
    before = decide(replace(DUE, state=state), POLICIES, NOW)
    after = decide(replace(DUE, state=state, outcome=outcome), POLICIES, NOW)

    assert after.sentence == before.sentence + words
    assert after.verdict is before.verdict


def test_what_is_set_aside_still_has_its_deadline() -> None:
    found = decide(replace(DUE, state=State.QUARANTINED), POLICIES, NOW)

    assert (found.policy, found.due_at) == ("support chats", NOW)
    assert found.deadline_at == NOW + DAY


def test_times_are_told_in_utc() -> None:
    elsewhere = timezone(timedelta(hours=2))
    facts = replace(DUE, created_at=(NOW - 14 * DAY).astimezone(elsewhere))

    assert "Due since 2026-11-22T10:00:00Z" in decide(facts, POLICIES, NOW).sentence
