"""`sweeper sweep`: delete what is due, once."""

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.progress import Bar
from sweeper.cli.verbs import OptionsToCome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sweeper.config.settings import Config
    from sweeper.domain.event import BreakerOpened, Event
    from sweeper.domain.plan import AccountPlan
    from sweeper.domain.summary import Summary
    from sweeper.engine.planning import Scope
    from sweeper.engine.sweep import Ended
    from sweeper.errors import SweeperError
    from sweeper.ledger.database import Database
    from sweeper.service.assembly import Keys

    Emit = Callable[[Event], None]

INCOMPLETE = 3
STOPPED = 12
REFUSED = 14


@click.command(
    "sweep", cls=OptionsToCome, not_built=("--plan",), epilog="Example: sweeper sweep --max 100"
)
@click.option("-n", "--dry-run", is_flag=True, help="Plan, and send nothing.")
@click.option("--policy", metavar="P", help="Sweep only what this policy decides.")
@click.option(
    "--max",
    "most",
    type=click.IntRange(min=0),
    metavar="N",
    help="Delete at most N; the rest stays due. The first step on a large backlog.",
)
@as_json
@pass_call
def command(
    call: Call, *, dry_run: bool, policy: str | None, most: int | None, as_json: bool
) -> int:
    """Delete everything that is due, verify it, and say what is left and why.

    Ctrl-C and SIGTERM claim nothing more, let what is in flight finish, record it, and end with
    code 3. Codes: 0 complete, 3 not complete, 11 another sweeper is at work, 12 an account is
    stopped, 13 the schema is another, 14 a guard refused.
    """
    from sweeper.domain import event
    from sweeper.service import assembly

    stops: list[event.BreakerOpened] = []

    def note(happened: "Event") -> None:
        if isinstance(happened, event.BreakerOpened):
            stops.append(happened)

    with terminable():
        config = call.config()
        bounds = assembly.scope(config, only=policy, most=most)
        keys: Keys = {} if dry_run else assembly.read_keys(config, os.environ)
        assembly.usable(keys)
        with _telling(call, config, keys, dry_run=dry_run), call.ledger(config) as database:
            ended = sweep_once(call, config, database, keys, bounds, dry_run=dry_run, listener=note)
            if as_json:
                numbers = ended.summary.as_json()
                output.json_line("summary", {key: numbers[key] for key in numbers if key != "type"})
            else:
                tell(ended, bounds, stops)
            sys.stdout.flush()
            if not dry_run and ended.summary.stop_reason != "interrupted":
                _alarm(config, database, ended.fault)
    if ended.fault is not None:
        raise ended.fault
    return code(ended)


