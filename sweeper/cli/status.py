"""`sweeper status`: what is late, stopped and open, and why; its exit code is a check."""

from typing import TYPE_CHECKING

import click

from sweeper.cli import lookup, output
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sweeper.domain.outcome import Breaker
    from sweeper.errors import LedgerError
    from sweeper.ledger.sweeps import SweepRow
    from sweeper.service.spool.spool import Left
    from sweeper.service.standing import Status

NOT_OK = 3
MOST_NAMED = 3
_WITHHELD = {
    "guard": "REFUSED: a guard refused the last sweep, begun at {}: nothing was deleted where it"
    " refused",
    "clock": "CLOCK: the last sweep, begun at {}, did not trust the clock: nothing was deleted"
    " while it did not",
}
_DAEMON = {True: "sweeper run is at work", False: "no sweeper run is at work"}


@click.command("status", epilog="Example: sweeper status || page-oncall")
@as_json
@pass_call
def command(call: Call, *, as_json: bool) -> int:
    """Show what is late, stopped, open or set aside, and the last sweep.

    Registered responses are admitted first. Exit code 0 when the ledger can be written to, nothing
    is late, stopped, set aside, kept from being admitted, left in the spool or rejected there, and
    no guard and no doubt about the clock kept the last sweep from deleting; 3 otherwise.
    """
    from sweeper.service import standing

    config = call.config()
    with call.ledger(config) as database:
        found = standing.status(config, database)
    if as_json:
        output.json_line("status", _fields(found))
    else:
        _tell(found)
    return 0 if found.ok else NOT_OK


def _fields(found: "Status") -> dict[str, object]:
    return {
        "ok": found.ok,
        "now": output.instant(found.now),
        "ledger": _ledger(found),
        "due": found.due,
        "late": [
            {
                "policy": late.policy,
                "responses": late.count,
                "oldest_seconds": round(late.oldest.total_seconds(), 3),
            }
            for late in found.late
        ],
        "stopped": [
            {
                "account": one.by.account,
                "breaker": one.by.breaker.value,
                "since": output.instant(one.by.opened_at),
                "detail": one.by.detail,
                "kept": one.kept.count,
                "oldest_seconds": one.kept.oldest_seconds,
            }
            for one in found.stopped
        ],
        "withheld": list(found.withheld),
        "open": dict(found.open),
        "quarantined": dict(found.quarantined),
        "live": dict(found.live),
        "not_live": {account: dict(counts) for account, counts in found.aside.items()},
        "unmatched": found.unmatched,
        "no_account": dict(found.no_account),
        "waiting_for_admission": found.waiting_for_admission,
        "not_admitted_because": found.not_admitted_because,
        "spool": _spool(found),
        "daemon": found.daemon,
        "sweeping": found.sweeping,
        "last_sweep": _sweep(found.sweep),
        "last_finished_sweep": _sweep(found.finished),
    }


def _ledger(found: "Status") -> dict[str, object] | None:
    fault = found.unwritable
    return None if fault is None else {"detail": fault.message, "next": _mended(fault)}


def _mended(fault: "LedgerError") -> str:
    return fault.hint or "sweeper doctor"


def _spool(found: "Status") -> dict[str, object] | None:
    if found.spool is None:
        return None
    left = [{"file": one.file, "reason": one.reason, "unread": one.unread} for one in found.spool]
    rejected = [str(one) for one in found.rejected]
    return {"unread": len(found.unread), "left": left, "rejected": rejected}


def _sweep(row: "SweepRow | None") -> dict[str, object] | None:
    if row is None:
        return None
    return {
        "sweep_id": row.id,
        "started_at": output.instant(row.started_at),
        "finished_at": output.instant(row.finished_at),
        "complete": row.complete,
        "stop_reason": row.stop_reason,
    }


def _tell(found: "Status") -> None:
    from sweeper.cli.plan import length_text
    from sweeper.domain import remedy as remedies
    from sweeper.domain import wording

    if found.unwritable is not None:
        output.line(f"LEDGER: no sweep can run: {found.unwritable.message}")
        output.line(f"  next: {_mended(found.unwritable)}")
    for late in found.late:
        output.line(
            f"LATE: {late.count:,} of {late.policy!r} are past their deadline,"
            f" the oldest by {length_text(late.oldest)}"
        )
    for each in found.stopped:
        one, kept = each.by, each.kept
        output.line(
            f"STOPPED: account {one.account} since {output.short_instant(one.opened_at)}"
            f" ({one.breaker.value.replace('_', ' ')}): {one.detail}"
            f"{wording.kept(kept.count, kept.oldest)}"
        )
        output.line(f"  {remedy(one.account, one.breaker)}")
    began = None if found.finished is None else output.short_instant(found.finished.started_at)
    for why in found.withheld:
        output.line(_WITHHELD[why].format(began))
        output.line(f"  next: {remedies.OF_WITHHELD[why]}")
    _tell_unknown(found)
    _tell_spool(found)
    if found.ok:
        output.line("Nothing is late, stopped or set aside.")
    _tell_numbers(found)
    output.line(_last(found))
    if found.daemon is not None:
        output.line(_DAEMON[found.daemon])


