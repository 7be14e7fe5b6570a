"""What is known of the responses that a batch speaks of: read at once, merged in memory."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from sweeper.domain import moment, registration
from sweeper.domain.registration import Known, Registration, Verdict
from sweeper.domain.response import ResponseId, State
from sweeper.ledger import accounts, database, tables
from sweeper.ledger.strays import Stray

_R = tables.responses
_SETS = tables.label_sets

CONFLICTING: Final = "conflicting"
REJECTED: Final = "rejected"
MALFORMED: Final = "malformed"
NO_LABELS: Final = "{}"

_Key = tuple[int, str]


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """One response while a batch is merged; times in microseconds, a new one's `pk` comes last.

    Without `first_created_at` it is a row that broke the rules: nothing is merged into it and
    nothing links to it.
    """

    pk: int
    account_id: int
    response_id: str
    label_set_id: int
    labels: str
    created_at: int | None
    first_created_at: int | None
    subject: str | None = None
    previous: str | None = None
    parent_id: int | None = None
    state: str = State.LIVE
    quarantine_reason: str | None = None
    item: str = ""
    is_new: bool = False
    is_changed: bool = False
    is_continued: bool = False
    """It has been given a previous response that it had not, so a link may be wanted."""
    is_disputed: bool = False
    has_left: bool = False
    """It was live before this batch, which sets it aside."""

    @property
    def is_response(self) -> bool:
        return self.first_created_at is not None

    @property
    def stands_out(self) -> bool:
        """It has a subject, a previous response or a dispute, or not one time that stands."""
        return (
            self.subject is not None
            or self.previous is not None
            or self.first_created_at is None
            or self.first_created_at != self.created_at
            or self.is_disputed
        )

    def merge(self, new: Registration) -> registration.Merged:
        """Merge what is now said; what conflicts changes nothing but marks the dispute."""
        assert self.first_created_at is not None
        assert self.created_at is not None
        merged = registration.merge(
            Known(
                first_created_at=moment.from_us(self.first_created_at),
                created_at=moment.from_us(self.created_at),
                labels=self.labels,
                subject=self.subject,
                previous_response_id=None if self.previous is None else ResponseId(self.previous),
            ),
            new,
        )
        if merged.verdict is Verdict.CONFLICTING:
            self.is_disputed = True
            return merged
        created_at = moment.to_us(merged.created_at)
        before = (self.created_at, self.subject, self.previous)
        after = (created_at, merged.subject, merged.previous_response_id)
        if before != after:
            self.is_changed = True
            self.is_continued = self.is_continued or self.previous != merged.previous_response_id
            self.created_at, self.subject, self.previous = after
        return merged


class Standings:
    """The standings of a batch: those of the ledger, and the new ones in order of arrival."""

    def __init__(self, connection: sa.Connection, batch: Sequence[Registration | Stray]) -> None:
        self._accounts = accounts.ensure(connection, {row.account for row in batch})
        self._label_sets = label_sets(
            connection, {(self._accounts[row.account], _labels(row)) for row in batch}
        )
        self._found = _read(connection, set(self._keys(batch)))

    def _keys(self, batch: Iterable[Registration | Stray]) -> Iterator[_Key]:
        for row in batch:
            account_id = self._accounts[row.account]
            yield account_id, row.response_id
            if isinstance(row, Registration) and row.previous_response_id is not None:
                yield account_id, row.previous_response_id

    def find(self, row: Registration | Stray) -> Standing | None:
        return self._found.get((self._accounts[row.account], row.response_id))

    def previous(self, standing: Standing) -> Standing | None:
        """The standing that this one continues, when it is known and a response."""
        if standing.previous is None:
            return None
        found = self._found.get((standing.account_id, standing.previous))
        return found if found is not None and found.is_response else None

    def add(self, row: Registration | Stray) -> Standing:
        account_id, labels = self._accounts[row.account], _labels(row)
        created_at = None if row.created_at is None else moment.to_us(row.created_at)
        standing = Standing(
            pk=0,
            account_id=account_id,
            response_id=row.response_id,
            label_set_id=self._label_sets[account_id, labels],
            labels=labels,
            created_at=created_at,
            first_created_at=None,
            is_new=True,
        )
        if isinstance(row, Registration):
            standing.first_created_at = created_at
            standing.subject = row.subject
            standing.previous = row.previous_response_id
        else:
            standing.state = State.QUARANTINED
            standing.quarantine_reason = f"{MALFORMED}:{row.fault.reason}"
        self._found[account_id, row.response_id] = standing
        return standing

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._found.values())


def _labels(row: Registration | Stray) -> str:
    return row.labels if isinstance(row, Registration) else NO_LABELS


def label_sets(connection: sa.Connection, wanted: set[_Key]) -> dict[_Key, int]:
    """Give each account and labels a label set, and return the keys."""
    values = {"wanted": json.dumps(sorted(wanted))}
    add, find = _label_set_statements(connection.dialect.name)
    found = {(row.account_id, row.labels): row.id for row in connection.execute(find, values)}
    if missing := sorted(wanted - found.keys()):
        connection.execute(add, {"wanted": json.dumps(missing)})
        rows = connection.execute(find, values)
        found = {(row.account_id, row.labels): row.id for row in rows}
    return found


@cache
def _label_set_statements(dialect: str) -> tuple[sa.Insert, sa.Select[Any]]:
    wanted = database.rows_for(dialect, "wanted", "account_id", "labels:text")
    add = sa.insert(_SETS).from_select(
        ["account_id", "labels"],
        sa.select(wanted.c.account_id, wanted.c.labels).order_by(wanted.c.ord),
    )
    find = sa.select(_SETS.c.id, _SETS.c.account_id, _SETS.c.labels).where(
        _SETS.c.account_id == wanted.c.account_id, _SETS.c.labels == wanted.c.labels
    )
    return add, find


def _read(connection: sa.Connection, keys: set[_Key]) -> dict[_Key, Standing]:
    rows = connection.execute(_known(connection.dialect.name), {"keys": json.dumps(sorted(keys))})
    return {
        (row.account_id, row.response_id): Standing(
            pk=row.id,
            account_id=row.account_id,
            response_id=row.response_id,
            label_set_id=row.label_set_id,
            labels=row.labels,
            created_at=row.created_at,
            first_created_at=row.first_created_at,
            subject=row.subject,
            previous=row.previous_response_id,
            parent_id=row.parent_id,
            state=row.state,
            quarantine_reason=row.quarantine_reason,
            item=row.item,
        )
        for row in rows
    }


@cache
def _known(dialect: str) -> sa.Select[Any]:
    keys = database.rows_for(dialect, "keys", "account_id", "response_id:text")
    return sa.select(
        _R.c.id,
        _R.c.account_id,
        _R.c.response_id,
        _R.c.label_set_id,
        _SETS.c.labels,
        _R.c.created_at,
        _R.c.first_created_at,
        _R.c.subject,
        _R.c.previous_response_id,
        _R.c.parent_id,
        _R.c.state,
        _R.c.quarantine_reason,
        _R.c.item,
    ).where(
        _R.c.account_id == keys.c.account_id,
        _R.c.response_id == keys.c.response_id,
        _SETS.c.id == _R.c.label_set_id,
    )
