"""Read which database library a ledger runs with, and the settings that its promises rely on."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sweeper.ledger.database import Database

_SYNCHRONOUS: Final = {0: "off", 1: "normal", 2: "full", 3: "extra"}
_POSTGRESQL: Final = ("synchronous_commit", "fsync", "full_page_writes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """The database by its name and version, and its settings by name."""

    name: str
    settings: Mapping[str, str]

    @property
    def unsafe(self) -> tuple[str, ...]:
        """Settings of PostgreSQL with which a crash can lose or damage what was written."""
        return tuple(name for name in _POSTGRESQL if self.settings.get(name) == "off")


def read(db: Database) -> Mode:
    """Ask the database itself; raises LedgerError where it does not answer."""
    with db.read() as connection:
        if db.is_sqlite:
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            settings = {"journal_mode": journal, "synchronous": _SYNCHRONOUS[synchronous]}
            return Mode(name=f"SQLite {sqlite3.sqlite_version}", settings=settings)
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        settings = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in _POSTGRESQL
        }
        return Mode(name=f"PostgreSQL {version}", settings=settings)
