"""See to it that one sweeper at a time works on an account, and that a lost one stops claiming."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from sweeper import errors
from sweeper.ledger import database, tables

TERM: Final = 15_000_000
"""Microseconds on the database's clock for which a lease holds unless it is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to sweep one account on PostgreSQL; `term` grows with every take-over."""

    name: str
    holder: str
    term: int


class Duty(StrEnum):
    """What a process has a ledger for: one sweep, or the daemon's place between sweeps."""

    SWEEP = "lock"
    DAEMON = "daemon.lock"


_GLANCE: Final = 0.2
"""Seconds for which a lock is tried that somebody may just be looking at."""
_WHO: Final = {Duty.SWEEP: "sweeper", Duty.DAEMON: "sweeper run"}
DAEMON: Final = "sweeper run"
"""The name of the daemon's lease, which no account can have."""


@contextmanager
def file_lock(db: database.Database, duty: Duty = Duty.SWEEP) -> Iterator[None]:
    """Hold an SQLite ledger for one sweeper; the system frees it when the process ends.

    Raises LedgerBusy where another process holds it, LedgerError where the ledger has several
    hard links or its lock file cannot be opened. PostgreSQL has leases instead.
    """
    if db.path is None:
        yield
        return
    descriptor = _lock_file(db.path, duty)
    try:
        if not _lock(descriptor):
            raise errors.LedgerBusy(
                f"another {_WHO[duty]} is at work on {db.path}",
                hint="wait until it is done; sweeper status tells how things stand",
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file for us alone; whoever only looks at it has it for less than `_GLANCE`."""
    until = time.monotonic() + _GLANCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_GLANCE / 20)
        else:
            return True


def _lock_file(ledger: Path, duty: Duty) -> int:
    """Open the one file whose lock stands for the ledger, whatever symbolic link leads to it."""
    place = ledger.resolve()
    names = place.stat().st_nlink
    if names > 1:
        raise errors.LedgerError(
            f"the ledger file {place} has {names} names (hard links), and each would be locked"
            " by itself",
            hint=f"keep one of them; find / -samefile {place} names them all",
        )
    path = place.with_name(f"{place.name}.{duty.value}")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise errors.LedgerError(
            f"the lock file {path} cannot be opened: {fault.strerror}",
            hint="run sweeper as the user who owns the ledger; where no sweeper is at work, the"
            " file may be removed",
        ) from fault


def acquire(connection: sa.Connection, account: str) -> Lease:
    """Take the account's lease for one term; raises LedgerBusy while somebody else's runs."""
    now = _now(connection)
    holder = secrets.token_hex(8)
    lease = tables.leases
    row = connection.execute(
        postgresql.insert(lease)
        .values(name=account, holder=holder, term=1, expires_at=now + TERM)
        .on_conflict_do_update(
            index_elements=[lease.c.name],
            set_={"holder": holder, "term": lease.c.term + 1, "expires_at": now + TERM},
            where=lease.c.expires_at <= now,
        )
        .returning(lease.c.term)
    ).one_or_none()
    if row is None:
        raise errors.LedgerBusy(
            f"another sweeper is at work on account {account}",
            hint="wait until it is done, or 15 seconds after it died",
        )
    return Lease(name=account, holder=holder, term=row.term)


def renew(connection: sa.Connection, lease: Lease) -> None:
    """Prolong the lease by a term; raises LedgerBusy where it has run out or been taken over."""
    now = _now(connection)
    renewed = connection.execute(
        sa.update(tables.leases)
        .where(*_is(lease), tables.leases.c.expires_at > now)
        .values(expires_at=now + TERM)
    )
    if renewed.rowcount != 1:
        raise _lost(lease)


def check(connection: sa.Connection, lease: Lease | None) -> int | None:
    """Hold the lease in share mode until the transaction ends; raises LedgerBusy when it is lost.

    Every claim does so: a sweeper that was frozen past its term claims nothing more. Returns the
    microseconds that the lease has left, which no claim may outlast; None where there is no lease.
    """
    if lease is None:
        return None
    held = connection.execute(
        sa.select(tables.leases.c.expires_at).where(*_is(lease)).with_for_update(read=True)
    ).one_or_none()
    # The clock is read when the lock is had: waiting for it may have taken long.
    left: int = 0 if held is None else held.expires_at - _now(connection)
    if left <= 0:
        raise _lost(lease)
    return left


def release(connection: sa.Connection, lease: Lease) -> None:
    """End the lease now, so that the next sweeper need not wait for its term."""
    connection.execute(
        sa.update(tables.leases)
        .where(tables.leases.c.name == lease.name, tables.leases.c.holder == lease.holder)
        .values(expires_at=0)
    )


def _is(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    table = tables.leases
    return (
        table.c.name == lease.name,
        table.c.holder == lease.holder,
        table.c.term == lease.term,
    )


def _now(connection: sa.Connection) -> int:
    now = database.instant(connection)
    assert now is not None, "leases are PostgreSQL's; SQLite has the file lock"
    return now


def _lost(lease: Lease) -> errors.LedgerBusy:
    return errors.LedgerBusy(
        f"the lease on account {lease.name} was lost to another sweeper",
        hint="nothing more was sent; the other sweeper goes on with the account",
    )
