"""Ask SQLite how it goes about each statement that is executed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from sweeper.ledger.database import Database


@contextmanager
def statements(
    db: Database, *tables: str, verbs: tuple[str, ...] = ("SELECT", "WITH")
) -> Iterator[list[str]]:
    """Gather a line for every step of the statements on these tables, by default responses."""
    steps: list[str] = []
    named = tables or ("responses",)

    def explain(connection: Any, _cursor: Any, text: str, values: Any, *_rest: Any) -> None:
        if any(table in text for table in named) and text.startswith(verbs):
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
