"""Write what a person decides about one response: its row, its count and its record at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import moment
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import Outcome
from sweeper.domain.registration import Registration
from sweeper.domain.response import State
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger import admission, claims, links, records, responses, standings, tables
from sweeper.ledger.links import Link
from sweeper.ledger.records import Entry
from sweeper.ledger.responses import Response
from sweeper.ledger.standings import REJECTED

_R = tables.responses
_NOTHING = Answer(kind=AnswerKind.NOT_SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A person's word: why, by whom, and when in microseconds.

    `doubted` says that the clock is, and that `at` is the last time at which it was not.
    """

    reason: str
    actor: Mapping[str, object]
    at: int
    doubted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One response, locked until the transaction ends, with what continues it unlinked."""

    row: Response
    orphans: Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """By what a closed response was to be deleted; times in microseconds."""

    provider: str | None
    policy: str | None
    due_at: int | None
    deadline_at: int | None
    policies_sha256: str


def take(connection: sa.Connection, response_id: str, account: str | None = None) -> Taken:
    """Find the one response of that id, and let nobody else change it.

    Locks are taken in everybody's order: admission, responses by their keys, the log's head.
    Every claim waits for admission too, so none can come between this and the decision. Raises
    DecisionRefused for a response that is gone or in a sweeper's hands, and what
    `responses.show` raises.
    """
    admission.lock(connection)
    found = responses.show(connection, response_id, account)
    orphans = _orphans(connection, found)
    claims.lock(connection, [found.id, *(pk for pk, _ in orphans)])
    # What settles takes no admission lock: only now does the row stand still.
    row = responses.show(connection, response_id, found.account)
    _check_free(row)
    return Taken(row=row, orphans=orphans)


def _check_free(row: Response) -> None:
    match row.state:
        case State.GONE if row.outcome == Outcome.CLOSED:
            raise errors.DecisionRefused(
                f"{row.response_id} is closed already: nothing more is done about it",
                hint=f"see: sweeper explain {row.response_id}",
            )
        case State.GONE:
            raise errors.DecisionRefused(
                f"{row.response_id} is gone: there is nothing left to decide",
                hint=f"see: sweeper explain {row.response_id}",
            )
        case State.CLAIMED:
            raise errors.DecisionRefused(
                f"{row.response_id} is being deleted at this moment",
                hint="try again in a minute; what a dead sweeper left, the next sweep takes back",
            )
        case State.VERIFYING:
            raise errors.DecisionRefused(
                f"the provider said that it deleted {row.response_id}, which is being verified",
                hint="sweep, and look again: sweeper explain " + row.response_id,
            )
        case State.LIVE | State.QUARANTINED:
            pass
        case _:
            assert_never(row.state)


def retry(connection: sa.Connection, taken: Taken, word: Word) -> int:
    """Let the next sweep try it, if it is due then; returns the record's number.

    Only what the provider refused, and what was tried and is to be tried later, may be retried.
    """
    row = taken.row
    if row.state is State.QUARANTINED and row.quarantine_reason != REJECTED:
        raise errors.DecisionRefused(
            f"{row.response_id} is set aside as {row.quarantine_reason}:"
            " it must be known what is right before anything is tried",
            hint=f"state it: sweeper responses correct {row.response_id} --reason ...",
        )
    if row.state is State.LIVE and row.outcome is None and row.next_try_at is None:
        raise errors.DecisionRefused(
            f"{row.response_id} waits for no retry: it was not tried yet",
            hint=f"it is tried when it is due; see: sweeper explain {row.response_id}",
        )
    fields = {"item": row.item, "lifted": row.quarantine_reason}
    seq = _record(connection, RecordType.ITEM_RETRIED, fields, word)
    _change(connection, row, next_try_at=None, **_living(row))
    if row.state is State.QUARANTINED:
        claims.uncount(connection, {row.label_set_id: -1})
    return seq


def correct(
    connection: sa.Connection,
    taken: Taken,
    right: Registration,
    judged: Mapping[str, object],
    word: Word,
) -> int:
    """Let `right` stand instead of what stood; returns the record's number.

    What was set aside as conflicting or malformed is live again; what the provider refused stays
    aside. `judged` goes into the record. Raises DecisionRefused where the response would
    continue itself in a circle.
    """
    row = taken.row
    key = (row.account_id, right.labels)
    label_set_id = standings.label_sets(connection, {key})[key]
    created_at = moment.to_us(right.created_at)
    is_new_time = row.first_created_at is None or created_at != row.created_at
    is_new_link = right.previous_response_id != row.previous_response_id
    parent_id = _parent(connection, row, right) if is_new_link else row.parent_id
    lifted = row.quarantine_reason not in (None, REJECTED)
    _change(
        connection,
        row,
        label_set_id=label_set_id,
        created_at=created_at,
        first_created_at=created_at if is_new_time else row.first_created_at,
        subject=right.subject,
        previous_response_id=right.previous_response_id,
        parent_id=parent_id,
        **(_living(row) if lifted else {}),
    )
    dropped: Sequence[Entry] = ()
    if is_new_link or row.first_created_at is None:
        dropped = _adopt(connection, taken)
    records.append(connection, dropped, now=word.at)
    fields = {
        "item": row.item,
        "lifted": row.quarantine_reason if lifted else None,
        "changed": _changed(row, right),
        **judged,
    }
    seq = _record(connection, RecordType.ITEM_CORRECTED, fields, word)
    _recount(connection, row, label_set_id, is_live=lifted or row.state is State.LIVE)
    return seq


def close(connection: sa.Connection, taken: Taken, basis: Basis, word: Word) -> int:
    """Let nothing more be done about it; returns the number of its record, which is no deletion's.

    Nobody knows when a response was created that was registered without a time that could be
    read: its row then keeps the time of its registration, and its record none.
    """
    row = taken.row
    fields = _last_words(connection, row, basis)
    seq = _record(connection, RecordType.DELETION_OUTCOME, fields, word)
    _change(
        connection,
        row,
        state=State.GONE.value,
        outcome=Outcome.CLOSED.value,
        verified=0,
        created_at=row.registered_at if row.created_at is None else row.created_at,
        finished_at=word.at,
        next_try_at=None,
        verify_at=None,
        sweep_id=None,
        policy=basis.policy,
        due_at=basis.due_at,
        deadline_at=basis.deadline_at,
        policies_sha256=basis.policies_sha256,
        record_seq=seq,
    )
    if row.state is State.LIVE:
        claims.uncount(connection, {row.label_set_id: 1})
    return seq


def parent(connection: sa.Connection, row: Response) -> Response | None:
    """The response that waits until this one is gone; None where none does."""
    if row.parent_id is None:
        return None
    found = responses.by_key(connection, row.parent_id)
    return None if found is None or found.state is State.GONE else found


def _living(row: Response) -> dict[str, object]:
    """What brings a response back. A sweep that was refused it has not tried it now."""
    back: dict[str, object] = {"state": State.LIVE.value, "quarantine_reason": None}
    return back | ({"sweep_id": None} if row.outcome == Outcome.REJECTED else {})


def _changed(row: Response, right: Registration) -> list[str]:
    """The names of what is not as it stood: the values may tell more than a record should."""
    pairs = {
        "created_at": (row.created_at, moment.to_us(right.created_at)),
        "labels": (row.labels, right.labels),
        "subject": (row.subject, right.subject),
        "previous_response_id": (row.previous_response_id, right.previous_response_id),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def _parent(connection: sa.Connection, row: Response, right: Registration) -> int | None:
    """The key of the response that this one is now said to continue, if the ledger holds it."""
    found: int | None = connection.execute(
        sa.select(_R.c.id).where(
            _R.c.account_id == row.account_id,
            _R.c.response_id == right.previous_response_id,
            _R.c.first_created_at.is_not(None),
        )
    ).scalar_one_or_none()
    if found is None:
        return None
    if links.decide(connection, [Link(row.id, found, is_leaf=False)]).dropped:
        raise errors.DecisionRefused(
            f"{row.response_id} cannot continue {right.previous_response_id},"
            " which continues it itself",
            hint="name the response that came before it",
        )
    return found


def _orphans(connection: sa.Connection, row: Response) -> Sequence[tuple[int, str]]:
    """The responses that say that they continue this one, and have no link to it."""
    found = connection.execute(
        sa.select(_R.c.id, _R.c.item).where(
            _R.c.previous_response_id.is_not(None),
            _R.c.parent_id.is_(None),
            _R.c.account_id == row.account_id,
            _R.c.previous_response_id == row.response_id,
        )
    )
    return [(pk, item) for pk, item in found]


def _adopt(connection: sa.Connection, taken: Taken) -> Sequence[Entry]:
    """Link what continues the response, so that it waits for them; records of circles dropped."""
    row = taken.row
    wanted = [Link(pk, row.id, is_leaf=False) for pk, _ in taken.orphans]
    decided = links.decide(connection, wanted)
    for link in decided.made:
        connection.execute(sa.update(_R).where(_R.c.id == link.child).values(parent_id=row.id))
    items = dict(taken.orphans)
    return [
        Entry(
            type=RecordType.LINK_DROPPED,
            fields={"item": items[link.child], "previous": row.item},
        )
        for link in decided.dropped
    ]


def _recount(connection: sa.Connection, row: Response, now_in: int, *, is_live: bool) -> None:
    """Move the response from the count of one label set to another's."""
    left = Counter[int]()
    left[row.label_set_id] += row.state is State.LIVE
    left[now_in] -= is_live
    claims.uncount(connection, {key: number for key, number in left.items() if number})


