"""Whether a daemon is at work is seen without getting in its way."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import leases, presence, tables
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Duty


def test_nobody_is_there_at_first_and_looking_makes_nothing(sqlite_database: Database) -> None:
    """A lock file that the looker made would keep the daemon's own user out."""
    assert sqlite_database.path is not None
    before = sorted(sqlite_database.path.parent.iterdir())
    assert presence.daemon(sqlite_database) is False
    assert sorted(sqlite_database.path.parent.iterdir()) == before


def test_who_holds_the_daemons_lock_is_seen_and_keeps_it(sqlite_database: Database) -> None:
    with leases.file_lock(sqlite_database, Duty.DAEMON):
        assert presence.daemon(sqlite_database) is True
        with pytest.raises(errors.LedgerBusy), leases.file_lock(sqlite_database, Duty.DAEMON):
            pass
    assert presence.daemon(sqlite_database) is False
    with leases.file_lock(sqlite_database, Duty.DAEMON):
        pass


def test_a_sweep_is_no_daemon(sqlite_database: Database) -> None:
    with leases.file_lock(sqlite_database):
        assert presence.daemon(sqlite_database) is False


def test_a_sweep_at_work_is_seen_until_it_ends(sqlite_database: Database) -> None:
    assert presence.sweep(sqlite_database) is False
    with leases.file_lock(sqlite_database, Duty.DAEMON):
        assert presence.sweep(sqlite_database) is False
    with leases.file_lock(sqlite_database):
        assert presence.sweep(sqlite_database) is True
    assert presence.sweep(sqlite_database) is False


def test_who_only_looks_keeps_no_sweep_from_beginning(sqlite_database: Database) -> None:
    """Looking takes the lock for a moment: who wants it then must not take that for a sweep."""
    with leases.file_lock(sqlite_database):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            presence.sweep(sqlite_database)

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(500):
                with leases.file_lock(sqlite_database):
                    pass
        finally:
            over.set()
        for one in looking:
            one.result()


def test_a_lock_that_cannot_be_looked_at_is_no_answer(sqlite_database: Database) -> None:
    assert sqlite_database.path is not None
    lock = sqlite_database.path.with_name(f"{sqlite_database.path.name}.daemon.lock")
    lock.symlink_to(os.devnull)
    with pytest.raises(errors.LedgerError, match="cannot be opened"):
        presence.daemon(sqlite_database)


def test_a_lease_counts_until_it_runs_out(postgresql_database: Database) -> None:
    assert presence.daemon(postgresql_database) is False
    with postgresql_database.write() as connection:
        lease = leases.acquire(connection, leases.DAEMON)
    assert presence.sweep(postgresql_database) is False
    with postgresql_database.write() as connection:
        leases.acquire(connection, "main")
    assert presence.daemon(postgresql_database) is True
    with postgresql_database.write() as connection:
        leases.release(connection, lease)
    assert presence.daemon(postgresql_database) is False
    assert presence.sweep(postgresql_database) is True
    with postgresql_database.write() as connection:
        connection.execute(sa.update(tables.leases).values(expires_at=1))
    assert presence.sweep(postgresql_database) is False
    with postgresql_database.read() as connection:
        assert connection.execute(
            sa.select(sa.func.count()).select_from(tables.leases)
        ).scalar_one()
