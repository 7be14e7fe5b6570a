"""Warn of what a configuration may say but hardly means."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

from sweeper.config import rate
from sweeper.config.settings import Account, KeyPlace
from sweeper.domain import display
from sweeper.domain.plan import Guards
from sweeper.domain.policy import Match, Policy

# docs.fireworks.ai/guides/quotas_usage/rate-limits: the most that any account may send.
_MOST_PER_SECOND: Final = {"fireworks": 6000 / 60}
NO_CREDENTIALS: Final = "no systemd credentials are here"


def of_accounts(accounts: Sequence[Account], environ: Mapping[str, str]) -> Iterator[str]:
    if not accounts:
        yield "accounts: none is configured, so nothing can be deleted"
    for account in accounts:
        most = _MOST_PER_SECOND.get(account.provider)
        if most is not None and account.rate_per_second > most:
            yield (
                f"accounts.{account.name}.rate: {account.provider} allows at most"
                f" {rate.render(most)}"
            )
        by_credential = account.key_source.place is KeyPlace.CREDENTIAL
        if by_credential and "CREDENTIALS_DIRECTORY" not in environ:
            yield (
                f"accounts.{account.name}: neither api_key_file nor api_key_env is given, and"
                f" {NO_CREDENTIALS}; the key is looked for in {account.key_source}"
            )


def of_guards(guards: Guards) -> Iterator[str]:
    for name in ("max_deletions_per_sweep", "max_share_per_sweep", "max_deletions_per_day"):
        if getattr(guards, name) == 0:
            yield f"guards.{name}: 0 blocks deletions"


def of_policies(policies: Sequence[Policy], accounts: Sequence[Account]) -> Iterator[str]:
    if not policies:
        yield "policies: none is given, so nothing is ever due"
    names = [str(account.name) for account in accounts]
    for index, policy in enumerate(policies):
        for name in sorted((policy.match.accounts or frozenset()) - set(names)):
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            yield f"policies.{index}.match.account: {name} is not configured{meant}"
    for (one, first), (two, second) in combinations(enumerate(policies), 2):
        if covers(first.match, second.match):
            yield f"policies.{two}: never decides, for policies.{one} matches all that it matches"


def of_alarm(command: Sequence[str] | None) -> Iterator[str]:
    if command is None:
        return
    program = display.escape(command[0])
    if not os.path.isfile(command[0]):  # noqa: PTH113 - Path.is_file raises where this says no
        yield f"alarm.command: {program} is no file that can be found, so nobody is called"
    elif not os.access(command[0], os.X_OK):
        yield f"alarm.command: {program} may not be run, so nobody is called; run: chmod a+x"


def covers(wide: Match, narrow: Match) -> bool:
    """Say whether everything that `narrow` matches is matched by `wide`."""
    if wide.accounts is not None and (narrow.accounts is None or narrow.accounts - wide.accounts):
        return False
    wanted, given = dict(wide.labels), dict(narrow.labels)
    return all(key in given and not set(given[key]) - set(wanted[key]) for key in wanted)
