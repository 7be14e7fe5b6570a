"""Tell a report to people: what was deleted, what is open, which sweeps ran."""

from datetime import timedelta
from typing import TYPE_CHECKING

from sweeper.cli import output

if TYPE_CHECKING:
    from sweeper.domain.lateness import Spread
    from sweeper.service.report import NotRun, Report, Sweeps

NO_SCHEDULE = "no daemon had followed a schedule by then, so no run was asked for"
"""Why nobody knows of missed runs."""


def tell(made: "Report") -> None:
    """Print it as tables and sentences."""
    begin, end = made.period.since, made.period.until
    about = "" if made.policy is None else f", policy {made.policy!r}"
    output.line(f"From {output.short_instant(begin)} to {output.short_instant(end)}{about}")
    output.line()
    _tell_settled(made)
    output.line()
    _tell_open(made)
    output.line()
    _tell_sweeps(made.sweeps)
    _tell_missed(made.not_run)


def _tell_settled(made: "Report") -> None:
    if not made.settled:
        output.line("Nothing was deleted or found gone.")
        return
    for outcome, count in made.outcomes.items():
        more = f", {made.verified:,} of them verified" if outcome == "deleted" else ""
        output.line(f"{outcome.replace('_', ' ')}: {count:,}{more}")
    output.table(
        ("ACCOUNT", "POLICY", "OUTCOME", "RESPONSES", "VERIFIED", "PAST DEADLINE",
         "AFTER DUE: MEDIAN", "99 %", "WORST"),
        [
            (
                one.account,
                one.policy,
                one.outcome,
                *(f"{n:,}" for n in (one.responses, one.verified, one.past_deadline)),
                *_lengths(one.lateness),
            )
            for one in made.settled
        ],
        right=("RESPONSES", "VERIFIED", "PAST DEADLINE", "AFTER DUE: MEDIAN", "99 %", "WORST"),
        fold=("POLICY",),
    )  # fmt: skip


def _lengths(one: "Spread | None") -> tuple[str | None, ...]:
    return (None,) * 3 if one is None else tuple(map(_length, (one.median, one.p99, one.worst)))


def _length(seconds: int | None) -> str | None:
    from sweeper.domain import wording

    if seconds is None:
        return None
    return wording.length(timedelta(seconds=seconds)) if seconds else "0 s"


def _tell_open(made: "Report") -> None:
    if made.open is None:
        output.line(
            "What is still open is not known, because the clock may be wrong:"
            f" {made.open_unknown_because}"
        )
        return
    if not made.open:
        output.line("Nothing is due now.")
        return
    output.line("Still open now:")
    output.table(
        ("ACCOUNT", "POLICY", "DUE", "PAST DEADLINE", "AFTER DUE: WORST", "WHY"),
        [
            (
                one.account,
                one.policy,
                f"{one.due:,}",
                f"{one.past_deadline:,}",
                _length(one.worst),
                ", ".join(
                    f"{count:,} {reason.replace('_', ' ')}"
                    for reason, count in sorted(one.by_reason.items())
                ),
            )
            for one in made.open
        ],
        right=("DUE", "PAST DEADLINE", "AFTER DUE: WORST"),
        fold=("POLICY", "WHY"),
    )


def _tell_sweeps(one: "Sweeps") -> None:
    from sweeper.cli import status
    from sweeper.service import report

    incomplete = sum(one.incomplete.values())
    output.line(f"sweeps: {one.begun:,} begun, {one.complete:,} complete, {incomplete:,} not")
    for stop_reason, count in one.incomplete.items():
        left = stop_reason == report.SOMETHING_LEFT
        why = "something was left" if left else status.reason(stop_reason)
        output.line(f"  not complete: {count:,}, because {why}")
    if one.died:
        output.line(f"  never ended: {one.died:,}; the process died")
    if one.running_or_died:
        output.line("  the newest one is running, or died")


def _tell_missed(one: "NotRun | None") -> None:
    if one is None:
        output.line(f"sweeps that did not run: not known; {NO_SCHEDULE}")
    elif one.missed is None:
        output.line(f"sweeps that did not run: none since {output.short_instant(one.since)}")
    else:
        output.line(
            f"sweeps that did not run: {one.missed.count:,}, from"
            f" {output.short_instant(one.missed.first)} to"
            f" {output.short_instant(one.missed.last)}"
        )
