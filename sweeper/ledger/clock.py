"""The ledger's memory of time: when the clock guard last held, and the database's own clock."""

import sqlalchemy as sa

from sweeper.ledger import database, tables


def last_good(connection: sa.Connection) -> int | None:
    """The last time, in microseconds, at which a clock was trusted; None in a new ledger."""
    at: int | None = connection.execute(sa.select(tables.ledger.c.last_good_at)).scalar_one()
    return at


def keep_good(connection: sa.Connection, now: int) -> None:
    """Keep the latest such time, so that many small steps back never add up."""
    table = tables.ledger
    later = sa.or_(table.c.last_good_at.is_(None), table.c.last_good_at < now)
    connection.execute(sa.update(table).where(later).values(last_good_at=now))


def instant(connection: sa.Connection) -> int | None:
    """The database server's own time in microseconds; None for SQLite, which has none."""
    return database.instant(connection)
