"""Read responses: one by its id, pages of them, and those of a label set that are due."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper import errors
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.ledger import database, tables

_R = tables.responses
_SETS = tables.label_sets
_A = tables.accounts

# The partial indexes are used only where their conditions stand in the statement's own text.
_IS_LIVE = _R.c.state == sa.literal_column("'live'")
_IS_VERIFYING = _R.c.state == sa.literal_column("'verifying'")
_GONE: sa.ColumnElement[str] = sa.literal_column("'gone'")
_RARE: Final = frozenset({State.CLAIMED, State.VERIFYING, State.QUARANTINED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One response as the ledger holds it; times in microseconds, `id` the ledger's own key.

    Only a row that was set aside for breaking the rules may lack `created_at`, and it always
    lacks `first_created_at`.
    """

    id: int
    account: str
    account_id: int
    response_id: str
    item: str
    labels: str
    label_set_id: int
    created_at: int | None
    first_created_at: int | None
    registered_at: int
    registered_seq: int
    subject: str | None
    previous_response_id: str | None
    parent_id: int | None
    state: State
    quarantine_reason: str | None
    outcome: str | None
    verified: bool
    touched: bool
    claims: int
    attempts: int
    ambiguous: int
    failures: int
    next_try_at: int | None
    verify_at: int | None
    yes_at: int | None
    first_attempt_at: int | None
    last_attempt_at: int | None
    finished_at: int | None
    policy: str | None
    due_at: int | None
    deadline_at: int | None
    sweep_id: str | None
    record_seq: int | None


class LabelSetRow(NamedTuple):
    """One distinct account and labels, with how many of its responses are not gone or aside."""

    id: int
    account: str
    labels: str
    live_count: int


class DueCount(NamedTuple):
    """How many of a label set's due responses may be tried now, and how many not yet."""

    eligible: int
    backing_off: int


class Candidate(NamedTuple):
    """A response that may be planned; `created_at` in microseconds."""

    id: int
    response_id: str
    created_at: int
    label_set_id: int
    parent_id: int | None


class Parent(NamedTuple):
    """A response that others continue.

    `children` of them are not gone; it is `eligible` when it is live and its next try has come.
    """

    id: int
    response_id: str
    created_at: int
    label_set_id: int
    parent_id: int | None
    children: int
    eligible: bool


def find(
    connection: sa.Connection, response_id: str, account: str | None = None
) -> Sequence[Response]:
    """Find the responses of that id, one in each account that has it."""
    statement = _whole().where(
        _R.c.account_id.in_(sa.select(_A.c.id)), _R.c.response_id == response_id
    )
    if account is not None:
        statement = statement.where(_A.c.name == account)
    return _responses(connection, statement.order_by(_A.c.name))


def show(connection: sa.Connection, response_id: str, account: str | None = None) -> Response:
    """Find the one response of that id.

    Raises UnknownResponse where there is none, UsageError where several accounts have one.
    """
    found = find(connection, response_id, account)
    match found:
        case []:
            raise errors.UnknownResponse(
                "the ledger holds no response of that id", hint="see: sweeper responses list"
            )
        case [one]:
            return one
        case _:
            names = ", ".join(row.account for row in found)
            raise errors.UsageError(
                f"several accounts hold a response of that id: {names}", hint="name the account"
            )


def by_key(connection: sa.Connection, pk: int) -> Response | None:
    """Read the response of the ledger's own key."""
    found = _responses(connection, _whole().where(_R.c.id == pk))
    return found[0] if found else None


def list(  # noqa: A001 - read as `responses.list` at every call
    connection: sa.Connection,
    *,
    state: State | None = None,
    outcome: Outcome | None = None,
    account: str | None = None,
    after: int = 0,
    limit: int = 1000,
) -> Sequence[Response]:
    """Read a page of responses in the order of their keys, those above `after`.

    `outcome` is one of responses that are gone; for others see `tried`.
    """
    key: sa.ColumnElement[int] = _R.c.id
    if state in _RARE:
        # Hides the key, so that the small index of the state is sorted and no table walked.
        key = _R.c.id + sa.literal_column("0")
    statement = _whole().where(key > after).order_by(key).limit(limit)
    if state is not None:
        statement = statement.where(_R.c.state == sa.literal_column(f"'{state.value}'"))
    if state is State.CLAIMED:
        statement = statement.where(_R.c.token.is_not(None))
    if outcome is not None:
        statement = statement.where(_R.c.outcome == sa.literal_column(f"'{outcome.value}'"))
    if account is not None:
        statement = statement.where(_A.c.name == account)
    return _responses(connection, statement)


