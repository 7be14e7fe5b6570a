from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from sweeper.ledger.database import Database
from tests.support import sweeping
from tests.support.sweeping import Site


@pytest.fixture
async def site(sqlite_database: Database) -> AsyncIterator[Site]:
    """An SQLite ledger and a provider."""
    _hurry(sqlite_database)
    async with sweeping.serving(sqlite_database) as here:
        yield here


@pytest.fixture
async def either(database: Database) -> AsyncIterator[Site]:
    """A ledger of each kind and a provider."""
    _hurry(database)
    async with sweeping.serving(database) as here:
        yield here


def _hurry(db: Database) -> None:
    """Let SQLite not wait for the disk: no test here takes the power away."""
    if db.is_sqlite:
        db.engine.dispose()
        sa.event.listen(
            db.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close()
        )
