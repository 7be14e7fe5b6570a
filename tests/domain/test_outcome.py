"""No answer is taken for more than it proves."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import outcome
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import TERMINAL, Breaker, Facts, Outcome, Settlement
from sweeper.domain.response import State

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)
FRESH = Facts(
    created_at=NOW - timedelta(days=14),
    touched=False,
    failures=0,
    lifetime=MONTH,
    verify=True,
    label_set_seen=True,
    yes_at=None,
    yes_here=False,
    yes_same_account=False,
    get_seen=False,
)
SAID_YES = replace(
    FRESH, touched=True, yes_at=NOW - timedelta(minutes=1), yes_here=True, get_seen=True
)
STOPS = {
    AnswerKind.CREDENTIAL: Breaker.CREDENTIAL,
    AnswerKind.PAYMENT: Breaker.PAYMENT,
    AnswerKind.MISCONFIGURED: Breaker.CONFIGURATION,
}
ABSENT = Answer(kind=AnswerKind.ABSENT, status=404)


def after_delete(kind: AnswerKind, facts: Facts = FRESH, **answer: Any) -> Settlement | None:
    return outcome.after_delete(Answer(kind=kind, **answer), facts, now=NOW, jitter=0.5)


def absence(
    get: Answer | None = ABSENT, facts: Facts = FRESH, *, bracketed: bool = True
) -> Settlement:
    return outcome.settle_absence(get, facts, bracketed=bracketed, now=NOW, jitter=0.5)


def verification(
    kind: AnswerKind = AnswerKind.ABSENT, facts: Facts = SAID_YES, *, bracketed: bool = False
) -> Settlement:
    return outcome.settle_verification(
        Answer(kind=kind), facts, bracketed=bracketed, now=NOW, jitter=0.5
    )


def open_with(
    result: Outcome, *, touched: bool = False, wait: float = 1.0, counted: bool = True
) -> Settlement:
    return Settlement(
        state=State.LIVE,
        outcome=result,
        touched=touched,
        counted=counted,
        next_try_at=NOW + timedelta(seconds=wait),
    )


def test_a_yes_is_kept_and_verified_at_once() -> None:
    assert after_delete(AnswerKind.YES, status=200) == Settlement(
        state=State.VERIFYING, touched=True, yes=True, verify_at=NOW
    )


def test_a_yes_is_a_deletion_that_nobody_verified_where_verification_is_off() -> None:
    assert after_delete(AnswerKind.YES, replace(FRESH, verify=False), status=200) == Settlement(
        state=State.GONE, outcome=Outcome.DELETED, touched=True, yes=True
    )


def test_a_404_is_never_settled_by_the_delete_alone() -> None:
    assert after_delete(AnswerKind.ABSENT, status=404) is None
    assert after_delete(AnswerKind.ABSENT, SAID_YES, status=410) is None


@pytest.mark.parametrize(
    "kind,status,result,touched",
    [
        (AnswerKind.MISPLACED, 404, Outcome.NOT_VISIBLE, False),
        (AnswerKind.CONFLICT, 409, Outcome.FAILING, False),
        (AnswerKind.UNAVAILABLE, 500, Outcome.FAILING, True),
        (AnswerKind.UNAVAILABLE, 408, Outcome.FAILING, True),
        (AnswerKind.UNAVAILABLE, 425, Outcome.FAILING, False),
        (AnswerKind.LOST, None, Outcome.FAILING, True),
        (AnswerKind.THROTTLED, 429, Outcome.FAILING, False),
        (AnswerKind.THROTTLED, 503, Outcome.FAILING, True),
        (AnswerKind.UNCLEAR, 200, Outcome.UNCONFIRMED, True),
        (AnswerKind.UNCLEAR, 418, Outcome.UNCONFIRMED, False),
        (AnswerKind.PRESENT, 200, Outcome.UNCONFIRMED, True),
        (AnswerKind.HTML, 200, Outcome.UNCONFIRMED, True),
        (AnswerKind.HTML, 404, Outcome.UNCONFIRMED, False),
    ],
)
def test_what_proves_neither_leaves_the_response_open_and_is_tried_again(
    kind: AnswerKind, status: int | None, result: Outcome, touched: bool
) -> None:
    counted = kind is not AnswerKind.THROTTLED
    assert after_delete(kind, status=status) == open_with(result, touched=touched, counted=counted)


def test_what_the_account_is_refused_for_its_haste_puts_no_response_off() -> None:
    for failures in (0, 4):
        told = after_delete(AnswerKind.THROTTLED, replace(FRESH, failures=failures), status=429)
        assert told == open_with(Outcome.FAILING, wait=2.0**failures, counted=False)


def test_every_answer_doubles_the_wait_before_the_next_try() -> None:
    later = after_delete(AnswerKind.CONFLICT, replace(FRESH, failures=4), status=409)
    assert later == open_with(Outcome.FAILING, wait=16.0)


def test_a_provider_that_says_when_to_come_back_is_obeyed() -> None:
    told = after_delete(AnswerKind.THROTTLED, status=429, retry_after=timedelta(seconds=90))
    assert told == open_with(Outcome.FAILING, wait=90.0, counted=False)
    at_once = after_delete(AnswerKind.THROTTLED, status=429, retry_after=timedelta(0))
    assert at_once == open_with(Outcome.FAILING, counted=False)


def test_an_id_that_the_provider_will_not_take_is_set_aside_for_a_person() -> None:
    assert after_delete(AnswerKind.REJECTED, status=422) == Settlement(
        state=State.QUARANTINED, outcome=Outcome.REJECTED, counted=True
    )


@pytest.mark.parametrize("kind,breaker", STOPS.items())
def test_what_is_wrong_with_the_account_stops_it_and_charges_the_response_nothing(
    kind: AnswerKind, breaker: Breaker
) -> None:
    stopped = Settlement(state=State.LIVE, stop=breaker)
    assert after_delete(kind, status=405) == stopped
    assert absence(Answer(kind=kind)) == stopped
    assert verification(kind) == Settlement(state=State.VERIFYING, verify_at=NOW, stop=breaker)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 501])
def test_a_stop_that_may_follow_the_deed_is_remembered(status: int) -> None:
    assert after_delete(AnswerKind.MISCONFIGURED, status=status) == Settlement(
        state=State.LIVE, touched=True, stop=Breaker.CONFIGURATION
    )


def test_what_was_never_sent_changes_nothing() -> None:
    assert after_delete(AnswerKind.NOT_SENT) == Settlement(state=State.LIVE)


@pytest.mark.parametrize(
    "facts,result",
    [
        (FRESH, Outcome.ALREADY_ABSENT),
        (replace(FRESH, touched=True), Outcome.ABSENT_AFTER_ATTEMPT),
        (replace(FRESH, yes_at=NOW), Outcome.ABSENT_AFTER_ATTEMPT),
        (replace(FRESH, created_at=NOW - MONTH), Outcome.EXPIRED_BY_PROVIDER),
        (
            replace(FRESH, created_at=NOW - MONTH, label_set_seen=False),
            Outcome.EXPIRED_BY_PROVIDER,
        ),
        (replace(FRESH, created_at=NOW - MONTH, touched=True), Outcome.ABSENT_AFTER_ATTEMPT),
    ],
)
def test_a_settled_404_is_called_by_what_can_have_caused_it(facts: Facts, result: Outcome) -> None:
    assert absence(facts=facts) == Settlement(state=State.GONE, outcome=result)


@pytest.mark.parametrize(
    "facts",
    [
        replace(FRESH, label_set_seen=False),
        replace(FRESH, label_set_seen=False, created_at=NOW - MONTH + timedelta(seconds=1)),
        replace(FRESH, label_set_seen=False, created_at=NOW - MONTH * 9, lifetime=None),
    ],
)
def test_a_404_of_a_kind_that_this_key_has_never_seen_stays_open(facts: Facts) -> None:
    assert absence(facts=facts) == open_with(Outcome.NOT_VISIBLE)


def test_a_404_without_controls_around_it_stays_open_whatever_was_done_before() -> None:
    for facts in (FRESH, SAID_YES, replace(FRESH, created_at=NOW - MONTH)):
        assert absence(facts=facts, bracketed=False) == open_with(Outcome.NOT_VISIBLE)


def test_a_404_that_no_get_confirms_stays_open() -> None:
    assert absence(None) == open_with(Outcome.NOT_VISIBLE)
    for kind in set(AnswerKind) - {AnswerKind.ABSENT, AnswerKind.PRESENT} - STOPS.keys():
        assert absence(Answer(kind=kind)) == open_with(Outcome.NOT_VISIBLE)
    pause = Answer(kind=AnswerKind.THROTTLED, retry_after=timedelta(minutes=5))
    assert absence(pause) == open_with(Outcome.NOT_VISIBLE, wait=300.0)


def test_a_response_that_can_be_read_after_its_404_is_unconfirmed() -> None:
    assert absence(Answer(kind=AnswerKind.PRESENT)) == open_with(Outcome.UNCONFIRMED)


def test_a_404_to_the_get_verifies_a_yes() -> None:
    verified = Settlement(state=State.GONE, outcome=Outcome.DELETED, verified=True)
    assert verification() == verified
    ten_minutes = replace(SAID_YES, yes_at=NOW - timedelta(minutes=10))
    assert verification(facts=ten_minutes) == verified
    old = replace(SAID_YES, yes_at=NOW - timedelta(minutes=11))
    assert verification(facts=old, bracketed=True) == verified
    assert verification(facts=old).state is State.VERIFYING


@pytest.mark.parametrize(
    "facts",
    [
        replace(SAID_YES, get_seen=False),
        replace(SAID_YES, yes_here=False),
        replace(SAID_YES, yes_at=None),
        replace(SAID_YES, yes_at=NOW + timedelta(minutes=11)),
    ],
    ids=["no GET ever answered 200", "another key or URL", "no yes", "a yes of the future"],
)
def test_a_404_verifies_nothing_when_this_key_could_not_know(facts: Facts) -> None:
    assert verification(facts=facts) == Settlement(
        state=State.VERIFYING, counted=True, verify_at=NOW + timedelta(seconds=1)
    )


def test_another_key_of_the_account_verifies_between_controls_if_it_sees_the_kind() -> None:
    other = replace(SAID_YES, yes_here=False, yes_same_account=True)
    assert verification(facts=other, bracketed=True).verified
    for facts, bracketed in (
        (other, False),
        (replace(other, label_set_seen=False), True),
        (replace(other, get_seen=False), True),
        (replace(other, yes_same_account=False), True),
    ):
        assert verification(facts=facts, bracketed=bracketed).state is State.VERIFYING


def test_an_undecided_verification_changes_nothing_and_is_tried_again() -> None:
    for kind in set(AnswerKind) - {AnswerKind.ABSENT, AnswerKind.PRESENT} - STOPS.keys():
        assert verification(kind, bracketed=True) == Settlement(
            state=State.VERIFYING,
            counted=kind is not AnswerKind.THROTTLED,
            verify_at=NOW + timedelta(seconds=1),
        )


def test_a_response_that_can_be_read_after_the_yes_is_still_present_and_deleted_again() -> None:
    assert verification(AnswerKind.PRESENT) == open_with(Outcome.STILL_PRESENT)


def test_a_verification_that_is_throttled_waits_for_as_long_as_the_provider_asks() -> None:
    pause = Answer(kind=AnswerKind.THROTTLED, retry_after=timedelta(minutes=5))
    told = outcome.settle_verification(pause, SAID_YES, bracketed=False, now=NOW, jitter=0.5)
    assert told.verify_at == NOW + timedelta(minutes=5)


def test_a_yes_whose_verification_was_switched_off_is_deleted_but_not_verified() -> None:
    assert outcome.without_verification(SAID_YES) == Settlement(
        state=State.GONE, outcome=Outcome.DELETED
    )
    with pytest.raises(ValueError, match="answered yes"):
        outcome.without_verification(FRESH)


@pytest.mark.parametrize(
    "kind,facts,counts",
    [
        (AnswerKind.ABSENT, FRESH, True),
        (AnswerKind.MISPLACED, FRESH, True),
        (AnswerKind.YES, FRESH, False),
        (AnswerKind.HTML, FRESH, False),
        (AnswerKind.ABSENT, replace(FRESH, touched=True), False),
        (AnswerKind.ABSENT, SAID_YES, False),
        (AnswerKind.ABSENT, replace(FRESH, created_at=NOW - MONTH), False),
        (AnswerKind.ABSENT, replace(FRESH, created_at=NOW - MONTH, lifetime=None), True),
    ],
)
def test_only_a_404_that_should_not_be_counts_in_the_breaker(
    kind: AnswerKind, facts: Facts, counts: bool
) -> None:
    answer = Answer(kind=kind, status=404)
    assert outcome.counts_as_not_found(answer, facts, NOW) is counts


ANSWERS = st.builds(
    Answer,
    kind=st.sampled_from(AnswerKind),
    status=st.none() | st.sampled_from([200, 404, 408, 425, 429, 500, 503]),
    retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(hours=1)),
)
UNTOUCHED = st.builds(
    Facts,
    created_at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 1)).map(  # noqa: DTZ001 - hypothesis wants naive bounds
        lambda at: at.replace(tzinfo=UTC)
    ),
    touched=st.just(False),
    failures=st.just(0),
    lifetime=st.sampled_from([None, MONTH]),
    verify=st.booleans(),
    label_set_seen=st.booleans(),
    yes_at=st.none(),
    yes_here=st.just(False),
    yes_same_account=st.just(False),
    get_seen=st.booleans(),
)
JITTER = st.floats(0, 1, exclude_max=True)


Steps = list[tuple[Answer, Answer | None, bool, timedelta]]


@dataclass
class Story:
    """One response's life as the ledger keeps it, with what really was answered on the way."""

    facts: Facts
    now: datetime = NOW
    state: State = State.LIVE
    last: Settlement | None = None
    touched: bool = False
    said_yes: bool = False
    verified_by: tuple[Answer, bool, datetime] | None = None
    absences_bracketed: bool = False

    def delete(self, answer: Answer, get: Answer | None, jitter: float, *, bracketed: bool) -> None:
        settled = outcome.after_delete(answer, self.facts, now=self.now, jitter=jitter)
        if settled is None:
            self.absences_bracketed = bracketed
            settled = outcome.settle_absence(
                get, self.facts, bracketed=bracketed, now=self.now, jitter=jitter
            )
        else:
            self.touched |= answer.may_have_been_carried_out
        self.said_yes |= answer.kind is AnswerKind.YES
        self.keep(settled)

    def verify(self, get: Answer, jitter: float, *, bracketed: bool) -> None:
        settled = outcome.settle_verification(
            get, self.facts, bracketed=bracketed, now=self.now, jitter=jitter
        )
        self.verified_by = (get, bracketed, self.now)
        self.keep(settled)

    def keep(self, settled: Settlement) -> None:
        self.state, self.last = settled.state, settled
        self.facts = replace(
            self.facts,
            touched=self.facts.touched or settled.touched,
            failures=self.facts.failures + settled.counted,
            yes_at=self.now if settled.yes else self.facts.yes_at,
            yes_here=settled.yes or self.facts.yes_here,
        )