def tried(
    connection: sa.Connection,
    outcome: Outcome,
    *,
    state: State | None = None,
    account: str | None = None,
    limit: int | None = None,
) -> Sequence[int]:
    """Read the keys, in their order, of what is not gone and of which this was found last.

    All at once, for no index has both the outcome and the order: a page would cost as much.
    """
    statement = sa.select(_R.c.id).where(
        _R.c.id.in_(_not_gone_but_tried()), _R.c.outcome == outcome.value
    )
    if state is not None:
        statement = statement.where(_R.c.state == state.value)
    if account is not None:
        ours = sa.select(_A.c.id).where(_A.c.name == account)
        statement = statement.where(_R.c.account_id.in_(ours))
    return connection.execute(statement.order_by(_R.c.id).limit(limit)).scalars().all()


def by_keys(connection: sa.Connection, keys: Iterable[int]) -> Sequence[Response]:
    """Read the responses of the ledger's own keys, in the order of the keys."""
    wanted = database.rows(connection, "wanted", "key")
    statement = _whole().where(_R.c.id == wanted.c.key).order_by(_R.c.id)
    return _responses(connection, statement.params(wanted=json.dumps([[key] for key in keys])))


def _not_gone_but_tried() -> sa.CompoundSelect[Any]:
    """The keys of whatever has an outcome that is open, by the small indexes of each state."""
    each = sa.select(_R.c.id).correlate(None)
    return sa.union_all(
        each.where(_IS_LIVE, _R.c.outcome.is_not(None)),
        each.where(_R.c.state == sa.literal_column("'claimed'"), _R.c.token.is_not(None)),
        each.where(_IS_VERIFYING),
        each.where(_R.c.state == sa.literal_column("'quarantined'")),
    )


def next_moment(connection: sa.Connection, after: int) -> int | None:
    """When, later than `after`, the next response is tried again or verified; microseconds.

    Responses of accounts that are stopped do not count: nothing can be done about them then.
    """
    stopped = sa.select(tables.breakers.c.account_id)
    moments = (
        sa.select(column)
        .where(rows, column > after, _R.c.account_id.not_in(stopped))
        .order_by(column)
        .limit(1)
        for column, rows in ((_R.c.next_try_at, _IS_LIVE), (_R.c.verify_at, _IS_VERIFYING))
    )
    found = (at for each in moments for at in connection.execute(each).scalars())
    return min(found, default=None)


def children(connection: sa.Connection, pk: int) -> Sequence[Response]:
    """Read the responses that continue this one and are not gone."""
    statement = _whole().where(_R.c.parent_id == pk, _R.c.state != _GONE)
    return _responses(connection, statement.order_by(_R.c.id))


def label_sets(connection: sa.Connection) -> Sequence[LabelSetRow]:
    rows = connection.execute(
        sa.select(_SETS.c.id, _A.c.name, _SETS.c.labels, _SETS.c.live_count)
        .join_from(_SETS, _A, _A.c.id == _SETS.c.account_id)
        .order_by(_SETS.c.id)
    )
    return [LabelSetRow(*row) for row in rows]


def newest_pk(connection: sa.Connection) -> int:
    """The key of the response that was admitted last; 0 in an empty ledger."""
    return connection.execute(sa.select(sa.func.max(_R.c.id))).scalar_one() or 0


def due_counts(
    connection: sa.Connection, cuts: Sequence[tuple[int, int]], now: int
) -> Mapping[int, DueCount]:
    """Count, for each (label set, cut-off), the live responses created at or before the cut-off.

    Label sets without any are left out. One range scan each: the cost grows with what is due.
    """
    statement = due_counts_statement(connection.dialect.name)
    rows = connection.execute(statement, {"cuts": json.dumps(cuts), "now": now})
    return {key: DueCount(due - waits, waits) for key, due, waits in rows if due}


