"""The right to sweep, kept for as long as a sweep runs: a file lock, or a lease per account."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.engine.recorder import Recorder
from sweeper.ledger import leases
from sweeper.ledger.leases import Lease

if TYPE_CHECKING:
    from sqlalchemy import Connection

RENEW_EVERY: Final = 5.0
"""Seconds between two renewals of a lease that holds for fifteen."""


class Tenure:
    """Holds the leases of a ledger in PostgreSQL; an SQLite ledger's file lock holds by itself."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._leases: dict[str, Lease] = {}

    def acquire(self, connection: "Connection", accounts: Sequence[str]) -> None:
        """Take every account's lease; raises LedgerBusy while another sweeper has one of them."""
        if connection.dialect.name == "postgresql":
            for name in sorted(accounts):
                self._leases[name] = leases.acquire(connection, name)

    def of(self, account: str) -> Lease | None:
        return self._leases.get(account)

    async def keep(self, alarm: Callable[[errors.SweeperError], None]) -> None:
        """Renew the leases until this is cancelled; `alarm` hears when they are lost."""
        while self._leases:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self._recorder.write(self._renew, is_work=False)
            except Exception as fault:  # noqa: BLE001 - nobody would hear of it otherwise
                alarm(errors.unforeseen(fault))

    async def release(self) -> None:
        """Let the next sweeper in at once; where that fails, the leases run out by themselves."""
        if self._leases:
            with suppress(errors.LedgerError):
                await self._recorder.write(self._release, patience=0)

    def _renew(self, connection: "Connection") -> None:
        for lease in self._leases.values():
            leases.renew(connection, lease)

    def _release(self, connection: "Connection") -> None:
        for lease in self._leases.values():
            leases.release(connection, lease)
