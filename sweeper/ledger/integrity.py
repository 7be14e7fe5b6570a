"""Look for damage in the ledger: what the database finds itself, and gaps in the log."""

from collections.abc import Iterator

import sqlalchemy as sa

from sweeper.ledger import tables
from sweeper.ledger.database import Database

_MOST_TOLD = 20


def faults(db: Database) -> list[str]:
    """Return one sentence for each fault found; it reads the whole of an SQLite file."""
    with db.read() as connection:
        found = list(_of_sqlite(connection)) if db.is_sqlite else []
        return [*found, *_of_log(connection)]


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


def _of_log(connection: sa.Connection) -> Iterator[str]:
    log_size = connection.execute(sa.select(tables.ledger.c.log_size)).scalar_one_or_none()
    if log_size is None:
        yield "ledger: its only row is missing"
        return
    count, last = connection.execute(
        sa.select(sa.func.count(), sa.func.max(tables.records.c.seq)).select_from(tables.records)
    ).one()
    if count != log_size or (count and last != count - 1):
        yield f"records: {count} are there where the log counts {log_size}"
