"""The daemon's post at a ledger, which one process at a time has: others stand by."""

import asyncio
from contextlib import ExitStack, suppress
from typing import Final

from sweeper import errors
from sweeper.ledger import leases
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Duty, Lease

_RENEW_EVERY: Final = 5.0
"""Seconds between two renewals of a lease that holds for fifteen."""


class Post:
    """A file lock at an SQLite ledger, a lease at one in PostgreSQL."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = ExitStack()
        self._lease: Lease | None = None

    async def take(self) -> bool:
        """Take the post if nobody has it; raises LedgerError where that cannot be known."""
        try:
            if self._db.is_sqlite:
                self._lock.enter_context(leases.file_lock(self._db, Duty.DAEMON))
            else:
                self._lease = await asyncio.to_thread(self._acquire)
        except errors.LedgerBusy:
            return False
        return True

    async def lost(self) -> None:
        """Keep the post, and return when it is lost: somebody else may have it by then."""
        if self._lease is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(_RENEW_EVERY)
            # A database that is away for a moment takes no post away: the lease's own term does.
            with suppress(errors.LedgerError):
                if not await asyncio.to_thread(self._renewed):
                    return

    async def leave(self) -> None:
        """Let the next daemon in at once; where that fails, the lease runs out by itself."""
        self._lock.close()
        if self._lease is not None:
            with suppress(errors.LedgerError):
                await asyncio.to_thread(self._release)
            self._lease = None

    def _acquire(self) -> Lease:
        with self._db.write() as connection:
            return leases.acquire(connection, leases.DAEMON)

    def _renewed(self) -> bool:
        assert self._lease is not None, "only a lease is renewed"
        try:
            with self._db.write() as connection:
                leases.renew(connection, self._lease)
        except errors.LedgerBusy:
            return False
        return True

    def _release(self) -> None:
        assert self._lease is not None, "only a lease is released"
        with self._db.write() as connection:
            leases.release(connection, self._lease)
