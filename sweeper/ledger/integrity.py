"""Look for damage in the ledger that the database finds itself."""

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import faults as database_faults
from sweeper.ledger import tables
from sweeper.ledger.database import Database

_MOST_TOLD = 20
_LARGEST_AT_START: Final = 2**30
"""Bytes of an SQLite file that is read as a whole whenever somebody begins to sweep: a second or
two, in which others cannot commit. Damage in a larger one shows when it is met, or is looked for by
`sweeper db check`."""


def check_at_start(db: Database) -> None:
    """Raise LedgerDamaged where SQLite finds that its file is not whole; nothing is repaired."""
    if db.path is None or db.path.stat().st_size > _LARGEST_AT_START:
        return
    with db.read() as connection:
        said: str = connection.exec_driver_sql("PRAGMA quick_check(1)").scalars().first() or "ok"
    if said != "ok":
        last = said.splitlines()[-1]
        raise errors.LedgerDamaged(
            f"the ledger {db.path} is damaged: {last}", hint=database_faults.RESTORE
        )


def faults(db: Database) -> list[str]:
    """Return one sentence for each fault found; it reads the whole of an SQLite file.

    PostgreSQL checks what it reads by itself: of it nothing is told.
    """
    with db.read() as connection:
        return list(_of_sqlite(connection)) if db.is_sqlite else []


def copied_at(db: Database) -> int | None:
    """When this ledger was made by `sweeper db backup`, in microseconds; None for an original."""
    with db.read() as connection:
        at: int | None = connection.execute(
            sa.select(tables.ledger.c.copied_at)
        ).scalar_one_or_none()
        return at


def _of_sqlite(connection: sa.Connection) -> Iterator[str]:
    for (said,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_TOLD})"):
        if said != "ok":
            yield f"SQLite: {said}"
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_MOST_TOLD)
    for table, rowid, parent, _ in broken:
        yield f"{table}: row {rowid} points at a row of {parent} that does not exist"
