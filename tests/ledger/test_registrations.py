"""Registrations: appended in one statement, read back whatever their shape."""

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.ledger import registrations, tables
from sweeper.ledger.database import Database
from sweeper.ledger.registrations import LONGEST_LABELS, LONGEST_NAME, Row
from tests.support.registered import NOW_US, registration, rows


def test_what_is_appended_is_read_back(database: Database) -> None:
    new = registration("resp_2", labels={"app": "ü"}, subject="👋 '\"\\", previous="resp_1")
    with database.write() as connection:
        registrations.append(connection, [new, registration("resp_3")], NOW_US)
    with database.read() as connection:
        first, second = registrations.page(connection, 10)
    at = moment.to_us(new.created_at)
    assert first[1:] == ("main", "resp_2", at, '{"app":"ü"}', "👋 '\"\\", "resp_1")
    assert second[1:] == ("main", "resp_3", at, "{}", None, None)
    assert [row["received_at"] for row in rows(database, tables.registrations)] == [NOW_US] * 2


def test_one_append_is_one_statement(database: Database) -> None:
    statements: list[str] = []
    sa.event.listen(
        database.engine, "before_cursor_execute", lambda *values: statements.append(values[2])
    )
    with database.write() as connection:
        registrations.append(connection, [registration(f"resp_{n}") for n in range(100)], NOW_US)
    assert [text for text in statements if not text.startswith("BEGIN")] == [statements[-1]]
    assert len(rows(database, tables.registrations)) == 100


def test_waiting_counts_and_removing_takes_out_only_what_is_named(database: Database) -> None:
    with database.write() as connection:
        assert registrations.waiting(connection) == 0
        registrations.append(connection, [registration(f"resp_{n}") for n in range(3)], NOW_US)
        assert registrations.waiting(connection) == 3
        keys = [row.id for row in registrations.page(connection, 2)]
        registrations.remove(connection, keys)
        (left,) = registrations.page(connection, 10)
    assert left.response_id == "resp_2"


def test_a_text_beyond_any_limit_is_read_in_part_and_as_no_text(database: Database) -> None:
    with database.write() as connection:
        connection.execute(
            sa.insert(tables.registrations).values(
                account="a" * LONGEST_NAME,
                response_id="b" * (LONGEST_NAME + 1),
                labels="c" * 1_000_000,
                subject="",
            )
        )
        (row,) = registrations.page(connection, 10)
    assert row == Row(
        id=row.id,
        account="a" * LONGEST_NAME,
        response_id=b"b" * (LONGEST_NAME + 1),
        created_at=None,
        labels=b"c" * (LONGEST_LABELS + 1),
        subject="",
        previous_response_id=None,
    )
