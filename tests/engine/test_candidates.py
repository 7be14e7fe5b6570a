"""The order in which due responses are given, and what becomes of those that cannot go yet."""

from collections.abc import Sequence

from sweeper.engine.candidates import Cut, Family, Queue
from sweeper.ledger.responses import Candidate, Parent


def leaf(
    pk: int, created_at: int, label_set_id: int = 1, parent_id: int | None = None
) -> Candidate:
    return Candidate(pk, f"resp_{pk}", created_at, label_set_id, parent_id)


def cut(label_set_id: int = 1, most: int = 10, keep: int = 100) -> Cut:
    return Cut(label_set_id=label_set_id, cutoff=1000, keep=keep, most=most)


class Shelf:
    """What a ledger would read."""

    def __init__(self, *rows: Candidate) -> None:
        self.rows = sorted(rows, key=lambda row: (row.created_at, row.id))

    def __call__(
        self, label_set_id: int, cutoff: int, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Candidate]:
        return [
            row
            for row in self.rows
            if row.label_set_id == label_set_id
            and row.created_at <= cutoff
            and (after is None or (row.created_at, row.id) > after)
        ][:limit]


class TestAQueue:
    def test_it_gives_the_earliest_due_across_label_sets(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 30), leaf(3, 20, 2), leaf(4, 900, 2))
        queue = Queue([cut(1), cut(2)])
        assert [one.pk for one in queue.take(9, 0, read)] == [1, 3, 2, 4]

    def test_due_means_created_and_kept(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 50, 2))
        queue = Queue([cut(1, keep=100), cut(2, keep=10)])
        assert [one.pk for one in queue.take(9, 0, read)] == [2, 1]

    def test_it_gives_no_more_of_a_label_set_than_was_planned(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 20), leaf(3, 30, 2))
        queue = Queue([cut(1, most=1), cut(2)])
        first = queue.take(9, 0, read)
        assert [one.pk for one in first] == [1, 3]
        queue.claimed([1, 3])
        assert queue.take(9, 0, read) == []
        assert queue.is_drained(0, read)

    def test_what_is_due_is_judged_by_the_earlier_of_the_plans_time_and_now(self) -> None:
        plan_time, keep = 1000, 100
        for now, cutoff in ((plan_time + 50, 900), (plan_time - 50, 850)):
            fresh = Cut(label_set_id=1, cutoff=plan_time - keep, keep=keep, most=9)
            (one,) = Queue([fresh]).take(9, now, Shelf(leaf(1, 10)))
            assert one.cutoff == cutoff
            again = Queue([fresh])
            again.returned(1, 1, next_try_at=0)
            (one,) = again.take(1, now, Shelf())
            assert one.cutoff == cutoff

    def test_what_could_not_be_claimed_leaves_its_place_to_another(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 20))
        queue = Queue([cut(most=1)])
        assert [one.pk for one in queue.take(9, 0, read)] == [1]
        assert not queue.is_drained(0, read)
        assert [one.pk for one in queue.take(9, 0, read)] == [2]

    def test_what_comes_back_is_given_at_its_time_and_counts_once(self) -> None:
        read = Shelf(leaf(1, 10))
        queue = Queue([cut(most=1)])
        queue.claimed(one.pk for one in queue.take(1, 0, read))
        queue.returned(1, 1, next_try_at=50)
        queue.returned(9, 77, next_try_at=0)  # of a label set that is not planned for
        assert queue.take(9, 49, read) == []
        assert queue.is_drained(49, read)
        assert not queue.is_drained(50, read)
        assert [one.pk for one in queue.take(9, 50, read)] == [1]
        queue.claimed([1])

    def test_a_freed_parent_takes_its_turn_by_when_it_is_due(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 30))
        queue = Queue([cut()])
        queue.freed([leaf(7, 20), leaf(8, 2000), leaf(9, 5, label_set_id=3)])
        assert [one.pk for one in queue.take(9, 0, read)] == [1, 7, 2]

    def test_a_parent_that_has_no_room_now_is_not_forgotten(self) -> None:
        read = Shelf(leaf(1, 10))
        queue = Queue([cut(most=1)])
        queue.freed([leaf(7, 20)])
        assert [one.pk for one in queue.take(9, 0, read)] == [1]
        assert not queue.is_drained(0, read)  # 1 was not claimed: its place is free
        assert [one.pk for one in queue.take(9, 0, read)] == [7]
        queue.claimed([7])
        queue.freed([leaf(8, 30)])
        assert queue.take(9, 0, read) == []
        assert queue.take(9, 0, read) == []
        assert queue.is_drained(0, read)

    def test_what_a_transaction_did_that_was_not_kept_is_undone(self) -> None:
        read = Shelf(leaf(1, 10), leaf(2, 20), leaf(3, 30))
        queue = Queue([cut(most=2)])
        queue.returned(9, 1, 5)
        queue.begin()
        queue.freed([Parent(7, "resp_7", 15, 1, None, 0, eligible=True)])
        first = [one.pk for one in queue.take(3, 8, read)]
        queue.claimed(first)
        assert first == [9, 1, 7]
        queue.begin()
        assert [one.pk for one in queue.take(9, 8, read)] == [9, 1, 2]
        queue.claimed([1, 2])
        queue.keep()
        queue.begin()
        assert queue.take(9, 8, read) == []

    def test_pages_are_read_to_their_end(self) -> None:
        read = Shelf(
            *(leaf(pk, pk) for pk in range(1, 1000)), *(leaf(pk, 1000) for pk in range(1000, 1200))
        )
        queue = Queue([cut(key, most=5000) for key in range(1, 90)])
        given = [one.pk for one in queue.take(5000, 0, read)]
        assert given == list(range(1, 1200))


class TestAFamily:
    def test_a_parent_is_free_when_its_last_child_is_planned(self) -> None:
        family = Family()
        parent = Parent(5, "resp_5", 1, 1, None, 2, eligible=True)
        family.planned(leaf(1, 10, parent_id=5))
        assert family.pending == 1
        assert family.resolve(lambda _: [parent]) == []
        family.planned(leaf(2, 10, parent_id=5))
        assert family.resolve(lambda _: []) == [parent]
        family.planned(leaf(3, 10))
        assert family.pending == 0

    def test_one_that_may_not_be_tried_yet_stays(self) -> None:
        family = Family()
        family.planned(leaf(1, 10, parent_id=5))
        parent = Parent(5, "resp_5", 1, 1, None, 1, eligible=False)
        assert family.resolve(lambda _: [parent]) == []

    def test_one_that_is_unknown_stays(self) -> None:
        family = Family()
        family.planned(leaf(1, 10, parent_id=5))
        assert family.resolve(lambda _: []) == []
