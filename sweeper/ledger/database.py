"""Open the ledger's database, SQLite or PostgreSQL, with the settings that its promises rely on."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from sweeper import errors
from sweeper.ledger import connections, faults, place
from sweeper.ledger.connections import Pool
from sweeper.ledger.tables import BIG

BUSY_TIMEOUT: Final = 30
"""Seconds that a statement waits for another process's commit."""
CONNECT_WITHIN: Final = 10
"""Seconds for a connection to PostgreSQL to come about."""
POOL_TIMEOUT: Final = 10
"""Seconds to wait for one of a process's own connections, when every one is in use."""

# Releases in which the write-ahead log no longer loses a commit when it is reset under two
# connections (sqlite.org/wal.html, "the WAL-reset bug"): 3.51.3 and the backports to 3.50 and 3.44.
_WAL_SAFE_FROM: Final = (3, 51, 3)
_WAL_BACKPORTS: Final = {(3, 50): 7, (3, 44): 6}

_CACHE_KIB: Final = 6144
"""Pages of SQLite's file that each connection keeps in memory. With ten times as many a sweep took
a fortieth less CPU time, and one of 200,000 1.9 times the memory of one of 2,000."""


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Say whether this SQLite may use the write-ahead log with several processes."""
    backport = _WAL_BACKPORTS.get(version[:2])
    return version >= _WAL_SAFE_FROM or (backport is not None and version[2] >= backport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An open ledger. `path` is the file of an SQLite ledger and None for PostgreSQL."""

    engine: sa.Engine
    path: Path | None
    inode: tuple[int, int] | None

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One writing transaction; SQLite takes its write lock at once (BEGIN IMMEDIATE).

        Raises LedgerAway where nothing was written and the same may work later, CommitUnknown
        where PostgreSQL was lost in the middle of the commit.
        """
        self.check_file()
        with faults.told() as phase, self.engine.begin() as connection:
            yield connection
            phase.committing = True

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One short reading transaction; it sees one state and never waits for a writer's turn."""
        self.check_file()
        reading = self.engine.execution_options(
            **{"sweeper_read": True}
            if self.is_sqlite
            else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        )
        with faults.told(), reading.begin() as connection:
            yield connection

    def check_file(self) -> None:
        """Refuse to go on in a file that was unlinked or replaced: commits there are lost."""
        if self.path is None or self.inode is None:
            return
        try:
            status = self.path.stat()
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self.inode:
            raise errors.LedgerReplaced(
                f"the ledger file {self.path} was removed or replaced while it was open",
                hint="put the right file back, then start sweeper again",
            )

    def close(self) -> None:
        """Close every connection; one that is still in use, when it comes back."""
        assert isinstance(self.engine.pool, Pool), "every ledger is opened with such a pool"
        self.engine.pool.retire()


