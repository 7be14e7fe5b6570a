"""`sweeper report`: deletions, lateness and what is left, of a period."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from sweeper import errors
from sweeper.cli import output, reportage, sheet, verbs
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from sweeper.domain.lateness import Spread
    from sweeper.service.outstanding import Outstanding
    from sweeper.service.report import NotRun, Report, Settled, Sweeps

_FORMATS: Final = ("text", "json", "csv")
_COLUMNS: Final = (
    "since", "until", "section", "account", "policy", "name", "count", "verified",
    "past_deadline", "lateness_median_seconds", "lateness_p99_seconds", "lateness_worst_seconds",
)  # fmt: skip


def _format(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value == "html":
        raise verbs.not_built(context, "--format html")
    if value is not None and value not in _FORMATS:
        raise errors.UsageError(f"--format {value!r}: write one of {', '.join(_FORMATS)}")
    return value


@click.command("report", epilog="Example: sweeper report --since 2026-01-01 --until 2026-02-01")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="TIME",
    help="From when on: a day, a time, or a length of time before the end.",
)
@click.option("--until", metavar="TIME", help="Until when, itself excluded; by default now.")
@click.option("--policy", metavar="P", help="Only what this policy decided, or decides now.")
@click.option(
    "--format",
    "form",
    metavar="[text|json|csv]",
    callback=_format,
    help="How it is written; by default text.",
)
@as_json
@pass_call
def command(
    call: Call,
    *,
    since: str,
    until: str | None,
    policy: str | None,
    form: str | None,
    as_json: bool,
) -> None:
    """Report a period: what was deleted, how late, what is still open now, and which sweeps ran.

    Registered responses are admitted first. TIME is a day as 2026-01-31, which begins at midnight
    UTC, or RFC 3339 with an offset. Lengths AFTER DUE are from when a response was due to when it
    was proved gone; only what is past its deadline is late.
    """
    from sweeper.domain import period
    from sweeper.service import report

    if as_json and form not in (None, "json"):
        raise errors.UsageError(f"--json and --format {form} exclude each other")
    try:
        span = period.read(since, until, datetime.now(UTC))
    except ValueError as fault:
        raise errors.UsageError(str(fault)) from None
    config = call.config()
    with call.ledger(config) as database:
        made = report.make(config, database, span, only=policy)
    if as_json or form == "json":
        output.json_line("report", _fields(made))
    elif form == "csv":
        sheet.write(_COLUMNS, _rows(made))
    else:
        reportage.tell(made)


def _fields(made: "Report") -> dict[str, object]:
    return {
        "made_at": output.instant(made.made_at),
        "since": output.instant(made.period.since),
        "until": output.instant(made.period.until),
        "policy": made.policy,
        "outcomes": dict(made.outcomes),
        "verified": made.verified,
        "settled": [_settled(one) for one in made.settled],
        "open": None if made.open is None else [_open(one) for one in made.open],
        "open_unknown_because": made.open_unknown_because,
        "sweeps": _sweeps(made.sweeps),
        "missed_runs": _missed(made.not_run),
        "missed_runs_unknown_because": reportage.NO_SCHEDULE if made.not_run is None else None,
    }


def _settled(one: "Settled") -> dict[str, object]:
    return {
        "account": one.account,
        "policy": one.policy,
        "outcome": one.outcome,
        "responses": one.responses,
        "verified": one.verified,
        "past_deadline": one.past_deadline,
        "lateness_seconds": _spread(one.lateness),
    }


def _spread(one: "Spread | None") -> dict[str, int] | None:
    return None if one is None else {"median": one.median, "p99": one.p99, "worst": one.worst}


def _open(one: "Outstanding") -> dict[str, object]:
    return {
        "account": one.account,
        "policy": one.policy,
        "due": one.due,
        "past_deadline": one.past_deadline,
        "worst_lateness_seconds": one.worst,
        "by_reason": dict(sorted(one.by_reason.items())),
    }


def _sweeps(one: "Sweeps") -> dict[str, object]:
    return {
        "begun": one.begun,
        "complete": one.complete,
        "incomplete": dict(one.incomplete),
        "died": one.died,
        "running_or_died": one.running_or_died,
    }


def _missed(one: "NotRun | None") -> dict[str, object] | None:
    if one is None:
        return None
    return {
        "since": output.instant(one.since),
        "count": 0 if one.missed is None else one.missed.count,
        "first": None if one.missed is None else output.instant(one.missed.first),
        "last": None if one.missed is None else output.instant(one.missed.last),
    }


def _rows(made: "Report") -> Iterator[tuple[sheet.Cell, ...]]:
    """Every row has all columns; what a section has no number for stays empty."""
    span = output.instant(made.period.since), output.instant(made.period.until)
    for one in made.settled:
        late = one.lateness
        spread = (None, None, None) if late is None else (late.median, late.p99, late.worst)
        named = "settled", one.account, one.policy, one.outcome
        yield *span, *named, one.responses, one.verified, one.past_deadline, *spread
    for left in made.open or ():
        named = "due", left.account, left.policy, ""
        yield *span, *named, left.due, None, left.past_deadline, None, None, left.worst
        for reason, count in sorted(left.by_reason.items()):
            yield *span, "due_by_reason", left.account, left.policy, reason, count, *[None] * 5
    if made.open is None:
        yield *span, "due", None, None, "unknown", *[None] * 6
    for name, count in _ends(made.sweeps):
        yield *span, "sweeps", None, None, name, count, *[None] * 5
    if made.not_run is None:
        yield *span, "missed_runs", None, None, "unknown", *[None] * 6
    else:
        count = 0 if made.not_run.missed is None else made.not_run.missed.count
        yield *span, "missed_runs", None, None, "", count, *[None] * 5


def _ends(one: "Sweeps") -> Iterator[tuple[str, int]]:
    yield "complete", one.complete
    yield from one.incomplete.items()
    yield "died", one.died
    yield "running_or_died", one.running_or_died
