"""What people decide about single responses: try it again, correct it, or close it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper import errors
from sweeper.config.settings import Config
from sweeper.domain import correction, labels, moment, policy, registration
from sweeper.domain.correction import Basis, Stated
from sweeper.domain.registration import Fault, Registration
from sweeper.engine.clock import ClockWatch
from sweeper.evidence import record
from sweeper.ledger import accounts, clock, interventions, responses
from sweeper.ledger.database import Database
from sweeper.ledger.interventions import Taken, Word
from sweeper.ledger.responses import Response
from sweeper.service import assembly, inquiry
from sweeper.service.operator import Who

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The response as it stands now, by what it was due before and is now, and the record."""

    response: Response
    before: Basis
    now: Basis
    record: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One response at a decision: locked, with what the configuration says of it."""

    config: Config
    taken: Taken
    before: Basis
    word: Word
    wall: datetime


_Decide = Callable[["Connection", _Case], tuple[int, Basis]]


def retry(config: Config, db: Database, response_id: str, account: str | None, who: Who) -> Decided:
    """Let the next sweep try a response that was refused, or waits for its next try.

    Raises DecisionRefused where there is nothing to retry, UnknownResponse, and UsageError where
    several accounts hold that id; so do the others.
    """

    def decide(connection: "Connection", case: _Case) -> tuple[int, Basis]:
        return interventions.retry(connection, case.taken, case.word), case.before

    return _decided(config, db, (response_id, account), who, decide)


def correct(
    config: Config,
    db: Database,
    response_id: str,
    account: str | None,
    who: Who,
    *,
    stated: Stated,
    earlier: bool,
) -> Decided:
    """Let what a person states stand, and lift what it settles.

    Nothing becomes due sooner by the configured policies than by what stood before, unless
    `earlier` says that this is meant. Raises InvalidRegistration for what could not have been
    registered so, and LedgerError where a time cannot be judged because the clock may be wrong.
    """

    def decide(connection: "Connection", case: _Case) -> tuple[int, Basis]:
        right = _right(case, stated)
        now = correction.basis(
            config.policies, case.taken.row.account, labels.read(right.labels), right.created_at
        )
        hastened = _hastened(connection, case, right, now)
        if hastened is not None and not earlier:
            raise errors.DecisionRefused(
                f"nothing was changed: {hastened}", hint="if that is meant, add --earlier"
            )
        judged = {
            "created_at": record.instant(moment.to_us(right.created_at)),
            "due_before": _instant(case.before.due_at),
            "due_at": _instant(now.due_at),
            "earlier": hastened is not None,
            "policy": now.policy,
            "policy_sha256": policy.fingerprint(config.policies),
        }
        return interventions.correct(connection, case.taken, right, judged, case.word), now

    return _decided(config, db, (response_id, account), who, decide)


def close(config: Config, db: Database, response_id: str, account: str | None, who: Who) -> Decided:
    """Let nothing more be done about a response: no deletion, and recorded as none."""

    def decide(connection: "Connection", case: _Case) -> tuple[int, Basis]:
        basis = interventions.Basis(
            provider=_provider(connection, config, case.taken.row.account),
            policy=case.before.policy,
            due_at=_us(case.before.due_at),
            deadline_at=_us(case.before.deadline_at),
            policies_sha256=policy.fingerprint(config.policies),
        )
        seq = interventions.close(connection, case.taken, basis, case.word)
        return seq, case.before

    return _decided(config, db, (response_id, account), who, decide)


def _decided(
    config: Config, db: Database, which: tuple[str, str | None], who: Who, decide: _Decide
) -> Decided:
    """Admit what is registered; then look, judge and write in one transaction."""
    inquiry.admit(config, db)
    watch = assembly.watch(config)
    with db.write() as connection:
        taken = interventions.take(connection, *which)
        case = _Case(
            config=config,
            taken=taken,
            before=_stood(config, taken.row),
            word=_word(connection, watch, who),
            wall=watch.clock.wall(),
        )
        seq, now = decide(connection, case)
        stands = responses.by_key(connection, taken.row.id)
        assert stands is not None, "what was locked is still there"
    return Decided(response=stands, before=case.before, now=now, record=seq)


def _word(connection: "Connection", watch: ClockWatch, who: Who) -> Word:
    """The person's word, dated as everything is: by the last good time while in doubt."""
    doubted = watch.doubt(connection) is not None
    at = moment.to_us(watch.clock.wall())
    if doubted:
        at = clock.last_good(connection) or at
    return Word(reason=who.reason, actor=who.actor, at=at, doubted=doubted)


