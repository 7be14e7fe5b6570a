"""The ledger's memory of time: when the clock guard last held, and the database's own clock."""

import sqlalchemy as sa

from sweeper.ledger import database, tables


def last_good(connection: sa.Connection) -> int | None:
    """The last time, in microseconds, at which a clock was trusted; None in a new ledger."""
    at: int | None = connection.execute(sa.select(tables.ledger.c.last_good_at)).scalar_one()
    return at


def keep_good(connection: sa.Connection, now: int) -> None:
    connection.execute(sa.update(tables.ledger).values(last_good_at=now))


def instant(connection: sa.Connection) -> int | None:
    """The database server's own time in microseconds; None for SQLite, which has none."""
    return database.instant(connection)
