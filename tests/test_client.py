"""The client: one append per response, from any thread, and nothing kept of what is wrong."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import client, errors
from sweeper.domain import moment
from sweeper.ledger import admission, faults, schema, tables
from sweeper.ledger import database as ledger_database
from sweeper.ledger.database import Database
from tests.support.registered import by_id, rows

YESTERDAY = datetime.now(UTC).replace(microsecond=250_000) - timedelta(days=1)


@pytest.fixture
def ledger(database: Database, database_url: str) -> Iterator[client.Ledger]:
    """A client's ledger, on the same database as the fixture `database`."""
    with client.Ledger(database_url) as opened:
        yield opened


def test_a_registered_response_is_admitted_as_it_was_given(
    ledger: client.Ledger, database: Database
) -> None:
    assert ledger.register(
        "resp_2",
        YESTERDAY.timestamp(),
        account="main",
        labels={"env": "prod", "app": "chat"},
        subject="u-17",
        previous_response_id="resp_1",
    )
    (waiting,) = rows(database, tables.registrations)
    assert abs(waiting["received_at"] - moment.to_us(datetime.now(UTC))) < 60_000_000
    assert by_id(database) == {}
    with database.write() as connection:
        drained = admission.drain(connection, now=moment.to_us(datetime.now(UTC)))
    assert drained.counts.added == 1
    row = by_id(database)["resp_2"]
    assert row["created_at"] == moment.to_us(YESTERDAY)
    assert row["subject"] == "u-17"
    assert row["previous_response_id"] == "resp_1"
    (label_set,) = rows(database, tables.label_sets)
    assert label_set["labels"] == '{"app":"chat","env":"prod"}'


@pytest.mark.parametrize(
    "created_at",
    [
        YESTERDAY.timestamp(),
        YESTERDAY.isoformat(),
        YESTERDAY,
        YESTERDAY.astimezone(timezone(timedelta(hours=5, minutes=30))),
    ],
    ids=["seconds", "text", "utc", "elsewhere"],
)
def test_a_time_may_be_given_in_several_ways(
    ledger: client.Ledger, database: Database, created_at: float | str | datetime
) -> None:
    ledger.register("resp_1", created_at, account="main")
    (row,) = rows(database, tables.registrations)
    assert row["created_at"] == moment.to_us(YESTERDAY)


@dataclass(frozen=True)
class Stored:
    """What the OpenAI SDK returns, as far as it matters here."""

    id: str = "resp_1"
    created_at: float = YESTERDAY.timestamp()
    previous_response_id: str | None = "resp_0"


@dataclass(frozen=True)
class StoredOrNot(Stored):
    store: bool | None = None


def test_a_response_object_registers_itself(ledger: client.Ledger, database: Database) -> None:
    assert ledger.register_response(Stored(), account="main", labels={"a": "b"}, subject="s")
    assert ledger.register_response(StoredOrNot(id="resp_2"), account="main")
    assert ledger.register_response(StoredOrNot(id="resp_3", store=True), account="main")
    assert not ledger.register_response(StoredOrNot(id="resp_4", store=False), account="main")
    found = rows(database, tables.registrations)
    assert [row["response_id"] for row in found] == ["resp_1", "resp_2", "resp_3"]
    assert (found[0]["previous_response_id"], found[0]["subject"]) == ("resp_0", "s")


def test_what_was_not_stored_is_not_registered(ledger: client.Ledger, database: Database) -> None:
    assert not ledger.register("resp_1", YESTERDAY, account="main", store=False)
    assert rows(database, tables.registrations) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"response_id": "../files/x"}, "bad_id"),
    ({"response_id": ""}, "bad_id"),
    ({"response_id": None}, "bad_id"),
    ({"response_id": "a" * 1025}, "bad_id"),
    ({"created_at": YESTERDAY.timestamp() * 1000}, "bad_created_at"),
    ({"created_at": YESTERDAY.replace(tzinfo=None)}, "bad_created_at"),
    ({"created_at": datetime.now(UTC) + timedelta(days=2)}, "bad_created_at"),
    ({"created_at": True}, "bad_created_at"),
    ({"account": "a b"}, "bad_account"),
    ({"account": None}, "bad_account"),
    ({"labels": {"a": 1}}, "bad_labels"),
    ({"labels": {"a b": "c"}}, "bad_labels"),
    ({"subject": ""}, "bad_subject"),
    ({"previous_response_id": "resp_1"}, "bad_previous"),
    ({"store": "yes"}, "bad_store"),
]


