"""Records: one after the other without a gap, canonical, never dated back, naming no id."""

import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
import rfc8785
import sqlalchemy as sa

from sweeper import errors
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger import database as ledger_database
from sweeper.ledger import records, tables
from sweeper.ledger.database import Database
from sweeper.ledger.records import Entry, Said
from tests.support import invariants
from tests.support.registered import admit, registration, rows

LATE = 4_000_000_000_000_000
"""A moment long after the tests' own ledgers were made."""


def entry(**fields: object) -> Entry:
    return Entry(type=RecordType.BREAKER_OPENED, fields=fields)


def append(db: Database, *entries: Entry, now: int = LATE) -> range:
    with db.write() as connection:
        return records.append(connection, entries, now=now)


def bodies(db: Database) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in rows(db, tables.records)]


def test_a_new_ledger_opens_its_log(database: Database) -> None:
    (head,) = rows(database, tables.ledger)
    (first,) = bodies(database)
    assert (first["type"], first["seq"], first["log"]) == ("log.opened", 0, head["log_origin"])
    assert head["log_origin"] == f"sweeper/{head['ledger_id']}/1"
    assert head["log_size"] == 1
    assert len(bytes.fromhex(head["fingerprint_salt"])) == 32


def test_records_stand_in_the_order_in_which_they_were_given(database: Database) -> None:
    assert append(database, *(entry(breaker=f"b{n}") for n in range(300))) == range(1, 301)
    assert append(database, entry(breaker="last")) == range(301, 302)
    told = [body.get("breaker") for body in bodies(database)]
    assert told == [None, *(f"b{n}" for n in range(300)), "last"]
    invariants.check(database)


def test_no_entries_are_no_records(database: Database) -> None:
    assert len(append(database)) == 0
    assert len(bodies(database)) == 1
    invariants.check(database)


def test_a_record_is_stored_as_the_text_that_is_hashed(database: Database) -> None:
    hostile = 'ü 👋 " \\ \u2028 \x00 \x1f <é>'
    append(database, entry(text=hostile, n=2**53 - 1, nothing=None, list=[1, {"b": True}]))
    row = rows(database, tables.records)[-1]
    assert row["body"].encode() == rfc8785.dumps(json.loads(row["body"]))
    body = json.loads(row["body"])
    assert (body["text"], body["n"], body["nothing"]) == (hostile, 2**53 - 1, None)
    assert (body["v"], body["sw"], row["type"]) == (1, records.version(), "breaker.opened")
    assert body["at"] == record.instant(LATE)


def test_all_records_of_a_process_name_one_writer(database: Database) -> None:
    append(database, entry(), entry())
    writers = {body["writer"] for body in bodies(database)[1:]}
    assert len(writers) == 1
    assert writers.pop().startswith("w-")


def test_no_record_is_dated_before_the_one_before_it(database: Database) -> None:
    for now in (LATE, LATE - 10**9, LATE + 1, LATE):
        append(database, entry(), now=now)
    at = [body["at"] for body in bodies(database)[1:]]
    late, later = record.instant(LATE), record.instant(LATE + 1)
    assert at == [late, late, later, later]


def test_what_is_rolled_back_leaves_no_gap(database: Database) -> None:
    with database.write() as connection:
        records.append(connection, [entry(breaker="lost")], now=LATE + 10**9)
        connection.rollback()
    assert append(database, entry(breaker="kept")) == range(1, 2)
    assert [body.get("breaker") for body in bodies(database)] == [None, "kept"]
    assert bodies(database)[-1]["at"] == record.instant(LATE)
    invariants.check(database)


@pytest.mark.parametrize(
    "fields",
    [{"seq": 7}, {"rate": 0.5}, {"Not a key": 1}, {"n": 2**53}, {"text": "x" * 17_000}],
    ids=["taken", "float", "key", "large", "long"],
)
def test_what_is_no_record_stops_the_whole_change(
    database: Database, fields: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="record"):
        append(database, entry(), entry(**fields))
    assert len(bodies(database)) == 1


def test_writers_take_turns(database_url: str) -> None:
    """Each thread opens the ledger by itself, as processes do."""

    def write(name: int) -> list[int]:
        db = ledger_database.open_database(database_url)
        try:
            made: list[int] = []
            for n in range(8):
                made += append(db, *(entry(writer_no=name) for _ in range(n % 3 + 1)), now=n)
            return made
        finally:
            db.close()

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(write, range(4)))
    every = sorted(seq for part in parts for seq in part)
    assert every == list(range(1, len(every) + 1))
    db = ledger_database.open_database(database_url)
    invariants.check(db)
    told = bodies(db)
    for name, part in enumerate(parts):
        assert {told[seq]["writer_no"] for seq in part} == {name}
        assert part == sorted(part)
    db.close()


def test_a_reason_stands_beside_the_log_and_its_hash_in_it(database: Database) -> None:
    fields = {"account": "main"}
    with database.write() as connection:
        seqs = [
            records.append_with_reason(
                connection, RecordType.BREAKER_CLOSED, fields, reason="said Ünal 👋", now=LATE
            )
            for _ in range(2)
        ]
    assert seqs == [1, 2]
    first, second = rows(database, tables.reasons)
    assert (first["seq"], first["text"]) == (1, "said Ünal 👋")
    told = bodies(database)[1:]
    for row, body in zip((first, second), told, strict=True):
        hashed = sha256(f"{row['salt']}\n{row['text']}".encode()).hexdigest()
        assert body["reason_sha256"] == hashed
        assert body["account"] == "main"
    assert told[0]["reason_sha256"] != told[1]["reason_sha256"]
    assert "nal" not in "".join(row["body"] for row in rows(database, tables.records))


def test_who_gave_which_reason_is_read_from_the_records_that_have_one(database: Database) -> None:
    append(database, entry(breaker="b"))
    with database.write() as connection:
        for user, sudo_user in (("root", "alice"), ("bob", None), ("eve", None)):
            records.append_with_reason(
                connection,
                RecordType.BREAKER_CLOSED,
                {"actor": {"user": user, "sudo_user": sudo_user}},
                reason=f"{user} said so",
                now=LATE,
            )
    with database.read() as connection:
        assert records.said(connection, [1, 2, 3, 99]) == {
            2: Said(user="root", sudo_user="alice", reason="root said so"),
            3: Said(user="bob", sudo_user=None, reason="bob said so"),
        }


@pytest.mark.parametrize("reason", ["a\udcffb", "a\0b"], ids=["surrogate", "nul"])
def test_a_reason_that_is_no_text_is_refused(database: Database, reason: str) -> None:
    with pytest.raises(errors.UsageError), database.write() as connection:
        records.append_with_reason(
            connection, RecordType.BREAKER_CLOSED, {}, reason=reason, now=LATE
        )
    assert rows(database, tables.reasons) == []


def test_no_response_is_named_in_clear(database: Database) -> None:
    admit(database, *(registration(f"resp_secret_{n}", subject=f"u-{n}") for n in range(3)))
    admit(database, registration("resp_secret_1", labels={"app": "another"}))
    text = "".join(row["body"] for row in rows(database, tables.records))
    assert "resp_secret" not in text
    assert "u-1" not in text
    assert {body["type"] for body in bodies(database)} == {
        "log.opened",
        "item.registered",
        "item.quarantined",
    }


def test_a_record_is_never_written_twice(database: Database) -> None:
    append(database, entry())
    with database.write() as connection:
        connection.execute(sa.update(tables.ledger).values(log_size=1))
    with pytest.raises(errors.LedgerError):
        append(database, entry())
