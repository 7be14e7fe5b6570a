"""Ledgers for tests: a file of SQLite and a real PostgreSQL, fresh for every test."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from sweeper.ledger import database as ledger_database
from sweeper.ledger import schema
from sweeper.ledger.database import Database
from tests.support import postgres


def _upgraded(url: str) -> None:
    db = ledger_database.open_database(url)
    try:
        schema.upgrade(db)
    finally:
        db.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema, to be copied and never opened."""
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    _upgraded(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: postgres.Server) -> str:
    """The name of a database with the newest schema."""
    postgresql_server.create("migrated")
    _upgraded(postgresql_server.url("migrated"))
    return "migrated"


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgresql_server: postgres.Server, postgresql_template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    postgresql_server.create(name, template=postgresql_template)
    yield postgresql_server.url(name)
    postgresql_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a ledger with the newest schema, once for each kind of database."""
    return cast("str", request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open ledger with the newest schema, once for each kind of database."""
    db = ledger_database.open_database(database_url)
    yield db
    db.close()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """An open SQLite ledger with the newest schema."""
    db = ledger_database.open_database(sqlite_url)
    yield db
    db.close()


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Iterator[Database]:
    """An open PostgreSQL ledger with the newest schema."""
    db = ledger_database.open_database(postgresql_url)
    yield db
    db.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database in which nothing was made yet, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: postgres.Server = request.getfixturevalue("postgresql_server")
    name = f"empty_{uuid.uuid4().hex}"
    server.create(name)
    yield server.url(name)
    server.drop(name)