@pytest.mark.parametrize("wrong, reason", WRONG)
def test_what_breaks_the_rules_is_refused_at_once_and_not_kept(
    ledger: client.Ledger, database: Database, wrong: dict[str, Any], reason: str
) -> None:
    values: dict[str, Any] = {"response_id": "resp_1", "created_at": YESTERDAY, "account": "main"}
    with pytest.raises(errors.InvalidRegistration, match=reason):
        ledger.register(**{**values, **wrong})
    assert rows(database, tables.registrations) == []


def test_registering_is_one_statement_and_touches_nothing_else(
    ledger: client.Ledger, database: Database
) -> None:
    statements: list[str] = []
    sa.event.listen(
        ledger._db.engine, "before_cursor_execute", lambda *values: statements.append(values[2])
    )
    before = {name: rows(database, table) for name, table in tables.METADATA.tables.items()}
    ledger.register("resp_1", YESTERDAY, account="main")
    after = {name: rows(database, table) for name, table in tables.METADATA.tables.items()}
    assert len([text for text in statements if not text.startswith("BEGIN")]) == 1
    assert {name for name, found in after.items() if found != before[name]} == {"registrations"}


def test_many_threads_register_through_one_ledger(
    ledger: client.Ledger, database: Database
) -> None:
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(ledger.register, f"resp_{n}", YESTERDAY, account="main") for n in range(80)
        ]
        assert all(one.result() for one in work)
    found = rows(database, tables.registrations)
    assert {row["response_id"] for row in found} == {f"resp_{n}" for n in range(80)}


def test_registering_waits_for_a_busy_ledger(sqlite_url: str) -> None:
    with (
        client.Ledger(sqlite_url) as ledger,
        closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as db,
        ThreadPoolExecutor(1) as pool,
    ):
        db.execute("BEGIN IMMEDIATE")
        work = pool.submit(ledger.register, "resp_1", YESTERDAY, account="main")
        db.execute("UPDATE ledger SET last_good_at = 1")
        assert not work.done()
        db.execute("COMMIT")
        assert work.result(30)


def test_a_ledger_that_does_not_exist_is_refused_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(errors.LedgerError, match="there is no ledger at") as refused:
        client.Ledger(f"sqlite:///{path}")
    assert refused.value.hint == faults.NO_LEDGER
    assert not path.exists()


def test_a_ledger_without_tables_is_refused_and_left_as_it_is(empty_url: str) -> None:
    db = ledger_database.open_database(empty_url)
    try:
        with pytest.raises(errors.SchemaMismatch) as refused:
            client.Ledger(empty_url)
        assert refused.value.hint == faults.NO_LEDGER
        assert schema.current(db) is None
    finally:
        db.close()


def test_a_ledger_whose_schema_is_ahead_is_refused(database: Database, database_url: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(errors.SchemaMismatch, match="9999"):
        client.Ledger(database_url)


def test_a_ledger_that_was_replaced_is_written_to_no_more(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with client.Ledger(sqlite_url) as ledger:
        other = path.with_suffix(".other")
        other.write_bytes(path.read_bytes())
        other.replace(path)
        with pytest.raises(errors.LedgerReplaced):
            ledger.register("resp_1", YESTERDAY, account="main")


def test_importing_the_client_brings_neither_http_nor_migrations() -> None:
    code = (
        "import sys, sweeper.client;"
        "print(sorted({'httpx', 'alembic', 'pydantic', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
