"""Bring the ledger's tables to the newest schema, refuse any other, and make safe copies of it."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import faults, records
from sweeper.ledger.database import Database
from sweeper.ledger.tables import ledger

_UPGRADE: Final = "run: sweeper db upgrade"
_LOCK: Final = 0x5377_6570
"""The PostgreSQL advisory lock under which one process at a time migrates."""


def newest() -> str:
    """The revision this program works with; migrations are files named `NNNN_what.py`."""
    return _revisions()[-1]


def current(db: Database) -> str | None:
    """The revision of the open ledger; None where no migration has run."""
    with db.read() as connection:
        return _current(connection)


def check(db: Database) -> None:
    """Raise SchemaMismatch, with the command to run, unless the schema is the newest."""
    found = current(db)
    if found == newest():
        return
    if found is None:
        raise errors.SchemaMismatch("the ledger has no tables yet", hint=faults.NO_LEDGER)
    if found in _revisions():
        raise errors.SchemaMismatch(
            f"the ledger's schema is {found}, this program needs {newest()}", hint=_UPGRADE
        )
    raise errors.SchemaMismatch(
        f"the ledger's schema is {found}, which this program does not know: its newest is"
        f" {newest()}",
        hint="install the sweeper that upgraded this ledger, or a newer one",
    )


def upgrade(db: Database) -> None:
    """Run what is missing, each migration in its own transaction, and open the log.

    Safe to call from several processes at once and on a ledger that is up to date. Raises
    SchemaMismatch for a ledger that is ahead.
    """
    known = _revisions()
    for revision in known:
        with db.write() as connection:
            _lock(connection)
            found = _current(connection)
            if found is not None and found not in known:
                break
            if found is None or known.index(found) < known.index(revision):
                _migrate(connection, revision)
    check(db)
    with db.write() as connection:
        _lock(connection)
        if connection.execute(sa.select(ledger.c.id)).first() is None:
            records.open_log(connection, _now())


def backup(db: Database, target: Path) -> None:
    """Copy an SQLite ledger, in one consistent state and marked as a copy, to a new file.

    Safe while a sweep runs: its commits wait until the pages are read, or go on where the
    write-ahead log is in use. Raises UsageError for PostgreSQL and for a target that exists.
    """
    if db.path is None:
        raise errors.UsageError(
            "a ledger in PostgreSQL is copied by PostgreSQL's own tools", hint="use pg_dump"
        )
    db.check_file()
    with _new_file(target):
        raw = db.engine.raw_connection()
        try:
            _copy(raw.driver_connection, target)
        finally:
            raw.close()


def _copy(source: Any, target: Path) -> None:
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA synchronous = EXTRA").close()
        found = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise errors.LedgerError(
                f"the copy is damaged, and so is the ledger: {found[0]}",
                hint="see: sweeper db check",
            )
        copy.execute("UPDATE ledger SET copied_at = ?", (_now(),)).close()


@contextmanager
def _new_file(target: Path) -> Iterator[None]:
    """Make `target` for its owner only, keep it when the block succeeds, and sync its folder."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise errors.UsageError(
            f"{target} exists already", hint="name a file that does not exist"
        ) from None
    except OSError as fault:
        raise errors.LedgerError(
            f"{target} cannot be made: {fault.strerror}",
            hint="name a new file in a folder that exists and that you may write to",
        ) from fault
    try:
        yield
    except (sqlite3.Error, OSError) as fault:
        target.unlink(missing_ok=True)
        raise errors.LedgerError(f"the ledger could not be copied: {fault}") from fault
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    folder = os.open(target.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql(
        "SELECT version_num FROM alembic_version"
    ).scalar()
    return found


def _lock(connection: sa.Connection) -> None:
    """SQLite's writing transaction is a lock by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))


def _migrate(connection: sa.Connection, revision: str) -> None:
    # alembic takes a quarter of a second to import, and only an upgrade needs it.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config(attributes={"connection": connection})
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    command.upgrade(config, revision)


def _revisions() -> list[str]:
    return sorted(file.name[:4] for file in (_folder() / "versions").glob("[0-9]*.py"))


def _folder() -> Path:
    """The migrations inside the installed package, or those of the checkout."""
    installed = Path(str(resources.files("sweeper"))) / "_migrations"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "migrations"


def _now() -> int:
    return time.time_ns() // 1000
