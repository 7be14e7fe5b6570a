"""Lend responses to one sweeper for a moment, written down before anything is sent."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.ledger import database, tables

_R = tables.responses

# The partial indexes are used only where their conditions stand in the statement's own text.
_LIVE: sa.ColumnElement[str] = sa.literal_column("'live'")
_CLAIMED: sa.ColumnElement[str] = sa.literal_column("'claimed'")
_VERIFYING: sa.ColumnElement[str] = sa.literal_column("'verifying'")
_GONE: sa.ColumnElement[str] = sa.literal_column("'gone'")

_MOST_CLAIMS: Final = 2**31 - 1
"""One more would not fit into the column, and fail the claims of all others with it."""

_OF_THE_YES: Final = (
    *(_R.c.policy, _R.c.due_at, _R.c.deadline_at, _R.c.policies_sha256),
    *(_R.c.yes_date, _R.c.yes_request_id),
)


class Claim(NamedTuple):
    """One response on loan. A tuple, since a sweep makes one for each of its responses.

    Times are in microseconds. `number` counts the claims of this response; `outcome` is what the
    same sweep found before, if it did; `touched` says that an earlier attempt may have worked.
    `missed` says that it was not found when it was last tried, by this sweep or another. What
    follows is read for verifications only: by what the yes was got, and the yes's own `Date` and
    request id.
    """

    pk: int
    response_id: str
    label_set_id: int
    number: int
    token: str
    state: str
    created_at: int
    registered_at: int
    item: str
    salt: str
    parent_id: int | None
    attempts: int
    ambiguous: int
    failures: int
    touched: int
    first_attempt_at: int | None
    last_attempt_at: int | None
    yes_at: int | None
    yes_key: str | None
    outcome: str | None
    record_seq: int | None
    missed: int = 0
    policy: str | None = None
    due_at: int | None = None
    deadline_at: int | None = None
    policies_sha256: str | None = None
    yes_date: int | None = None
    yes_request_id: str | None = None

    @property
    def fence(self) -> tuple[int, str]:
        """The response and the token under which alone this claim may be settled."""
        return self.pk, self.token

    @property
    def is_verification(self) -> bool:
        return self.state == "verifying"


class Wanted(NamedTuple):
    """One response that a plan found due: its row, its label set and that set's cut-off."""

    pk: int
    label_set_id: int
    cutoff: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On whose behalf and until when responses are claimed; times in microseconds."""

    account_id: int
    sweep_id: str
    token: str
    newest_pk: int
    now: int
    deadline: int


def has_child() -> sa.Exists:
    """Say of a row of `responses` that a response which continues it is not gone yet."""
    child = tables.responses.alias("child")
    return sa.exists().where(child.c.parent_id == _R.c.id, child.c.state != _GONE)


def is_eligible(now: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """Say of a row of `responses` that it may be tried now, age and children apart."""
    return (
        _R.c.state == _LIVE,
        _R.c.quarantine_reason.is_(None),
        sa.or_(_R.c.next_try_at.is_(None), _R.c.next_try_at <= now),
    )


def take(connection: sa.Connection, wanted: Sequence[Wanted], terms: Terms) -> list[Claim]:
    """Claim those of `wanted` that may still be deleted, in their order, attempt first.

    Everything that can have changed since the plan is judged again in this statement: state,
    label set, age, next try, children. What fails is simply not claimed.
    """
    if not wanted:
        return []
    claim, number_attempts = _take(connection.dialect.name)
    values = {
        "wanted": json.dumps(wanted),
        "the_account_id": terms.account_id,
        "the_sweep_id": terms.sweep_id,
        "the_token": terms.token,
        "newest_pk": terms.newest_pk,
        "now": terms.now,
        "deadline": terms.deadline,
    }
    lock(connection, [row.pk for row in wanted])
    if not connection.execute(claim, values).rowcount:
        return []
    connection.execute(number_attempts, values)
    order = {row.pk: index for index, row in enumerate(wanted)}
    taken = _read(connection, terms, _claimed(connection.dialect.name))
    return sorted(taken, key=lambda row: order[row.pk])


def lock(connection: sa.Connection, pks: Sequence[int]) -> None:
    """Lock responses in the order of their keys, as everybody does: nobody waits in a circle.

    What is read next is what is changed. SQLite's writing transaction has all of it already.
    """
    if connection.dialect.name == "sqlite":
        return
    these = database.rows(connection, "pks", "pk")
    connection.execute(
        sa.select(_R.c.id)
        .where(_R.c.id.in_(sa.select(these.c.pk)))
        .order_by(_R.c.id)
        .with_for_update(),
        {"pks": json.dumps([[pk] for pk in pks])},
    )


def take_verifications(connection: sa.Connection, limit: int, terms: Terms) -> list[Claim]:
    """Claim up to `limit` verifications that are due; they stay `verifying` throughout."""
    due = (
        sa.select(_R.c.id)
        .where(
            _R.c.account_id == terms.account_id,
            _R.c.state == _VERIFYING,
            _R.c.token.is_(None),
            _R.c.verify_at <= terms.now,
        )
        .order_by(_R.c.verify_at, _R.c.id)
        .limit(limit)
        .with_for_update()
    )
    claimed = connection.execute(
        sa.update(_R)
        .where(_R.c.id.in_(due))
        .values(token=terms.token, claim_deadline=terms.deadline)
    )
    if not claimed.rowcount:
        return []
    return _read(connection, terms, _claimed(connection.dialect.name, *_OF_THE_YES))


def verifications(connection: sa.Connection, account_id: int) -> int:
    """Count the yeses of an account that are still to be verified."""
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(_R)
        .where(_R.c.account_id == account_id, _R.c.state == _VERIFYING)
    ).scalar_one()


def has_verifications(connection: sa.Connection, account_id: int, now: int) -> bool:
    """Whether a verification of an account could be claimed at this time."""
    due = sa.select(_R.c.id).where(
        _R.c.account_id == account_id,
        _R.c.state == _VERIFYING,
        _R.c.token.is_(None),
        _R.c.verify_at <= now,
    )
    return connection.execute(sa.select(due.exists())).scalar_one()


def unverified(connection: sa.Connection, account_id: int, most: int) -> Sequence[tuple[str, int]]:
    """Up to `most` responses of an account whose yes is still to be verified, with their sets."""
    rows = connection.execute(
        sa.select(_R.c.response_id, _R.c.label_set_id)
        .where(_R.c.account_id == account_id, _R.c.state == _VERIFYING)
        .order_by(_R.c.verify_at)
        .limit(most)
    )
    return [(row.response_id, row.label_set_id) for row in rows]


def free(connection: sa.Connection, account_id: int) -> int:
    """Take back what an earlier sweeper left claimed; returns how many.

    Only whoever holds the account's lock or lease may do so. A claimed response may have been
    sent: it is marked as touched. A verification stays one. What a conflict waits for is set
    aside now.
    """
    held = sa.select(_R.c.id).where(_R.c.account_id == account_id, _R.c.token.is_not(None))
    lock(connection, connection.execute(held).scalars().all())
    quarantined = _R.c.quarantine_reason.is_not(None)
    freed = connection.execute(
        sa.update(_R)
        .where(_R.c.account_id == account_id, _R.c.token.is_not(None), _R.c.state == _CLAIMED)
        .values(
            state=sa.case((quarantined, "quarantined"), else_="live"),
            token=None,
            claim_deadline=None,
            touched=1,
            ambiguous=_R.c.ambiguous + 1,
        )
        .returning(_R.c.label_set_id, _R.c.state)
    ).all()
    uncount(connection, Counter(row.label_set_id for row in freed if row.state == "quarantined"))
    verifying = connection.execute(
        sa.update(_R)
        .where(_R.c.account_id == account_id, _R.c.token.is_not(None))
        .values(token=None, claim_deadline=None)
    ).rowcount
    return len(freed) + verifying


def uncount(connection: sa.Connection, left: Mapping[int, int]) -> None:
    """Take responses that left the living off the counts of their label sets."""
    if not left:
        return
    new = database.rows(connection, "counts", "label_set_id", "n")
    table = tables.label_sets
    connection.execute(
        sa.update(table)
        .where(table.c.id == new.c.label_set_id)
        .values(live_count=table.c.live_count - new.c.n),
        {"counts": json.dumps(sorted(left.items()))},
    )


def first_attempts(connection: sa.Connection, account_id: int, since: int) -> int:
    """Count the account's first DELETEs claimed since a moment, for the daily bound.

    What was given back unsent does not count; the claim that follows it is the first one then.
    """
    attempts = tables.attempts
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(attempts)
        .where(
            attempts.c.account_id == account_id,
            attempts.c.is_first == sa.literal_column("1"),
            attempts.c.claimed_at >= since,
            attempts.c.unsent == 0,
        )
    ).scalar_one()


@cache
def _take(dialect: str) -> tuple[sa.Update, sa.Insert]:
    wanted = database.rows_for(dialect, "wanted", "pk", "label_set_id", "cutoff")
    now = sa.bindparam("now", type_=sa.BigInteger)
    token = sa.bindparam("the_token", type_=sa.Text)
    # The sum keeps SQLite from walking through the account by its index.
    own = _R.c.account_id + sa.literal_column("0") == sa.bindparam(
        "the_account_id", type_=sa.BigInteger
    )
    claim = (
        sa.update(_R)
        .where(
            _R.c.id == wanted.c.pk,
            _R.c.label_set_id == wanted.c.label_set_id,
            _R.c.created_at <= wanted.c.cutoff,
            *_if(
                dialect,
                own,
                _R.c.id <= sa.bindparam("newest_pk", type_=sa.BigInteger),
                _R.c.claims < sa.literal_column(str(_MOST_CLAIMS)),
                *is_eligible(now),
            ),
            ~has_child(),
        )
        .values(
            state="claimed",
            token=token,
            claim_deadline=sa.bindparam("deadline", type_=sa.BigInteger),
            claims=_R.c.claims + 1,
            attempts=_R.c.attempts + 1,
            next_try_at=None,
            first_attempt_at=sa.func.coalesce(_R.c.first_attempt_at, now),
            last_attempt_at=now,
        )
    )
    claimed = sa.select(
        _R.c.id,
        _R.c.claims,
        _R.c.account_id,
        sa.bindparam("the_sweep_id", type_=sa.Text),
        token,
        now,
        sa.case((_R.c.attempts == 1, 1), else_=0),
    ).where(_R.c.id.in_(sa.select(wanted.c.pk)), _R.c.token == token)
    columns = ["response_pk", "number", "account_id", "sweep_id", "token", "claimed_at", "is_first"]
    return claim, sa.insert(tables.attempts).from_select(columns, claimed)


def _if(dialect: str, *may: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[bool], ...]:
    """Judge the rows that are wanted, and no others.

    Of a table that was never analysed, as after an import, PostgreSQL believes that hardly a row
    of it may be claimed, and so it read all that is live once for each one that was wanted: with
    15,000 a claim of 300 took seconds. Of a case it believes nothing, and has no index.
    """
    if dialect == "sqlite":
        return may
    return (sa.case((sa.and_(*may), sa.true()), else_=sa.false()),)


@cache
def _claimed(dialect: str, *more: sa.ColumnElement[Any]) -> sa.Select[str]:
    same_sweep = _R.c.sweep_id == sa.bindparam("the_sweep_id", type_=sa.Text)
    columns = (
        *(_R.c.id, _R.c.response_id, _R.c.label_set_id, _R.c.claims, _R.c.token, _R.c.state),
        *(_R.c.created_at, _R.c.registered_at, _R.c.item, _R.c.salt, _R.c.parent_id),
        *(_R.c.attempts, _R.c.ambiguous, _R.c.failures, _R.c.touched),
        *(_R.c.first_attempt_at, _R.c.last_attempt_at, _R.c.yes_at, _R.c.yes_key),
        *(sa.case((same_sweep, _R.c.outcome)), _R.c.record_seq),
        sa.case((_R.c.outcome == sa.literal_column("'not_visible'"), 1), else_=0),
        *more,
    )
    return sa.select(database.as_array(dialect, *columns)).where(
        _R.c.account_id == sa.bindparam("the_account_id", type_=sa.BigInteger),
        _R.c.token.is_not(None),
        _R.c.token == sa.bindparam("the_token", type_=sa.Text),
    )


def _read(connection: sa.Connection, terms: Terms, statement: sa.Select[str]) -> list[Claim]:
    text = connection.execute(
        statement,
        {
            "the_account_id": terms.account_id,
            "the_sweep_id": terms.sweep_id,
            "the_token": terms.token,
        },
    ).scalar_one()
    return [Claim(*row) for row in json.loads(text or "[]")]
