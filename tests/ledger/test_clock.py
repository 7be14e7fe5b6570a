"""The ledger's memory of time."""

import time

from sweeper.ledger import clock
from sweeper.ledger.database import Database
from tests.support.registered import NOW_US


def keep(db: Database, now: int) -> int | None:
    with db.write() as connection:
        clock.keep_good(connection, now)
        return clock.last_good(connection)


def test_a_new_ledger_has_trusted_no_clock_yet(database: Database) -> None:
    with database.read() as connection:
        assert clock.last_good(connection) is None


def test_the_last_good_time_grows_and_never_steps_back(database: Database) -> None:
    assert keep(database, NOW_US) == NOW_US
    assert keep(database, NOW_US + 1) == NOW_US + 1
    assert keep(database, NOW_US) == NOW_US + 1


def test_sqlite_has_no_clock_of_its_own(sqlite_database: Database) -> None:
    with sqlite_database.read() as connection:
        assert clock.instant(connection) is None


def test_the_servers_clock_goes_on_within_a_transaction(postgresql_database: Database) -> None:
    with postgresql_database.read() as connection:
        first, second = clock.instant(connection), clock.instant(connection)
    assert first is not None
    assert second is not None
    assert first < second
    assert abs(first / 1_000_000 - time.time()) < 60
