"""`sweeper responses list` and `show`: what the ledger holds, one by one."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import click

from sweeper import errors
from sweeper.cli import output, plan
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from sweeper.config.settings import Config
    from sweeper.domain.outcome import Outcome
    from sweeper.ledger.database import Database
    from sweeper.ledger.records import Said
    from sweeper.ledger.responses import Response

PAGE = 1000
_OUTCOMES = (
    "still_present", "unconfirmed", "not_visible", "failing", "rejected", "deleted",
    "absent_after_attempt", "already_absent", "expired_by_provider", "closed",
)  # fmt: skip
_STATES = ("live", "claimed", "verifying", "gone", "quarantined")
_COLUMNS = ("RESPONSE", "ACCOUNT", "CREATED", "STATE", "OUTCOME", "LABELS")
_ASIDE = ("RESPONSE", "ACCOUNT", "CREATED", "SET ASIDE", "LABELS", "NEXT")


@click.command("list", epilog="Example: sweeper responses list --state quarantined")
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@click.option(
    "--outcome",
    metavar="OUTCOME",
    type=click.Choice(_OUTCOMES),
    help="Only those of which this was found last, as still_present.",
)
@click.option("--account", metavar="NAME", help="Only those of this account.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; by default all.")
@as_json
@pass_call
def list_(
    call: Call,
    *,
    state: str | None,
    outcome: str | None,
    account: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List the responses in the order in which they were admitted."""
    config = call.config()
    count, disputed = 0, False
    with call.ledger(config) as database:
        for page in _pages(database, (state, outcome, account), limit):
            count += len(page)
            if as_json:
                said = who_closed(database, page)
                for row in page:
                    output.json_line("response", fields(row, config, said.get(row.id)))
            else:
                _table(page, aside=state == "quarantined")
                disputed = disputed or any(map(_is_disputed, page))
        waiting = _waiting(database)
        if not count:
            check_account(config, database, account)
    if as_json:
        output.json_line("summary", {"responses": count, "waiting_for_admission": waiting})
        return
    if not count:
        output.note("no responses")
    if disputed:
        output.note(f"correct, of what is conflicting: {meaning('conflicting')}")
    if waiting:
        output.note(f"{waiting:,} more are registered; the next sweep or plan admits them")


def check_account(config: "Config", database: "Database", name: str | None) -> None:
    """Raise UnknownAccount for a name that neither the configuration nor the ledger knows."""
    from sweeper.ledger import accounts

    if name is None or config.account(name) is not None:
        return
    with database.read() as connection:
        known = {row.name for row in accounts.every(connection)}
    if name not in known:
        names = sorted(known | {str(one.name) for one in config.accounts})
        raise errors.UnknownAccount(
            f"no account is called {name!r}", hint=f"known are: {', '.join(names) or 'none'}"
        )


@click.command("show", epilog="Example: sweeper responses show resp_1 --json")
@click.argument("id")
@click.option("--account", metavar="NAME", help="Where several accounts have this ID.")
@as_json
@pass_call
def show(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    account: str | None,
    as_json: bool,
) -> None:
    """Show one response by its ID."""
    from sweeper.ledger import responses

    config = call.config()
    with call.ledger(config) as database:
        try:
            with database.read() as connection:
                row = responses.show(connection, id, account)
        except errors.UnknownResponse:
            check_account(config, database, account)
            raise
        said = who_closed(database, [row]).get(row.id)
    told = fields(row, config, said)
    if as_json:
        output.json_line("response", told)
        return
    shown = {
        **told,
        "labels": row.labels,
        "verified": "yes" if row.verified else "no",
        "state": state_text(row),
    }
    if said is None:
        del shown["closed_by"], shown["closed_because"]
    output.pairs({name.replace("_", " "): value for name, value in shown.items()})


def _pages(
    database: "Database", wanted: "tuple[str | None, str | None, str | None]", limit: int | None
) -> "Iterator[Sequence[Response]]":
    """Read page by page, each in a transaction of its own, so that nobody's commit waits long.

    `wanted` are the state, the outcome and the account, where only such are asked for.
    """
    from sweeper.domain.outcome import TERMINAL, Outcome
    from sweeper.domain.response import State
    from sweeper.ledger import responses

    state, outcome, account = wanted
    if outcome is not None and outcome not in TERMINAL:
        yield from _tried(database, Outcome(outcome), state, account, limit)
        return
    after, left = 0, limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        with database.read() as connection:
            page = responses.list(
                connection,
                state=None if state is None else State(state),
                outcome=None if outcome is None else Outcome(outcome),
                account=account,
                after=after,
                limit=size,
            )
        if page:
            yield page
        if len(page) < size:
            return
        after, left = page[-1].id, None if left is None else left - len(page)


def _tried(
    database: "Database",
    outcome: "Outcome",
    state: str | None,
    account: str | None,
    limit: int | None,
) -> "Iterator[Sequence[Response]]":
    """Read page by page what is not gone; what has changed meanwhile is left out."""
    from sweeper.domain.response import State
    from sweeper.ledger import responses

    with database.read() as connection:
        keys = responses.tried(
            connection,
            outcome,
            state=None if state is None else State(state),
            account=account,
            limit=limit,
        )
    for first in range(0, len(keys), PAGE):
        with database.read() as connection:
            page = responses.by_keys(connection, keys[first : first + PAGE])
        yield [row for row in page if row.outcome == outcome]


