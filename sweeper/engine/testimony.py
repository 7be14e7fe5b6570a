"""Put into a record what a settlement claims and what it rests on."""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple

from sweeper.domain import moment
from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.domain.event import ResponseSettled
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.engine.deletion import Finished
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger.claims import Claim
from sweeper.ledger.outcomes import Settled
from sweeper.ledger.records import Entry

_STORED_YES: Final = Answer(kind=AnswerKind.YES, status=200, body=Body.OK)
_NONE: Final = Answer(kind=AnswerKind.NOT_SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The policy that decides about a label set; times in microseconds."""

    policy: str
    keep: int
    deadline: int

    @classmethod
    def of(cls, policy: str, keep: timedelta, deadline: timedelta) -> "Ruling":
        return cls(policy=policy, keep=moment.length_us(keep), deadline=moment.length_us(deadline))


class _Basis(NamedTuple):
    """By what one response was to be deleted; times in microseconds."""

    policy: str | None
    due_at: int | None
    deadline_at: int | None
    policies_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What all records of one account in one sweep have in common."""

    provider: str
    account: str
    key: str
    policies_sha256: str
    rulings: dict[int, Ruling]

    def settled(self, finished: Finished) -> Settled:
        """What the ledger is to write of one claim, with its record if there is an outcome."""
        claim, settlement, answer = finished.claim, finished.settlement, finished.answer
        basis = self._basis(claim)
        entry = late_entry = None
        if settlement.outcome is not None:
            entry = self._entry(finished, basis, settlement.outcome)
        elif settlement.yes:
            late_entry = partial(self._entry, finished, basis, Outcome.DELETED)
        kept = answer if settlement.state is State.VERIFYING and settlement.yes else None
        return Settled(
            claim=claim,
            settlement=settlement,
            at=moment.to_us(finished.at),
            answer=None if answer is None else answer.kind.value,
            status=None if answer is None else answer.status,
            unsent=finished.unsent,
            key=self.key,
            policy=basis.policy,
            due_at=basis.due_at,
            deadline_at=basis.deadline_at,
            policies_sha256=basis.policies_sha256,
            yes_date=None if kept is None or kept.date is None else moment.to_us(kept.date),
            yes_request_id=None if kept is None else kept.request_id,
            entry=entry,
            late_entry=late_entry,
        )

    def told(self, finished: Finished, *, sweep_id: str, late: bool) -> ResponseSettled:
        """The event of an outcome that has been written, or of a yes that came too late."""
        claim, settlement = finished.claim, finished.settlement
        assert settlement.outcome is not None or (late and settlement.yes)
        basis = self._basis(claim)
        overdue = None
        if basis.deadline_at is not None:
            past = moment.to_us(finished.at) - basis.deadline_at
            overdue = timedelta(microseconds=max(0, past))
        return ResponseSettled(
            sweep_id=sweep_id,
            account=self.account,
            response_id=claim.response_id,
            policy=basis.policy,
            outcome=settlement.outcome or Outcome.DELETED,
            verified=settlement.verified,
            attempt=claim.attempts,
            status=_answer(finished).status,
            overdue=overdue,
            next_try_at=settlement.next_try_at,
            late=late,
        )

    def _basis(self, claim: Claim) -> _Basis:
        """What decided when the DELETE was sent: for a verification, what stood there then."""
        if claim.is_verification:
            return _Basis(claim.policy, claim.due_at, claim.deadline_at, claim.policies_sha256)
        ruling = self.rulings.get(claim.label_set_id)
        if ruling is None:
            return _Basis(None, None, None, self.policies_sha256)
        due_at = claim.created_at + ruling.keep
        return _Basis(ruling.policy, due_at, due_at + ruling.deadline, self.policies_sha256)

    def _entry(self, finished: Finished, basis: _Basis, outcome: Outcome) -> Entry:
        claim, settlement = finished.claim, finished.settlement
        attempts = claim.attempts - int(finished.unsent)
        fields: dict[str, object] = {
            "item": claim.item,
            "subject": record.commitment(
                bytes.fromhex(claim.salt), self.provider, self.account, claim.response_id
            ),
            "provider": self.provider,
            "account": self.account,
            "basis": "retention_expired",
            "policy": basis.policy,
            "policy_sha256": basis.policies_sha256,
            "registered_at": record.instant(claim.registered_at),
            "created_at": record.instant(claim.created_at),
            "due_at": _optional(basis.due_at),
            "outcome": outcome.value,
            "verified": settlement.verified,
            "attempts": attempts,
            "ambiguous": claim.ambiguous + int(settlement.touched and not settlement.yes),
            "first_attempt_at": _optional(claim.first_attempt_at if attempts else None),
            "last_attempt_at": _optional(None if finished.unsent else claim.last_attempt_at),
            "evidence": record.evidence(
                _answer(finished), control=finished.bracketed, verify_status=finished.verify_status
            ),
            "supersedes": claim.record_seq,
        }
        return Entry(type=RecordType.DELETION_OUTCOME, fields=fields)


def doubted(settled: Settled) -> Settled:
    """The same, with records that say that their time is the last good one."""
    entry, late_entry = settled.entry, settled.late_entry
    if entry is not None:
        return replace(settled, entry=_in_doubt(entry))
    if late_entry is not None:
        return replace(settled, late_entry=lambda: _in_doubt(late_entry()))
    return settled


def _in_doubt(entry: Entry) -> Entry:
    return replace(entry, fields={**entry.fields, "clock": "doubted"})


def _answer(finished: Finished) -> Answer:
    """The answer to the DELETE: this one, or the yes that was stored and has been verified."""
    claim = finished.claim
    if finished.answer is not None:
        return finished.answer
    if claim.yes_at is None:
        return _NONE
    date = None if claim.yes_date is None else moment.from_us(claim.yes_date)
    return replace(_STORED_YES, date=date, request_id=claim.yes_request_id)


def _optional(us: int | None) -> str | None:
    return None if us is None else record.instant(us)