@contextmanager
def terminable() -> "Iterator[None]":
    """Let SIGTERM interrupt as Ctrl-C does; a sweep within it takes both for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sweep_once(
    call: Call,
    config: "Config",
    database: "Database",
    keys: "Keys",
    bounds: "Scope",
    *,
    listener: "Emit",
    dry_run: bool = False,
) -> "Ended":
    """Sweep with logs, and with a progress bar on a terminal; `listener` hears each event too."""
    import asyncio

    from sweeper.cli.voice import Voice
    from sweeper.service import assembly, sweeping
    from sweeper.service.keyring import Keyring

    # On a terminal the bar shows the progress, and a line for each response would bury it.
    shown = call.quieter() if sys.stderr.isatty() else call
    voice = Voice(shown, config, assembly.usable(keys))
    if dry_run:
        shop = sweeping.workshop(config, database, voice)
        return asyncio.run(sweeping.rehearse(shop, config, bounds))
    with Bar("deleting") as bar:
        ring = Keyring(environ=os.environ, redact=voice.redact)
        told = _told(voice, bar, listener)
        shop = sweeping.workshop(config, database, told, reread=ring.reread)
        return asyncio.run(sweeping.run(shop, config, keys, bounds))


@contextmanager
def _telling(call: Call, config: "Config", keys: "Keys", *, dry_run: bool) -> "Iterator[None]":
    """Have somebody told when the ledger lets no sweep begin."""
    from sweeper import errors
    from sweeper.service import assembly

    try:
        yield
    except errors.LedgerError as fault:
        if not dry_run:
            call.start_logs(config, assembly.usable(keys))
            _alarm(config, None, fault)
        raise


def _alarm(
    config: "Config", database: "Database | None", fault: "SweeperError | None" = None
) -> None:
    """Have the alarm command, if there is one, tell somebody what is wrong now.

    A fault of the sweep itself comes first: the ledger may keep all else waiting. That another
    sweep is at work is none.
    """
    from sweeper import errors
    from sweeper.service.alarm import alarms
    from sweeper.telemetry import events, logs

    log = events.EventLog(logs.logger(), response_ids=config.log.response_ids)
    if fault is not None and not isinstance(fault, errors.LedgerBusy):
        alarms.tell_that_none_runs(config, log, fault.message)
    if database is not None:
        alarms.tell_after_sweep(config, database, log)


def code(ended: "Ended") -> int:
    reason = ended.summary.stop_reason
    if reason == "guard":
        return REFUSED
    if reason is not None and reason.startswith("account:"):
        return STOPPED
    return 0 if ended.summary.complete or ended.summary.dry_run else INCOMPLETE


def _told(log: "Emit", bar: Bar, listener: "Emit") -> "Emit":
    from sweeper.domain import event
    from sweeper.domain.outcome import TERMINAL

    def emit(happened: "Event") -> None:
        if isinstance(happened, event.SweepStarted):
            bar.start(happened.planned)
        elif isinstance(happened, event.ResponseSettled) and happened.outcome in TERMINAL:
            bar.advance(1)
        log(happened)
        listener(happened)

    return emit


def tell(ended: "Ended", bounds: "Scope", stops: "Sequence[BreakerOpened]" = ()) -> None:
    """Print what a sweep did and what it left, for people."""
    from sweeper.cli import plan, status

    summary = ended.summary
    if summary.dry_run:
        _tell_rehearsed(ended, bounds)
    else:
        _tell_done(summary)
    for sentence in ended.refused:
        output.line(sentence)
    plan.way_on(_refused(ended, bounds), bounds.guards)
    for one in stops:
        _tell_stop(one)
    _tell_unread(summary.unread_spool_files)
    if summary.dry_run:
        return
    _tell_left(summary, bounds)
    if summary.complete:
        output.line("complete")
    elif summary.stop_reason is None:
        output.line("not complete; see: sweeper status")
    else:
        output.line(f"not complete: {status.reason(summary.stop_reason)}")


def _refused(ended: "Ended", bounds: "Scope") -> "Sequence[AccountPlan]":
    from sweeper.domain import plan

    return [one for one in ended.plan.accounts if plan.refusing(one, bounds.guards)]


def _tell_rehearsed(ended: "Ended", bounds: "Scope") -> None:
    summary = ended.summary
    kept = sum(one.planned for one in _refused(ended, bounds))
    if kept:
        output.line(f"dry run: a guard refuses {kept:,} of {summary.due or 0:,} due")
    if kept < summary.planned or not kept:
        sent = summary.planned - kept
        output.line(f"dry run: {sent:,} of {summary.due or 0:,} due would be deleted")


def _tell_unread(files: int | None) -> None:
    if files is None:
        output.line("what lies in the spool is not known")
    elif files:
        output.line(f"unread in the spool: {files:,}; see: sweeper status")


def _tell_left(summary: "Summary", bounds: "Scope") -> None:
    from sweeper.cli import plan

    if summary.remaining is None:
        output.line("what is left could not be determined")
    elif summary.remaining:
        reasons = dict(summary.remaining_by_reason or {})
        told = {reason: reason.replace("_", " ") for reason in reasons}
        told["capped"] = plan.capped_by(summary.planned, bounds.most)
        left = ", ".join(f"{count:,} {told[reason]}" for reason, count in reasons.items())
        output.line(f"still due: {summary.remaining:,} ({left})")


def _tell_done(summary: "Summary") -> None:
    done = ", ".join(
        f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in summary.outcomes.items()
    )
    if not summary.due and not done:
        unknown = summary.due is None
        output.line("what is due could not be determined" if unknown else "Nothing is due.")
        return
    # What an earlier sweep began, and this one only verified or tried again, was not planned now.
    more = sum(summary.outcomes.values()) - summary.planned
    least = "at least " if summary.remaining else ""
    begun = f" ({least}{more:,} of them begun by earlier sweeps)" if more > 0 else ""
    planned = f"{summary.planned:,} of {summary.due or 0:,} due were planned"
    output.line(f"{planned}: {done or 'none settled'}{begun}")
    if deleted := summary.outcomes.get("deleted"):
        output.line(f"verified as gone: {summary.verified:,} of {deleted:,} deleted")


def _tell_stop(one: "BreakerOpened") -> None:
    from sweeper.cli import plan, status

    kept = ""
    if one.kept:
        since = output.short_instant(one.oldest_due_at)
        kept = f"; {plan.counted(one.kept)} kept past their time there, the oldest since {since}"
    output.line(
        f"Account {one.account} is stopped ({one.breaker.value.replace('_', ' ')}):"
        f" {one.detail}{kept}"
    )
    if one.settled_absent:
        output.line(f"  settled as absent since the last yes: {', '.join(one.settled_absent)}")
    output.line(f"  {status.remedy(one.account, one.breaker)}")
