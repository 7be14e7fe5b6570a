"""Sightings: what a key has seen, and what is best looked for with it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.ledger import sightings, tables
from sweeper.ledger.database import Database
from tests.support import explained, lent
from tests.support.lent import only, put, settle, settled, take
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration, rows

HOUR = timedelta(hours=1)


def sets(db: Database) -> dict[str, int]:
    return {row["labels"]: row["id"] for row in rows(db, tables.label_sets)}


def save(db: Database, label_sets: Iterable[int] = (), **given: Any) -> None:
    values: dict[str, Any] = {"key": "k1", "get_seen": False, "yes_at": None, "now": NOW_US}
    account = lent.account_id(db)
    with db.write() as connection:
        sightings.save(connection, account, label_sets=label_sets, **(values | given))


def seen(db: Database, key: str = "k1", account: str = "main") -> set[int]:
    with db.read() as connection:
        return sightings.label_sets_seen(connection, lent.account_id(db, account), key)


def main(db: Database) -> dict[str, Any]:
    return next(row for row in rows(db, tables.accounts) if row["name"] == "main")


def test_a_key_remembers_what_it_has_seen_and_no_other_key_does(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", labels={"a": "b"}))
    one, two = sets(database).values()
    save(database, [one])
    save(database, [one, two, two], now=NOW_US + 1)
    assert seen(database) == {one, two}
    assert seen(database, "k2") == set()
    save(database, [one], key="k2")
    assert seen(database, "k2") == {one}
    assert [row["seen_at"] for row in rows(database, tables.sightings)] == [
        NOW_US,
        NOW_US,
        NOW_US + 1,
    ]


def test_an_account_sees_its_own_label_sets_only(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", account="other"))
    save(database, [by_id(database)["resp_1"]["label_set_id"]])
    assert seen(database, account="other") == set()


def test_a_get_and_a_yes_are_kept_until_there_is_news(database: Database) -> None:
    admit(database, registration("resp_1"))
    save(database)
    assert (main(database)["get_seen_key"], main(database)["last_yes_at"]) == (None, None)
    save(database, get_seen=True, yes_at=5)
    save(database, key="k2", yes_at=None)
    assert (main(database)["get_seen_key"], main(database)["last_yes_at"]) == ("k1", 5)
    save(database, key="k2", get_seen=True)
    assert (main(database)["get_seen_key"], main(database)["last_yes_at"]) == ("k2", 5)


def test_two_processes_may_see_the_same_at_once(postgresql_database: Database) -> None:
    db = postgresql_database
    admit(db, registration("resp_1"))
    (label_set,) = sets(db).values()
    with ThreadPoolExecutor(1) as pool:
        with db.write() as connection:
            sightings.save(
                connection,
                lent.account_id(db),
                key="k1",
                label_sets=[label_set],
                get_seen=False,
                yes_at=None,
                now=NOW_US,
            )
            other = pool.submit(save, db, [label_set])
            lent.wait_for_a_lock(db)
        other.result(timeout=30)
    assert seen(db) == {label_set}


def newest(db: Database, most: int, *cuts: tuple[int, int]) -> list[str]:
    with db.read() as connection:
        return [name for name, _ in sightings.newest(connection, cuts, most)]


def newest_live(db: Database, most: int) -> list[tuple[str, int]]:
    with db.read() as connection:
        return list(sightings.newest_live(connection, lent.account_id(db), most))


def test_the_newest_of_what_is_due_are_looked_for_first(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}", age=DAY + n * HOUR) for n in range(5)))
    admit(database, registration("resp_b", labels={"app": "b"}))
    put(database, "resp_2", state="gone", outcome="closed", finished_at=1)
    one, two = sets(database)["{}"], sets(database)['{"app":"b"}']
    cutoff = moment.to_us(NOW - DAY - HOUR)
    assert newest(database, 9, (one, cutoff)) == ["resp_1", "resp_3", "resp_4"]
    assert newest(database, 2, (one, cutoff), (two, lent.EVERY)) == ["resp_1", "resp_3"]
    assert newest(database, 4, (one, cutoff), (two, lent.EVERY))[-1] == "resp_b"
    assert newest(database, 9) == []


def test_the_largest_label_sets_are_looked_at_first(database: Database) -> None:
    admit(database, registration("resp_a", labels={"app": "a"}))
    admit(database, *(registration(f"resp_b{n}", labels={"app": "b"}) for n in range(3)))
    admit(database, registration("resp_o", account="other"))
    admit(database, registration("resp_c", labels={"app": "c"}))
    settle(database, [settled(only(take(database, "resp_c")), lent.DELETED)])
    names = [name for name, _ in newest_live(database, 5)]
    assert names == ["resp_b2", "resp_b1", "resp_b0", "resp_a"]
    assert newest_live(database, 1) == [("resp_b2", by_id(database)["resp_b2"]["label_set_id"])]


def test_the_newest_living_ones_of_one_label_set_are_found(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}", age=DAY - n * HOUR) for n in range(5)))
    admit(database, registration("resp_b", labels={"app": "b"}))
    take(database, "resp_4")
    with database.read() as connection:
        found = sightings.newest_of(connection, sets(database)["{}"], 2)
    assert [name for name, _ in found] == ["resp_3", "resp_2"]


def absent(db: Database, most: int = 100) -> list[str]:
    with db.read() as connection:
        return list(sightings.absent_since_yes(connection, lent.account_id(db), most))


def test_absences_since_the_last_yes_are_named_in_their_order(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(6)))
    admit(database, registration("resp_9", account="other"))

    def settled_at(name: str, at: int, outcome: Outcome, account: str = "main") -> None:
        claim = take(database, name, now=1, account=account)
        settle(database, [settled(only(claim), lent.absent(outcome), at=at)])

    settled_at("resp_0", 50, Outcome.ALREADY_ABSENT)
    settled_at("resp_1", 130, Outcome.ALREADY_ABSENT)
    settled_at("resp_2", 120, Outcome.ALREADY_ABSENT)
    settled_at("resp_3", 120, Outcome.EXPIRED_BY_PROVIDER)
    settled_at("resp_4", 100, Outcome.ALREADY_ABSENT)
    settled_at("resp_9", 120, Outcome.ALREADY_ABSENT, "other")
    assert absent(database) == ["resp_0", "resp_4", "resp_2", "resp_1"]
    save(database, yes_at=100)
    assert absent(database) == ["resp_4", "resp_2", "resp_1"]
    assert absent(database, 1) == ["resp_4"]


def test_what_was_claimed_before_the_yes_and_settled_after_it_is_named(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    first, second = take(database, "resp_1", "resp_2", now=10)
    settle(database, [settled(first, lent.DELETED, at=20)])
    save(database, yes_at=20)
    settle(database, [settled(second, lent.absent(Outcome.ALREADY_ABSENT), at=30)])
    assert absent(database) == ["resp_2"]


def test_absences_are_found_by_an_index_of_their_own(sqlite_database: Database) -> None:
    admit(sqlite_database, registration("resp_1"))
    with explained.statements(sqlite_database) as steps:
        absent(sqlite_database)
    assert [step for step in steps if "ix_responses_already_absent" in step]
    assert not [step for step in steps if step == "SCAN responses" or "TEMP B-TREE" in step]
