"""The database is asked how it really runs."""

import sqlite3

import pytest

from sweeper.ledger import database as databases
from sweeper.ledger import mode
from sweeper.ledger.database import Database
from sweeper.ledger.mode import Mode


def test_sqlite_tells_its_journal_and_how_it_syncs(sqlite_database: Database) -> None:
    found = mode.read(sqlite_database)
    in_log = databases.wal_is_safe(sqlite3.sqlite_version_info[:3])
    assert found.name == f"SQLite {sqlite3.sqlite_version}"
    assert found.settings == {
        "journal_mode": "wal" if in_log else "delete",
        "synchronous": "full" if in_log else "extra",
    }
    assert found.unsafe == ()


def test_what_is_set_in_this_connection_is_told_not_what_should_be(
    sqlite_database: Database,
) -> None:
    with sqlite_database.engine.connect() as connection:
        connection.connection.execute("PRAGMA synchronous = NORMAL").close()
    assert mode.read(sqlite_database).settings["synchronous"] == "normal"


def test_postgresql_tells_whether_a_crash_can_lose_what_was_written(
    postgresql_database: Database,
) -> None:
    found = mode.read(postgresql_database)
    assert found.name.startswith("PostgreSQL 1")
    assert set(found.settings) == {"synchronous_commit", "fsync", "full_page_writes"}


@pytest.mark.parametrize("name", ["synchronous_commit", "fsync", "full_page_writes"])
def test_each_setting_that_is_off_is_unsafe(name: str) -> None:
    settings = {"synchronous_commit": "on", "fsync": "on", "full_page_writes": "on", name: "off"}
    assert Mode(name="PostgreSQL", settings=settings).unsafe == (name,)
