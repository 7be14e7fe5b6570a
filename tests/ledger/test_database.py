"""Opening the ledger: its settings, its refusals, and rows that cross into it as one text."""

import json
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import database as ledger_database
from sweeper.ledger import faults, tables
from sweeper.ledger.database import Database
from tests.support import postgres

Open = Callable[..., Database]


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Database] = []

    def open_it(url: str, **options: bool) -> Database:
        made.append(ledger_database.open_database(url, **options))
        return made[-1]

    yield open_it
    for db in made:
        db.close()


def pragma(db: Database, name: str) -> Any:
    with db.read() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


# Opening


@pytest.mark.parametrize(
    "version, safe",
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 9), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_the_write_ahead_log_is_used_only_where_it_loses_nothing(
    version: tuple[int, int, int], safe: bool
) -> None:
    assert ledger_database.wal_is_safe(version) is safe


def test_an_sqlite_ledger_is_durable_strict_and_private(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "ledger.db"
    db = opened(f"sqlite:///{path}")
    wal = ledger_database.wal_is_safe(sqlite3.sqlite_version_info[:3])
    assert pragma(db, "journal_mode") == ("wal" if wal else "delete")
    assert pragma(db, "synchronous") == (2 if wal else 3)
    assert pragma(db, "foreign_keys") == 1
    assert pragma(db, "trusted_schema") == 0
    assert pragma(db, "secure_delete") == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert db.is_sqlite


def test_postgresql_is_opened_with_limits_on_every_wait(postgresql_database: Database) -> None:
    with postgresql_database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in (
                "lock_timeout",
                "statement_timeout",
                "idle_in_transaction_session_timeout",
                "synchronous_commit",
                "TimeZone",
            )
        }
    assert found == {
        "lock_timeout": "30s",
        "statement_timeout": "2min",
        "idle_in_transaction_session_timeout": "1min",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
    }
    assert not postgresql_database.is_sqlite


def test_postgresql_that_may_lose_commits_is_refused(
    postgresql_server: postgres.Server, postgresql_url: str
) -> None:
    db = ledger_database.open_database(postgresql_url)
    name = sa.make_url(postgresql_url).database
    with db.write() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    db.close()
    with pytest.raises(errors.LedgerError, match="synchronous_commit = off"):
        ledger_database.open_database(postgresql_url)


