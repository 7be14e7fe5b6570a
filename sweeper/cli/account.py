"""`sweeper account`: look at accounts, check them, and lift what stops them."""

import os
from typing import TYPE_CHECKING

import click

from sweeper.cli import output, status
from sweeper.cli.call import Call, as_json, pass_call, with_reason
from sweeper.cli.verbs import Verbs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sweeper.config.settings import Config
    from sweeper.domain.secret import Secret
    from sweeper.ledger.accounts import AccountRow, OpenBreaker
    from sweeper.service.operator import Who
    from sweeper.service.stewardship import Checked

STOPPED = 12
_PINNED = "provider_account_id"


@click.group("account", cls=Verbs)
def command() -> None:
    """List accounts, check them, and lift what stops them."""


@command.command("list", epilog="Example: sweeper account list --json")
@as_json
@pass_call
def list_(call: Call, *, as_json: bool) -> None:
    """List the accounts, configured or known to the ledger, with what stops them."""
    from sweeper.ledger import accounts

    config = call.config()
    with call.ledger(config) as database, database.read() as connection:
        rows = {row.name: row for row in accounts.every(connection)}
        stopped = accounts.open_breakers(connection)
    names = sorted({*rows, *(str(one.name) for one in config.accounts)})
    fields: list[dict[str, object]] = []
    for name in names:
        row, configured = rows.get(name), config.account(name)
        fields.append(
            {
                "account": name,
                "configured": configured is not None,
                "provider": configured.provider if configured else row and row.provider,
                "base_url": configured.base_url if configured else row and row.base_url,
                "provider_account_id": row and row.pinned_account_id,
                "key_fingerprint": row and row.key_fingerprint,
                "stopped": [one.breaker.value for one in stopped if one.account == name],
                "last_control": row and row.control,
                "last_control_at": output.instant(row.control_at if row else None),
            }
        )
    if as_json:
        for each in fields:
            output.json_line("account", each)
        output.json_line("summary", {"accounts": len(fields)})
        return
    output.table(
        ("ACCOUNT", "PROVIDER", "PINNED TO", "KEY", "STOPPED BY", "LAST CONTROL"),
        [
            (
                each["account"],
                each["provider"] if each["configured"] else "not configured",
                each["provider_account_id"],
                each["key_fingerprint"],
                _since(one for one in stopped if one.account == each["account"]),
                _control(rows.get(str(each["account"]))),
            )
            for each in fields
        ],
    )


def _since(stopped: "Iterable[OpenBreaker]") -> str | None:
    """What stops an account and since when, to be compared with when its control was."""
    told = (f"{one.breaker.value} since {output.short_instant(one.opened_at)}" for one in stopped)
    return ", ".join(told) or None


def _control(row: "AccountRow | None") -> str | None:
    if row is None or row.control is None:
        return None
    return f"{row.control} {output.short_instant(row.control_at)}"


@command.command("check", epilog="Example: sweeper account check main")
@click.argument("name")
@as_json
@pass_call
def check(call: Call, *, name: str, as_json: bool) -> int:
    """Ask the provider whose account NAME is, and whether its responses can be read.

    Sends the account check and GETs, never a DELETE. A good answer lifts what a bad credential,
    a payment, an intercepting proxy or a wrong configuration had stopped. Exit code 12 when the
    account is stopped.
    """
    from sweeper.service import stewardship

    config = call.config()
    key = _key(config, name)
    with call.ledger(config, create=True) as database:
        checked = stewardship.check(config, database, name, key)
    _told(checked, as_json=as_json)
    return STOPPED if checked.stopped is not None or checked.waits_for else 0


@command.command(
    "reset", epilog="Example: sweeper account reset main --expect-absent 40 --reason 'old job'"
)
@click.argument("name")
@click.option(
    "--expect-absent",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="So many responses may be missing without stopping the account again.",
)
@with_reason
@as_json
@pass_call
def reset(call: Call, *, name: str, expect_absent: int, reason: str, as_json: bool) -> None:
    """Let a stopped account go on, after a fresh control.

    Use it when too much was not found and you know why: --expect-absent N says how many
    responses were deleted by somebody else.
    """
    from sweeper.service import stewardship

    config = call.config()
    key = _key(config, name)
    with call.ledger(config, create=True) as database:
        checked, closed = stewardship.reset(
            config, database, name, key, expect_absent=expect_absent, who=_who(reason)
        )
    _told(checked, as_json=as_json, lifted=[one.value for one in closed])


@command.command("accept", epilog="Example: sweeper account accept main --reason 'new key'")
@click.argument("name")
@with_reason
@as_json
@pass_call
def accept(call: Call, *, name: str, reason: str, as_json: bool) -> None:
    """Accept that NAME now means the account that the configuration reaches.

    The ledger pins an account at first use. After another key, base URL or account was
    configured on purpose, this pins the new one.
    """
    from sweeper.service import stewardship

    config = call.config()
    key = _key(config, name)
    with call.ledger(config, create=True) as database:
        checked = stewardship.accept(config, database, name, key, who=_who(reason))
    _told(checked, as_json=as_json)


def _who(reason: str) -> "Who":
    from sweeper.service import operator

    return operator.who(os.environ, reason)


def _key(config: "Config", name: str) -> "Secret":
    from sweeper.config import secret
    from sweeper.service import stewardship

    return secret.read_key(stewardship.configured(config, name), os.environ)


def _told(checked: "Checked", *, as_json: bool, lifted: list[str] | None = None) -> None:
    fields = {
        "account": checked.account,
        "result": checked.result,
        "provider_account_id": checked.provider_account_id,
        "key_fingerprint": checked.key_fingerprint,
        "reads_by_id": checked.reads_by_id,
        "clock_off_seconds": None
        if checked.clock_off is None
        else round(checked.clock_off.total_seconds(), 3),
        "stopped": None if checked.stopped is None else checked.stopped.breaker.value,
        "detail": None if checked.stopped is None else checked.stopped.detail,
        "waits_for_reset": [one.value for one in checked.waits_for],
    }
    if lifted is not None:
        fields["lifted"] = lifted
    if as_json:
        output.json_line("account_check", fields)
        return
    # It is the account that is pinned: whose a key is that was refused, nobody knows.
    told = {("pinned_to" if name == _PINNED else name): value for name, value in fields.items()}
    shown = {name.replace("_", " "): value for name, value in told.items()}
    shown["reads by id"] = "yes" if checked.reads_by_id else "no"
    shown["waits for reset"] = ", ".join(one.value for one in checked.waits_for) or None
    if lifted is not None:
        shown["lifted"] = ", ".join(lifted) or None
    output.pairs(shown)
    for breaker in (*checked.waits_for, *([checked.stopped.breaker] if checked.stopped else ())):
        output.line(status.remedy(checked.account, breaker))
