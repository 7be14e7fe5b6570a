"""Run one sweep to its end, whatever ends it: its own work, a signal, or a fault."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import FrameType
from typing import Final

from sweeper.config.settings import Config
from sweeper.domain.secret import Secret
from sweeper.engine.account import Emit
from sweeper.engine.planning import Scope
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger.database import Database
from sweeper.service import assembly
from sweeper.service.assembly import Workshop

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


async def run(
    config: Config, db: Database, keys: Mapping[str, Secret], bounds: Scope, emit: Emit
) -> Ended:
    """Sweep once. SIGINT and SIGTERM end it early: what is in flight finishes and is recorded.

    Both are ignored when this returns, so that none can cut off what is told of the sweep; it is
    the caller who puts the handlers back.
    """
    shop = Workshop(db=db, watch=assembly.watch(config), emit=emit)
    async with AsyncExitStack() as stack:
        recorder = Recorder(db)
        stack.callback(recorder.close)
        opened = []
        for each in config.accounts:
            account = assembly.open_account(shop, each, keys[each.name])
            stack.push_async_callback(account.aclose)
            opened.append(account)
        sweep = assembly.sweep(shop, config, opened, bounds, recorder)
        stack.callback(_listen(sweep))
        return await sweep.run()


async def rehearse(config: Config, db: Database, bounds: Scope, emit: Emit) -> Ended:
    """Plan as a sweep would, and send nothing; no API key is needed."""
    shop = Workshop(db=db, watch=assembly.watch(config), emit=emit)
    recorder = Recorder(db)
    try:
        return await assembly.sweep(shop, config, (), bounds, recorder).rehearse()
    finally:
        recorder.close()


def _listen(sweep: Sweep) -> Callable[[], None]:
    """Stop the sweep on a signal; what is returned makes the process deaf to further ones."""
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(sweep.stop, "interrupted")

    def ignore() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    for number in SIGNALS:
        signal.signal(number, stop)
    return ignore
