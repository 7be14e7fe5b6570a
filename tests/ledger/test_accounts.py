"""Accounts: who they are, what stops them, and that both are recorded."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain.notfound import NotFound
from sweeper.domain.outcome import Breaker
from sweeper.domain.secret import Secret
from sweeper.ledger import accounts, schema, sightings, tables
from sweeper.ledger import database as ledger_database
from sweeper.ledger.accounts import AccountRow, OpenBreaker
from sweeper.ledger.database import Database
from tests.support import invariants, lent
from tests.support.registered import NOW_US, admit, registration, rows


def ensure(db: Database, *names: str) -> dict[str, int]:
    with db.write() as connection:
        return dict(accounts.ensure(connection, names))


def row(db: Database, name: str = "main") -> AccountRow:
    with db.read() as connection:
        found = accounts.get(connection, name)
    assert found is not None
    return found


def pin(db: Database, name: str, *, reason: str | None = None, **given: Any) -> None:
    values: dict[str, Any] = {
        "provider": "fireworks",
        "base_url": "https://api.example.com/inference",
        "pinned_account_id": "acme",
        "key_fingerprint": "0a0b0c0d",
    }
    with db.write() as connection:
        accounts.pin(connection, row(db, name).id, reason=reason, now=NOW_US, **(values | given))


def bodies(db: Database) -> list[dict[str, Any]]:
    """The records after the log's first one."""
    return [json.loads(one["body"]) for one in rows(db, tables.records)][1:]


# Names


def test_each_name_gets_one_row(database: Database) -> None:
    first = ensure(database, "main", "other", "main")
    assert set(first) == {"main", "other"}
    assert ensure(database, "third", "main") == {
        "main": first["main"],
        "third": row(database, "third").id,
    }
    assert ensure(database) == {}
    assert len(rows(database, tables.accounts)) == 3


def test_a_new_account_is_known_by_name_only(database: Database) -> None:
    keys = ensure(database, "main")
    assert row(database) == AccountRow(
        id=keys["main"],
        name="main",
        provider=None,
        base_url=None,
        pinned_account_id=None,
        key_fingerprint=None,
        identity=None,
        get_seen_key=None,
        not_found=NotFound(),
        last_yes_at=None,
        control_at=None,
        control=None,
    )
    with database.read() as connection:
        assert accounts.get(connection, "other") is None
        assert [one.name for one in accounts.every(connection)] == ["main"]


def test_two_processes_may_name_an_account_at_once(postgresql_database: Database) -> None:
    db = postgresql_database
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            mine = accounts.ensure(connection, ["main"])
            theirs = pool.submit(ensure, db, "main")
            lent.wait_for_a_lock(db)
        assert theirs.result(timeout=30) == mine


# Identity


@pytest.mark.parametrize("named", ["acme", None])
def test_an_account_has_one_name(database: Database, named: str | None) -> None:
    ensure(database, "main", "other")
    pin(database, "main", pinned_account_id=named)
    with pytest.raises(errors.ConfigurationError, match="main"):
        pin(database, "other", pinned_account_id=named)
    assert row(database, "other").identity is None
    assert [body["account"] for body in bodies(database)] == ["main"]
    pin(database, "main", pinned_account_id=named)


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "openai"},
        {"base_url": "https://eu.example.com"},
        {"pinned_account_id": "umbrella"},
        {"pinned_account_id": None},
    ],
)
def test_another_identity_is_another_account(database: Database, other: dict[str, Any]) -> None:
    ensure(database, "main", "other")
    pin(database, "main")
    pin(database, "other", **other)
    assert row(database).identity != row(database, "other").identity


def test_a_named_account_is_the_same_whatever_the_key() -> None:
    def identity(name: str | None, key: str) -> str:
        return accounts.identity(
            provider="p", base_url="u", pinned_account_id=name, key_fingerprint=key
        )

    assert identity("acme", "1") == identity("acme", "2")
    assert identity(None, "1") != identity(None, "2")
    assert identity(None, "1") != identity("1", "1")


