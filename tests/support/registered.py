"""Register responses in a test's ledger, with everything that a test does not care about given."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sweeper.domain import labels as label_texts
from sweeper.domain import moment
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.ledger import admission, tables
from sweeper.ledger.admission import Counts
from sweeper.ledger.database import Database

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOW_US = moment.to_us(NOW)
DAY = timedelta(days=1)


def registration(
    response_id: str,
    *,
    account: str = "main",
    age: timedelta = DAY,
    labels: Mapping[str, str] | None = None,
    subject: str | None = None,
    previous: str | None = None,
) -> Registration:
    return Registration(
        account=AccountName(account),
        response_id=ResponseId(response_id),
        created_at=NOW - age,
        labels=label_texts.canonical(labels or {}),
        subject=subject,
        previous_response_id=None if previous is None else ResponseId(previous),
    )


def admit(db: Database, *batch: Registration, now: int = NOW_US) -> Counts:
    with db.write() as connection:
        return admission.admit(connection, batch, now)


def rows(db: Database, table: sa.Table = tables.responses) -> list[dict[str, Any]]:
    """All rows of a table in the order of its key."""
    with db.read() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
        return [dict(row) for row in found]


def by_id(db: Database) -> dict[str, dict[str, Any]]:
    """All responses by their response id."""
    return {row["response_id"]: row for row in rows(db)}


def edges(db: Database) -> dict[str, str]:
    """Every link that was made, as response id → previous response id."""
    found = rows(db)
    names = {row["id"]: row["response_id"] for row in found}
    return {row["response_id"]: names[row["parent_id"]] for row in found if row["parent_id"]}
