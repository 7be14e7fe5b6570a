"""Before an account's first claim: whose it is, whether it is stopped, what its key can see."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sweeper.domain import event, moment
from sweeper.domain.answer import AnswerKind
from sweeper.domain.outcome import Breaker
from sweeper.domain.plan import AccountPlan
from sweeper.engine import breaker
from sweeper.engine.account import Account
from sweeper.engine.recorder import Recorder
from sweeper.ledger import accounts, claims, sightings
from sweeper.ledger.accounts import AccountRow, OpenBreaker
from sweeper.provider.fault import Fault

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIFTED_BY_A_CONTROL: Final = frozenset(set(Breaker) - {Breaker.NOT_FOUND})
"""Breakers that a good control lifts; too much that was not found waits for a person."""
LIFTED_BY_AN_ANSWER: Final = frozenset({Breaker.UNREACHABLE, Breaker.TLS})
"""Breakers that any answer of the provider disproves, also one that stops the account anew."""

_TRIES: Final = 3
_BUSY: Final = frozenset({AnswerKind.THROTTLED, AnswerKind.UNAVAILABLE, AnswerKind.HTML})
_STRANGE: Final = frozenset(
    {AnswerKind.ABSENT, AnswerKind.MISPLACED, AnswerKind.REJECTED, AnswerKind.UNCLEAR}
)
"""Answers to the account check that the API which we know does not give."""

LOOKED_AT: Final = 5
"""How many of the planned responses are looked for at most."""


async def enter(
    account: Account, made: AccountPlan, recorder: Recorder, dated: "Callable[[Connection], int]"
) -> bool:
    """Make the control before the first claim; False when there is nothing to do or no way.

    An account may come stopped: its key could not be read. `dated` gives the time for records, in
    microseconds. Raises ConfigurationError where another
    name is pinned to the same account.
    """
    if account.stopped is not None:
        return False
    stopped, verifying = await recorder.write(lambda c: _recall(c, account))
    if not made.planned and not verifying and not stopped:
        return False
    clash = conflict(account)
    if clash is not None:
        account.stop(Breaker.IDENTITY, clash)
        return False
    for one in stopped:
        if one.breaker not in LIFTED_BY_A_CONTROL:
            account.stop(one.breaker, one.detail)
            return False
    # It may have tripped beside another stop, or right before a crash: then it was never opened.
    account.stop_if_tripped()
    if account.stopped is not None:
        return False
    if any(one.breaker in breaker.PASSING for one in stopped):
        account.try_again()
    sample = await recorder.write(lambda c: _sample(c, account, made))
    result = await control(account, sample)
    if account.may_send and account.row.identity is None and not account.heard:
        account.stop(Breaker.UNREACHABLE, "no answer has shown yet that this key reaches the API")
    account.row = await recorder.write(lambda c: keep(c, account, result, dated(c)))
    account.newly_seen = set()
    for lifted in account.lifted:
        account.emit(event.BreakerClosed(account=account.name, breaker=lifted))
    _stay(account, stopped)
    account.emit(event.AccountChecked(account=account.name, result=result))
    return account.may_send


def _stay(account: Account, stopped: Sequence[OpenBreaker]) -> None:
    """Stay stopped where no answer of the control told enough to lift what stops the account."""
    for one in stopped:
        if account.may_send and one.breaker not in account.lifted:
            account.stop(one.breaker, one.detail)


def _recall(connection: "Connection", account: Account) -> tuple[Sequence[OpenBreaker], int]:
    row = accounts.get(connection, account.name)
    assert row is not None, "an account that was opened has a row"
    account.pin(row)
    account.recall(row, sightings.label_sets_seen(connection, row.id, account.key))
    return (
        accounts.open_breakers(connection, account.name),
        claims.verifications(connection, row.id),
    )


def _sample(
    connection: "Connection", account: Account, made: AccountPlan
) -> Sequence[tuple[str, int]]:
    """Responses to look for: planned ones, else what lives, else what waits for verification."""
    by_size = sorted(made.sets, key=lambda one: -one.planned)
    cuts = [(one.label_set_id, moment.to_us(one.cutoff)) for one in by_size if one.planned]
    return (
        sightings.newest(connection, cuts, LOOKED_AT)
        or sightings.newest_live(connection, account.row.id, LOOKED_AT)
        or claims.unverified(connection, account.row.id, LOOKED_AT)
    )


async def control(account: Account, planned: Sequence[tuple[str, int]]) -> str:
    """Ask whose account this is and look for up to five planned responses.

    Returns what was seen in one word: `passed`, `no_sight`, the breaker that opened, or
    `interrupted`. Without the account's name, where the provider tells it, nothing is sent.
    """
    if account.profile.names_accounts:
        await _identify(account)
    if account.may_send:
        await account.look_at(planned[:LOOKED_AT])
    if account.may_send and account.controls.sight_at is None:
        await account.look_at_collection()
    if account.stopped is not None:
        return account.stopped.breaker.value
    if not account.may_send:
        return "interrupted"
    return "no_sight" if account.controls.sight_at is None else "passed"


async def _identify(account: Account) -> None:
    """Ask whose account this is, again where that may have been a moment's trouble."""
    answer = None
    for _ in range(_TRIES):
        answer = await account.identify()
        if answer is None or not (answer.kind in _BUSY or answer.fault == Fault.TLS):
            break
    if account.may_send and account.controls.identity_at is None:
        said = "no answer" if answer is None else (answer.fault or f"status {answer.status}")
        is_strange = answer is not None and answer.kind in _STRANGE
        why = Breaker.CONFIGURATION if is_strange else Breaker.UNREACHABLE
        account.stop(why, f"the account check failed ({said})")


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
    """Write what an opening found: the pin at first use, a changed key, lifted breakers.

    Only what the API has really answered does so. Raises ConfigurationError where another name
    is pinned to the same account.
    """
    row = account.row
    # The account's own row before any record: everybody takes these locks in that order.
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
    if account.stopped is None and account.heard:
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
    account.lifted = accounts.close_breakers(
        connection, row, _disproved(account), reason=None, now=now
    )
    kept = accounts.get(connection, row.name)
    assert kept is not None, "an account that was opened has a row"
    return kept


def _disproved(account: Account) -> frozenset[Breaker]:
    """The breakers for which, by what came back, there is no reason any more."""
    stop = account.stopped
    if stop is None and account.heard:
        return LIFTED_BY_A_CONTROL
    disproved = LIFTED_BY_AN_ANSWER if account.was_answered else frozenset()
    return disproved if stop is None else disproved - {stop.breaker}
