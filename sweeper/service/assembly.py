"""Build the parts of the program from its configuration: the only place where that is done."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sweeper import errors
from sweeper.config import secret
from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config
from sweeper.domain import response
from sweeper.domain.outcome import Breaker
from sweeper.domain.pacing import Pacer
from sweeper.domain.secret import Secret
from sweeper.engine.account import Account, Emit, Measure, Settings
from sweeper.engine.clock import Clock, ClockWatch
from sweeper.engine.pace import Pace
from sweeper.engine.planning import Scope
from sweeper.engine.pulse import Pulse
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Intake, Sweep
from sweeper.engine.visit import Renew
from sweeper.ledger import accounts, database, schema
from sweeper.ledger.database import Database
from sweeper.provider.profile import PROFILES
from sweeper.provider.responses import Responses

Keys = Mapping[str, Secret | errors.SecretError]
"""Of each account its API key, or what is wrong with it."""
Reread = Callable[[AccountConfig], Awaitable[Secret | errors.SecretError]]
"""Reads an account's API key once more: it may have been replaced since."""
_NO_KEY: Final = Secret("none")


def make_ledger(config: Config) -> None:
    """Make a ledger where nothing of an earlier one is looked for, or upgrade what is there."""
    opened = database.open_database(config.ledger_url, create=True)
    try:
        schema.upgrade(opened)
    finally:
        opened.close()


def open_ledger(config: Config) -> Database:
    """Open the ledger; another schema than the newest is refused.

    None is made where it is missing: what a lost one knew must still be deleted, and a new one
    would say that nothing is due.
    """
    opened = database.open_database(config.ledger_url, create=False)
    try:
        schema.check(opened)
    except BaseException:
        opened.close()
        raise
    return opened


def read_keys(config: Config, environ: Mapping[str, str]) -> Keys:
    """Read every account's API key; of one that cannot be used, what is wrong with it."""
    return {account.name: read_key(account, environ) for account in config.accounts}


def read_key(account: AccountConfig, environ: Mapping[str, str]) -> Secret | errors.SecretError:
    try:
        return secret.read_key(account, environ)
    except errors.SecretError as fault:
        return fault


def usable(keys: Keys) -> Sequence[Secret]:
    """The keys that could be read; raises SecretError, with all faults, where there is none."""
    found = [key for key in keys.values() if isinstance(key, Secret)]
    faults = [fault for fault in keys.values() if isinstance(fault, errors.SecretError)]
    if found or not faults:
        return found
    if len(faults) == 1:
        raise faults[0]
    raise errors.SecretError(
        f"{len(faults)} API keys cannot be used",
        faults=tuple(fault.message for fault in faults),
    )


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


async def _nothing_to_take_in(_beat: Callable[[], None]) -> int | None:
    return 0


async def _no_other_key(_account: Account) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What the sweeps of one process share.

    `intake` takes in the spool before each; `measure` hears of each request; `waits` hears, after
    each sweep, how many seconds an account's requests have waited for slots in all; `reread` reads
    a key that was refused once more; `pacers` are the accounts' limiters between sweeps.
    """

    db: Database
    watch: ClockWatch
    emit: Emit
    intake: Intake = _nothing_to_take_in
    measure: Measure | None = None
    waits: Callable[[str, float], None] | None = None
    reread: Reread | None = None
    pulse: Pulse = field(default_factory=Pulse)
    pacers: dict[str, Pacer] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def pacer(self, config: AccountConfig) -> Pacer:
        """The account's limiter as the last sweep of this process left it."""
        known = self.pacers.get(config.name)
        if known is not None and known.rate == config.rate_per_second:
            return known
        return Pacer(rate=config.rate_per_second)

    def keep(self, account: Account) -> None:
        """Let the next sweep go on at the rate at which this one ended."""
        self.pacers[account.name] = account.pace.pacer
        self.waited[account.name] += account.pace.waited
        if self.waits is not None:
            self.waits(account.name, self.waited[account.name])


def open_account(
    shop: Workshop, config: AccountConfig, key: Secret | errors.SecretError
) -> Account:
    """Open an account's door; nothing is sent yet. Without its key the account is stopped."""
    profile = PROFILES[config.provider]
    with shop.db.write() as connection:
        accounts.ensure(connection, [config.name])
        row = accounts.get(connection, config.name)
        assert row is not None, "the account's row was just made"
        usable_key = key if isinstance(key, Secret) else _NO_KEY
        fingerprint = accounts.fingerprint(connection, usable_key)
    opened = Account(
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
            profile=profile,
            base_url=config.base_url,
            key=usable_key,
            account_id=config.account_id,
        ),
        pace=Pace(shop.pacer(config), shop.pulse),
        watch=shop.watch,
        row=row,
        key_fingerprint=fingerprint,
        emit=shop.emit,
        seen=set(),
        pulse=shop.pulse,
        measure=shop.measure,
        pinned=config.account_id or row.pinned_account_id,
        not_found=row.not_found,
    )
    if isinstance(key, errors.SecretError):
        opened.stop(Breaker.CREDENTIAL, key.message)
    return opened


def sweep(
    shop: Workshop,
    config: Config,
    opened: Iterable[Account],
    bounds: Scope,
    recorder: Recorder,
    *,
    renew: Renew = _no_other_key,
) -> Sweep:
    return Sweep(
        db=shop.db,
        recorder=recorder,
        watch=shop.watch,
        scope=bounds,
        accounts=tuple(opened),
        emit=shop.emit,
        longest_id=longest_ids(config),
        intake=shop.intake,
        renew=renew,
    )