def _tell_unknown(found: "Status") -> None:
    for reason, count in found.quarantined.items():
        output.line(f"SET ASIDE: {count:,} ({reason})")
        output.line(
            "  next: sweeper responses list --state quarantined; then for each:"
            f" sweeper responses {lookup.verb(reason)} ID --reason ..."
        )
        meant = lookup.meaning(reason)
        if meant is not None:
            output.line(f"        ({meant})")
    if found.not_admitted_because is not None:
        output.line(
            f"NOT ADMITTED: {found.waiting_for_admission:,} registered, which may be late, because"
            f" the clock may be wrong: {found.not_admitted_because}"
        )


def _tell_spool(found: "Status") -> None:
    for one in found.unread:
        if one.is_spool:
            output.line(f"UNREAD: the spool {one.file} cannot be looked into: {one.reason}")
            output.line("  next: sweeper doctor")
            return
    lying = [one for one in found.unread if not one.is_fresh]
    for reason, files in _by_reason(lying).items():
        output.line(f"UNREAD: {len(files):,} in the spool: {reason} ({_some(files)})")
    if lying:
        output.line("  next: sweeper sweep takes in what it can; mend or remove what it leaves")
    if found.rejected:
        _tell_rejected(found.rejected)


def _tell_rejected(files: "Sequence[Path]") -> None:
    done, names = files[0].parent, _some([one.name for one in files])
    hold = f"1 file in {done} holds" if len(files) == 1 else f"{len(files):,} files in {done} hold"
    output.line(f"REJECTED: {hold} lines that nobody registered ({names})")
    output.line(
        "  next: mend the lines, put them into the spool again, and remove the .rejected file"
    )


def _by_reason(left: "Sequence[Left]") -> "dict[str, list[str]]":
    files: dict[str, list[str]] = {}
    for one in left:
        files.setdefault(one.reason, []).append(one.file)
    return files


def _some(names: "Sequence[str]") -> str:
    more = ", ..." if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _tell_numbers(found: "Status") -> None:
    output.line(f"due now: {found.due:,}; live: {sum(found.live.values()):,}")
    for outcome, count in found.open.items():
        output.line(f"open: {count:,} {outcome.replace('_', ' ')}")
        if outcome == "still_present":
            output.line("  next: sweeper responses list --outcome still_present")
    for account, counts in found.aside.items():
        told = ", ".join(f"{count:,} {state}" for state, count in counts.items())
        output.line(f"not simply live at {account}: {told}")
    for account, count in found.no_account.items():
        output.line(f"due at account {account}, which is not configured: {count:,}")
    if found.unmatched:
        output.line(f"match no policy, so never deleted: {found.unmatched:,}")
    if found.waiting_for_admission and found.not_admitted_because is None:
        output.line(f"registered, not admitted yet: {found.waiting_for_admission:,}")
    fresh = [one.file for one in found.unread if one.is_fresh]
    if fresh:
        output.line(f"in the spool, for the next sweep: {len(fresh):,} ({_some(fresh)})")
    foreign = [one for one in found.spool or () if not one.unread]
    for reason, files in _by_reason(foreign).items():
        output.line(f"left in the spool: {len(files):,}: {reason} ({_some(files)})")


def _last(found: "Status") -> str:
    row = found.sweep
    if row is None:
        return "No sweep has run yet."
    began = output.short_instant(row.started_at)
    if row.finished_at is None:
        how = {True: "is running", False: "died", None: "is running, or died"}[found.sweeping]
        return f"The sweep begun at {began} {how}."
    if row.complete:
        return f"The last sweep began at {began} and was complete."
    why = "something is left" if row.stop_reason is None else reason(row.stop_reason)
    return f"The last sweep began at {began} and was not complete: {why}."


def reason(stop_reason: str) -> str:
    """Say for people why a sweep stopped."""
    from sweeper.domain import wording

    return wording.stopped(stop_reason)


def remedy(account: str, breaker: "Breaker") -> str:
    """Say what to do about a stopped account."""
    from sweeper.domain import remedy as remedies

    return f"next: {remedies.of_stop(account, breaker)}"
