"""Before an account's first claim: whose it is, whether it is stopped, what its key can see."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sweeper.domain.outcome import Breaker
from sweeper.engine.account import Account
from sweeper.ledger import accounts, sightings
from sweeper.ledger.accounts import AccountRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIFTED_BY_A_CONTROL: Final = frozenset(set(Breaker) - {Breaker.NOT_FOUND})
"""Breakers that a good control lifts; too much that was not found waits for a person."""

LOOKED_AT: Final = 5
"""How many of the planned responses are looked for at most."""


async def control(account: Account, planned: Sequence[tuple[str, int]]) -> str:
    """Ask whose account this is and look for up to five planned responses.

    Returns what was seen in one word: `passed`, `no_sight`, or the breaker that opened. Without
    the account's name, where the provider tells it, nothing is sent.
    """
    if account.profile.names_accounts:
        answer = await account.identify()
        if answer is not None and account.may_send and account.controls.identity_at is None:
            said = answer.fault or answer.status
            account.stop(Breaker.UNREACHABLE, f"the account check was answered {said}")
    await account.look_at(planned[:LOOKED_AT])
    if account.controls.sight_at is None:
        await account.look_at_collection()
    if account.stopped is not None:
        return account.stopped.breaker.value
    return "no_sight" if account.controls.sight_at is None else "passed"


def conflict(account: Account) -> str | None:
    """Say how the configuration reaches another account than this name was pinned to.

    None where nothing was pinned yet, or where all agrees as far as it can be known without
    asking the provider.
    """
    row, settings = account.row, account.settings
    if row.identity is None:
        return None
    if (row.provider, row.base_url) != (settings.provider, settings.base_url):
        return f"the provider or base URL is not the one pinned: {row.provider} {row.base_url}"
    if not account.profile.names_accounts:
        if row.key_fingerprint != account.key_fingerprint:
            return "the API key is another one, and this provider does not say whose it is"
        return None
    if settings.account_id not in (None, row.pinned_account_id):
        return f"account_id is not the one pinned: {row.pinned_account_id}"
    return None


def keep(connection: "Connection", account: Account, result: str, now: int) -> AccountRow:
    """Write what an opening found: the pin at first use, a changed key, lifted breakers."""
    row = account.row
    if account.stopped is None:
        if row.identity is None:
            accounts.pin(
                connection,
                row.id,
                provider=account.settings.provider,
                base_url=account.settings.base_url,
                pinned_account_id=account.pinned,
                key_fingerprint=account.key_fingerprint,
                reason=None,
                now=now,
            )
        elif row.key_fingerprint != account.key_fingerprint:
            accounts.change_key(connection, row, account.key_fingerprint, now=now)
        accounts.close_breakers(connection, row, LIFTED_BY_A_CONTROL, reason=None, now=now)
    accounts.save_control(connection, row.id, result, now=now)
    sightings.save(
        connection,
        row.id,
        key=account.key,
        label_sets=account.newly_seen,
        get_seen=account.get_seen,
        yes_at=None,
        now=now,
    )
    kept = accounts.get(connection, row.name)
    assert kept is not None, "an account that was opened has a row"
    return kept
