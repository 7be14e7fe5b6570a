"""Find in the ledger what somebody must be told of: stops, lateness, incidents, missed runs."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sweeper.config.settings import Config
from sweeper.domain import display, moment, remedy, wording
from sweeper.domain.alarm import Condition, Kind
from sweeper.domain.schedule import Missed
from sweeper.domain.summary import rfc3339
from sweeper.engine import planning
from sweeper.ledger import accounts, registrations, reports, responses, sweeps
from sweeper.ledger.database import Database
from sweeper.ledger.reports import Incident
from sweeper.ledger.sweeps import SweepRow
from sweeper.service import assembly, standing
from sweeper.service.standing import Late, Stopped

_WITHHELD: Final = {
    "guard": (
        "a guard refused the last sweep, begun at {began}: nothing was deleted where it refused",
        remedy.OF_WITHHELD["guard"],
    ),
    "clock": (
        "the last sweep, begun at {began}, did not trust the clock, and stopped deleting",
        remedy.OF_WITHHELD["clock"],
    ),
}
"""What a sweep of which no account is to blame withheld, and what to do about it."""


def found(config: Config, db: Database) -> Sequence[Condition]:
    """Everything that is wrong by the ledger; it is read in short transactions."""
    now = datetime.now(UTC)
    with db.read() as connection:
        sets = responses.label_sets(connection)
        finished = sweeps.latest(connection, finished=True)
        # Nothing is sent to an account that is not configured; what is late there is told as such.
        opened = [one for one in accounts.open_breakers(connection) if config.account(one.account)]
        incidents = reports.incidents(connection)
        waiting = registrations.waiting(connection)
        doubt = assembly.watch(config).doubt(connection) if waiting else None
    withheld = [(row, why) for row in finished for why in standing.withheld(row)]
    if waiting and doubt is None and any(why == "clock" for _, why in withheld):
        doubt = "the last sweep could not trust the clock"
    ruled, _ = planning.rule(sets, config.policies, now)
    conditions = [_late(one) for one in standing.late(db, ruled, now)]
    if doubt is not None:
        conditions.append(_unknown(waiting, doubt))
    conditions.extend(_withheld(row, why) for row, why in withheld)
    conditions.extend(_incident(one) for one in incidents)
    conditions.extend(_stopped(one) for one in standing.stops(db, opened, ruled, now))
    return conditions


def missed_run(missed: Missed | None, failing: str | None) -> Iterator[Condition]:
    """What is wrong with the runs themselves: those that did not happen, and why none can."""
    if missed is None and failing is None:
        return
    detail = None if failing is None else display.escape(failing)
    sentences = []
    fields: dict[str, object] = {"count": None, "first": None, "last": None, "detail": detail}
    if missed is not None:
        runs = "1 scheduled sweep" if missed.count == 1 else f"{missed.count:,} scheduled sweeps"
        when = f"from {_instant(missed.first)} to {_instant(missed.last)}"
        when = f"at {_instant(missed.last)}" if missed.count == 1 else when
        sentences.append(f"{runs} did not run or did not come to an end, {when}")
        fields |= {
            "count": missed.count,
            "first": rfc3339(missed.first),
            "last": rfc3339(missed.last),
        }
    if detail is not None:
        sentences.append(f"no sweep can run: {detail}")
    yield Condition(
        id=Kind.MISSED_RUN.value,
        kind=Kind.MISSED_RUN,
        summary="; ".join(sentences),
        next="sweeper doctor",
        fields=fields,
    )


def _stopped(stopped: Stopped) -> Condition:
    stop, kept = stopped.by, stopped.kept
    name, detail = stop.breaker.value, display.escape(stop.detail)
    return Condition(
        id=f"{Kind.ACCOUNT_STOPPED}:{stop.account}:{name}",
        kind=Kind.ACCOUNT_STOPPED,
        summary=f"account {display.escape(stop.account)} is stopped ({name.replace('_', ' ')}):"
        f" {detail}{wording.kept(kept.count, kept.oldest)}",
        next=remedy.of_stop(display.escape(stop.account), stop.breaker),
        fields={
            "account": stop.account,
            "breaker": name,
            "detail": detail,
            "responses": kept.count,
            "oldest_seconds": kept.oldest_seconds,
        },
    )


def _withheld(row: SweepRow, reason: str) -> Condition:
    """A stop of everything: no account is named, and how long it has lasted is not counted."""
    summary, then = _WITHHELD[reason]
    left = _left(row, reason)
    kept = f"; {wording.counted(left)} left" if left else ""
    return Condition(
        id=f"{Kind.ACCOUNT_STOPPED}:{reason}",
        kind=Kind.ACCOUNT_STOPPED,
        summary=summary.format(began=_instant(moment.from_us(row.started_at))) + kept,
        next=then,
        fields={
            "account": None,
            "breaker": None,
            "detail": reason,
            "responses": left,
            "oldest_seconds": None,
        },
    )


def _left(row: SweepRow, reason: str) -> int | None:
    """How much was left for this reason; None where the sweep could not count it.

    Where the sweep did not count it apart it is all that is due and no hold keeps.
    """
    apart = row.kept_by(reason)
    if apart is not None:
        return apart
    remaining, held = (dict(row.summary or {}).get(name) for name in ("remaining", "held"))
    return remaining - held if isinstance(remaining, int) and isinstance(held, int) else None


def _late(late: Late) -> Condition:
    responses_are = f"{wording.counted(late.count)} {'is' if late.count == 1 else 'are'}"
    return Condition(
        id=f"{Kind.OVERDUE}:{late.policy}",
        kind=Kind.OVERDUE,
        summary=f'{responses_are} past the deadline of policy "{display.escape(late.policy)}",'
        f" the oldest by {wording.length(late.oldest)}",
        next="sweeper status",
        fields={
            "policy": late.policy,
            "responses": late.count,
            "oldest_seconds": _seconds(late.oldest),
        },
    )


def _unknown(waiting: int, doubt: str) -> Condition:
    return Condition(
        id=Kind.OVERDUE.value,
        kind=Kind.OVERDUE,
        summary=f"{wording.counted(waiting)} registered and not admitted, so that nobody knows"
        f" what is late, because the clock may be wrong: {display.escape(doubt.rstrip('.'))}",
        next="mend the time service, then sweeper status",
        fields={"policy": None, "responses": waiting, "oldest_seconds": None},
    )


def _incident(incident: Incident) -> Condition:
    account = display.escape(incident.account)
    if incident.readable:
        what = f"{wording.counted(incident.readable)} at account {account} can still be read"
    else:
        what = f"{wording.counted(incident.count)} at account {account} could still be read, and"
        what += " nothing shows yet that they are gone"
    return Condition(
        id=f"{Kind.INCIDENT}:{incident.account}",
        kind=Kind.INCIDENT,
        summary=f"{what}, although the provider said that it deleted them",
        next="keep the records and write to the provider's support; every sweep tries again;"
        " see: sweeper status",
        fields={"account": incident.account, "responses": incident.count},
        opens=incident.readable > 0,
    )


def _seconds(length: timedelta) -> float:
    return round(length.total_seconds(), 3)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
