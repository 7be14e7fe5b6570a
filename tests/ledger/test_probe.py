"""Whether the ledger can be written to is found out by writing, and nothing is left of it."""

import sqlite3
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import database as ledger_database
from sweeper.ledger import probe, tables
from sweeper.ledger.database import Database, wal_is_safe
from tests.support import command
from tests.support.registered import admit, registration, rows

EVERY_TABLE = tuple(tables.METADATA.sorted_tables)


def test_a_ledger_that_can_be_written_to_is_left_as_it_was(database: Database) -> None:
    admit(database, registration("resp_1"))
    before = {table.name: rows(database, table) for table in EVERY_TABLE}

    assert probe.writable(database)

    assert {table.name: rows(database, table) for table in EVERY_TABLE} == before


def test_not_a_byte_of_an_sqlite_file_is_changed(sqlite_database: Database) -> None:
    path = sqlite_database.path
    assert path is not None
    before = path.read_bytes(), path.stat().st_mtime_ns

    probe.writable(sqlite_database)

    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_next_writer_waits_for_nothing(database: Database) -> None:
    probe.writable(database)

    admit(database, registration("resp_1"))

    with database.read() as connection:
        assert probe.log_size(connection) == len(rows(database, tables.records)) > 1


def test_a_file_that_others_keep_busy_is_told_from_one_that_is_broken(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT", 0.05)
    db = ledger_database.open_database(sqlite_url)
    with db.write():
        assert not probe.writable(db)

    assert probe.writable(db)
    db.close()


def test_a_file_that_was_replaced_is_refused(sqlite_database: Database, tmp_path: Path) -> None:
    path = sqlite_database.path
    assert path is not None
    path.rename(tmp_path / "away.db")

    with pytest.raises(errors.LedgerReplaced):
        probe.writable(sqlite_database)


_ON_A_FULL_DISK = """
import resource, signal, sys
from sweeper import errors
from sweeper.ledger import database, probe

db = database.open_database(sys.argv[1])
probe.writable(db)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    probe.writable(db)
except errors.LedgerError as fault:
    print("refused:", fault.message)
"""


@pytest.mark.skipif(
    wal_is_safe(sqlite3.sqlite_version_info[:3]),
    reason="the write-ahead log is written to by commits only",
)
def test_a_disk_without_room_for_the_journal_is_found_out(sqlite_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, sqlite_url],
        capture_output=True,
        env=command.environment(),
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.startswith("refused: the ledger could not be used"), done


def test_a_role_that_may_only_read_is_refused(
    postgresql_database: Database, postgresql_url: str
) -> None:
    role = f"reader_{uuid.uuid4().hex}"
    with postgresql_database.write() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(sa.text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
    url = sa.make_url(postgresql_url).set(username=role)
    reader = ledger_database.open_database(url.render_as_string(hide_password=False))

    with pytest.raises(errors.LedgerError, match="permission denied"):
        probe.writable(reader)

    reader.close()
    with postgresql_database.write() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {role}"))
        connection.execute(sa.text(f"DROP ROLE {role}"))


def test_nobody_who_holds_the_logs_head_is_waited_for_on_postgresql(
    postgresql_database: Database,
) -> None:
    with postgresql_database.write() as connection:
        connection.execute(sa.select(tables.ledger).with_for_update())
        asked = threading.Thread(target=probe.writable, args=(postgresql_database,), daemon=True)
        asked.start()
        asked.join(10)

        assert not asked.is_alive()
