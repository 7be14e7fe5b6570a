"""`sweeper responses retry`, `correct` and `close`: a person's decision about one response."""

import os
from typing import TYPE_CHECKING

import click

from sweeper import errors
from sweeper.cli import lookup, output
from sweeper.cli.call import Call, as_json, pass_call, with_reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sweeper.config.settings import Config
    from sweeper.ledger.database import Database
    from sweeper.service.interventions import Decided
    from sweeper.service.operator import Who

    Decide = Callable[[Config, Database, Who], Decided]

_account = click.option("--account", metavar="NAME", help="Where several accounts have this ID.")


@click.command(
    "retry", epilog="Example: sweeper responses retry resp_1 --reason 'the provider mended it'"
)
@click.argument("id")
@_account
@with_reason
@as_json
@pass_call
def retry(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    account: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Let the next sweep try a response again.

    For one that the provider refused, or that waits for its next try. It is still deleted only
    if it is due.
    """
    from sweeper.service import interventions

    def decide(config: "Config", database: "Database", who: "Who") -> "Decided":
        return interventions.retry(config, database, id, account, who)

    _decide(call, account, reason, decide, kind="retried", as_json=as_json)


@click.command(
    "correct",
    epilog="Example: sweeper responses correct resp_1 --label app=support --reason 'mixed up'",
)
@click.argument("id")
@_account
@click.option("--created-at", metavar="TIME", help="Unix seconds or RFC 3339.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="May be repeated; replaces all labels that stood.",
)
@click.option("--subject", metavar="TEXT", help="An opaque reference to the data subject.")
@click.option("--previous", metavar="ID", help="The response that this one continues.")
@click.option("--earlier", is_flag=True, help="It is meant that something is due earlier.")
@with_reason
@as_json
@pass_call
def correct(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    account: str | None,
    created_at: str | None,
    labels: tuple[str, ...],
    subject: str | None,
    previous: str | None,
    earlier: bool,
    reason: str,
    as_json: bool,
) -> None:
    """State what is right about a response that was registered wrongly.

    What is not stated stays as it stands. One that was set aside as conflicting or malformed is
    live again. Nothing becomes due earlier by the configured policies, unless --earlier says that
    this is meant.
    """
    from sweeper.domain.correction import Stated
    from sweeper.service import interventions

    stated = Stated(
        created_at=None if created_at is None else _time(created_at),
        labels=lookup.labels(labels) if labels else None,
        subject=subject,
        previous_response_id=previous,
    )

    def decide(config: "Config", database: "Database", who: "Who") -> "Decided":
        return interventions.correct(
            config, database, id, account, who, stated=stated, earlier=earlier
        )

    _decide(call, account, reason, decide, kind="corrected", as_json=as_json)


@click.command(
    "close", epilog="Example: sweeper responses close resp_1 --reason 'the account is no more'"
)
@click.argument("id")
@_account
@with_reason
@as_json
@pass_call
def close(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    account: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Let nothing more be done about a response.

    It is not deleted, and never counts as deleted: it is reported apart, as closed by a person.
    """
    from sweeper.service import interventions

    def decide(config: "Config", database: "Database", who: "Who") -> "Decided":
        return interventions.close(config, database, id, account, who)

    _decide(call, account, reason, decide, kind="closed", as_json=as_json)


def _time(text: str) -> "datetime":
    from datetime import UTC, datetime

    from sweeper.domain import creation
    from sweeper.service import lines

    try:
        return creation.read(lines.timestamp(text), datetime.now(UTC))
    except ValueError as fault:
        raise errors.InvalidRegistration(
            f"nothing was changed: bad_created_at: {fault}",
            hint="write Unix seconds, as 1763769600, or RFC 3339, as 2025-11-22T00:00:00Z",
        ) from None


def _decide(
    call: Call, account: str | None, reason: str, decide: "Decide", *, kind: str, as_json: bool
) -> None:
    from sweeper.service import operator

    config = call.config()
    with call.ledger(config) as database:
        try:
            decided = decide(config, database, operator.who(os.environ, reason))
            said = lookup.who_closed(database, [decided.response]).get(decided.response.id)
        except errors.UnknownResponse:
            lookup.check_account(config, database, account)
            raise
    fields = {
        "decision": kind,
        **lookup.fields(decided.response, config, said),
        "due_before": output.instant(decided.before.due_at),
        "record": decided.record,
    }
    if as_json:
        output.json_line("decision", fields)
        return
    _tell(decided, kind)


def _tell(decided: "Decided", kind: str) -> None:
    row = decided.response
    output.line(f"{row.response_id} ({row.account}) is {kind}: {_means(decided, kind)}.")
    step = lookup.next_step(row)
    if step is not None:
        output.line(f"It stays set aside ({row.quarantine_reason}). next: {step}")


def _means(decided: "Decided", kind: str) -> str:
    if kind == "closed":
        sent = "; a DELETE was sent before" if decided.response.attempts else ""
        return f"nothing more is sent for it, and that it is deleted is not proved{sent}"
    due_at = decided.now.due_at
    if due_at is None:
        return "no policy deletes it"
    by = f'due at {output.short_instant(due_at)} by policy "{decided.now.policy}"'
    if decided.before.due_at == due_at:
        return by
    before = decided.before.due_at
    if before is None:
        return f"{by}; it was never due before"
    return f"{by}; before, it was due at {output.short_instant(before)}"
