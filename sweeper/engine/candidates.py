"""Give one account's due responses in order: earliest due first, after what continues them."""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sweeper.ledger.claims import Wanted
from sweeper.ledger.responses import Candidate, Parent

_MOST_IN_MEMORY: Final = 4000
_SMALLEST_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000

Row = Candidate | Parent
ReadPage = Callable[[int, int, tuple[int, int] | None, int], Sequence[Candidate]]
"""Reads one page of leaves: label set, cut-off, place to go on after, most rows."""
ReadParents = Callable[[Sequence[int]], Sequence[Parent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is due of one label set: created at or before `cutoff`, being kept for `keep`.

    Both in microseconds. At most `most` of them may be claimed.
    """

    label_set_id: int
    cutoff: int
    keep: int
    most: int


class _Stream:
    """The leaves of one label set, oldest first, read a page at a time."""

    def __init__(self, cut: Cut, page: int) -> None:
        self._cut = cut
        self._page = page
        self._rows: deque[Candidate] = deque()
        self._after: tuple[int, int] | None = None
        self._ended = False

    def head(self, read: ReadPage) -> Candidate | None:
        if not self._rows and not self._ended:
            rows = read(self._cut.label_set_id, self._cut.cutoff, self._after, self._page)
            self._rows.extend(rows)
            self._ended = len(rows) < self._page
            if rows:
                self._after = (rows[-1].created_at, rows[-1].id)
        return self._rows[0] if self._rows else None

    def skip(self) -> None:
        self._rows.popleft()


class Order:
    """Merges the leaves of all label sets with the parents that nothing keeps any more."""

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self.cuts: Mapping[int, Cut] = {cut.label_set_id: cut for cut in cuts}
        page = _MOST_IN_MEMORY // max(1, len(self.cuts))
        page = min(_LARGEST_PAGE, max(_SMALLEST_PAGE, page))
        self._streams = {key: _Stream(cut, page) for key, cut in self.cuts.items()}
        self._idle = list(self._streams)
        self._heads: list[tuple[int, int, int]] = []
        self._parents: list[tuple[int, int, Row]] = []
        self._held_back: list[tuple[int, int, Row]] = []

    def freed(self, parents: Iterable[Row]) -> None:
        """Let parents take their turn, as far as they are due themselves."""
        for row in parents:
            cut = self.cuts.get(row.label_set_id)
            if cut is not None and row.created_at <= cut.cutoff:
                heapq.heappush(self._parents, (row.created_at + cut.keep, row.id, row))

    def forget(self, pks: Collection[int]) -> None:
        """Take back what was freed."""
        self._held_back = [one for one in self._held_back if one[1] not in pks]
        self._parents = [one for one in self._parents if one[1] not in pks]
        heapq.heapify(self._parents)

    def pop(self, read: ReadPage, may: Callable[[int], bool] = lambda _: True) -> Row | None:
        """The next one of a label set that `may` be given now; None when there is none."""
        self._wake(read, may)
        while self._parents or self._heads:
            if self._parents and (not self._heads or self._parents[0][:2] <= self._heads[0][:2]):
                parent = heapq.heappop(self._parents)
                if may(parent[2].label_set_id):
                    return parent[2]
                self._held_back.append(parent)
                continue
            _, _, label_set_id = heapq.heappop(self._heads)
            self._idle.append(label_set_id)
            if may(label_set_id):
                stream = self._streams[label_set_id]
                head = stream.head(read)
                stream.skip()
                return head
        return None

    def has(self, read: ReadPage, may: Callable[[int], bool]) -> bool:
        """Whether `pop` would give one."""
        self._wake(read, may)
        waiting = (row.label_set_id for _, _, row in self._parents)
        return any(map(may, waiting)) or any(may(key) for _, _, key in self._heads)

    def _wake(self, read: ReadPage, may: Callable[[int], bool]) -> None:
        held, self._held_back = self._held_back, []
        for parent in held:
            if may(parent[2].label_set_id):
                heapq.heappush(self._parents, parent)
            else:
                self._held_back.append(parent)
        idle, self._idle = self._idle, []
        for label_set_id in idle:
            if not may(label_set_id):
                self._idle.append(label_set_id)
                continue
            row = self._streams[label_set_id].head(read)
            if row is not None:
                due = row.created_at + self.cuts[label_set_id].keep
                heapq.heappush(self._heads, (due, row.id, label_set_id))


class Family:
    """Tells, while a plan is made, which parents are kept by no child that is not planned."""

    def __init__(self) -> None:
        self._new: Counter[int] = Counter()
        self._left: dict[int, tuple[int, Parent]] = {}

    @property
    def pending(self) -> int:
        return len(self._new)

    def planned(self, row: Row) -> None:
        if row.parent_id is not None:
            self._new[row.parent_id] += 1

    def resolve(self, read: ReadParents) -> list[Parent]:
        """The parents of which every child that is not gone has now been planned."""
        new, self._new = self._new, Counter()
        unknown = [key for key in new if key not in self._left]
        for parent in read(unknown) if unknown else ():
            self._left[parent.id] = (parent.children, parent)
        freed = []
        for key, planned in new.items():
            if key not in self._left:
                continue
            children, parent = self._left.pop(key)
            if children > planned:
                self._left[key] = (children - planned, parent)
            elif parent.eligible:
                freed.append(parent)
        return freed


class Queue:
    """What one account's sweep may still claim: what was planned, and no more of any label set.

    What was claimed once and came back is tried again when its time has come, without counting
    twice. What is taken, claimed and freed in one transaction stays so when it is kept; before the
    next one it is undone otherwise.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self._order = Order(cuts)
        self._left = Counter({cut.label_set_id: cut.most for cut in self._order.cuts.values()})
        self._retries: list[tuple[int, int, int]] = []
        self._asked: dict[int, int] = {}
        self._done: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Begin a transaction, as though the one before had not been unless it was kept."""
        done, self._done = self._done, []
        for undo in reversed(done):
            undo()

    def keep(self) -> None:
        """The transaction is committed."""
        self._done.clear()

    def take(self, most: int, now: int, read: ReadPage) -> list[Wanted]:
        """Up to `most` responses to claim now."""
        wanted: list[Wanted] = []
        while self._retries and self._retries[0][0] <= now and len(wanted) < most:
            again = heapq.heappop(self._retries)
            self._done.append(partial(heapq.heappush, self._retries, again))
            wanted.append(self._wanted(*again[1:], now))
        self._asked = {}
        asked: Counter[int] = Counter()

        def may(label_set_id: int) -> bool:
            return asked[label_set_id] < self._left[label_set_id]

        while len(wanted) < most:
            row = self._order.pop(read, may)
            if row is None:
                break
            self._done.append(partial(self._order.freed, (row,)))
            asked[row.label_set_id] += 1
            self._asked[row.id] = row.label_set_id
            wanted.append(self._wanted(row.id, row.label_set_id, now))
        return wanted

    def is_drained(self, now: int, read: ReadPage) -> bool:
        """Whether there is nothing to take at this time."""
        if self._retries and self._retries[0][0] <= now:
            return False
        return not self._order.has(read, lambda key: self._left[key] > 0)

    def claimed(self, pks: Iterable[int]) -> None:
        """Charge those of the last take that were claimed, unless they were charged before."""
        charged = Counter(self._asked[pk] for pk in pks if pk in self._asked)
        self._left.subtract(charged)
        self._done.append(partial(self._left.update, charged))

    def returned(self, pk: int, label_set_id: int, next_try_at: int) -> None:
        """Keep a response in mind that is to be tried again."""
        if label_set_id in self._order.cuts:
            heapq.heappush(self._retries, (next_try_at, pk, label_set_id))

    def freed(self, parents: Iterable[Row]) -> None:
        rows = tuple(parents)
        self._order.freed(rows)
        self._done.append(partial(self._order.forget, {row.id for row in rows}))

    def _wanted(self, pk: int, label_set_id: int, now: int) -> Wanted:
        """With the cut-off of the plan, or of now where that is earlier: a clock may go back."""
        cut = self._order.cuts[label_set_id]
        return Wanted(pk, label_set_id, min(cut.cutoff, now - cut.keep))
