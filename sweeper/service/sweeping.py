"""Run one sweep to its end, whatever ends it: its own work, a signal, or a fault."""

import asyncio
import itertools
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import FrameType
from typing import Final

from sweeper import errors
from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config
from sweeper.domain.secret import Secret
from sweeper.engine.account import Account, Emit, Measure
from sweeper.engine.planning import Scope
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger import integrity
from sweeper.ledger.database import Database
from sweeper.service import assembly, intake, starvation
from sweeper.service.assembly import Keys, Reread, Workshop
from sweeper.service.spool.spool import Spool
from sweeper.service.spool.turns import Turns

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def workshop(
    config: Config,
    db: Database,
    emit: Emit,
    *,
    reread: Reread | None = None,
    measure: Measure | None = None,
) -> Workshop:
    """What the sweeps of one process share."""
    watch = assembly.watch(config)
    shop = Workshop(db=db, watch=watch, emit=emit, measure=measure, reread=reread)
    if config.spool is None:
        return shop
    spool = Spool(config.spool, intake.desk(config, db, watch))
    return replace(shop, intake=Turns(spool, emit))


async def run(shop: Workshop, config: Config, keys: Keys, bounds: Scope) -> Ended:
    """Sweep once. SIGINT and SIGTERM end it early: what is in flight finishes and is recorded.

    A second one waits less. They are ignored when this returns, so that none can cut off what is
    told of the sweep; it is the caller who puts the handlers back.
    """
    await asyncio.to_thread(integrity.check_at_start, shop.db)
    recorder = Recorder(shop.db, shop.pulse, emit=shop.emit)
    try:
        async with prepared(shop, config, keys, bounds, recorder) as sweep:
            ignore = _listen(sweep)
            try:
                with starvation.watched():
                    return await sweep.run()
            finally:
                ignore()
    finally:
        recorder.close()


@asynccontextmanager
async def prepared(
    shop: Workshop, config: Config, keys: Keys, bounds: Scope, recorder: Recorder
) -> AsyncIterator[Sweep]:
    """A sweep with its accounts opened; they are closed behind it."""
    async with AsyncExitStack() as stack:
        doors = _Doors(shop, stack)
        for each in config.accounts:
            await doors.open(each, keys[each.name])
        opened = tuple(doors.opened.values())
        yield assembly.sweep(shop, config, opened, bounds, recorder, renew=doors.renewed)


class _Doors:
    """The accounts of one sweep, each opened by its newest key; `stack` closes them all."""

    def __init__(self, shop: Workshop, stack: AsyncExitStack) -> None:
        self.opened: dict[str, Account] = {}
        self._shop = shop
        self._stack = stack
        self._configured: dict[str, AccountConfig] = {}
        self._tried: dict[str, list[Secret | errors.SecretError]] = defaultdict(list)
        stack.callback(self._keep)

    async def open(self, config: AccountConfig, key: Secret | errors.SecretError) -> Account:
        # The ledger may keep it waiting, and trust in certificates takes a while to read.
        account = await asyncio.to_thread(assembly.open_account, self._shop, config, key)
        self._stack.push_async_callback(account.aclose)
        self.opened[account.name] = account
        self._configured[account.name] = config
        self._tried[account.name].append(key)
        return account

    async def renewed(self, account: Account) -> Account | None:
        """The account by the key that stands there now; None unless that was not tried yet."""
        reread, config = self._shop.reread, self._configured[account.name]
        if reread is None:
            return None
        key = await reread(config)
        if isinstance(key, errors.SecretError) or key in self._tried[account.name]:
            return None
        # Whose key it is changes nothing about the rate that the account has been left with.
        self._shop.keep(account)
        return await self.open(config, key)

    def _keep(self) -> None:
        for account in self.opened.values():
            self._shop.keep(account)


async def rehearse(shop: Workshop, config: Config, bounds: Scope) -> Ended:
    """Plan as a sweep would, and send nothing; no API key is needed."""
    recorder = Recorder(shop.db, emit=shop.emit)
    try:
        return await assembly.sweep(shop, config, (), bounds, recorder).rehearse()
    finally:
        recorder.close()


def _listen(sweep: Sweep) -> Callable[[], None]:
    """Stop the sweep on a signal; what is returned makes the process deaf to further ones."""
    loop = asyncio.get_running_loop()
    heard = itertools.count()

    def stop(_number: int, _frame: FrameType | None) -> None:
        hurry = next(heard) > 0
        loop.call_soon_threadsafe(lambda: sweep.stop("interrupted", hurry=hurry))

    def ignore() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    for number in SIGNALS:
        signal.signal(number, stop)
    return ignore