WAITS = st.timedeltas(timedelta(0), timedelta(minutes=15)) | st.timedeltas(timedelta(0), MONTH)
STEPS = st.lists(
    st.tuples(ANSWERS, st.none() | ANSWERS, st.booleans(), WAITS),
    max_size=12,
)


def told(facts: Facts, steps: Steps, jitter: float, *, never_bracketed: bool = False) -> Story:
    story = Story(facts)
    for answer, get, bracketed, wait in steps:
        around = bracketed and not never_bracketed
        if story.state is State.LIVE:
            story.delete(answer, get, jitter, bracketed=around)
        elif story.state is State.VERIFYING and get is not None:
            story.verify(get, jitter, bracketed=around)
        story.now += wait
    return story


@given(facts=UNTOUCHED, steps=STEPS, jitter=JITTER)
def test_without_controls_and_without_a_yes_no_sequence_of_answers_ends_gone(
    facts: Facts, steps: Steps, jitter: float
) -> None:
    story = told(facts, steps, jitter, never_bracketed=True)
    if not story.said_yes:
        assert story.state is not State.GONE
    if story.state is State.GONE:
        assert story.last is not None
        assert story.last.outcome is Outcome.DELETED


@given(facts=UNTOUCHED, steps=STEPS, jitter=JITTER)
def test_what_we_may_have_deleted_is_never_called_already_absent(
    facts: Facts, steps: Steps, jitter: float
) -> None:
    story = told(facts, steps, jitter)
    if story.last is not None and story.last.outcome is Outcome.ALREADY_ABSENT:
        assert not story.touched
        assert story.facts.label_set_seen
        assert story.absences_bracketed