def _last_words(connection: sa.Connection, row: Response, basis: Basis) -> dict[str, object]:
    """What a sweep's records say of an outcome, of a response about which a person decided."""
    salt: str | None = connection.execute(
        sa.select(_R.c.salt).where(_R.c.id == row.id)
    ).scalar_one()
    subject = None
    if salt is not None:
        subject = record.commitment(
            bytes.fromhex(salt), basis.provider or "", row.account, row.response_id
        )
    return {
        "item": row.item,
        "subject": subject,
        "provider": basis.provider,
        "account": row.account,
        "basis": "manual",
        "policy": basis.policy,
        "policy_sha256": basis.policies_sha256,
        "registered_at": record.instant(row.registered_at),
        "created_at": _instant(row.created_at),
        "due_at": _instant(basis.due_at),
        "outcome": Outcome.CLOSED.value,
        "verified": False,
        "attempts": row.attempts,
        "ambiguous": row.ambiguous,
        "first_attempt_at": _instant(row.first_attempt_at),
        "last_attempt_at": _instant(row.last_attempt_at),
        "evidence": record.evidence(_NOTHING, control=False, verify_status=None),
        "supersedes": row.record_seq,
    }


def _instant(us: int | None) -> str | None:
    return None if us is None else record.instant(us)


def _record(
    connection: sa.Connection, kind: RecordType, fields: Mapping[str, object], word: Word
) -> int:
    told = {**fields, "actor": word.actor}
    if word.doubted:
        told["clock"] = "doubted"
    return records.append_with_reason(connection, kind, told, reason=word.reason, now=word.at)


def _change(connection: sa.Connection, row: Response, **values: Any) -> None:
    connection.execute(sa.update(_R).where(_R.c.id == row.id).values(**values))
