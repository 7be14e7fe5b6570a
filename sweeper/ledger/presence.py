"""Find out whether a daemon or a sweep is at work on a ledger, without getting in its way."""

import fcntl
import os

import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import database, leases, tables
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Duty


def daemon(db: Database) -> bool:
    """Whether some process has the daemon's place; raises LedgerError where that is hidden."""
    return _is_taken(db, Duty.DAEMON, tables.leases.c.name == leases.DAEMON)


def sweep(db: Database) -> bool:
    """Whether some process sweeps the ledger; raises LedgerError where that is hidden.

    On PostgreSQL one that died still counts until its leases end, 15 seconds at most.
    """
    return _is_taken(db, Duty.SWEEP, tables.leases.c.name != leases.DAEMON)


def _is_taken(db: Database, duty: Duty, theirs: sa.ColumnElement[bool]) -> bool:
    if db.path is None:
        with db.read() as connection:
            until = connection.execute(
                sa.select(sa.func.max(tables.leases.c.expires_at)).where(theirs)
            ).scalar_one()
            return until is not None and until > (database.instant(connection) or 0)
    place = db.path.resolve()
    lock = place.with_name(f"{place.name}.{duty.value}")
    try:
        # Never made here: it would belong to whoever looks, and keep the owner out.
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as fault:
        raise errors.LedgerError(
            f"the lock file {lock} cannot be opened: {fault.strerror}",
            hint="run this as the user who owns the ledger",
        ) from fault
    try:
        # Shared and for a moment: who starts right now tries again, see `leases.file_lock`.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
