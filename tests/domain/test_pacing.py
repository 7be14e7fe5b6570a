"""A rate is kept in every window, never made up for, and found where nobody told it."""

import heapq
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.domain import pacing
from sweeper.domain.pacing import Pacer

RATES = st.floats(1 / 60, 2000)
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
            pacer = pacing.throttled(pacer, now)
        elif what == "raise":
            pacer = pacing.recovered(pacer, now)
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


def test_a_refusal_slows_down_by_a_tenth_once_a_second_at_most() -> None:
    pacer = pacing.throttled(Pacer(rate=10.0), 5.0)
    assert pacer.allowed == pytest.approx(0.9)
    assert pacing.throttled(pacer, 5.9) is pacer
    assert pacing.throttled(pacer, 6.0).allowed == pytest.approx(0.81)


def test_answers_and_time_give_the_rate_back_and_no_more() -> None:
    whole = Pacer(rate=10.0)
    assert pacing.recovered(whole, 5.0) is whole
    slowed = pacing.throttled(whole, 5.0)
    assert slowed.allowed < pacing.recovered(slowed, 6.0).allowed < 0.901
    assert pacing.recovered(slowed, 5.0).allowed == slowed.allowed
    assert pacing.recovered(slowed, 2000.0).allowed == 1.0


@given(
    rate=RATES,
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 120)), max_size=200),
)
def test_the_rate_stays_between_one_a_minute_and_what_is_configured(
    rate: float, events: list[tuple[bool, float]]
) -> None:
    pacer, now = Pacer(rate=rate), 0.0
    for refused, wait in events:
        now += wait
        pacer = pacing.throttled(pacer, now) if refused else pacing.recovered(pacer, now)
        assert min(rate, 1 / 60) * 0.999 <= pacer.allowed * rate <= rate


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


class Server:
    """A provider that enforces its limit exactly, with room for a few requests at once."""

    def __init__(self, *, limit: float, burst: int) -> None:
        self.limit = limit
        self.tolerance = (burst - 1) / limit + 1e-9
        self.full_until = 0.0

    def takes(self, now: float) -> bool:
        if self.full_until - now > self.tolerance:
            return False
        self.full_until = max(self.full_until, now) + 1 / self.limit
        return True


def play(
    pacer: Pacer, server: Server, *, start: float, end: float, latency: float
) -> tuple[Pacer, list[tuple[float, bool]]]:
    """Send in virtual time as fast as the pacer lets us; answers come `latency` later."""
    answers: list[tuple[float, bool]] = []
    sent: list[tuple[float, bool]] = []
    now = start
    while now < end:
        pacer, now = pacing.reserve(pacer, now)
        while answers and answers[0][0] <= now:
            at, taken = heapq.heappop(answers)
            pacer = pacing.recovered(pacer, at) if taken else pacing.throttled(pacer, at)
        taken = server.takes(now)
        sent.append((now, taken))
        heapq.heappush(answers, (now + latency, taken))
    return pacer, sent


def shares(sent: list[tuple[float, bool]], limit: float, seconds: float) -> tuple[float, float]:
    taken = sum(was for _, was in sent)
    return taken / (limit * seconds), 1 - taken / len(sent)


@pytest.mark.parametrize("burst", [2, 5])
@pytest.mark.parametrize("latency", [0.05, 0.5])
@pytest.mark.parametrize("rate", [2.0, 10.0, 100.0])
def test_half_the_configured_rate_is_found_from_the_start(
    rate: float, latency: float, burst: int
) -> None:
    server = Server(limit=rate / 2, burst=burst)
    _, sent = play(Pacer(rate=rate), server, start=0.0, end=600.0, latency=latency)
    used, refused = shares(sent, rate / 2, 600)
    assert used >= 0.95
    assert refused <= 0.02


def test_half_of_one_a_second_is_kept_once_it_is_found() -> None:
    server = Server(limit=0.5, burst=2)
    pacer, _ = play(Pacer(rate=1.0), server, start=0.0, end=60.0, latency=0.5)
    _, sent = play(pacer, server, start=60.0, end=660.0, latency=0.5)
    used, refused = shares(sent, 0.5, 600)
    assert used >= 0.95
    assert refused <= 0.02


def test_a_storm_of_refusals_keeps_one_a_minute_and_passes() -> None:
    class Refusing(Server):
        def takes(self, now: float) -> bool:
            return now >= 6 * 3600 and super().takes(now)

    server = Refusing(limit=100.0, burst=5)
    pacer, sent = play(Pacer(rate=100.0), server, start=0.0, end=6 * 3600.0, latency=0.1)
    moments = [at for at, _ in sent]
    assert len(sent) < 2500
    assert max(later - earlier for earlier, later in pairwise(moments)) < 61
    assert all(later - earlier > 60 for earlier, later in pairwise(moments) if earlier > 600)
    # Ten minutes after it the account is back at work.
    pacer, _ = play(pacer, server, start=moments[-1], end=6 * 3600.0 + 600, latency=0.1)
    assert pacer.allowed > 0.95
