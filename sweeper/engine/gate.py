"""Keep requests back while the ledger does not take what was seen."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Gate:
    """Open as long as the ledger keeps up; whoever would send a request passes it first."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._shut_by: set[object] = set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    @contextmanager
    def watching(self, patience: float) -> Iterator[Callable[[], None]]:
        """Shut the gate when the block takes longer than so many seconds, until it has ended.

        What it gives shuts the gate at once.
        """
        me = object()

        def shut() -> None:
            self._shut_by.add(me)
            self._open.clear()

        timer = asyncio.get_running_loop().call_later(patience, shut)
        try:
            yield shut
        finally:
            timer.cancel()
            self._shut_by.discard(me)
            if not self._shut_by:
                self._open.set()

    async def passed(self, within: float) -> bool:
        """Wait until the gate is open, so many seconds at most; says whether it is."""
        if not self._open.is_set():
            try:
                async with asyncio.timeout(max(0.0, within)):
                    await self._open.wait()
            except TimeoutError:
                return False
        return True