@given(facts=UNTOUCHED, steps=STEPS, jitter=JITTER)
def test_only_a_yes_leads_to_deleted_and_only_a_404_after_it_to_verified(
    facts: Facts, steps: Steps, jitter: float
) -> None:
    story = told(facts, steps, jitter)
    assert story.last is None or story.said_yes or story.last.outcome is not Outcome.DELETED
    if story.last is not None and story.last.verified:
        assert story.said_yes
        assert story.facts.get_seen
        assert story.verified_by is not None
        get, bracketed, at = story.verified_by
        assert get.kind is AnswerKind.ABSENT
        assert story.facts.yes_at is not None
        assert bracketed or at - story.facts.yes_at <= timedelta(minutes=10)


@given(facts=UNTOUCHED, steps=STEPS, jitter=JITTER)
def test_every_settlement_fits_the_ledgers_checks(
    facts: Facts, steps: Steps, jitter: float
) -> None:
    settled = told(facts, steps, jitter).last
    if settled is None:
        return
    assert (settled.state is State.GONE) == (settled.outcome in TERMINAL)
    assert (settled.state is State.VERIFYING) == (settled.verify_at is not None)
    assert not settled.verified or settled.outcome is Outcome.DELETED
    assert settled.next_try_at is None or settled.state is State.LIVE
    assert settled.stop is None or not (settled.counted or settled.outcome)
