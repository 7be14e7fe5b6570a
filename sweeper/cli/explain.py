"""`sweeper explain`: what holds for one response, in one sentence, and what has been tried."""

from typing import TYPE_CHECKING

import click

from sweeper import errors
from sweeper.cli import lookup, output
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from sweeper.ledger.reports import Attempt
    from sweeper.service.inquiry import Explanation


@click.command("explain", epilog="Example: sweeper explain resp_1")
@click.argument("id")
@click.option("--account", metavar="NAME", help="Where several accounts have this ID.")
@as_json
@pass_call
def command(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    account: str | None,
    as_json: bool,
) -> None:
    """Explain which policy decides about a response, when it is due, and what it waits for."""
    from sweeper.service import inquiry

    config = call.config()
    with call.ledger(config) as database:
        try:
            explained = inquiry.explain(config, database, id, account)
        except errors.UnknownResponse:
            lookup.check_account(config, database, account)
            raise
    if as_json:
        output.json_line("explanation", _fields(explained))
    else:
        _tell(explained)


def _fields(explained: "Explanation") -> dict[str, object]:
    row, decision = explained.response, explained.decision
    return {
        "response_id": row.response_id,
        "account": row.account,
        "state": row.state.value,
        "verdict": decision.verdict.value,
        "sentence": decision.sentence,
        "policy": decision.policy,
        "created_at": output.instant(row.created_at),
        "due_at": output.instant(decision.due_at),
        "deadline_at": output.instant(decision.deadline_at),
        "waiting_for": list(explained.waiting_for),
        "holds": [],
        "outcome": row.outcome,
        "verified": row.verified,
        "finished_at": output.instant(row.finished_at),
        **lookup.closing(explained.said),
        "next_try_at": output.instant(row.next_try_at),
        "account_stopped": [one.breaker.value for one in explained.stopped],
        "attempts": [_attempt(each) for each in explained.attempts],
    }


def _attempt(each: "Attempt") -> dict[str, object]:
    return {
        "number": each.number,
        "sweep_id": each.sweep_id,
        "claimed_at": output.instant(each.claimed_at),
        "sent": not each.unsent,
        "answered_at": output.instant(each.answered_at),
        "answer": each.answer,
        "status": each.status,
    }


def _tell(explained: "Explanation") -> None:
    row = explained.response
    output.line(f"{row.response_id} ({row.account})")
    output.line(explained.decision.sentence)
    if explained.said is not None:
        output.line(f"closed by {lookup.who(explained.said)}: {explained.said.reason}")
    step = lookup.next_step(row)
    if step is not None:
        output.line(f"next: {step}")
    meant = lookup.meaning(row.quarantine_reason)
    if meant is not None:
        output.line(f"      ({meant})")
    for one in explained.stopped:
        output.line(
            f"Account {one.account} is stopped since {output.short_instant(one.opened_at)}"
            f" ({one.breaker.value.replace('_', ' ')}): {one.detail}."
        )
    if explained.attempts:
        output.line()
        output.table(
            ("TRY", "CLAIMED", "ANSWERED", "ANSWER", "STATUS"),
            [
                (
                    each.number,
                    output.short_instant(each.claimed_at),
                    output.short_instant(each.answered_at),
                    _answer(each),
                    each.status,
                )
                for each in explained.attempts
            ],
        )


def _answer(each: "Attempt") -> str:
    if each.unsent:
        return "not sent"
    return "unknown" if each.answer is None else each.answer.replace("_", " ")
