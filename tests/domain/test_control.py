"""A 404 is believed only between two controls of the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain.control import CONTROL_WINDOW, Controls, brackets

EARLIER = st.none() | st.floats(350, 1050)
LATER = st.none() | st.floats(950, 1700)


def controls(at: float | None, *, pinned: bool = True, identity: float | None = None) -> Controls:
    return Controls(pinned=pinned, sight_at=at, identity_at=at if identity is None else identity)


def test_controls_on_both_sides_bracket_a_404() -> None:
    assert brackets(controls(990.0), 1000.0, 1001.0, controls(1002.0))


@pytest.mark.parametrize(
    "before,after",
    [
        (None, 1002.0),
        (990.0, None),
        (1000.5, 1002.0),
        (399.9, 1002.0),
        (990.0, 1001.0),
        (990.0, 1601.1),
    ],
    ids=["none before", "none after", "too late", "too old", "not after it", "too much later"],
)
def test_a_missing_or_distant_control_brackets_nothing(
    before: float | None, after: float | None
) -> None:
    assert not brackets(controls(before), 1000.0, 1001.0, controls(after))
    unpinned = (controls(before, pinned=False), controls(after, pinned=False))
    assert not brackets(unpinned[0], 1000.0, 1001.0, unpinned[1])


def test_controls_at_the_very_ends_of_the_window_still_count() -> None:
    assert brackets(controls(400.0), 1000.0, 1001.0, controls(1601.0))
    assert brackets(controls(1000.0), 1000.0, 1001.0, controls(1001.001))


def test_sight_alone_is_enough_only_where_the_provider_names_no_account() -> None:
    before, after = Controls(pinned=True).sighted(990.0), Controls(pinned=True).sighted(1002.0)
    assert not brackets(before, 1000.0, 1001.0, after)
    assert not brackets(before.confirmed(990.0), 1000.0, 1001.0, after)
    assert not brackets(before, 1000.0, 1001.0, after.confirmed(1002.0))
    assert brackets(before.confirmed(990.0), 1000.0, 1001.0, after.confirmed(1002.0))
    assert not brackets(before.confirmed(300.0), 1000.0, 1001.0, after.confirmed(1002.0))
    assert not brackets(before.confirmed(990.0), 1000.0, 1001.0, after.confirmed(1001.0))
    assert brackets(
        Controls(pinned=False).sighted(990.0), 1000.0, 1001.0, Controls(pinned=False).sighted(1002)
    )


def test_what_is_seen_next_takes_no_identity_back_and_the_other_way_round() -> None:
    proved = Controls(pinned=True).confirmed(990.0).sighted(991.0)
    assert proved == Controls(pinned=True, identity_at=990.0, sight_at=991.0)
    assert proved.confirmed(992.0) == Controls(pinned=True, identity_at=992.0, sight_at=991.0)


def test_identity_alone_is_never_enough() -> None:
    before, after = Controls(pinned=True, identity_at=990), Controls(pinned=True, identity_at=1002)
    assert not brackets(before, 1000.0, 1001.0, after)


def test_a_pin_that_came_between_is_no_bracket() -> None:
    assert not brackets(controls(990.0, pinned=False), 1000.0, 1001.0, controls(1002.0))


def test_two_404s_that_lie_too_far_apart_are_not_one_absence() -> None:
    assert not brackets(controls(990.0), 1000.0, 1600.1, controls(1601.0))
    assert not brackets(controls(990.0), 1000.0, 999.0, controls(1002.0))


@given(
    pinned=st.booleans(),
    seen=st.tuples(EARLIER, LATER),
    named=st.tuples(EARLIER, LATER),
    first=st.just(1000.0),
    took=st.floats(0, 700),
)
def test_whatever_is_bracketed_has_every_proof_within_ten_minutes_on_each_side(
    pinned: bool,
    seen: tuple[float | None, float | None],
    named: tuple[float | None, float | None],
    first: float,
    took: float,
) -> None:
    before = Controls(pinned=pinned, sight_at=seen[0], identity_at=named[0])
    after = Controls(pinned=pinned, sight_at=seen[1], identity_at=named[1])
    last = first + took
    if not brackets(before, first, last, after):
        return
    needed = [seen, named] if pinned else [seen]
    for earlier, later in needed:
        assert earlier is not None
        assert later is not None
        assert first - CONTROL_WINDOW <= earlier <= first
        assert last < later <= last + CONTROL_WINDOW


def test_a_404_may_be_of_one_moment_or_of_ten_minutes() -> None:
    assert brackets(controls(990.0), 1000.0, 1000.0, controls(1002.0))
    assert brackets(controls(990.0), 1000.0, 1600.0, controls(1601.0))
