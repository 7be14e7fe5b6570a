"""Write what a batch of registrations changes: its records, new rows, links and counts."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.domain.response import State
from sweeper.evidence.record import RecordType
from sweeper.ledger import database, links, records, tables
from sweeper.ledger.links import Link
from sweeper.ledger.records import Entry
from sweeper.ledger.standings import CONFLICTING, REJECTED, Standing, Standings

_R = tables.responses
_SETS = tables.label_sets

_ITEM: Final = 16
_SALT: Final = 32
"""Bytes of randomness in an item's name and in the salt of its commitments."""
_BYTES: Final = _ITEM + _SALT

_PLAIN: Final = ("account_id", "response_id:text", "label_set_id", "created_at")
_WHOLE: Final = (
    *_PLAIN,
    *("first_created_at", "subject:text", "previous_response_id:text", "parent_id"),
    *("state:text", "quarantine_reason:text"),
)


class _Orphan(NamedTuple):
    """A known response whose previous one has just come."""

    pk: int
    item: str
    parent: int


def write(connection: sa.Connection, known: Standings, now: int) -> None:
    """Write a merged batch; `now` is in microseconds.

    Rows of responses are locked before the log's head, as settling does, and in the order of
    their keys: nobody waits in a circle.
    """
    new = [row for row in known if row.is_new]
    new.sort(key=attrgetter("account_id", "response_id"))
    new.sort(key=attrgetter("stands_out"))
    random = _number(connection, new)
    orphans = _orphans(connection, new)
    decided = links.decide(connection, _wanted(known, orphans))
    _lock(connection, known, orphans)
    aside = [row for row in known if row.is_disputed and _set_aside(row)]
    aside += [row for row in new if not row.is_response]
    entries = [*_registered(new), *_quarantined(aside)]
    if decided.dropped:
        items = {row.pk: row.item for row in (*known, *orphans)}
        entries += _dropped(decided.dropped, items)
    seqs = records.append(connection, entries, now=now) if entries else range(0)
    parents = {link.child: link.parent for link in decided.made}
    if new:
        _insert(connection, new, random, parents, at=now, seq=seqs[0])
    _update(connection, [row for row in known if row.is_changed and not row.is_new])
    _link(connection, parents, {row.pk for row in new})
    _count(connection, new, aside)


def _number(connection: sa.Connection, new: Sequence[Standing]) -> bytes:
    """Give the new rows successive keys and their items' names; return what they are made of."""
    if not new:
        return b""
    if connection.dialect.name == "sqlite":
        first = (connection.execute(sa.select(sa.func.max(_R.c.id))).scalar_one() or 0) + 1
    else:
        sequence = sa.func.pg_get_serial_sequence("responses", "id")
        first = connection.execute(sa.select(sa.func.nextval(sequence))).scalar_one()
        connection.execute(sa.select(sa.func.setval(sequence, first + len(new) - 1)))
    random = os.urandom(len(new) * _BYTES)
    for index, row in enumerate(new):
        row.pk = first + index
        row.item = random[index * _BYTES : index * _BYTES + _ITEM].hex()
    return random


def _orphans(connection: sa.Connection, new: Sequence[Standing]) -> list[_Orphan]:
    some, find = _orphan_statements(connection.dialect.name)
    responses = [row for row in new if row.is_response]
    if not responses or connection.execute(some).first() is None:
        return []
    keys = json.dumps([[row.account_id, row.response_id, row.pk] for row in responses])
    return [_Orphan(*row) for row in connection.execute(find, {"keys": keys})]


@cache
def _orphan_statements(dialect: str) -> tuple[sa.Select[Any], sa.Select[Any]]:
    # Both conditions of the partial index are written out, or SQLite would not use it.
    waiting = (_R.c.previous_response_id.is_not(None), _R.c.parent_id.is_(None))
    keys = database.rows_for(dialect, "keys", "account_id", "response_id:text", "pk")
    find = sa.select(_R.c.id, _R.c.item, keys.c.pk).where(
        *waiting,
        _R.c.account_id == keys.c.account_id,
        _R.c.previous_response_id == keys.c.response_id,
    )
    return sa.select(_R.c.id).where(*waiting).limit(1), find


def _wanted(known: Standings, orphans: Sequence[_Orphan]) -> list[Link]:
    wanted: dict[int, Link] = {}
    for row in known:
        if row.parent_id is None and (row.is_new or row.is_continued):
            before = known.previous(row)
            if before is not None:
                wanted[row.pk] = Link(row.pk, before.pk, is_leaf=row.is_new)
    for orphan in orphans:
        wanted[orphan.pk] = Link(orphan.pk, orphan.parent, is_leaf=False)
    return list(wanted.values())


def _lock(connection: sa.Connection, known: Standings, orphans: Sequence[_Orphan]) -> None:
    """Lock what will be changed, and take the states that settling may have changed since."""
    rows = {row.pk: row for row in known if not row.is_new and (row.is_changed or row.is_disputed)}
    keys = sorted(rows.keys() | {orphan.pk for orphan in orphans})
    if not keys or connection.dialect.name == "sqlite":
        return
    wanted = database.rows(connection, "keys", "pk")
    states = connection.execute(
        sa.select(_R.c.id, _R.c.state, _R.c.quarantine_reason)
        .where(_R.c.id.in_(sa.select(wanted.c.pk)))
        .order_by(_R.c.id)
        .with_for_update(),
        {"keys": json.dumps([[key] for key in keys])},
    )
    for pk, state, reason in states:
        if (row := rows.get(pk)) is not None:
            row.state, row.quarantine_reason = state, reason


