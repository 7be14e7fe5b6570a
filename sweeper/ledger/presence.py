"""Find out whether a daemon is at work on a ledger, without getting in its way."""

import fcntl
import os

import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import database, leases, tables
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Duty


def daemon(db: Database) -> bool:
    """Whether some process has the daemon's place; raises LedgerError where that is hidden."""
    if db.path is None:
        with db.read() as connection:
            until = connection.execute(
                sa.select(tables.leases.c.expires_at).where(tables.leases.c.name == leases.DAEMON)
            ).scalar_one_or_none()
            return until is not None and until > (database.instant(connection) or 0)
    place = db.path.resolve()
    lock = place.with_name(f"{place.name}.{Duty.DAEMON.value}")
    try:
        # Never made here: it would belong to whoever looks, and keep the daemon out.
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as fault:
        raise errors.LedgerError(
            f"the lock file {lock} cannot be opened: {fault.strerror}",
            hint="run this as the user who owns the ledger",
        ) from fault
    try:
        # Shared and for a moment: a daemon that starts right now tries again two seconds later.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