def leaves(
    connection: sa.Connection,
    label_set_id: int,
    cutoff: int,
    newest_pk: int,
    now: int,
    *,
    after: tuple[int, int] | None = None,
    limit: int,
) -> Sequence[Candidate]:
    """Read due responses of a label set that nothing living continues, oldest first.

    They were created at or before `cutoff`, admitted up to `newest_pk`, and their next try has
    come. `after` is (created_at, id) of the last one of the page before. Times in microseconds.
    """
    created_at, pk = after or (-(2**63), 0)
    text = connection.execute(
        leaves_statement(connection.dialect.name),
        {
            "label_set_id": label_set_id,
            "cutoff": cutoff,
            "newest_pk": newest_pk,
            "now": now,
            "after_created_at": created_at,
            "after_id": pk,
            "limit": limit,
        },
    ).scalar_one()
    return [Candidate(*row) for row in json.loads(text or "[]")]


def parents(connection: sa.Connection, ids: Iterable[int], now: int) -> Sequence[Parent]:
    """Read the responses of these keys, each with how many that continue it are not gone."""
    wanted = json.dumps([[pk] for pk in sorted(set(ids))])
    rows = connection.execute(_parents(connection.dialect.name), {"ids": wanted, "now": now})
    return [Parent._make((*row[:6], bool(row[6]))) for row in rows]


@cache
def due_counts_statement(dialect: str) -> sa.Select[Any]:
    cuts = database.rows_for(dialect, "cuts", "label_set_id", "cutoff")
    due = (
        sa.select(sa.func.count())
        .where(_R.c.label_set_id == cuts.c.label_set_id, _R.c.created_at <= cuts.c.cutoff, _IS_LIVE)
        .correlate(cuts)
    )
    waits = due.where(_R.c.next_try_at > sa.bindparam("now", type_=tables.BIG))
    return sa.select(cuts.c.label_set_id, due.scalar_subquery(), waits.scalar_subquery())


@cache
def leaves_statement(dialect: str) -> sa.Select[Any]:
    def given(name: str) -> sa.BindParameter[int]:
        return sa.bindparam(name, type_=tables.BIG)

    page = (
        sa.select(*(_R.c[name] for name in Candidate._fields))
        .where(
            _IS_LIVE,
            _R.c.label_set_id == given("label_set_id"),
            _R.c.created_at <= given("cutoff"),
            sa.tuple_(_R.c.created_at, _R.c.id)
            > sa.tuple_(given("after_created_at"), given("after_id")),
            _R.c.id <= given("newest_pk"),
            sa.or_(_R.c.next_try_at.is_(None), _R.c.next_try_at <= given("now")),
            ~_living_children().exists(),
        )
        .order_by(_R.c.created_at, _R.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .subquery("page")
    )
    return sa.select(database.as_array(dialect, *(page.c[name] for name in Candidate._fields)))


@cache
def _parents(dialect: str) -> sa.Select[Any]:
    ids = database.rows_for(dialect, "ids", "pk")
    come = sa.or_(
        _R.c.next_try_at.is_(None), _R.c.next_try_at <= sa.bindparam("now", type_=tables.BIG)
    )
    return (
        sa.select(
            *(_R.c[name] for name in Candidate._fields),
            _living_children().with_only_columns(sa.func.count()).scalar_subquery(),
            sa.case((sa.and_(_IS_LIVE, come), 1), else_=0),
        )
        .where(_R.c.id == ids.c.pk)
        .order_by(_R.c.id)
    )


def _living_children() -> sa.Select[Any]:
    child = _R.alias("child")
    return (
        sa.select(child.c.id)
        .where(child.c.parent_id == _R.c.id, child.c.state != _GONE)
        .correlate(_R)
    )


@cache
def _whole() -> sa.Select[Any]:
    elsewhere = {"account": _A.c.name.label("account"), "labels": _SETS.c.labels}
    columns = [elsewhere.get(field.name, _R.c.get(field.name)) for field in fields(Response)]
    return sa.select(*(column for column in columns if column is not None)).where(
        _A.c.id == _R.c.account_id, _SETS.c.id == _R.c.label_set_id
    )


def _responses(connection: sa.Connection, statement: sa.Select[Any]) -> Sequence[Response]:
    return [
        Response(
            **{
                **row,
                "state": State(row["state"]),
                "verified": bool(row["verified"]),
                "touched": bool(row["touched"]),
            }
        )
        for row in connection.execute(statement).mappings()
    ]
