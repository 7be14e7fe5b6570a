"""What the stand-in keeps: responses per account, newest first, for their lifetime; pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_MODEL = "accounts/sandbox/models/stand-in"
_SPARE = 64

View = Mapping[str, str]
"""Metadata that a response must carry to be seen; empty sees everything."""
EVERYTHING: View = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One response; `given` is what its creator asked for and gets back."""

    id: str
    created_at: int
    serial: int
    given: Mapping[str, Any] = field(repr=False)

    def is_seen(self, view: View) -> bool:
        metadata = self.given.get("metadata") or {}
        return all(metadata.get(name) == value for name, value in view.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    responses: list[Stored]
    has_more: bool


class Shelf:
    """One account's responses.

    The order keeps the places of deleted responses until half of it is empty, so that a
    deletion costs the same however many responses there are.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Stored] = {}
        self._order: list[tuple[int, int, str]] = []
        self._sorted = True

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def get(self, response_id: str) -> Stored | None:
        return self._by_id.get(response_id)

    def put(self, stored: Stored) -> None:
        place = (stored.created_at, stored.serial, stored.id)
        self._sorted = self._sorted and (not self._order or self._order[-1] <= place)
        self._order.append(place)
        self._by_id[stored.id] = stored

    def remove(self, response_id: str) -> None:
        del self._by_id[response_id]
        if len(self._order) > 2 * len(self._by_id) + _SPARE:
            self._order = [place for place in self._order if self._at(place) is not None]

    def drop_until(self, created_at: int) -> None:
        """Forget all that was created at that second or earlier."""
        order = self._in_order()
        if not order or order[0][0] > created_at:
            return
        end = bisect_right(order, created_at, key=lambda place: place[0])
        for place in order[:end]:
            if self._at(place) is not None:
                del self._by_id[place[2]]
        del order[:end]

    def page(
        self, *, limit: int, after: str | None, before: str | None, view: View = EVERYTHING
    ) -> Page | None:
        """A page, newest first; None where a cursor names no response."""
        order = self._in_order()
        low, high = 0, len(order)
        if before is not None:
            if (place := self._place(before, view)) is None:
                return None
            low = bisect_right(order, place)
        if after is not None:
            if (place := self._place(after, view)) is None:
                return None
            high = bisect_left(order, place)
        backwards = before is not None and after is None
        span = range(low, high) if backwards else range(high - 1, low - 1, -1)
        found: list[Stored] = []
        for index in span:
            stored = self._at(order[index])
            if stored is not None and stored.is_seen(view):
                found.append(stored)
            if len(found) > limit:
                break
        page = found[:limit]
        return Page(responses=page[::-1] if backwards else page, has_more=len(found) > limit)

    def _in_order(self) -> list[tuple[int, int, str]]:
        if not self._sorted:
            self._order.sort()
            self._sorted = True
        return self._order

    def _place(self, response_id: str, view: View) -> tuple[int, int, str] | None:
        stored = self._by_id.get(response_id)
        if stored is None or not stored.is_seen(view):
            return None
        return stored.created_at, stored.serial, stored.id

    def _at(self, place: tuple[int, int, str]) -> Stored | None:
        stored = self._by_id.get(place[2])
        return stored if stored is not None and stored.serial == place[1] else None


class Store:
    """All accounts; `now` is always Unix seconds, a lifetime of None keeps for ever."""

    def __init__(self, *, lifetime: float | None, new_id: Callable[[], str]) -> None:
        self.lifetime = lifetime
        self._new_id = new_id
        self._serial = 0
        self._shelves: dict[str, Shelf] = {}

    def create(
        self,
        account: str,
        *,
        created_at: float,
        given: Mapping[str, Any],
        response_id: str | None = None,
        keep: bool = True,
    ) -> Stored:
        """A new response; with `keep=False` it is made up but not stored.

        Raises ValueError if the account already has a response of that id.
        """
        chosen = self._new_id() if response_id is None else response_id
        shelf = self._shelves.setdefault(account, Shelf())
        if shelf.get(chosen) is not None:
            raise ValueError(f"the account already has a response {chosen!r}")
        self._serial += 1
        stored = Stored(id=chosen, created_at=int(created_at), serial=self._serial, given=given)
        if keep:
            shelf.put(stored)
        return stored

    def create_directly(
        self,
        account: str,
        *,
        count: int,
        created_at: float,
        spacing: float = 0,
        given: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Thousands at once, past the API; their ids, in the order of creation.

        The first is created at `created_at`, each further one `spacing` seconds later.
        """
        asked = {"model": DEFAULT_MODEL, **(given or {})}
        moments = (created_at + index * spacing for index in range(count))
        return [self.create(account, created_at=at, given=asked).id for at in moments]

    def get(
        self, account: str, response_id: str, *, now: float, view: View = EVERYTHING
    ) -> Stored | None:
        stored = self._shelf(account, now).get(response_id)
        return stored if stored is not None and stored.is_seen(view) else None

    def delete(
        self, account: str, response_id: str, *, now: float, view: View = EVERYTHING
    ) -> bool:
        """Whether it was there to be seen, and so is deleted."""
        if self.get(account, response_id, now=now, view=view) is None:
            return False
        self._shelf(account, now).remove(response_id)
        return True

    def page(
        self,
        account: str,
        *,
        now: float,
        limit: int,
        after: str | None,
        before: str | None,
        view: View = EVERYTHING,
    ) -> Page | None:
        """A page, newest first; None where a cursor names no response."""
        shelf = self._shelf(account, now)
        return shelf.page(limit=limit, after=after, before=before, view=view)

    def ids(self, account: str, *, now: float) -> frozenset[str]:
        """What the account still has."""
        return frozenset(self._shelf(account, now))

    def count(self, account: str, *, now: float) -> int:
        return len(self._shelf(account, now))

    def _shelf(self, account: str, now: float) -> Shelf:
        shelf = self._shelves.setdefault(account, Shelf())
        if self.lifetime is not None:
            shelf.drop_until(int(now - self.lifetime))
        return shelf