def who_closed(database: "Database", rows: "Sequence[Response]") -> "Mapping[int, Said]":
    """By whom responses were closed, and why; by the ledger's own keys."""
    from sweeper.service import inquiry

    with database.read() as connection:
        return inquiry.who_closed(connection, rows)


def _waiting(database: "Database") -> int:
    from sweeper.ledger import registrations

    with database.read() as connection:
        return registrations.waiting(connection)


def _table(page: "Iterable[Response]", *, aside: bool) -> None:
    """Of what is set aside: why, and what to do about it."""
    if aside:
        output.table(_ASIDE, map(_cells_aside, page), fold=("LABELS", "NEXT"))
    else:
        output.table(_COLUMNS, map(_cells, page), fold=("LABELS",))


def _cells(row: "Response") -> tuple[object, ...]:
    created, labels = output.short_instant(row.created_at), plan.labels_text(row.labels)
    return row.response_id, row.account, created, state_text(row), row.outcome, labels


def state_text(row: "Response") -> str:
    """The state in words: what a person closed is not known to be gone."""
    return "closed" if row.outcome == "closed" else row.state.value


def _cells_aside(row: "Response") -> tuple[object, ...]:
    created, labels = output.short_instant(row.created_at), plan.labels_text(row.labels)
    why = row.quarantine_reason
    return row.response_id, row.account, created, why, labels, next_step(row)


def next_step(row: "Response") -> str | None:
    """What a person can do about a response that is set aside; None of any other."""
    from sweeper.domain import response
    from sweeper.domain.response import State

    if row.state is not State.QUARANTINED:
        return None
    known = response.is_response_id(row.response_id, response.LONGEST_ID_ALLOWED)
    if not known or not response.is_account_name(row.account):
        return f"sweeper responses close {shlex.quote(row.response_id)} --reason ..."
    return f"sweeper responses {verb(row.quarantine_reason)} {row.response_id} --reason ..."


def _is_disputed(row: "Response") -> bool:
    return meaning(row.quarantine_reason) is not None


def meaning(quarantine_reason: str | None) -> str | None:
    """What the next step says about a response that was registered twice; None of any other."""
    if quarantine_reason != "conflicting":
        return None
    return "so alone it confirms what stands; --created-at, --label ... state what is right instead"


def verb(quarantine_reason: str | None) -> str:
    """The verb that brings back what was set aside for this."""
    return "retry" if quarantine_reason == "rejected" else "correct"


def labels(given: Iterable[str]) -> dict[str, str]:
    """Read KEY=VALUE texts; raises UsageError for one that is none, or a key given twice."""
    found: dict[str, str] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or key in found:
            raise errors.UsageError(f"--label {text!r}: write KEY=VALUE, each key once")
        found[key] = value
    return found


def fields(row: "Response", config: "Config", said: "Said | None" = None) -> dict[str, object]:
    """A response as programs meet it; what decides of one that is not gone is judged now.

    `said`: by whom it was closed, and why.
    """
    from sweeper.domain import labels

    policy, due_at, deadline_at = _deciding(row, config)
    return {
        "response_id": row.response_id,
        "account": row.account,
        "created_at": output.instant(row.created_at),
        "labels": labels.stored(row.labels),
        "subject": row.subject,
        "previous_response_id": row.previous_response_id,
        "state": row.state.value,
        "quarantine_reason": row.quarantine_reason,
        "next": next_step(row),
        "outcome": row.outcome,
        "verified": row.verified,
        "attempts": row.attempts,
        "policy": policy,
        "due_at": output.instant(due_at),
        "deadline_at": output.instant(deadline_at),
        "finished_at": output.instant(row.finished_at),
        **closing(said),
    }


def closing(said: "Said | None") -> dict[str, object]:
    """By whom a response was closed, and why, as programs meet it; null of any other."""
    return {
        "closed_by": None if said is None else who(said),
        "closed_because": None if said is None else said.reason,
    }


def who(said: "Said") -> str:
    """Name who decided; whom sudo was called by is only what the environment said."""
    return said.user if said.sudo_user is None else f"{said.user} (sudo by {said.sudo_user})"


def _deciding(
    row: "Response", config: "Config"
) -> "tuple[str | None, datetime | int | None, datetime | int | None]":
    from sweeper.domain import decision, labels, moment, policy
    from sweeper.domain.response import State

    if row.state is State.GONE:
        return row.policy, row.due_at, row.deadline_at
    rule = policy.deciding(config.policies, row.account, labels.stored(row.labels))
    if rule is None or row.created_at is None:
        return (None if rule is None else rule.name), None, None
    created_at = moment.from_us(row.created_at)
    due_at, deadline_at = (
        decision.due_at(rule, created_at),
        decision.deadline_at(rule, created_at),
    )
    return rule.name, due_at, deadline_at