def _stood(config: Config, row: Response) -> Basis:
    """By what it was due. Of a row that broke the rules nothing was known, so it never was."""
    if row.first_created_at is None or row.created_at is None:
        return correction.NEVER
    created_at = moment.from_us(row.created_at)
    return correction.basis(config.policies, row.account, labels.stored(row.labels), created_at)


def _right(case: _Case, stated: Stated) -> Registration:
    """What stands after the correction, checked as a registration is."""
    row = case.taken.row
    if stated.is_empty and row.quarantine_reason is None:
        raise errors.UsageError(
            "nothing is said to be right",
            hint="give --created-at, --label, --subject or --previous",
        )
    is_new = stated.created_at is not None or row.first_created_at is None
    if case.word.doubted and is_new:
        raise errors.LedgerError(
            "nothing was changed, because the clock may be wrong: no time can be judged by it",
            hint="mend the time service, then correct it again",
        )
    created_at = row.created_at if stated.created_at is None else _us(stated.created_at)
    text = row.labels if stated.labels is None else labels.canonical(stated.labels)
    previous = stated.previous_response_id
    read = registration.read_row(
        account=row.account,
        response_id=row.response_id,
        created_at=created_at,
        labels=text,
        subject=row.subject if stated.subject is None else stated.subject,
        previous_response_id=row.previous_response_id if previous is None else previous,
        now=case.wall if is_new else None,
        longest=assembly.longest_ids(case.config),
    )
    if isinstance(read, Fault):
        raise errors.InvalidRegistration(
            f"nothing was changed: {read.reason}: {read.detail}", hint=_hint(read)
        )
    return read


def _hint(fault: Fault) -> str:
    match fault.reason:
        case "bad_created_at":
            return "give --created-at: Unix seconds, or RFC 3339 as 2025-11-22T00:00:00Z"
        case "bad_id" | "bad_account":
            return "nothing can be deleted under that name: close it, and register it rightly"
        case _:
            return "state it within the rules of a registration"


def _hastened(connection: "Connection", case: _Case, right: Registration, now: Basis) -> str | None:
    """What would be deleted sooner than as things stood; None where nothing is.

    A response waits for what continues it, so a link that is taken away hastens the one before,
    by how much depends on all that continues it: that any policy deletes it is enough.
    """
    row = case.taken.row
    if correction.is_earlier(case.before, now):
        was = "never" if case.before.due_at is None else f"at {_instant(case.before.due_at)}"
        return (
            f"{row.response_id} would be due at {_instant(now.due_at)}"
            f' by policy "{now.policy}", and was due {was}'
        )
    if right.previous_response_id == row.previous_response_id:
        return None
    kept = interventions.parent(connection, row)
    if kept is None or _stood(case.config, kept).due_at is None:
        return None
    return f"{kept.response_id} would no longer wait for {row.response_id} to be gone"


def _provider(connection: "Connection", config: Config, name: str) -> str | None:
    configured = config.account(name)
    if configured is not None:
        return configured.provider
    known = accounts.get(connection, name)
    return None if known is None else known.provider


def _us(at: datetime | None) -> int | None:
    return None if at is None else moment.to_us(at)


def _instant(at: datetime | None) -> str | None:
    return None if at is None else record.instant(moment.to_us(at))
