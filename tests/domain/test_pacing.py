"""A rate is kept in every window, never made up for, and found where nobody told it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.domain import pacing
from sweeper.domain.pacing import Pacer
from tests.support import limits
from tests.support.limits import Behaviour

RATES = st.floats(1 / 3600, 2000)
STEPS = st.lists(
    st.tuples(st.sampled_from(["slot", "slot", "slot", "pause", "slow", "raise"]), st.floats(0, 5)),
    max_size=80,
)


def slots_of(pacer: Pacer, steps: list[tuple[str, float]], start: float) -> list[float]:
    """Play arrivals and events; the waits are in spacings, so that every rate is tried hard."""
    now, slots = start, []
    for what, wait in steps:
        now += wait * wait / pacer.rate / 3
        if what == "pause":
            pacer = pacing.paused(pacer, now + 2 * wait / pacer.rate)
        elif what == "slow":
            pacer = pacing.throttled(pacer, now, now - wait / pacer.rate)
        elif what == "raise":
            pacer = pacing.recovered(pacer, now, now - wait / pacer.rate)
        else:
            pacer, slot = pacing.reserve(pacer, now)
            assert slot >= now
            assert slot >= pacer.paused_until
            slots.append(slot)
    return slots


@settings(deadline=None)
@given(rate=RATES, steps=STEPS, start=st.floats(0, 1e7))
def test_any_half_open_window_holds_at_most_its_share_of_slots(
    rate: float, steps: list[tuple[str, float]], start: float
) -> None:
    slots = slots_of(Pacer(rate=rate), steps, start)
    for first in range(len(slots)):
        for last in range(first, len(slots)):
            # The shortest windows that hold both are a hair longer than their distance, so
            # the rounding up of w·rate is the rounding down of distance·rate and one more.
            assert last - first + 1 <= int((slots[last] - slots[first]) * rate) + 1


@given(rate=RATES, idle=st.floats(0, 1e5))
def test_nothing_is_made_up_for_after_an_idle_time(rate: float, idle: float) -> None:
    pacer, first = pacing.reserve(Pacer(rate=rate), 100.0)
    slots = [first]
    for _ in range(20):
        pacer, slot = pacing.reserve(pacer, 100.0 + idle)
        slots.append(slot)
    assert slots[1] >= 100.0 + idle
    assert all((later - earlier) * rate >= 1 for earlier, later in pairwise(slots))


@settings(deadline=None)
@given(rate=RATES)
def test_a_saturated_pacer_uses_almost_all_of_its_rate(rate: float) -> None:
    pacer, first = pacing.reserve(Pacer(rate=rate), 50.0)
    slot = first
    for _ in range(1000):
        pacer, slot = pacing.reserve(pacer, 50.0)
    assert 0.985 * rate <= 1000 / (slot - first) <= rate


def test_slots_stand_on_one_grid_however_late_each_is_asked_for() -> None:
    pacer = Pacer(rate=100.0)
    pacer, first = pacing.reserve(pacer, 0.0)
    slot = first
    for _ in range(500):
        pacer, slot = pacing.reserve(pacer, slot + 0.009)
    assert slot == pytest.approx(500 / 99)


@given(rate=RATES, late=st.lists(st.floats(0, 3), min_size=2, max_size=60), start=st.floats(0, 1e6))
def test_requests_that_leave_late_keep_the_rate_between_them(
    rate: float, late: list[float], start: float
) -> None:
    pacer, now, gone = Pacer(rate=rate), start, []
    for share in late:
        pacer, slot = pacing.reserve(pacer, now)
        now = slot + share / rate
        pacer = pacing.sent(pacer, now)
        gone.append(now)
    assert all((later - earlier) * rate > 0.999 for earlier, later in pairwise(gone))


def test_a_pause_that_comes_while_a_request_waits_for_its_slot_lets_no_two_out_together() -> None:
    pacer, _ = pacing.reserve(Pacer(rate=10.0), 0.0)
    pacer = pacing.sent(pacing.paused(pacer, 60.0), 60.0)
    assert pacing.reserve(pacer, 60.0)[1] == pytest.approx(60.1)


def test_being_late_by_less_than_a_hundredth_costs_nothing() -> None:
    pacer, now = Pacer(rate=100.0), 0.0
    for _ in range(1000):
        pacer, slot = pacing.reserve(pacer, now)
        now = slot + 0.00009
        pacer = pacing.sent(pacer, now)
    assert now == pytest.approx(999 / 99, abs=0.001)


def test_a_pause_holds_every_slot_and_a_shorter_one_does_not_end_it() -> None:
    pacer = pacing.paused(pacing.paused(Pacer(rate=10.0), 60.0), 30.0)
    pacer, slot = pacing.reserve(pacer, 0.0)
    assert slot == 60.0
    assert pacing.reserve(pacer, 0.0)[1] == pytest.approx(60.0 + 1 / 9.9)


def refused(pacer: Pacer, *times: float) -> Pacer:
    """Refuse what was sent a moment before each of these times."""
    for now in times:
        pacer = pacing.throttled(pacer, now, now - 0.01)
    return pacer


def answered(pacer: Pacer, *times: float) -> Pacer:
    for now in times:
        pacer = pacing.recovered(pacer, now, now - 0.01)
    return pacer


def test_a_refusal_slows_down_by_a_tenth_once_a_second_at_most() -> None:
    pacer = refused(Pacer(rate=10.0), 5.0)
    assert pacer.allowed == pytest.approx(0.9)
    assert refused(answered(pacer, 5.5), 5.9).allowed == pytest.approx(0.9, abs=0.001)
    assert refused(answered(pacer, 5.5), 6.0).allowed == pytest.approx(0.81, abs=0.001)


def test_what_was_sent_before_a_refusal_was_known_tells_nothing_new() -> None:
    pacer = refused(Pacer(rate=10.0), 5.0)
    assert pacing.throttled(pacer, 9.0, 4.99) is pacer
    assert pacing.recovered(pacer, 5.2, 4.99).barred
    assert not pacing.recovered(pacer, 5.2, 5.0).barred


def test_while_nothing_but_refusals_comes_each_of_them_is_the_last_that_was_known() -> None:
    pacer = refused(Pacer(rate=10.0), 5.0, 6.0)
    assert pacing.throttled(pacer, 6.1, 5.99) is pacer
    assert pacing.recovered(pacer, 6.1, 5.99).barred


def test_while_nothing_but_refusals_comes_single_requests_ask_ever_more_seldom() -> None:
    pacer, now, waits = refused(Pacer(rate=100.0), 5.0), 5.0, []
    for _ in range(25):
        pacer, slot = pacing.reserve(pacer, now)
        pacer, second = pacing.reserve(pacer, now)
        waits.append(second - slot)
        now = slot + 0.2
        pacer = pacing.throttled(pacer, now, slot)
    assert waits[:4] == pytest.approx([1 / 89.1, 1.0, 1.25, 1.5625])
    assert waits[-1] == 60.0
    assert pacer.allowed == pytest.approx(0.9)


def test_the_first_answer_after_refusals_lets_the_account_work_again_at_once() -> None:
    pacer = refused(Pacer(rate=100.0), *range(5, 2000, 10))
    assert pacer.opens_at(2000.0) == pytest.approx(2055)
    pacer, slot = pacing.reserve(pacer, 2055.0)
    assert pacer.opens_at(slot) == pytest.approx(2115)
    pacer = answered(pacer, slot + 0.02)
    assert pacer.opens_at(slot + 0.02) == slot + 0.02
    pacer, _ = pacing.reserve(pacer, slot + 0.02)
    assert 1 / 99 < pacer.opens_at(slot) - slot - 0.02 < 1 / 89


def test_answers_and_time_give_the_rate_back_and_no_more() -> None:
    whole = Pacer(rate=10.0)
    assert answered(whole, 5.0) is whole
    slowed = refused(whole, 5.0)
    assert slowed.allowed < answered(slowed, 6.0).allowed < 0.91
    assert answered(slowed, 5.0).allowed == slowed.allowed
    assert answered(slowed, *range(6, 500)).allowed == 1.0


@pytest.mark.parametrize("apart,seconds", [(0.01, 200), (1.0, 200), (6.0, 1200), (600.0, 3600)])
def test_the_way_back_takes_200_seconds_and_200_answers_but_an_hour_at_most(
    apart: float, seconds: float
) -> None:
    """So many seconds after a refusal the rate is where it was, and not much sooner."""
    pacer, now = refused(Pacer(rate=100.0, allowed=0.5, ceiling=0.5), 0.0), 0.0
    assert pacer.allowed == pytest.approx(0.45)
    while now < seconds - apart / 2:
        now += apart
        pacer = answered(pacer, now)
        if now < seconds / 2:
            assert pacer.allowed < 0.495
    assert pacer.allowed == pytest.approx(0.5, abs=0.001)


def test_the_rate_is_never_lowered_by_an_answer_that_is_none_of_a_refusal() -> None:
    pacer = refused(Pacer(rate=100.0), 1.0)
    for now in range(2, 300):
        before, pacer = pacer, answered(pacer, float(now))
        assert pacer.allowed >= before.allowed


@given(
    rate=RATES,
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 120)), max_size=200),
)
def test_the_rate_stays_between_one_a_minute_and_what_is_configured(
    rate: float, events: list[tuple[bool, float]]
) -> None:
    pacer, now = Pacer(rate=rate), 0.0
    for was_refused, wait in events:
        now += wait
        pacer = refused(pacer, now) if was_refused else answered(pacer, now)
        assert min(rate, 1 / 60) * 0.999 <= pacer.allowed * rate <= rate
        assert 1 / rate <= pacer.spacing <= max(1 / rate, 60) / 0.989


@given(rate=RATES, now=st.floats(0, 1000), seconds=st.floats(0, 100), pause=st.floats(0, 200))
def test_as_many_slots_can_be_had_as_are_promised(
    rate: float, now: float, seconds: float, pause: float
) -> None:
    pacer = pacing.reserve(pacing.paused(Pacer(rate=rate), pause), now)[0]
    promised = pacing.slots_within(pacer, now, seconds)
    if promised > 300:
        return
    had, slot = 0, 0.0
    for _ in range(promised + 1):
        pacer, slot = pacing.reserve(pacer, now)
        had += slot <= now + seconds + 1e-6
    assert had >= promised
    assert slot > now + seconds - 1e-6


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="finite number of requests"):
        Pacer(rate=rate)


@pytest.mark.parametrize("kind", ["bucket without room", "bucket of five", "any ten seconds"])
@pytest.mark.parametrize("guides", [False, True])
def test_half_the_configured_rate_is_found_and_kept(kind: str, *, guides: bool) -> None:
    limit = limits.KINDS[kind](2.0)
    played = limits.play(
        Pacer(rate=4.0), limit, until=1800, behaviour=Behaviour(latency=0.5, guides=guides)
    )
    assert played.used(2.0, 600, 1800) >= 0.95
    assert played.refused(600, 1800) <= 0.02