def _set_aside(row: Standing) -> bool:
    """Set a disputed response aside; of one on loan only the reason: settling does the rest.

    A dispute outlasts a refusal: who lets a refused one be tried again decides no dispute.
    """
    if row.state == State.GONE or row.quarantine_reason not in (None, REJECTED):
        return False
    row.quarantine_reason = CONFLICTING
    row.is_changed = True
    if row.state == State.LIVE:
        row.state = State.QUARANTINED
        row.has_left = not row.is_new
    return True


def _registered(new: Sequence[Standing]) -> list[Entry]:
    if not new:
        return []
    items = sha256("\n".join(sorted(row.item for row in new)).encode()).hexdigest()
    fields = {"count": len(new), "items_sha256": items}
    return [Entry(type=RecordType.ITEM_REGISTERED, fields=fields)]


def _quarantined(aside: Sequence[Standing]) -> list[Entry]:
    return [
        Entry(
            type=RecordType.ITEM_QUARANTINED,
            fields={"item": row.item, "reason": row.quarantine_reason},
        )
        for row in aside
    ]


def _dropped(dropped: Sequence[Link], items: Mapping[int, str]) -> list[Entry]:
    return [
        Entry(
            type=RecordType.LINK_DROPPED,
            fields={"item": items[link.child], "previous": items[link.parent]},
        )
        for link in dropped
    ]


def _insert(
    connection: sa.Connection,
    new: Sequence[Standing],
    random: bytes,
    parents: Mapping[int, int],
    *,
    at: int,
    seq: int,
) -> None:
    """Insert the new rows: most of them are plain, and need the fewest columns to cross."""
    plain = sum(not row.stands_out for row in new)
    short = [
        (row.account_id, row.response_id, row.label_set_id, row.created_at) for row in new[:plain]
    ]
    long = [
        (
            row.account_id,
            row.response_id,
            row.label_set_id,
            row.created_at,
            row.first_created_at,
            row.subject,
            row.previous,
            parents.get(row.pk),
            row.state,
            row.quarantine_reason,
        )
        for row in new[plain:]
    ]
    split = plain * _BYTES
    for names, rows, part in ((_PLAIN, short, random[:split]), (_WHOLE, long, random[split:])):
        if rows:
            values = {"new": json.dumps(rows), "random": part, "at": at, "seq": seq}
            first = new[0].pk if names is _PLAIN else new[plain].pk
            connection.execute(
                _insertion(connection.dialect.name, names), values | {"first": first}
            )


@cache
def _insertion(dialect: str, names: tuple[str, ...]) -> sa.Insert:
    new = database.rows_for(dialect, "new", *names)
    first, at, seq = (sa.bindparam(name, type_=tables.BIG) for name in ("first", "at", "seq"))
    columns = {column.name: column for column in new.c if column.name != "ord"}
    values: dict[str, sa.ColumnElement[Any]] = {
        "id": new.c.ord + first,
        "item": _hexadecimal(dialect, new.c.ord * _BYTES + 1, _ITEM),
        "salt": _hexadecimal(dialect, new.c.ord * _BYTES + 1 + _ITEM, _SALT),
        "registered_at": at,
        "registered_seq": seq,
        "first_created_at": new.c.created_at,
        **columns,
    }
    return sa.insert(_R).from_select([*values], sa.select(*values.values()))


def _hexadecimal(dialect: str, start: sa.ColumnElement[int], length: int) -> sa.ColumnElement[str]:
    """A part of the random bytes: sent once, they cost far less than texts in every row."""
    random = sa.bindparam("random", type_=sa.LargeBinary)
    if dialect == "sqlite":
        return sa.func.lower(sa.func.hex(sa.func.substr(random, start, length)))
    return sa.func.encode(sa.func.substr(random, sa.cast(start, sa.Integer), length), "hex")


def _update(connection: sa.Connection, changed: Sequence[Standing]) -> None:
    if not changed:
        return
    rows = [
        [row.pk, row.created_at, row.subject, row.previous, row.state, row.quarantine_reason]
        for row in changed
    ]
    new = database.rows(
        connection,
        "changed",
        *("pk", "created_at", "subject:text", "previous:text", "state:text", "reason:text"),
    )
    connection.execute(
        sa.update(_R)
        .where(_R.c.id == new.c.pk)
        .values(
            created_at=new.c.created_at,
            subject=new.c.subject,
            previous_response_id=new.c.previous,
            state=new.c.state,
            quarantine_reason=new.c.reason,
        ),
        {"changed": json.dumps(rows)},
    )


def _link(connection: sa.Connection, parents: Mapping[int, int], new: set[int]) -> None:
    """Link the responses that were known before; new ones came with their link."""
    rows = [[child, parent] for child, parent in parents.items() if child not in new]
    if not rows:
        return
    made = database.rows(connection, "made", "child", "parent")
    connection.execute(
        sa.update(_R).where(_R.c.id == made.c.child).values(parent_id=made.c.parent),
        {"made": json.dumps(rows)},
    )


def _count(connection: sa.Connection, new: Sequence[Standing], aside: Sequence[Standing]) -> None:
    counts = Counter(row.label_set_id for row in new if row.state == State.LIVE)
    counts.subtract(row.label_set_id for row in aside if row.has_left)
    rows = [[label_set, n] for label_set, n in sorted(counts.items()) if n]
    if not rows:
        return
    change = database.rows(connection, "counts", "label_set_id", "n")
    connection.execute(
        sa.update(_SETS)
        .where(_SETS.c.id == change.c.label_set_id)
        .values(live_count=_SETS.c.live_count + change.c.n),
        {"counts": json.dumps(rows)},
    )
