"""Build the parts of the program from its configuration: the only place where that is done."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sweeper import errors
from sweeper.config import secret
from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config
from sweeper.domain import response
from sweeper.domain.pacing import Pacer
from sweeper.domain.secret import Secret
from sweeper.engine.account import Account, Emit, Settings
from sweeper.engine.clock import Clock, ClockWatch
from sweeper.engine.pace import Pace
from sweeper.engine.planning import Scope
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Sweep
from sweeper.ledger import accounts, database, schema
from sweeper.ledger.database import Database
from sweeper.provider.profile import PROFILES
from sweeper.provider.responses import Responses


def open_ledger(config: Config, *, create: bool = True) -> Database:
    """Open the ledger; a fresh SQLite file upgrades itself, any other schema is refused.

    Without `create` no file is made, and a fresh one is refused too.
    """
    opened = database.open_database(config.ledger_url, create=create)
    try:
        if create:
            schema.ensure(opened)
        else:
            schema.check(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def read_keys(config: Config, environ: Mapping[str, str]) -> Mapping[str, Secret]:
    """Read every account's API key; raises SecretError with all faults at once."""
    keys: dict[str, Secret] = {}
    faults: list[errors.SecretError] = []
    for account in config.accounts:
        try:
            keys[account.name] = secret.read_key(account, environ)
        except errors.SecretError as fault:
            faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise errors.SecretError(
            f"{len(faults)} API keys cannot be used",
            faults=tuple(fault.message for fault in faults),
        )
    return keys


def scope(config: Config, *, only: str | None = None, most: int | None = None) -> Scope:
    """What a plan is made from; raises UsageError for a policy that is not configured."""
    names = [policy.name for policy in config.policies]
    if only is not None and only not in names:
        raise errors.UsageError(
            f"no policy is called {only!r}", hint=f"configured are: {', '.join(names) or 'none'}"
        )
    return Scope(
        policies=config.policies,
        accounts=frozenset(str(account.name) for account in config.accounts),
        guards=config.guards,
        only=only,
        most=most,
    )


def longest_ids(config: Config) -> Callable[[str], int]:
    """Say by the account's name how long an id may be, in characters."""
    lengths = {str(each.name): PROFILES[each.provider].id_length for each in config.accounts}
    return lambda account: lengths.get(account, response.LONGEST_ID)


def watch(config: Config) -> ClockWatch:
    return ClockWatch(
        clock=Clock(), skew=config.max_clock_skew, trust_local=config.trust_local_clock
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What the accounts of one process share."""

    db: Database
    watch: ClockWatch
    emit: Emit


def open_account(shop: Workshop, config: AccountConfig, key: Secret) -> Account:
    """Open an account's door; nothing is sent yet."""
    profile = PROFILES[config.provider]
    with shop.db.write() as connection:
        accounts.ensure(connection, [config.name])
        row = accounts.get(connection, config.name)
        assert row is not None, "the account's row was just made"
        fingerprint = accounts.fingerprint(connection, key)
    return Account(
        settings=Settings(
            name=config.name,
            provider=config.provider,
            base_url=config.base_url,
            account_id=config.account_id,
            max_in_flight=config.max_in_flight,
            verify=config.verify,
        ),
        profile=profile,
        door=Responses(
            profile=profile, base_url=config.base_url, key=key, account_id=config.account_id
        ),
        pace=Pace(Pacer(rate=config.rate_per_second)),
        watch=shop.watch,
        row=row,
        key_fingerprint=fingerprint,
        emit=shop.emit,
        seen=set(),
        pinned=config.account_id or row.pinned_account_id,
        not_found=row.not_found,
    )


def sweep(
    shop: Workshop, config: Config, opened: Iterable[Account], bounds: Scope, recorder: Recorder
) -> Sweep:
    return Sweep(
        db=shop.db,
        recorder=recorder,
        watch=shop.watch,
        scope=bounds,
        accounts=tuple(opened),
        emit=shop.emit,
        longest_id=longest_ids(config),
    )