def test_a_pin_is_kept_and_recorded(database: Database) -> None:
    ensure(database, "main")
    pin(database, "main")
    pin(database, "main", reason="merged", pinned_account_id=None)
    found = row(database)
    assert (found.provider, found.base_url) == ("fireworks", "https://api.example.com/inference")
    assert (found.pinned_account_id, found.key_fingerprint) == (None, "0a0b0c0d")
    first, second = bodies(database)
    assert (first["type"], first["account"], first["named"]) == ("account.pinned", "main", True)
    assert "reason_sha256" not in first
    assert (second["named"], len(second["reason_sha256"])) == (False, 64)
    assert [one["text"] for one in rows(database, tables.reasons)] == ["merged"]


def test_at_first_use_a_name_that_was_bound_meanwhile_stays_as_it_is(database: Database) -> None:
    ensure(database, "main")
    pin(database, "main")
    pin(database, "main", key_fingerprint="11111111")
    assert row(database).key_fingerprint == "0a0b0c0d"
    with pytest.raises(errors.ConfigurationError, match="main was bound to another"):
        pin(database, "main", pinned_account_id="umbrella")
    assert row(database).pinned_account_id == "acme"
    assert len(bodies(database)) == 1


def test_of_two_that_bind_a_name_at_once_the_first_one_stands(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    ensure(db, "main")
    values = {"provider": "fireworks", "base_url": "https://api.example.com/inference"}
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            accounts.pin(
                connection,
                row(db).id,
                provider=values["provider"],
                base_url=values["base_url"],
                pinned_account_id="first",
                key_fingerprint="0a0b0c0d",
                reason=None,
                now=NOW_US,
            )
            other = pool.submit(pin, db, "main", **values, pinned_account_id="second")
            lent.wait_for_a_lock(db)
        with pytest.raises(errors.ConfigurationError, match="bound to another"):
            other.result(timeout=30)
    assert row(db).pinned_account_id == "first"


def test_what_was_seen_at_the_account_before_proves_nothing_at_the_accepted_one(
    database: Database,
) -> None:
    keys = ensure(database, "main", "other")
    pin(database, "main")
    admit(database, registration("resp_1"), registration("resp_2", account="other"))
    sets = {one["account_id"]: one["id"] for one in rows(database, tables.label_sets)}
    with database.write() as connection:
        for key in keys.values():
            sightings.save(
                connection,
                key,
                key="k1",
                label_sets=[sets[key]],
                get_seen=True,
                yes_at=None,
                now=NOW_US,
            )
    pin(database, "main", reason="moved", pinned_account_id="umbrella")
    seen = [one["label_set_id"] for one in rows(database, tables.sightings)]
    assert seen == [sets[keys["other"]]]
    assert (row(database).get_seen_key, row(database, "other").get_seen_key) == (None, "k1")


def test_what_was_missed_and_expected_before_counts_no_more_at_the_accepted_one(
    database: Database,
) -> None:
    key = ensure(database, "main")["main"]
    pin(database, "main")
    missed = NotFound(recent="AAAA", expect_absent=100)
    with database.write() as connection:
        accounts.save_not_found(connection, key, missed)
    pin(database, "main")
    assert row(database).not_found == missed
    pin(database, "main", reason="moved", pinned_account_id="umbrella")
    assert row(database).not_found == NotFound()


def test_closing_breakers_deletes_them_all_before_it_writes_a_record(database: Database) -> None:
    """The log's head is locked last, so that nobody waits in a circle for it."""
    ensure(database, "main")
    for breaker in (Breaker.PAYMENT, Breaker.IDENTITY):
        open_breaker(database, breaker)
    texts: list[str] = []
    sa.event.listen(
        database.engine, "before_cursor_execute", lambda *values: texts.append(values[2])
    )
    with database.write() as connection:
        accounts.close_breakers(connection, row(database), Breaker, reason="mended", now=NOW_US)
    written = [text.split()[0] for text in texts if text.startswith(("DELETE", "INSERT"))]
    assert written == sorted(written)
    assert written.count("DELETE") == len(Breaker)


def test_a_changed_key_is_recorded_by_its_fingerprints(database: Database) -> None:
    ensure(database, "main")
    pin(database, "main")
    with database.write() as connection:
        accounts.change_key(connection, row(database), "11111111", now=NOW_US)
    found = row(database)
    assert found.key_fingerprint == "11111111"
    assert found.identity is not None
    body = bodies(database)[-1]
    assert (body["type"], body["from"], body["to"]) == (
        "credential.changed",
        "0a0b0c0d",
        "11111111",
    )


def fingerprint(db: Database, key: str) -> str:
    with db.read() as connection:
        return accounts.fingerprint(connection, Secret(key))


def test_a_key_has_one_fingerprint_in_a_ledger_and_others_elsewhere(
    database: Database, tmp_path: Path
) -> None:
    first = fingerprint(database, "key-one")
    assert re.fullmatch(r"[0-9a-f]{8}", first)
    assert first == fingerprint(database, "key-one")
    assert first != fingerprint(database, "key-two")
    other = ledger_database.open_database(f"sqlite:///{tmp_path / 'other.db'}")
    schema.upgrade(other)
    assert first != fingerprint(other, "key-one")
    other.close()


# Breakers


def open_breaker(db: Database, breaker: Breaker, *, name: str = "main", now: int = NOW_US) -> bool:
    with db.write() as connection:
        return accounts.open_breaker(connection, row(db, name), breaker, "seen", now=now)


def open_breakers(db: Database, name: str | None = None) -> list[OpenBreaker]:
    with db.read() as connection:
        return accounts.open_breakers(connection, name)


def test_a_breaker_opens_once(database: Database) -> None:
    ensure(database, "main")
    assert open_breaker(database, Breaker.PAYMENT)
    assert not open_breaker(database, Breaker.PAYMENT, now=NOW_US + 5)
    assert open_breakers(database) == [
        OpenBreaker(account="main", breaker=Breaker.PAYMENT, opened_at=NOW_US, detail="seen")
    ]
    (body,) = bodies(database)
    assert (body["type"], body["account"], body["breaker"]) == (
        "breaker.opened",
        "main",
        "payment",
    )


def test_two_processes_open_a_breaker_once(postgresql_database: Database) -> None:
    db = postgresql_database
    ensure(db, "main")
    found = row(db)
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            assert accounts.open_breaker(connection, found, Breaker.PAYMENT, "", now=NOW_US)
            other = pool.submit(open_breaker, db, Breaker.PAYMENT)
            lent.wait_for_a_lock(db)
        assert other.result(timeout=30) is False
    assert len(bodies(db)) == 1


def test_breakers_are_listed_by_account_and_time(database: Database) -> None:
    ensure(database, "main", "also")
    open_breaker(database, Breaker.PAYMENT, now=NOW_US + 1)
    open_breaker(database, Breaker.NOT_FOUND)
    open_breaker(database, Breaker.CREDENTIAL)
    open_breaker(database, Breaker.IDENTITY, name="also", now=NOW_US + 2)
    told = [(one.account, one.breaker.value) for one in open_breakers(database)]
    assert told == [
        ("also", "identity"),
        ("main", "credential"),
        ("main", "not_found"),
        ("main", "payment"),
    ]
    assert [one.breaker for one in open_breakers(database, "also")] == [Breaker.IDENTITY]
    assert open_breakers(database, "nobody") == []


@pytest.mark.parametrize("reason", ["mended", None])
def test_closing_names_what_was_open_and_records_only_that(
    database: Database, reason: str | None
) -> None:
    ensure(database, "main", "also")
    open_breaker(database, Breaker.PAYMENT)
    open_breaker(database, Breaker.IDENTITY)
    open_breaker(database, Breaker.PAYMENT, name="also")
    with database.write() as connection:
        closed = accounts.close_breakers(
            connection,
            row(database),
            [Breaker.PAYMENT, Breaker.CREDENTIAL],
            reason=reason,
            now=NOW_US,
        )
    assert closed == [Breaker.PAYMENT]
    left = [(one.account, one.breaker.value) for one in open_breakers(database)]
    assert left == [("also", "payment"), ("main", "identity")]
    told = [body for body in bodies(database) if body["type"] == "breaker.closed"]
    assert [(body["account"], body["breaker"]) for body in told] == [("main", "payment")]
    assert ("reason_sha256" in told[0]) == (reason is not None)
    assert open_breaker(database, Breaker.PAYMENT)
    invariants.check(database)


# What was missed, and when it was looked


def test_what_was_missed_outlives_the_process(database: Database) -> None:
    keys = ensure(database, "main", "other")
    seen = NotFound(recent="AYA", expect_absent=4)
    with database.write() as connection:
        accounts.save_not_found(connection, keys["main"], seen)
        accounts.save_control(connection, keys["main"], "passed", now=NOW_US)
    found = row(database)
    assert (found.not_found, found.control_at, found.control) == (seen, NOW_US, "passed")
    assert row(database, "other").not_found == NotFound()
