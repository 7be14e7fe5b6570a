"""What people do about accounts: check them, lift what stops them, accept what has changed."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sweeper import errors
from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.domain.event import Event
from sweeper.domain.notfound import NotFound
from sweeper.domain.outcome import Breaker
from sweeper.domain.secret import Secret
from sweeper.engine import opening
from sweeper.engine.account import Account, Stop
from sweeper.ledger import accounts, leases, sightings
from sweeper.ledger.database import Database
from sweeper.ledger.leases import Lease
from sweeper.service import assembly
from sweeper.service.assembly import Workshop
from sweeper.service.operator import Who

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a control showed. `clock_off` is how far our clock is from the provider's `Date`.

    `clock_doubt` says why the clock may not be trusted, so that nothing is deleted here.
    `waits_for` are the breakers that are still open, and that no further control need lift.
    """

    account: str
    result: str
    provider_account_id: str | None
    key_fingerprint: str
    reads_by_id: bool
    clock_off: timedelta | None
    clock_doubt: str | None
    stopped: Stop | None
    waits_for: tuple[Breaker, ...]


def configured(config: Config, name: str) -> AccountConfig:
    """Find an account in the configuration; raises UnknownAccount where it is not there."""
    found = config.account(name)
    if found is None:
        names = ", ".join(str(one.name) for one in config.accounts) or "none"
        raise errors.UnknownAccount(
            f"no account {name!r} is configured", hint=f"configured are: {names}"
        )
    return found


def check(config: Config, db: Database, name: str, key: Secret) -> Checked:
    """Make a control now: whose account it is, and whether its responses can be seen."""
    return asyncio.run(_check(config, db, name, key))


def reset(
    config: Config, db: Database, name: str, key: Secret, *, expect_absent: int, who: Who
) -> tuple[Checked, list[Breaker]]:
    """Let a stopped account go on, after a fresh control; `expect_absent` more may be missing.

    Raises AccountStopped where the control does not pass, LedgerBusy while a sweep is at work.
    """
    with _alone(db, name) as held:
        checked = check(config, db, name, key)
        if checked.stopped is not None:
            raise errors.AccountStopped(
                f"account {name} stays stopped: {checked.stopped.detail}",
                hint="mend that first, then reset it again",
            )
        with db.write() as connection:
            leases.check(connection, held)
            row = accounts.get(connection, name)
            assert row is not None, "an account that was checked has a row"
            now = moment.to_us(assembly.watch(config).clock.wall())
            seen = NotFound(recent="", expect_absent=expect_absent)
            accounts.save_not_found(connection, row.id, seen)
            closed = accounts.close_breakers(
                connection, row, Breaker, reason=who.reason, actor=who.actor, now=now
            )
    return replace(checked, waits_for=()), closed


def accept(config: Config, db: Database, name: str, key: Secret, *, who: Who) -> Checked:
    """Bind the name to the account that the configuration reaches now.

    Raises AccountStopped where the provider does not say or allow it, LedgerBusy while a sweep
    is at work.
    """
    with _alone(db, name) as held:
        return asyncio.run(_accept(config, db, name, key, who=who, held=held))


@contextmanager
def _alone(db: Database, name: str) -> Iterator[Lease | None]:
    """Hold the account as a sweep does; raises LedgerBusy while one is at work."""
    with leases.file_lock(db):
        if db.is_sqlite:
            yield None
            return
        with db.write() as connection:
            held = leases.acquire(connection, name)
        try:
            yield held
        finally:
            with db.write() as connection:
                leases.release(connection, held)


async def _check(config: Config, db: Database, name: str, key: Secret) -> Checked:
    async with _opened(config, db, name, key) as account:
        clash = opening.conflict(account)
        if clash is not None:
            account.stop(Breaker.IDENTITY, clash)
            with db.read() as connection:
                waiting = _waiting(connection, name)
                return _checked(account, Breaker.IDENTITY.value, waiting, None)
        result = await opening.control(account, _sample(db, account))
        now = moment.to_us(account.watch.clock.wall())
        with db.write() as connection:
            doubt = _clock_doubt(connection, account)
            account.row = opening.keep(connection, account, result, now)
            waiting = _waiting(connection, name)
            if account.stopped is None:
                # What this control did not lift, because no answer told enough, is no less open.
                waiting = tuple(one.breaker for one in accounts.open_breakers(connection, name))
        return _checked(account, result, waiting, doubt)


async def _accept(
    config: Config, db: Database, name: str, key: Secret, *, who: Who, held: Lease | None
) -> Checked:
    async with _opened(config, db, name, key) as account:
        settings = account.settings
        account.pinned = settings.account_id
        sample = _sample(db, account)
        result = await opening.control(account, sample)
        if sample and not (account.heard or account.profile.names_accounts):
            account.stop(Breaker.UNREACHABLE, "no answer has shown that this key reaches the API")
        if account.stopped is not None:
            raise errors.AccountStopped(
                f"account {name} cannot be accepted: {account.stopped.detail}"
            )
        now = moment.to_us(account.watch.clock.wall())
        with db.write() as connection:
            leases.check(connection, held)
            doubt = _clock_doubt(connection, account)
            accounts.pin(
                connection,
                account.row.id,
                provider=settings.provider,
                base_url=settings.base_url,
                pinned_account_id=account.pinned,
                key_fingerprint=account.key_fingerprint,
                reason=who.reason,
                actor=who.actor,
                now=now,
            )
            accounts.close_breakers(
                connection,
                account.row,
                [Breaker.IDENTITY],
                reason=who.reason,
                actor=who.actor,
                now=now,
            )
            waiting = _waiting(connection, name)
        return _checked(account, result, waiting, doubt)


def _sample(db: Database, account: Account) -> Sequence[tuple[str, int]]:
    """Responses that a working key should see."""
    with db.read() as connection:
        return sightings.newest_live(connection, account.row.id, opening.LOOKED_AT)


def _clock_doubt(connection: "Connection", account: Account) -> str | None:
    """What a sweep would say of the clock now; who never answered need not have sent a `Date`."""
    return account.watch.doubt(connection, account.name if account.was_answered else None)


def _waiting(connection: "Connection", name: str) -> tuple[Breaker, ...]:
    still_open = (one.breaker for one in accounts.open_breakers(connection, name))
    return tuple(one for one in still_open if one not in opening.LIFTED_BY_A_CONTROL)


@asynccontextmanager
async def _opened(config: Config, db: Database, name: str, key: Secret) -> AsyncIterator[Account]:
    shop = Workshop(db=db, watch=assembly.watch(config), emit=_ignore)
    account = assembly.open_account(shop, configured(config, name), key)
    try:
        yield account
    finally:
        await account.aclose()


def _ignore(_happened: Event) -> None:
    """Whoever asked is told the result itself."""


def _checked(
    account: Account, result: str, waiting: tuple[Breaker, ...], clock_doubt: str | None
) -> Checked:
    sighting = account.watch.sighting(account.name)
    return Checked(
        account=account.name,
        result=result,
        provider_account_id=account.pinned,
        key_fingerprint=account.key_fingerprint,
        reads_by_id=account.get_seen,
        clock_off=None if sighting is None else sighting.wall - sighting.date,
        clock_doubt=clock_doubt,
        stopped=account.stopped,
        waits_for=waiting,
    )