@pytest.mark.parametrize(
    "url, why",
    [
        ("", "not a database URL"),
        ("ledger.db", "not a database URL"),
        ("mysql://localhost/x", "only sqlite and postgresql"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_names_no_ledger_is_refused(url: str, why: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=why):
        ledger_database.open_database(url)


@pytest.mark.parametrize(
    "message, hint",
    [
        ("no such table: records", "db upgrade"),
        ('relation "records" does not exist', "db upgrade"),
        ("database is locked", "another process"),
        ("database or disk is full", "free space"),
        ("disk I/O error", "look at the disk"),
        ("file is not a database", "is no ledger"),
        ("attempt to write a readonly database", "read and write"),
        ("unable to open database file", "read and write"),
        ('connection to server at "127.0.0.1", port 1 failed: Connection refused', "host and port"),
        ("failed to resolve host 'nope'", "host and port"),
        ("fe_sendauth: no password supplied", "pgpass"),
        ('FATAL:  database "x" does not exist', "make the role and the database"),
        ("permission denied for table records", "grant"),
        ("database disk image is malformed", "db check"),
    ],
)
def test_the_hint_is_for_the_cause(message: str, hint: str) -> None:
    fault = sa.exc.OperationalError("SELECT 1", {}, Exception(message))
    with pytest.raises(errors.LedgerError) as told, faults.told():
        raise fault
    assert hint in (told.value.hint or "")


def test_a_postgresql_that_does_not_answer_is_told_with_what_to_look_at() -> None:
    for place in ("127.0.0.1:1", "no-such-host.invalid"):
        with pytest.raises(errors.LedgerError) as told:
            ledger_database.open_database(f"postgresql://x@{place}/x")
        assert "host and port" in (told.value.hint or "")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind " * 100)
    with pytest.raises(errors.LedgerError, match="not a database"):
        ledger_database.open_database(f"sqlite:///{path}")


def test_a_server_that_is_not_there_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(errors.LedgerError, match="could not be used"):
        ledger_database.open_database(f"postgresql://someone@/x?host={tmp_path}")


def test_closing_leaves_no_connection_open(database_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        db = ledger_database.open_database(database_url)
        with db.read() as connection:
            connection.execute(sa.select(1))
        db.close()
    assert "Connections in pool: 0" in db.engine.pool.status()


@pytest.mark.parametrize("begun", ["before the end", "after it"])
def test_a_connection_that_comes_back_after_the_end_is_closed(
    database: Database, begun: str
) -> None:
    """As one is that a thread still reads with, while its daemon ends."""
    inside, finish = threading.Event(), threading.Event()
    used: list[Any] = []

    def slow() -> None:
        if begun == "after it":
            finish.wait(10)
        with database.read() as connection:
            connection.execute(sa.select(1))
            used.append(connection.connection.driver_connection)
            inside.set()
            finish.wait(10)

    reader = threading.Thread(target=slow)
    reader.start()
    if begun == "before the end":
        assert inside.wait(10)
    database.close()
    finish.set()
    reader.join()
    (connection,) = used
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        connection.execute("SELECT 1")


def test_a_file_that_is_refused_is_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind " * 100)
    with pytest.raises(errors.LedgerError):
        ledger_database.open_database(f"sqlite:///{path}")
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            assert descriptor.readlink() != path


# Transactions


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute(sa.insert(tables.accounts).values(name="main"))
            raise errors.AccountStopped

    with pytest.raises(errors.AccountStopped):
        fail()
    with database.read() as connection:
        assert connection.execute(sa.select(tables.accounts)).all() == []


def test_a_reading_transaction_sees_one_state(database: Database) -> None:
    names = sa.select(tables.accounts.c.name)
    with database.read() as connection:
        before = connection.execute(names).all()
        if not database.is_sqlite:
            with database.write() as other:
                other.execute(sa.insert(tables.accounts).values(name="main"))
        assert connection.execute(names).all() == before


def test_a_writer_waits_for_the_one_before(sqlite_database: Database) -> None:
    inside, finish = threading.Event(), threading.Event()

    def first() -> None:
        with sqlite_database.write() as connection:
            inside.set()
            finish.wait(10)
            connection.execute(sa.insert(tables.accounts).values(name="first"))

    def second() -> list[str]:
        with sqlite_database.write() as connection:
            return list(connection.execute(sa.select(tables.accounts.c.name)).scalars())

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert inside.wait(10)
        other = pool.submit(second)
        finish.set()
        one.result()
        assert other.result() == ["first"]


def test_a_statement_that_fails_is_told_without_its_values(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            for _ in range(2):
                connection.execute(
                    sa.insert(tables.accounts).values(name="main", provider="canary")
                )

    with pytest.raises(errors.LedgerError, match="could not be used") as told:
        fail()
    assert "canary" not in f"{told.value}{told.value.__cause__}"


def test_a_missing_table_is_told_with_the_command_to_run(empty_url: str, opened: Open) -> None:
    def read() -> None:
        with opened(empty_url).read() as connection:
            connection.execute(sa.select(tables.accounts))

    with pytest.raises(errors.LedgerError) as told:
        read()
    assert told.value.hint == faults.NO_LEDGER


def test_a_ledger_kept_busy_is_told_as_such(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT", 0)
    db = opened(sqlite_url)
    assert db.path is not None

    def write() -> None:
        with db.write() as connection:
            connection.execute(sa.select(1))

    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.LedgerError, match="locked") as told:
            write()
    assert told.value.hint is not None
    assert told.value.hint.startswith("another process keeps the ledger busy")


def test_a_full_disk_is_told_as_such(sqlite_database: Database) -> None:
    def fill() -> None:
        with sqlite_database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.execute(
                sa.insert(tables.accounts), [{"name": "a" * 5000 + str(n)} for n in range(50)]
            )

    with pytest.raises(errors.LedgerError, match="full") as told:
        fill()
    assert told.value.hint is not None
    assert told.value.hint.startswith("free space")


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_file_that_was_removed_or_replaced_is_written_to_no_more(
    sqlite_database: Database, tmp_path: Path, way: str
) -> None:
    path = sqlite_database.path
    assert path is not None
    if way == "removed":
        path.unlink()
    else:
        other = tmp_path / "other.db"
        other.write_bytes(path.read_bytes())
        other.replace(path)
    with pytest.raises(errors.LedgerReplaced), sqlite_database.write():
        pytest.fail("a transaction began")
    with pytest.raises(errors.LedgerReplaced), sqlite_database.read():
        pytest.fail("a transaction began")


# Rows as one text


def test_rows_cross_as_one_text_and_keep_their_order_and_kinds(database: Database) -> None:
    values: list[list[Any]] = [
        [1, "a", 2**63 - 1],
        [2, "ü 👋 \" ' \\ \n % :x ?", -(2**63)],
        [3, None, None],
        [4, "", 0],
        [5, "5", 5],
    ]
    with database.read() as connection:
        given = ledger_database.rows(connection, "given", "id", "name:text", "number")
        statement = sa.select(given.c.ord, given.c.id, given.c.name, given.c.number)
        found = connection.execute(
            statement.order_by(given.c.ord), {"given": json.dumps(values)}
        ).all()
        none = connection.execute(statement, {"given": "[]"}).all()
    assert [list(row) for row in found] == [[n, *row] for n, row in enumerate(values)]
    assert none == []


def test_many_rows_come_back_as_one_text(database: Database) -> None:
    values = [[n, f"name {n}"] for n in range(1000)]
    with database.read() as connection:
        given = ledger_database.rows(connection, "given", "id", "name:text")
        gathered = ledger_database.as_array(
            connection.dialect.name, given.c.id, sa.type_coerce(given.c.name, sa.Text)
        )
        text = connection.execute(sa.select(gathered), {"given": json.dumps(values)}).scalar_one()
    assert sorted(json.loads(text)) == values


def test_only_postgresql_tells_the_time(database: Database) -> None:
    with database.read() as connection:
        told = ledger_database.instant(connection)
    assert (told is None) == database.is_sqlite
