"""Leases: one sweeper at a time, freed by death, taken over after its term."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import response
from sweeper.ledger import database as ledger_database
from sweeper.ledger import leases, tables
from sweeper.ledger.database import Database
from sweeper.ledger.leases import TERM, Duty, Lease
from tests.support import lent
from tests.support.registered import rows

_HOLD = """
import sys
from sweeper.ledger import database, leases
with leases.file_lock(database.open_database(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the ledger until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


# SQLite


def test_a_second_process_is_refused_until_the_first_ends(
    sqlite_database: Database, sqlite_url: str
) -> None:
    with holder(sqlite_url) as process:
        with pytest.raises(errors.LedgerBusy), leases.file_lock(sqlite_database):
            pytest.fail("two sweepers hold one ledger")
        process.communicate("", timeout=30)
    with leases.file_lock(sqlite_database):
        pass


def test_a_killed_process_holds_nothing(sqlite_database: Database, sqlite_url: str) -> None:
    with holder(sqlite_url) as process:
        process.kill()
        process.wait(timeout=30)
        with leases.file_lock(sqlite_database):
            pass


def test_the_lock_holds_within_a_process_and_through_a_fault(sqlite_url: str) -> None:
    one, two = (ledger_database.open_database(sqlite_url) for _ in range(2))
    with leases.file_lock(one):
        with pytest.raises(errors.LedgerBusy, match="another sweeper"), leases.file_lock(two):
            pytest.fail("two sweepers hold one ledger")
        with pytest.raises(errors.LedgerBusy), leases.file_lock(two):
            pytest.fail("a refused one has freed the lock")
    with pytest.raises(ZeroDivisionError), leases.file_lock(one):
        raise ZeroDivisionError
    with leases.file_lock(two):
        pass
    one.close()
    two.close()


def test_a_daemon_that_waits_keeps_no_sweep_out_and_no_other_daemon_in(sqlite_url: str) -> None:
    one, two = (ledger_database.open_database(sqlite_url) for _ in range(2))
    with (
        leases.file_lock(one, Duty.DAEMON),
        leases.file_lock(two),
        pytest.raises(errors.LedgerBusy, match="another sweeper run"),
        leases.file_lock(two, Duty.DAEMON),
    ):
        pytest.fail("two daemons hold one ledger")
    one.close()
    two.close()


def test_the_daemons_lease_is_no_accounts() -> None:
    assert not response.is_account_name(leases.DAEMON)


def test_one_file_has_one_lock_whatever_its_name(sqlite_database: Database, tmp_path: Path) -> None:
    assert sqlite_database.path is not None
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(sqlite_database.path)
    other = ledger_database.open_database(f"sqlite:///{link}")
    with (
        leases.file_lock(sqlite_database),
        pytest.raises(errors.LedgerBusy),
        leases.file_lock(other),
    ):
        pytest.fail("two sweepers hold one ledger")
    other.close()


def test_the_lock_is_a_file_beside_the_ledger_that_only_we_may_read(
    sqlite_database: Database,
) -> None:
    assert sqlite_database.path is not None
    with leases.file_lock(sqlite_database):
        lock = sqlite_database.path.with_name("ledger.db.lock")
        assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_file_that_is_a_link_is_not_followed(
    sqlite_database: Database, tmp_path: Path
) -> None:
    (tmp_path / "ledger.db.lock").symlink_to(tmp_path / "victim")
    with (
        pytest.raises(errors.LedgerError, match="symbolic link"),
        leases.file_lock(sqlite_database),
    ):
        pytest.fail("a link was followed")
    assert not (tmp_path / "victim").exists()


def test_a_lock_file_that_cannot_be_opened_is_told_with_what_to_do(
    sqlite_database: Database, tmp_path: Path
) -> None:
    (tmp_path / "ledger.db.lock").mkdir()
    with pytest.raises(errors.LedgerError) as caught, leases.file_lock(sqlite_database):
        pytest.fail("a folder was locked")
    assert "ledger.db.lock cannot be opened" in caught.value.message
    assert caught.value.hint is not None
    assert "as the user who owns the ledger" in caught.value.hint


def test_a_ledger_of_two_names_is_refused_under_each(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Each name would have a lock file, and two sweepers would hold one ledger."""
    assert sqlite_database.path is not None
    (tmp_path / "elsewhere").mkdir()
    twin = tmp_path / "elsewhere" / "twin.db"
    twin.hardlink_to(sqlite_database.path)
    other = ledger_database.open_database(f"sqlite:///{twin}")
    for each in (sqlite_database, other):
        with pytest.raises(errors.LedgerError, match="2 names"), leases.file_lock(each):
            pytest.fail("one of two names was locked")
    other.close()
    twin.unlink()
    with leases.file_lock(sqlite_database):
        pass


def test_a_child_process_does_not_inherit_the_lock(
    sqlite_database: Database, sqlite_url: str
) -> None:
    with leases.file_lock(sqlite_database):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
    try:
        with leases.file_lock(sqlite_database):
            pass
    finally:
        child.communicate(b"", timeout=30)


def test_postgresql_needs_no_file(postgresql_database: Database) -> None:
    with leases.file_lock(postgresql_database), leases.file_lock(postgresql_database):
        pass


def test_without_a_lease_there_is_nothing_to_check(sqlite_database: Database) -> None:
    with sqlite_database.write() as connection:
        assert leases.check(connection, None) is None


# PostgreSQL


def acquire(db: Database, account: str = "main") -> Lease:
    with db.write() as connection:
        return leases.acquire(connection, account)


def use(db: Database, work: Callable[[sa.Connection, Lease], object], lease: Lease) -> None:
    with db.write() as connection:
        work(connection, lease)


def expire(db: Database, account: str = "main") -> None:
    with db.write() as connection:
        connection.execute(
            sa.update(tables.leases)
            .where(tables.leases.c.name == account)
            .values(expires_at=tables.leases.c.expires_at - TERM - 1)
        )


def lease_row(db: Database) -> dict[str, Any]:
    (row,) = rows(db, tables.leases)
    return row


def test_a_running_lease_is_refused_to_others(postgresql_database: Database) -> None:
    db = postgresql_database
    lease = acquire(db)
    with pytest.raises(errors.LedgerBusy, match="main"):
        acquire(db)
    assert acquire(db, "other").term == 1
    use(db, leases.check, lease)
    use(db, leases.renew, lease)


def test_a_lease_runs_for_a_term_of_the_databases_clock(postgresql_database: Database) -> None:
    db = postgresql_database
    assert TERM <= 15_000_000
    with db.read() as connection:
        before = ledger_database.instant(connection)
    acquire(db)
    with db.read() as connection:
        after = ledger_database.instant(connection)
    assert before is not None
    assert after is not None
    assert before <= lease_row(db)["expires_at"] - TERM <= after


def test_an_expired_lease_is_taken_over_and_its_holder_is_out(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    old = acquire(db)
    expire(db)
    for work in (leases.check, leases.renew):
        with pytest.raises(errors.LedgerBusy, match="lost"):
            use(db, work, old)
    new = acquire(db)
    assert (new.term, new.holder != old.holder) == (old.term + 1, True)
    for work in (leases.check, leases.renew):
        with pytest.raises(errors.LedgerBusy, match="lost"):
            use(db, work, old)
        use(db, work, new)


def test_a_renewed_lease_runs_for_a_whole_term_again(postgresql_database: Database) -> None:
    db = postgresql_database
    lease = acquire(db)
    with db.write() as connection:
        now = ledger_database.instant(connection)
        assert now is not None
        connection.execute(sa.update(tables.leases).values(expires_at=now + 5_000_000))
    use(db, leases.renew, lease)
    assert lease_row(db)["expires_at"] >= now + TERM
    assert lease_row(db)["term"] == 1


def test_a_released_lease_is_free_at_once(postgresql_database: Database) -> None:
    db = postgresql_database
    old = acquire(db)
    use(db, leases.release, old)
    new = acquire(db)
    assert new.term == 2
    use(db, leases.release, old)
    use(db, leases.check, new)


@pytest.mark.parametrize("changed", [{"term": 2}, {"holder": "another"}], ids=["term", "holder"])
def test_both_the_holder_and_the_term_must_be_the_same(
    postgresql_database: Database, changed: dict[str, object]
) -> None:
    db = postgresql_database
    lease = acquire(db)
    with db.write() as connection:
        connection.execute(sa.update(tables.leases).values(changed))
    for work in (leases.check, leases.renew):
        with pytest.raises(errors.LedgerBusy):
            use(db, work, lease)


def test_many_that_ask_at_once_get_one_lease(postgresql_database: Database) -> None:
    def ask(_: int) -> Lease | None:
        try:
            return acquire(postgresql_database)
        except errors.LedgerBusy:
            return None

    with ThreadPoolExecutor(6) as pool:
        got = [lease for lease in pool.map(ask, range(6)) if lease is not None]
    assert len(got) == 1
    use(postgresql_database, leases.check, got[0])


def test_a_check_tells_how_long_the_lease_still_runs(postgresql_database: Database) -> None:
    db = postgresql_database
    lease = acquire(db)
    with db.write() as connection:
        left = leases.check(connection, lease)
        assert left is not None
        assert 0 < left <= leases.TERM
        connection.execute(
            sa.update(tables.leases).values(expires_at=tables.leases.c.expires_at - 5_000_000)
        )
    with db.write() as connection:
        later = leases.check(connection, lease)
        assert later is not None
        assert 0 < later <= left - 5_000_000


def test_a_claim_keeps_the_lease_from_those_who_lock_it_alone(
    postgresql_database: Database,
) -> None:
    """A check shares the row with other checks; whoever changes it waits for all of them."""
    db = postgresql_database
    lease = acquire(db)
    with db.write() as connection:
        leases.check(connection, lease)
        use(db, leases.check, lease)
        with pytest.raises(errors.LedgerError, match="could not obtain lock"):
            _lock_alone(db)
    _lock_alone(db)


def _lock_alone(db: Database) -> None:
    with db.write() as connection:
        connection.execute(sa.select(tables.leases).with_for_update(nowait=True))


def test_a_lease_that_ended_while_its_lock_was_waited_for_is_lost(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    lease = acquire(db)
    with db.write() as connection:
        now = ledger_database.instant(connection)
        assert now is not None
        ends = now + 300_000
        connection.execute(sa.update(tables.leases).values(expires_at=ends))
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            connection.execute(sa.select(tables.leases).with_for_update())
            checked = pool.submit(use, db, leases.check, lease)
            lent.wait_for_a_lock(db)
            while (ledger_database.instant(connection) or 0) <= ends:
                pass
        with pytest.raises(errors.LedgerBusy, match="lost"):
            checked.result(timeout=30)
