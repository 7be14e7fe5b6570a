"""Link responses to the ones they continue, so that no chain of links ever closes a circle."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from sweeper.ledger import database, tables

_R = tables.responses


class Link(NamedTuple):
    """A response and the one it continues, by their keys; `is_leaf`: nothing continues it yet."""

    child: int
    parent: int
    is_leaf: bool


class Decided(NamedTuple):
    """Links to make, and links that would have closed a circle."""

    made: list[Link]
    dropped: list[Link]


class Forest:
    """Knows of each response only the root of its chain, which is all that a circle needs.

    A link goes from a root to a member of some chain; it closes a circle when that chain is its
    own. Paths are halved on the way, so a batch costs little more than its length.
    """

    def __init__(self) -> None:
        self._up: dict[int, int] = {}

    def link(self, child: int, parent: int) -> bool:
        """Link `child`, a root, below `parent`; False, and no link, where it closes a circle."""
        root = self._root(parent)
        if root == self._root(child):
            return False
        self._up[child] = root
        return True

    def _root(self, member: int) -> int:
        up = self._up
        while (above := up.get(member, member)) != member:
            up[member] = up.get(above, above)
            member = above
        return member


def decide(connection: sa.Connection, wanted: Sequence[Link]) -> Decided:
    """Say which of `wanted` may be made; each links a response that has no link yet."""
    forest = Forest()
    parents = {link.parent for link in wanted}
    # A response that nothing continues is nobody's ancestor, so its link closes no circle and
    # the way up from there need not be read.
    starts = {link.parent for link in wanted if not link.is_leaf or link.child in parents}
    for child, parent in _ancestry(connection, starts):
        forest.link(child, parent)
    decided = Decided(made=[], dropped=[])
    for link in wanted:
        found = decided.made if forest.link(link.child, link.parent) else decided.dropped
        found.append(link)
    return decided


def _ancestry(connection: sa.Connection, starts: Iterable[int]) -> list[tuple[int, int]]:
    """Read every link on the ways up from `starts`, each once."""
    wanted = json.dumps([[start] for start in starts])
    if wanted == "[]":
        return []
    text = connection.execute(_upwards(connection.dialect.name), {"starts": wanted}).scalar_one()
    return [(child, parent) for child, parent in json.loads(text or "[]")]


@cache
def _upwards(dialect: str) -> sa.Select[Any]:
    starts = database.rows_for(dialect, "starts", "id")
    up = (
        sa.select(_R.c.id, _R.c.parent_id)
        .where(_R.c.id.in_(sa.select(starts.c.id)), _R.c.parent_id.is_not(None))
        .cte("up", recursive=True)
    )
    above = tables.responses.alias("above")
    # UNION keeps each link once, so a circle that somebody wrote into the table ends as well.
    up = up.union(
        sa.select(above.c.id, above.c.parent_id).where(
            above.c.id == up.c.parent_id, above.c.parent_id.is_not(None)
        )
    )
    return sa.select(database.as_array(dialect, up.c.id, up.c.parent_id))
