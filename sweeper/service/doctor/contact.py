"""Look at the accounts: their keys, and, by GETs alone, the way to the provider and its clock."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from sweeper import errors
from sweeper.config import secret
from sweeper.config.settings import Account, Config, KeyPlace
from sweeper.domain import remedy
from sweeper.domain.outcome import Breaker
from sweeper.domain.secret import Secret
from sweeper.ledger.database import Database
from sweeper.service import stewardship
from sweeper.service.doctor.findings import Check, Finding, fault, ok, warning
from sweeper.service.stewardship import Checked

_UNREACHED: Final = (Breaker.UNREACHABLE, Breaker.TLS)
"""Breakers that say of the way to the provider what is wrong with it."""


def key(account: Account, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether an account's key can be read; nothing of it is told.

    A key that systemd hands to the service is nowhere else, which is no fault.
    """
    if _is_only_the_services(account, environ):
        told = f"{account.key_source} is given to the service alone, so neither it nor the way to"
        told += " the provider was looked at"
        then = "look as the service does, with systemd-run: docs/deploy.md, Commands by hand"
        yield warning(Check.KEY, told, then, account.name)
        return
    try:
        secret.read_key(account, environ)
    except errors.SecretError as error:
        then = error.hint or f"write the key into {account.key_source}"
        yield fault(Check.KEY, error.message, then, account.name)
        return
    yield ok(Check.KEY, f"there is a key in {account.key_source}", account.name)


def _is_only_the_services(account: Account, environ: Mapping[str, str]) -> bool:
    is_credential = account.key_source.place is KeyPlace.CREDENTIAL
    return is_credential and not environ.get("CREDENTIALS_DIRECTORY")


def account(
    config: Config, db: Database, settings: Account, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Make a control, as `account check` does; an account without a key is not asked."""
    try:
        found: Secret = secret.read_key(settings, environ)
    except errors.SecretError:
        return  # told by itself
    checked = stewardship.check(config, db, settings.name, found)
    yield from _reach(settings, checked)
    yield from _clock(config, checked)
    yield from _account(checked)


def _reach(settings: Account, checked: Checked) -> Iterator[Finding]:
    if checked.stopped is not None and checked.stopped.breaker in _UNREACHED:
        yield fault(
            Check.REACH,
            f"{settings.base_url}: {checked.stopped.detail}",
            remedy.of_stop(checked.account, checked.stopped.breaker),
            checked.account,
        )
    elif checked.clock_off is not None:
        yield ok(Check.REACH, f"{settings.base_url} answers", checked.account)


def _clock(config: Config, checked: Checked) -> Iterator[Finding]:
    """How far our clock is from the one of the provider's answers, if it said so."""
    name, off = checked.account, checked.clock_off
    if off is None:
        if checked.stopped is None and not config.trust_local_clock:
            yield fault(
                Check.CLOCK,
                "the provider sends no Date, without which nothing is deleted",
                "if this machine's clock is kept right: [guards] trust_local_clock = true",
                name,
            )
        return
    seconds = abs(off.total_seconds())
    ahead = "ahead of" if off > timedelta(0) else "behind"
    told = f"the clock is {seconds:.1f} s {ahead} the provider's Date"
    if abs(off) > config.max_clock_skew:
        yield fault(Check.CLOCK, f"{told}, so nothing is deleted", "mend the time service", name)
    elif abs(off) > config.max_clock_skew / 2:
        yield warning(Check.CLOCK, f"{told}: soon too far", "mend the time service", name)
    else:
        yield ok(Check.CLOCK, told, name)


def _account(checked: Checked) -> Iterator[Finding]:
    name, stopped = checked.account, checked.stopped
    for breaker in checked.waits_for:
        still = "until a person decides" if breaker is Breaker.NOT_FOUND else "still"
        told = f"stopped ({breaker.value.replace('_', ' ')}) {still}"
        yield fault(Check.ACCOUNT, told, remedy.of_stop(name, breaker), name)
    if stopped is not None:
        if stopped.breaker not in _UNREACHED:
            then = remedy.of_stop(name, stopped.breaker)
            yield fault(Check.ACCOUNT, stopped.detail, then, name)
        return
    if checked.result == "no_sight":
        yield warning(
            Check.ACCOUNT,
            "this key saw no response just now, so no 404 is believed",
            f"register a response that is there; then sweeper account check {name}",
            name,
        )
    elif not checked.waits_for:
        whose = checked.provider_account_id
        belongs = "the key is accepted" if whose is None else f"the key belongs to {whose}"
        reads = "" if checked.reads_by_id else "; none was read by its id just now"
        yield ok(Check.ACCOUNT, belongs + reads, name)
