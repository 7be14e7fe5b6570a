"""Put into a record what a settlement claims and what it rests on."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from sweeper.domain import moment
from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.domain.event import ResponseSettled
from sweeper.engine.deletion import Finished
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
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
        ruling = self.rulings.get(claim.label_set_id)
        due_at = None if ruling is None else claim.created_at + ruling.keep
        entry = None
        if settlement.outcome is not None:
            entry = self._entry(finished, ruling, due_at)
        return Settled(
            claim=claim,
            settlement=settlement,
            at=moment.to_us(finished.at),
            answer=None if answer is None else answer.kind.value,
            status=None if answer is None else answer.status,
            unsent=finished.unsent,
            key=self.key,
            policy=None if ruling is None else ruling.policy,
            due_at=due_at,
            deadline_at=None if ruling is None or due_at is None else due_at + ruling.deadline,
            entry=entry,
        )

    def told(self, finished: Finished, *, sweep_id: str, late: bool) -> ResponseSettled:
        """The event of an outcome that has been written."""
        claim, settlement = finished.claim, finished.settlement
        assert settlement.outcome is not None
        ruling = self.rulings.get(claim.label_set_id)
        overdue = None
        if ruling is not None:
            due = claim.created_at + ruling.keep + ruling.deadline
            overdue = timedelta(microseconds=max(0, moment.to_us(finished.at) - due))
        return ResponseSettled(
            sweep_id=sweep_id,
            account=self.account,
            response_id=claim.response_id,
            policy=None if ruling is None else ruling.policy,
            outcome=settlement.outcome,
            verified=settlement.verified,
            attempt=claim.attempts,
            status=None if finished.answer is None else finished.answer.status,
            overdue=overdue,
            next_try_at=settlement.next_try_at,
            late=late,
        )

    def _entry(self, finished: Finished, ruling: Ruling | None, due_at: int | None) -> Entry:
        claim, settlement = finished.claim, finished.settlement
        assert settlement.outcome is not None
        fields: dict[str, object] = {
            "item": claim.item,
            "subject": record.commitment(
                bytes.fromhex(claim.salt), self.provider, self.account, claim.response_id
            ),
            "provider": self.provider,
            "account": self.account,
            "basis": "retention_expired",
            "policy": None if ruling is None else ruling.policy,
            "policy_sha256": self.policies_sha256,
            "registered_at": record.instant(claim.registered_at),
            "created_at": record.instant(claim.created_at),
            "due_at": None if due_at is None else record.instant(due_at),
            "outcome": settlement.outcome.value,
            "verified": settlement.verified,
            "attempts": claim.attempts - int(finished.unsent),
            "ambiguous": claim.ambiguous + int(settlement.touched and not settlement.yes),
            "first_attempt_at": _optional(claim.first_attempt_at),
            "last_attempt_at": _optional(claim.last_attempt_at),
            "evidence": record.evidence(
                _answer(finished), control=finished.bracketed, verify_status=finished.verify_status
            ),
            "supersedes": claim.record_seq,
        }
        return Entry(type=RecordType.DELETION_OUTCOME, fields=fields)


def doubted(settled: Settled) -> Settled:
    """The same, with a record that says that its time is the last good one."""
    if settled.entry is None:
        return settled
    fields = {**settled.entry.fields, "clock": "doubted"}
    return replace(settled, entry=replace(settled.entry, fields=fields))


def _answer(finished: Finished) -> Answer:
    """The answer to the DELETE: this one, or the yes that was stored and has been verified."""
    if finished.answer is not None:
        return finished.answer
    return _STORED_YES if finished.claim.yes_at is not None else _NONE


def _optional(us: int | None) -> str | None:
    return None if us is None else record.instant(us)
