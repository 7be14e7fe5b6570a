"""Answer questions about the ledger without sending anything: the plan, one response, the state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sweeper.config.settings import Config
from sweeper.domain import decision, labels, moment, plan
from sweeper.domain.decision import Decision, Facts
from sweeper.domain.outcome import Outcome
from sweeper.domain.pacing import Pacer
from sweeper.domain.plan import AccountPlan, Plan
from sweeper.domain.response import ResponseId, State
from sweeper.engine.planning import Planner, Scope
from sweeper.ledger import (
    accounts,
    admission,
    claims,
    records,
    registrations,
    reports,
    responses,
)
from sweeper.ledger.accounts import OpenBreaker
from sweeper.ledger.database import Database
from sweeper.ledger.records import Said
from sweeper.ledger.reports import Attempt
from sweeper.ledger.responses import Response
from sweeper.service import assembly

if TYPE_CHECKING:
    from sqlalchemy import Connection


def admit(config: Config, db: Database) -> str | None:
    """Take in what applications have registered, unless the clock is known to be wrong.

    Returns what is wrong with it where something was left out for that.
    """
    watch = assembly.watch(config)
    longest = assembly.longest_ids(config)
    with db.read() as connection:
        left = registrations.waiting(connection) > 0
    while left:
        with db.write() as connection:
            doubt = watch.doubt(connection)
            if doubt is not None:
                return doubt
            now = moment.to_us(watch.clock.wall())
            left = admission.drain(connection, now=now, longest=longest).left
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One account's plan with the guards' word on it, and how long it takes."""

    plan: AccountPlan
    refusal: str | None
    requests: int
    takes: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A plan, account by account. `not_admitted_because` says why it leaves out what waits."""

    plan: Plan
    outlooks: Sequence[Outlook]
    not_admitted_because: str | None


def forecast(config: Config, db: Database, bounds: Scope) -> Forecast:
    """Plan as a sweep would now, and reckon how long it takes at the configured rates."""
    doubt = admit(config, db)
    made = Planner(db, bounds, datetime.now(UTC)).make()
    seen = []
    for one in made.accounts:
        account = config.account(one.account)
        assert account is not None, "only configured accounts are planned"
        with db.read() as connection:
            row = accounts.get(connection, one.account)
            verifying = 0 if row is None else claims.verifications(connection, row.id)
        requests = plan.requests(one.planned, verifying, verify=account.verify)
        seen.append(
            Outlook(
                plan=one,
                refusal=plan.refusal(one, bounds.guards),
                requests=requests,
                takes=plan.duration(requests, 1 / Pacer(rate=account.rate_per_second).spacing),
            )
        )
    return Forecast(plan=made, outlooks=seen, not_admitted_because=doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What holds for one response, and what has been tried.

    `said`: by whom it was closed, and why.
    """

    response: Response
    decision: Decision
    waiting_for: Sequence[str]
    attempts: Sequence[Attempt]
    stopped: Sequence[OpenBreaker]
    said: Said | None


def explain(config: Config, db: Database, response_id: str, account: str | None) -> Explanation:
    """Say which policy decides about a response, when it is due and what it waits for.

    Raises UnknownResponse, or UsageError where several accounts hold one of that id.
    """
    admit(config, db)
    with db.read() as connection:
        row = responses.show(connection, response_id, account)
        children = responses.children(connection, row.id)
        tried = reports.attempts(connection, row.id)
        stopped = accounts.open_breakers(connection, row.account)
        said = who_closed(connection, [row]).get(row.id)
    return Explanation(
        response=row,
        decision=_decision(
            config, row, [child.response_id for child in children], is_stopped=bool(stopped)
        ),
        waiting_for=[child.response_id for child in children],
        attempts=tried,
        stopped=stopped,
        said=said,
    )


def who_closed(connection: "Connection", rows: Iterable[Response]) -> Mapping[int, Said]:
    """By whom responses were closed, and why; by the ledger's own keys."""
    closed = {row.record_seq: row.id for row in rows if row.outcome == Outcome.CLOSED}
    seqs = [seq for seq in closed if seq is not None]
    found = records.said(connection, seqs) if seqs else {}
    return {closed[seq]: said for seq, said in found.items()}


def _decision(
    config: Config, row: Response, children: Sequence[str], *, is_stopped: bool
) -> Decision:
    facts = Facts(
        state=row.state,
        account=row.account,
        created_at=_moment(row.created_at),
        labels=labels.stored(row.labels),
        next_try_at=_moment(row.next_try_at),
        waiting_for=tuple(map(ResponseId, children)),
        quarantine_reason=row.quarantine_reason,
        configured=config.account(row.account) is not None,
        stopped=is_stopped,
        outcome=row.outcome,
    )
    judged = decision.decide(facts, config.policies, datetime.now(UTC))
    if row.state is not State.GONE:
        return judged
    # What decided then counts, not what today's policies would say.
    return replace(
        judged,
        policy=row.policy,
        due_at=_moment(row.due_at),
        deadline_at=_moment(row.deadline_at),
        sentence=_obituary(row),
    )


_ENDS: Final = {
    Outcome.DELETED: "the provider said that it deleted it",
    Outcome.ABSENT_AFTER_ATTEMPT: "it was not found after a try that may have deleted it, which"
    " nobody confirmed",
    Outcome.ALREADY_ABSENT: "it was not found, and no try of sweeper's can have deleted it",
    Outcome.EXPIRED_BY_PROVIDER: "it was not found, past the time for which the provider keeps it",
}


def _obituary(row: Response) -> str:
    """Say since when a response is gone or closed, by which policy, and what that rests on."""
    since = moment.from_us(row.finished_at or 0).isoformat(timespec="seconds")
    since = since.replace("+00:00", "Z")
    if row.outcome == Outcome.CLOSED:
        sent = ". A DELETE was sent before" if row.attempts else ""
        return f"Closed since {since} by a person; that it is deleted is not proved{sent}."
    by = "" if row.policy is None else f' by policy "{row.policy}"'
    how = _ENDS[Outcome(row.outcome or "")]
    if row.outcome == Outcome.DELETED:
        how += ", and it can no longer be read" if row.verified else "; that was not verified"
    return f"Gone since {since}{by}: {how}."


def _moment(us: int | None) -> datetime | None:
    return None if us is None else moment.from_us(us)
