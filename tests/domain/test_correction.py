"""Whether a correction makes anything due earlier is judged by what stood and what stands."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import correction
from sweeper.domain.correction import Basis, Stated
from sweeper.domain.policy import Match, Policy

DAY = timedelta(days=1)
BORN = datetime(2026, 1, 1, tzinfo=UTC)
SUPPORT = Policy(
    name="support",
    match=Match(labels={"app": frozenset({"support"})}),
    delete_after=14 * DAY,
    deadline=DAY,
)
KEPT = Policy(name="kept", match=Match(labels={"app": frozenset({"contracts"})}), delete_after=None)
RULES = (SUPPORT, KEPT)

moments = st.one_of(
    st.none(),
    st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - made aware
        lambda one: one.replace(tzinfo=UTC)
    ),
)


def test_a_basis_names_the_policy_and_its_times() -> None:
    assert correction.basis(RULES, "main", {"app": "support"}, BORN) == Basis(
        policy="support", due_at=BORN + 14 * DAY, deadline_at=BORN + 15 * DAY
    )


def test_what_no_policy_matches_is_never_due() -> None:
    assert correction.basis(RULES, "main", {"app": "other"}, BORN) == correction.NEVER


def test_what_is_kept_for_ever_is_never_due() -> None:
    found = correction.basis(RULES, "main", {"app": "contracts"}, BORN)

    assert found == Basis(policy="kept")


def test_what_nobody_knows_the_age_of_is_never_due() -> None:
    found = correction.basis(RULES, "main", {"app": "support"}, None)

    assert found == Basis(policy="support")


@pytest.mark.parametrize(
    "before, after, earlier",
    [
        (None, None, False),
        (None, BORN, True),
        (BORN, None, False),
        (BORN, BORN, False),
        (BORN, BORN - timedelta(microseconds=1), True),
        (BORN, BORN + timedelta(microseconds=1), False),
    ],
)
def test_never_is_later_than_any_time(
    before: datetime | None, after: datetime | None, *, earlier: bool
) -> None:
    assert correction.is_earlier(Basis(due_at=before), Basis(due_at=after)) is earlier


@given(moments, moments)
def test_of_two_times_that_differ_exactly_one_way_is_earlier(
    one: datetime | None, other: datetime | None
) -> None:
    there = correction.is_earlier(Basis(due_at=one), Basis(due_at=other))
    back = correction.is_earlier(Basis(due_at=other), Basis(due_at=one))

    assert (there, back).count(True) == int(one != other)


@pytest.mark.parametrize(
    "given",
    [{"created_at": BORN}, {"labels": {}}, {"subject": "u-1"}, {"previous_response_id": "resp_0"}],
)
def test_any_statement_is_one(given: dict[str, object]) -> None:
    assert Stated().is_empty
    assert not Stated(**given).is_empty  # type: ignore[arg-type]  # one field at a time
