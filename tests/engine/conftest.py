from collections.abc import AsyncIterator

import pytest

from sweeper.ledger.database import Database
from tests.support import sweeping
from tests.support.sweeping import Site


@pytest.fixture
async def site(sqlite_database: Database) -> AsyncIterator[Site]:
    """An SQLite ledger and a provider."""
    sweeping.hurry(sqlite_database)
    async with sweeping.serving(sqlite_database) as here:
        yield here


@pytest.fixture
async def either(database: Database) -> AsyncIterator[Site]:
    """A ledger of each kind and a provider."""
    sweeping.hurry(database)
    async with sweeping.serving(database) as here:
        yield here
