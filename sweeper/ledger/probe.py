"""Find out whether the ledger can be written to, and change nothing in it."""

import sqlite3
from typing import Final

import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import tables
from sweeper.ledger.database import Database

# A changed page goes to SQLite's rollback journal, which fails on a full disk; what is written as
# it was goes nowhere. On PostgreSQL the row is left alone: whoever registers or settles locks it,
# and would be waited for.
_TOUCH: Final = sa.update(tables.ledger).values(log_last_at=tables.ledger.c.log_last_at + 1)
_WRITES: Final = {"sqlite": _TOUCH, "postgresql": _TOUCH.where(sa.false())}


def writable(db: Database) -> bool:
    """Write as everybody does, and take it back; raises LedgerError where that fails.

    False where others kept an SQLite file busy for as long as any writer waits: then it can be
    written to if what they write arrives.
    """
    try:
        with db.write() as connection:
            connection.execute(_WRITES[connection.dialect.name])
            connection.rollback()
    except errors.LedgerError as fault:
        original = getattr(fault.__cause__, "orig", None)
        if getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return False
        raise
    return True


def unwritable(db: Database) -> errors.LedgerError | None:
    """Why it cannot be written to; None where it can, or is only busy, which passes."""
    try:
        writable(db)
    except errors.LedgerError as fault:
        return fault
    return None


def log_size(connection: sa.Connection) -> int:
    """How many records the log has."""
    size: int = connection.execute(sa.select(tables.ledger.c.log_size)).scalar_one()
    return size
