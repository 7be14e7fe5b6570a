import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.sandbox.store import Store


def numbered(lifetime: float | None = None) -> Store:
    numbers = itertools.count()
    return Store(lifetime=lifetime, new_id=lambda: f"resp_{next(numbers)}")


@given(
    moments=st.lists(st.integers(min_value=0, max_value=30), max_size=60),
    gone=st.sets(st.integers(min_value=0, max_value=59)),
    limit=st.integers(min_value=1, max_value=7),
    now=st.integers(min_value=0, max_value=40),
)
def test_walking_all_pages_either_way_shows_each_living_response_once_in_order(
    moments: list[int], gone: set[int], limit: int, now: int
) -> None:
    store = numbered(lifetime=20)
    made = [(at, store.create("a", created_at=at, given={}).id) for at in moments]
    for index in gone & set(range(len(made))):
        store.delete("a", made[index][1], now=0)
    living = [
        (at, index, made[index][1])
        for index, (at, _) in enumerate(made)
        if index not in gone and at > now - 20
    ]
    expected = [name for _, _, name in sorted(living, reverse=True)]
    forward: list[str] = []
    for _ in range(len(made) + 1):
        after = forward[-1] if forward else None
        page = store.page("a", now=now, limit=limit, after=after, before=None)
        assert page is not None
        forward += [stored.id for stored in page.responses]
        if not page.has_more:
            break
    backward: list[str] = expected[-1:]
    for _ in range(len(made)):
        if backward[:1] == expected[:1]:
            break
        page = store.page("a", now=now, limit=limit, after=None, before=backward[0])
        assert page is not None
        backward = [stored.id for stored in page.responses] + backward
        assert page.has_more == (backward[0] != expected[0])
    assert forward == backward == expected
    assert store.count("a", now=now) == len(expected)


def test_places_of_deleted_responses_are_given_up() -> None:
    store = numbered()
    ids = store.create_directly("a", count=1_000, created_at=5)
    for response_id in ids[:-1]:
        assert store.delete("a", response_id, now=9)
    assert len(store._shelves["a"]._order) < 70
    page = store.page("a", now=9, limit=5, after=None, before=None)
    assert page is not None
    assert [stored.id for stored in page.responses] == ids[-1:]


def test_an_id_comes_back_as_another_response_only_after_its_deletion() -> None:
    store = numbered()
    store.create("a", created_at=1, given={}, response_id="x")
    with pytest.raises(ValueError, match="already has"):
        store.create("a", created_at=2, given={}, response_id="x")
    store.create("b", created_at=2, given={}, response_id="x")
    store.delete("a", "x", now=3)
    store.create("a", created_at=2, given={}, response_id="x")
    page = store.page("a", now=3, limit=5, after=None, before=None)
    assert page is not None
    assert [stored.created_at for stored in page.responses] == [2]
    assert not store.delete("a", "y", now=3)


def test_thousands_are_made_at_equal_distances() -> None:
    store = numbered()
    ids = store.create_directly("a", count=3, created_at=10, spacing=5, given={"user": "u"})
    found = [store.get("a", response_id, now=0) for response_id in ids]
    assert [stored and stored.created_at for stored in found] == [10, 15, 20]
    assert found[0] is not None
    assert found[0].given["user"] == "u"


def test_a_place_of_a_deleted_response_also_passes_away() -> None:
    store = numbered(lifetime=10)
    first, _ = store.create_directly("a", count=2, created_at=0)
    store.delete("a", first, now=1)
    assert store.ids("a", now=50) == frozenset()
