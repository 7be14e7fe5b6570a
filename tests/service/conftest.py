"""A desk at which people decide, over a ledger of each kind."""

import pytest

from sweeper.ledger.database import Database
from tests.support import deciding
from tests.support.deciding import Desk


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(db=database, config=deciding.config(str(database.engine.url)))
