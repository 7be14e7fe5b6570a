"""Nothing is deleted by a clock that another clock contradicts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain.clock import Mark, Reading, Sighting, doubt, moved

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SKEW = timedelta(minutes=2)
SIGHTING = Sighting(date=NOON, wall=NOON, boot=1000.0)
OFFSETS = st.floats(-300, 300).map(lambda s: timedelta(seconds=s))


def later(seconds: float, *, wall_off: float = 0.0, database: float | None = None) -> Reading:
    wall = NOON + timedelta(seconds=seconds + wall_off)
    return Reading(
        wall=wall,
        boot=1000.0 + seconds,
        database=None if database is None else wall + timedelta(seconds=database),
    )


def judge(
    reading: Reading,
    *,
    sighting: Sighting | None = SIGHTING,
    last_good: datetime | None = None,
    skew: timedelta = SKEW,
    trust_local: bool = False,
) -> str | None:
    return doubt(
        reading, sighting=sighting, last_good=last_good, skew=skew, trust_local=trust_local
    )


def test_a_clock_that_all_others_confirm_is_trusted() -> None:
    assert judge(later(599, database=1.0), last_good=NOON) is None
    assert judge(later(0)) is None
    assert judge(later(600, wall_off=-120, database=120), last_good=NOON) is None


def test_without_a_date_from_the_provider_nothing_is_trusted_unless_told_so() -> None:
    assert judge(later(5), sighting=None) == "The provider has not sent a Date yet."
    assert judge(later(5), sighting=None, trust_local=True) is None


def test_an_old_date_is_no_date() -> None:
    assert judge(later(601)) == "The provider's last Date is 601 s old."
    assert judge(later(601), trust_local=True) is None


def test_an_old_date_that_disagrees_counts_even_for_a_trusted_local_clock() -> None:
    assert judge(later(90_000, wall_off=300), trust_local=True) == (
        "The wall clock is 300 s ahead of the provider's Date."
    )


@pytest.mark.parametrize(
    "off,sentence",
    [
        (121, "The wall clock is 121 s ahead of the provider's Date."),
        (-121, "The wall clock is 121 s behind the provider's Date."),
        (86_400 * 365, "The wall clock is 31536000 s ahead of the provider's Date."),
    ],
)
def test_a_wall_clock_away_from_the_providers_date_is_doubted(off: float, sentence: str) -> None:
    sighting = replace(SIGHTING, wall=NOON + timedelta(seconds=off))
    assert judge(later(30, wall_off=off), sighting=sighting) == sentence


def test_a_wall_clock_that_steps_within_the_skew_of_the_date_is_seen_by_its_drift() -> None:
    sighting = replace(SIGHTING, wall=NOON + timedelta(seconds=100))
    assert judge(later(30, wall_off=-100), sighting=sighting) == (
        "The wall clock has moved 200 s against the boot clock."
    )


def test_a_boot_clock_that_runs_backwards_is_doubted_whatever_is_trusted() -> None:
    sentence = "The boot clock runs 5 s before the provider's last Date."
    assert judge(later(-5)) == sentence
    assert judge(later(-5), trust_local=True) == sentence


def test_the_databases_clock_has_a_say() -> None:
    assert judge(later(5, database=121.0)) == "The wall clock is 121 s behind the database's clock."
    assert judge(later(5, database=-121.0), sighting=None, trust_local=True) == (
        "The wall clock is 121 s ahead of the database's clock."
    )


def test_time_never_goes_back_behind_the_last_good_moment() -> None:
    good = NOON + timedelta(seconds=126)
    assert judge(later(5), last_good=good) == (
        "The wall clock is 121 s behind the last time at which it was right."
    )
    assert judge(later(6), last_good=good) is None
    assert judge(later(5), sighting=None, trust_local=True, last_good=NOON + SKEW * 9) is not None


@given(
    off=OFFSETS,
    drift=OFFSETS,
    database=st.none() | OFFSETS,
    good=st.none() | OFFSETS,
    age=st.floats(-10, 700),
    sighted=st.booleans(),
    trust=st.booleans(),
    skew=st.integers(0, 400),
    more=st.integers(0, 600),
)
def test_more_tolerance_never_makes_a_doubt_and_more_knowledge_never_removes_one(
    *,
    off: timedelta,
    drift: timedelta,
    database: timedelta | None,
    good: timedelta | None,
    age: float,
    sighted: bool,
    trust: bool,
    skew: int,
    more: int,
) -> None:
    wall = NOON + off + timedelta(seconds=age)
    reading = Reading(
        wall=wall, boot=1000.0 + age, database=None if database is None else wall + database
    )
    sighting = Sighting(date=NOON, wall=NOON + off + drift, boot=1000.0) if sighted else None
    last_good = None if good is None else wall + good

    def doubted(
        *,
        length: int = skew,
        trusted: bool = trust,
        clock: Reading = reading,
        past: datetime | None = last_good,
    ) -> bool:
        sentence = doubt(
            clock,
            sighting=sighting,
            last_good=past,
            skew=timedelta(seconds=length),
            trust_local=trusted,
        )
        return sentence is not None

    if not doubted():
        assert not doubted(length=skew + more)
        assert not doubted(trusted=True)
        assert not doubted(clock=replace(reading, database=None))
        assert not doubted(past=None)
        if last_good is not None:
            assert not doubted(past=last_good - timedelta(seconds=more))


def test_being_set_by_no_more_than_the_skew_is_no_jump() -> None:
    since, skew = Mark(wall=NOON, boot=1000.0), SKEW.total_seconds()
    for way in (1, -1):
        assert moved(later(60, wall_off=way * skew), since, SKEW) is None
        assert moved(later(60, wall_off=way * (skew + 1)), since, SKEW) is not None
