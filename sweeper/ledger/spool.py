"""Keep how far each file of a spool has been taken in, in the transactions that register it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import sqlalchemy as sa

from sweeper.ledger import database, tables

_F = tables.spool_files
_R = tables.spool_rejects
_WRAP: Final = 1 << 63


class Overtaken(Exception):
    """Somebody else takes in the same file: what was about to be written must not be."""


class File(NamedTuple):
    """Which file it is: another one of its name, or itself once changed, differs in the rest."""

    name: str
    device: int
    inode: int
    size: int
    modified_ns: int


class Reject(NamedTuple):
    """A line that was not kept: its number from 1, the byte at which it begins, and why."""

    line: int
    position: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a file has been taken in: bytes, lines, and what became of them.

    `id` is None before the first transaction. `target` is the name that it gets in `done/`, once
    that had to be settled.
    """

    file: File
    id: int | None = None
    position: int = 0
    lines: int = 0
    tally: Mapping[str, int] = field(default_factory=dict)
    target: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been taken in; the file may still have to be moved."""
        return self.id is not None and self.position == self.file.size


def progress(connection: sa.Connection, spool: str) -> Sequence[Progress]:
    """Every file of the spool that was begun, in the order in which they were."""
    found = connection.execute(sa.select(_F).where(_F.c.spool == spool).order_by(_F.c.id))
    return [
        Progress(
            file=File(row.name, row.device, row.inode, row.size, row.modified_ns),
            id=row.id,
            position=row.position,
            lines=row.lines,
            tally=json.loads(row.tally),
            target=row.target,
        )
        for row in found
    ]


def stored(file: File) -> File:
    """The file as the ledger writes it down: numbers beyond 63 bits come round to negative ones."""
    numbers = (file.device, file.inode, file.size, file.modified_ns)
    return File(file.name, *((each + _WRAP) % (2 * _WRAP) - _WRAP for each in numbers))


def advance(
    connection: sa.Connection,
    spool: str,
    before: Progress,
    after: Progress,
    rejected: Sequence[Reject],
) -> int:
    """Write how far a file has come, in the transaction that registers its lines; its key.

    Raises Overtaken unless the file stands where `before` left it, so that whatever happens each
    line is registered by one transaction only.
    """
    values = {
        "position": after.position,
        "lines": after.lines,
        "tally": json.dumps(dict(after.tally)),
    }
    if before.id is None:
        key = connection.execute(
            database.insert_missing(connection, _F)
            .values(spool=spool, **before.file._asdict(), **values)
            .returning(_F.c.id)
        ).scalar_one_or_none()
    else:
        key = connection.execute(
            sa.update(_F)
            .where(_F.c.id == before.id, _F.c.position == before.position)
            .values(**values)
            .returning(_F.c.id)
        ).scalar_one_or_none()
    if key is None:
        raise Overtaken
    if rejected:
        rows = [{"file_id": key, **each._asdict()} for each in rejected]
        connection.execute(sa.insert(_R), rows)
    return int(key)


def aim(connection: sa.Connection, file_id: int, target: str) -> None:
    """Settle the name that a file gets in `done/`, before anything is written there under it."""
    aimed = connection.execute(
        sa.update(_F).where(_F.c.id == file_id, _F.c.target.is_(None)).values(target=target)
    )
    if aimed.rowcount != 1:
        raise Overtaken


def rejects(connection: sa.Connection, file_id: int, *, after: int, limit: int) -> Sequence[Reject]:
    """Read the next rejected lines of a file, those behind the line `after`."""
    page = (
        sa.select(_R.c.line, _R.c.position, _R.c.reason)
        .where(_R.c.file_id == file_id, _R.c.line > after)
        .order_by(_R.c.line)
        .limit(limit)
    )
    return [Reject(*row) for row in connection.execute(page)]


def drop(connection: sa.Connection, file_ids: Sequence[int], *, limit: int) -> bool:
    """Forget files, at most so many rejected lines at a time; whether there is more to forget."""
    gone = database.rows(connection, "gone", "id")
    among = sa.select(gone.c.id)
    ids = {"gone": json.dumps([[each] for each in file_ids])}
    page = (
        sa.select(_R.c.file_id, _R.c.line)
        .where(_R.c.file_id.in_(among))
        .order_by(_R.c.file_id, _R.c.line)
        .limit(limit)
    )
    keys = sa.tuple_(_R.c.file_id, _R.c.line)
    dropped = connection.execute(sa.delete(_R).where(keys.in_(page)), ids)
    if dropped.rowcount == limit:
        return True
    connection.execute(sa.delete(_F).where(_F.c.id.in_(among)), ids)
    return False
