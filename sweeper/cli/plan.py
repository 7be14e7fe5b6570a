"""`sweeper plan`: what is due, by policy, with reasons, and how long it takes."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.verbs import OptionsToCome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sweeper.domain.plan import AccountPlan, Guards, LabelSetDue
    from sweeper.engine.planning import Scope
    from sweeper.service.inquiry import Forecast, Outlook

_COLUMNS = (
    "POLICY",
    "ACCOUNT",
    "LABELS",
    "DUE",
    "PLANNED",
    "WAITING",
    "LATER",
    "CAPPED",
    "CREATED UNTIL",
)
_OFTEN_ZERO = ("WAITING", "LATER", "CAPPED")
_NUMBERS = ("DUE", "PLANNED", *_OFTEN_ZERO)


@click.command(
    "plan",
    cls=OptionsToCome,
    not_built=("--save",),
    epilog="Example: sweeper plan --policy 'support chats'",
)
@click.option("--policy", metavar="P", help="Only what this policy decides.")
@click.option(
    "--max", "most", type=click.IntRange(min=0), metavar="N", help="As a sweep with this bound."
)
@as_json
@pass_call
def command(call: Call, *, policy: str | None, most: int | None, as_json: bool) -> None:
    """Show what a sweep would delete now, and why; nothing is sent.

    Registered responses are admitted first. LATER is what backs off after a failed try, WAITING
    what is kept by a response that continues it.
    """
    from sweeper.service import assembly, inquiry

    config = call.config()
    bounds = assembly.scope(config, only=policy, most=most)
    with call.ledger(config) as database:
        found = inquiry.forecast(config, database, bounds)
    if as_json:
        output.json_line("plan", fields(found))
    else:
        tell(found, bounds)


def fields(found: "Forecast") -> dict[str, object]:
    made = found.plan
    return {
        "made_at": output.instant(made.made_at),
        "due": made.due,
        "planned": made.planned,
        "held": made.held,
        "capped": made.capped,
        "waiting": made.waiting,
        "backing_off": made.backing_off,
        "no_account": made.no_account,
        "no_account_by": dict(made.no_account_by),
        "unmatched": made.unmatched,
        "not_admitted_because": found.not_admitted_because,
        "accounts": [_account(one) for one in found.outlooks],
    }


def _account(one: "Outlook") -> dict[str, object]:
    return {
        "account": one.plan.account,
        "live": one.plan.live,
        "due": one.plan.due,
        "planned": one.plan.planned,
        "ids_sha256": one.plan.ids_sha256,
        "refused": one.refusal,
        "requests": one.requests,
        "takes_seconds": round(one.takes.total_seconds(), 3),
        "label_sets": [_label_set(each) for each in one.plan.sets],
    }


def _label_set(each: "LabelSetDue") -> dict[str, object]:
    return {
        "policy": each.policy,
        "labels": json.loads(each.labels),
        "created_until": output.instant(each.cutoff),
        "due": each.due,
        "planned": each.planned,
        "waiting": each.waiting,
        "backing_off": each.backing_off,
        "capped": each.capped,
    }


def tell(found: "Forecast", bounds: "Scope") -> None:
    """Print a plan for people."""
    made, outlooks = found.plan, found.outlooks
    rows = [_row(each) for one in outlooks for each in one.plan.sets]
    if rows:
        output.table(_COLUMNS, rows, right=_NUMBERS, fold=("LABELS",), unless_zero=_OFTEN_ZERO)
    else:
        output.line("Nothing is due.")
    for one in outlooks:
        if one.plan.planned:
            output.line(
                f"{one.plan.account}: {one.plan.planned:,} of {counted(one.plan.live, 'live ')},"
                f" at most {one.requests:,} requests, {length_text(one.takes)} at the configured"
                f" rate; plan {one.plan.ids_sha256[:16]}"
            )
        if one.refusal is not None:
            output.line(one.refusal)
    way_on([one.plan for one in outlooks if one.refusal is not None], bounds.guards)
    if made.capped:
        more = counted(made.capped, "more due ")
        output.line(f"{more} {capped_by(made.planned, bounds.most)}.")
    for name, number in made.no_account_by.items():
        output.line(f"{counted(number)} more due at account {name}, which is not configured.")
    if made.unmatched:
        match = "matches" if made.unmatched == 1 else "match"
        output.line(f"{counted(made.unmatched, 'live ')} {match} no policy: never deleted.")
    if found.not_admitted_because is not None:
        output.line(
            "What is registered was not admitted and not planned, because the clock may be wrong:"
            f" {found.not_admitted_because}"
        )


def _row(each: "LabelSetDue") -> tuple[str, ...]:
    return (
        each.policy,
        each.account,
        labels_text(each.labels),
        *(f"{n:,}" for n in (each.due, each.planned, each.waiting, each.backing_off)),
        f"{each.capped:,}",
        output.short_instant(each.cutoff),
    )


def way_on(refused: "Sequence[AccountPlan]", guards: "Guards") -> None:
    """Say what to do about plans that a guard refused, if any were."""
    from sweeper.domain import plan

    if not refused:
        return
    most = min(plan.most_at_once(one.live, guards) for one in refused)
    names = " and ".join(sorted({f"guards.{plan.refusing(one, guards)}" for one in refused}))
    part = f"sweep a part: sweeper sweep --max N (at most {most} now), or " if most else ""
    output.line(f"next: if that is meant, {part}widen {names}")


def capped_by(planned: int, most: int | None) -> str:
    """Name the bound beyond which the rest is capped."""
    if most is not None and planned >= most:
        return f"beyond --max {most}"
    return "beyond guards.max_deletions_per_day"


def counted(number: int, kind: str = "") -> str:
    """So many responses in words: 1 live response, 2,000 live responses."""
    from sweeper.domain import wording

    return wording.counted(number, kind)


def labels_text(canonical: str) -> str:
    """Labels as people write them: app=support env=prod."""
    from sweeper.domain import labels as label_texts

    labels = label_texts.stored(canonical)
    if labels is None:
        return "(unreadable)"
    return " ".join(f"{key}={value}" for key, value in labels.items()) or "-"


def length_text(length: timedelta) -> str:
    """A length of time for people, in its two largest units: 3 h 10 min."""
    from sweeper.domain import wording

    return wording.length(length)