def open_database(url: str, *, create: bool = True) -> Database:
    """Open the ledger that `url` names.

    An SQLite file that does not exist yet is made, unless `create` is off; its folder must exist.
    Raises ConfigurationError for a URL of another kind and LedgerError where it cannot be opened.
    """
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise errors.ConfigurationError(
            "ledger.url is not a database URL",
            hint="write sqlite:////var/lib/sweeper/ledger.db or postgresql://user@host/db",
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _open_sqlite(parsed, create=create)
        case "postgresql":
            return _open_postgresql(parsed)
        case other:
            raise errors.ConfigurationError(
                f"ledger.url names {other}; only sqlite and postgresql are supported"
            )


def _open_sqlite(url: sa.URL, *, create: bool) -> Database:
    if not url.database or url.database == ":memory:":
        raise errors.ConfigurationError("ledger.url names no file: a ledger must outlive a process")
    path = Path(url.database).absolute()
    place.check(path, create=create)
    engine = sa.create_engine(
        url.set(drivername="sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": BUSY_TIMEOUT, "check_same_thread": False},
        poolclass=Pool,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    status = path.stat()
    opened = Database(engine=engine, path=path, inode=(status.st_dev, status.st_ino))
    with _closed_on_failure(opened), faults.told(), engine.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema")
    return opened


@contextmanager
def _closed_on_failure(opened: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    journal = "WAL" if wal_is_safe(sqlite3.sqlite_version_info[:3]) else "DELETE"
    synchronous = "FULL" if journal == "WAL" else "EXTRA"
    settings = (
        f"journal_mode = {journal}",
        f"synchronous = {synchronous}",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "secure_delete = ON",
        f"cache_size = -{_CACHE_KIB}",
        "temp_store = MEMORY",
    )
    connection.text_factory = _text
    try:
        for setting in settings:
            connection.execute(f"PRAGMA {setting}").close()
    except BaseException:
        connection.close()  # the pool does not know it yet
        raise


def _text(raw: bytes) -> str:
    """Read what SQLite calls text: any bytes may stand there, and must not fail all other rows."""
    return raw.decode("utf-8", "replace")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("sweeper_read")
    connection.exec_driver_sql("BEGIN DEFERRED" if reading else "BEGIN IMMEDIATE")


def _open_postgresql(url: sa.URL) -> Database:
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=Pool,
            pool_size=4,
            max_overflow=4,
            pool_timeout=POOL_TIMEOUT,
            pool_pre_ping=True,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            connect_args={
                "connect_timeout": CONNECT_WITHIN,
                "application_name": "sweeper",
                "keepalives_idle": 30,
                "keepalives_interval": 10,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
                "options": "-c timezone=UTC -c lock_timeout=30s -c statement_timeout=120s"
                " -c idle_in_transaction_session_timeout=60s",
            },
        )
    except ModuleNotFoundError:
        raise errors.ConfigurationError(
            "ledger.url names PostgreSQL, but its driver is not installed",
            hint="install sweeper[postgres]",
        ) from None
    connections.bound(engine)
    opened = Database(engine=engine, path=None, inode=None)
    with _closed_on_failure(opened):
        with faults.told(), engine.connect() as connection:
            durable = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        if durable == "off":
            raise errors.LedgerError(
                "PostgreSQL runs with synchronous_commit = off: a crash would lose outcomes",
                hint="ALTER ROLE … SET synchronous_commit = on",
            )
    return opened


def rows(connection: sa.Connection, name: str, *columns: str) -> sa.Subquery:
    """Read the JSON text bound as `name`, an array of arrays, as rows of the named columns.

    A column is `name`, or `name:text` for text; others are 64-bit integers. One text parameter
    crosses into the driver at once, whatever the number of rows. `ord` numbers rows from 0.
    """
    return rows_for(connection.dialect.name, name, *columns)


@cache
def rows_for(dialect: str, name: str, *columns: str) -> sa.Subquery:
    """Do what `rows` does for statements that are built once for each dialect."""
    parameter: sa.ColumnElement[Any] = sa.bindparam(name, type_=sa.Text)
    sqlite = dialect == "sqlite"
    picked: list[sa.ColumnElement[Any]] = []
    if sqlite:
        each = sa.func.json_each(parameter).table_valued("key", "value", name=f"{name}_each")
        picked.append(each.c.key.label("ord"))
    else:
        each = sa.func.jsonb_array_elements(sa.cast(parameter, JSONB)).table_valued(
            sa.column("value", JSONB), with_ordinality="key", name=f"{name}_each"
        )
        each = each.render_derived()
        picked.append((each.c.key - 1).label("ord"))
    for index, column in enumerate(columns):
        label, _, kind = column.partition(":")
        value: sa.ColumnElement[Any]
        if sqlite:
            value = sa.func.json_extract(each.c.value, f"$[{index}]")
            value = sa.type_coerce(value, sa.Text if kind == "text" else sa.BigInteger)
        else:
            text = each.c.value.op("->>")(sa.literal_column(str(index)))
            value = sa.cast(text, sa.Text if kind == "text" else sa.BigInteger)
        picked.append(value.label(label))
    return sa.select(*picked).select_from(each).subquery(name)


def insert_missing(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Insert a row unless there is one of its key: another process may be quicker."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def as_array(dialect: str, *columns: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    """Gather all rows of a statement into one JSON text, an array of arrays, fetched at once."""
    if dialect == "sqlite":
        return sa.func.json_group_array(sa.func.json_array(*columns))
    return sa.cast(sa.func.jsonb_agg(sa.func.jsonb_build_array(*columns)), sa.Text)


def instant(connection: sa.Connection) -> int | None:
    """Tell the database server's own time in microseconds; None for SQLite, which has none."""
    if connection.dialect.name == "sqlite":
        return None
    seconds = sa.func.extract("epoch", sa.func.clock_timestamp())
    return connection.execute(sa.select(sa.cast(seconds * 1_000_000, BIG))).scalar_one()
