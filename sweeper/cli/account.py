"""`sweeper account`: look at accounts, check them, and lift what stops them."""

import os
from typing import TYPE_CHECKING

import click

from sweeper.cli import output, roster, status
from sweeper.cli.call import Call, as_json, pass_call, with_reason
from sweeper.cli.verbs import Verbs

if TYPE_CHECKING:
    from sweeper.config.settings import Config
    from sweeper.domain.secret import Secret
    from sweeper.service.operator import Who
    from sweeper.service.standing import Kept
    from sweeper.service.stewardship import Checked

DOUBTED = 3
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
    from sweeper.service import standing

    config = call.config()
    with call.ledger(config) as database:
        with database.read() as connection:
            rows = {row.name: row for row in accounts.every(connection)}
        stopped = standing.stopped(config, database)
    roster.tell(config, rows, stopped, as_json=as_json)


@command.command("check", epilog="Example: sweeper account check main")
@click.argument("name")
@as_json
@pass_call
def check(call: Call, *, name: str, as_json: bool) -> int:
    """Ask the provider whose account NAME is, and whether its responses can be read.

    Sends the account check and GETs, never a DELETE. A good answer lifts what a bad credential,
    a payment, an intercepting proxy or a wrong configuration had stopped. Exit code 12 when the
    account is stopped, else 3 when the clock may be wrong, so that nothing is deleted.
    """
    from sweeper.service import standing, stewardship

    config = call.config()
    key = _key(config, name)
    with call.ledger(config) as database:
        checked = stewardship.check(config, database, name, key)
        is_stopped = checked.stopped is not None or bool(checked.waits_for)
        kept = standing.kept_at(config, database, name) if is_stopped else None
    _told(checked, as_json=as_json, kept=kept)
    if is_stopped:
        return STOPPED
    return 0 if checked.clock_doubt is None else DOUBTED


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
    with call.ledger(config) as database:
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
    with call.ledger(config) as database:
        checked = stewardship.accept(config, database, name, key, who=_who(reason))
    _told(checked, as_json=as_json)


def _who(reason: str) -> "Who":
    from sweeper.service import operator

    return operator.who(os.environ, reason)


def _key(config: "Config", name: str) -> "Secret":
    from sweeper.config import secret
    from sweeper.service import stewardship

    return secret.read_key(stewardship.configured(config, name), os.environ)


def _told(
    checked: "Checked",
    *,
    as_json: bool,
    lifted: list[str] | None = None,
    kept: "Kept | None" = None,
) -> None:
    from sweeper.domain import remedy, wording

    fields = _fields(checked, kept)
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
    del shown["kept"], shown["oldest seconds"]
    if kept is not None and kept.count:
        oldest = wording.length(kept.oldest)
        shown["kept past their time"] = f"{kept.count:,}, the oldest by {oldest}"
    if lifted is not None:
        shown["lifted"] = ", ".join(lifted) or None
    output.pairs(shown)
    for breaker in (*checked.waits_for, *([checked.stopped.breaker] if checked.stopped else ())):
        output.line(status.remedy(checked.account, breaker))
    if checked.clock_doubt is not None:
        output.line(f"next: {remedy.of_clock(is_dated=checked.clock_off is not None)}")


def _fields(checked: "Checked", kept: "Kept | None") -> dict[str, object]:
    return {
        "account": checked.account,
        "result": checked.result,
        "provider_account_id": checked.provider_account_id,
        "key_fingerprint": checked.key_fingerprint,
        "reads_by_id": checked.reads_by_id,
        "clock_off_seconds": None
        if checked.clock_off is None
        else round(checked.clock_off.total_seconds(), 3),
        "clock_doubt": checked.clock_doubt,
        "stopped": None if checked.stopped is None else checked.stopped.breaker.value,
        "detail": None if checked.stopped is None else checked.stopped.detail,
        "waits_for_reset": [one.value for one in checked.waits_for],
        "kept": 0 if kept is None else kept.count,
        "oldest_seconds": None if kept is None else kept.oldest_seconds,
    }
