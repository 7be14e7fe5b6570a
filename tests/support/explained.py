"""Ask SQLite how it goes about each statement that is executed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from sweeper.ledger.database import Database


@contextmanager
def statements(db: Database) -> Iterator[list[str]]:
    """Gather a line for every step of every statement that reads responses."""
    steps: list[str] = []

    def explain(connection: Any, _cursor: Any, text: str, values: Any, *_rest: Any) -> None:
        if "responses" in text and text.startswith(("SELECT", "WITH")):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {text}", values)
            steps.extend(row[3] for row in cursor.fetchall())
            cursor.close()

    sa.event.listen(db.engine, "before_cursor_execute", explain)
    try:
        yield steps
    finally:
        sa.event.remove(db.engine, "before_cursor_execute", explain)


def walks(steps: list[str]) -> list[str]:
    """The steps that read all responses, or a part of them in the order of their keys."""
    return [step for step in steps if step == "SCAN responses" or "PRIMARY KEY (rowid" in step]
