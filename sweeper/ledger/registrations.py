"""Take down what applications register, and read it back for admission, whatever its shape."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.registration import Registration
from sweeper.ledger import database, tables

_T = tables.registrations

LONGEST_NAME: Final = 4_096
LONGEST_LABELS: Final = 65_536
"""Bytes that are read of a text that anybody may have written; more is no text of ours."""


class Row(NamedTuple):
    """One registration as it stands in the table, where anybody may have written it.

    A text that is too long or no UTF-8 comes as its first bytes, which no check accepts.
    """

    id: int
    account: str | bytes | None
    response_id: str | bytes | None
    created_at: int | None
    labels: str | bytes | None
    subject: str | bytes | None
    previous_response_id: str | bytes | None


def append(connection: sa.Connection, new: Sequence[Registration], received_at: int) -> None:
    """Append registrations in one statement; they take effect when they are admitted.

    `received_at` is in microseconds.
    """
    texts = [
        [
            row.account,
            row.response_id,
            moment.to_us(row.created_at),
            row.labels,
            row.subject,
            row.previous_response_id,
        ]
        for row in new
    ]
    connection.execute(
        _append(connection.dialect.name), {"new": json.dumps(texts), "received_at": received_at}
    )


def waiting(connection: sa.Connection) -> int:
    """Count what is not admitted yet."""
    return connection.execute(sa.select(sa.func.count()).select_from(_T)).scalar_one()


def page(connection: sa.Connection, limit: int) -> list[Row]:
    """Read the first `limit` registrations by their key."""
    read = _read_blob if connection.dialect.name == "sqlite" else _read_text
    return [
        Row(
            row.id,
            read(row.account, LONGEST_NAME),
            read(row.response_id, LONGEST_NAME),
            row.created_at,
            read(row.labels, LONGEST_LABELS),
            read(row.subject, LONGEST_NAME),
            read(row.previous_response_id, LONGEST_NAME),
        )
        for row in connection.execute(_page(connection.dialect.name), {"limit": limit})
    ]


def remove(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Take out what has been admitted."""
    gone = database.rows(connection, "gone", "id")
    connection.execute(
        sa.delete(_T).where(_T.c.id.in_(sa.select(gone.c.id))),
        {"gone": json.dumps([[key] for key in ids])},
    )


@cache
def _append(dialect: str) -> sa.Insert:
    new = database.rows_for(
        dialect,
        "new",
        *("account:text", "response_id:text", "created_at", "labels:text", "subject:text"),
        "previous:text",
    )
    received_at = sa.bindparam("received_at", type_=tables.BIG)
    return sa.insert(_T).from_select(
        [
            *("received_at", "account", "response_id", "created_at", "labels", "subject"),
            "previous_response_id",
        ],
        sa.select(
            received_at,
            new.c.account,
            new.c.response_id,
            new.c.created_at,
            new.c.labels,
            new.c.subject,
            new.c.previous,
        ),
    )


@cache
def _page(dialect: str) -> sa.Select[Any]:
    def text(column: sa.Column[Any], longest: int) -> sa.ColumnElement[Any]:
        if dialect == "sqlite":
            # Bytes that are no UTF-8 can stand in a text column, and reading it would fail.
            # An empty blob's part is NULL there, so the empty text is taken from the whole.
            blob = sa.cast(column, sa.LargeBinary)
            part = sa.func.substr(blob, 1, longest + 1, type_=sa.LargeBinary)
            return sa.func.coalesce(part, blob, type_=sa.LargeBinary).label(column.name)
        return sa.func.left(column, longest + 1).label(column.name)

    return (
        sa.select(
            _T.c.id,
            text(_T.c.account, LONGEST_NAME),
            text(_T.c.response_id, LONGEST_NAME),
            _T.c.created_at,
            text(_T.c.labels, LONGEST_LABELS),
            text(_T.c.subject, LONGEST_NAME),
            text(_T.c.previous_response_id, LONGEST_NAME),
        )
        .order_by(_T.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def _read_blob(raw: bytes | None, longest: int) -> str | bytes | None:
    if raw is None:
        return None
    try:
        return raw if len(raw) > longest else raw.decode()
    except UnicodeDecodeError:
        return raw


def _read_text(raw: str | None, longest: int) -> str | bytes | None:
    if raw is None:
        return None
    return raw.encode() if len(raw) > longest else raw
