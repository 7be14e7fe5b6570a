"""Admission: what registrations become, whatever their order, their shape and their author."""

import hashlib
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper import errors
from sweeper.domain import moment
from sweeper.ledger import admission, registrations, tables
from sweeper.ledger import database as ledger_database
from sweeper.ledger.admission import Counts, Drained
from sweeper.ledger.database import Database
from tests.support.registered import (
    DAY,
    NOW,
    NOW_US,
    admit,
    by_id,
    edges,
    registration,
    rows,
)

MINUTE = timedelta(minutes=1)


def live_counts(db: Database) -> dict[str, int]:
    return {row["labels"]: row["live_count"] for row in rows(db, tables.label_sets)}


def records(db: Database, kind: str) -> list[dict[str, Any]]:
    found = (json.loads(row["body"]) for row in rows(db, tables.records))
    return [record for record in found if record["type"] == kind]


def put(db: Database, response_id: str, **values: object) -> None:
    """Bring a response into another state, as a sweep would."""
    with db.write() as connection:
        connection.execute(
            sa.update(tables.responses)
            .where(tables.responses.c.response_id == response_id)
            .values(**values)
        )


def drain(db: Database, **options: Any) -> Drained:
    with db.write() as connection:
        return admission.drain(connection, now=NOW_US, **options)


def append(db: Database, **row: object) -> None:
    """Write a registration as anybody with access to the database could."""
    with db.write() as connection:
        connection.execute(sa.insert(tables.registrations).values(**row))


GOOD: dict[str, Any] = {
    "account": "main",
    "response_id": "resp_good",
    "created_at": NOW_US - 1,
    "labels": "{}",
}


# What is new


def test_a_registered_response_is_live_and_counted(database: Database) -> None:
    new = registration(
        "resp_1", age=3 * DAY, labels={"app": "chat"}, subject="ü 👋", previous="resp_0"
    )
    assert admit(database, new) == Counts(added_at={"main": 1})
    row = by_id(database)["resp_1"]
    assert row["state"] == "live"
    assert row["created_at"] == row["first_created_at"] == moment.to_us(new.created_at)
    assert row["registered_at"] == NOW_US
    assert row["subject"] == "ü 👋"
    assert row["previous_response_id"] == "resp_0"
    assert row["parent_id"] is None
    assert live_counts(database) == {'{"app":"chat"}': 1}
    (account,) = rows(database, tables.accounts)
    assert account["name"] == "main"


def test_one_record_tells_of_a_whole_batch_without_naming_a_response(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}", labels={"n": str(n)}) for n in range(30)))
    found = rows(database)
    (record,) = records(database, "item.registered")
    items = "\n".join(sorted(row["item"] for row in found))
    assert record["count"] == 30
    assert record["items_sha256"] == hashlib.sha256(items.encode()).hexdigest()
    assert {row["registered_seq"] for row in found} == {record["seq"]}
    assert not any("resp_" in row["body"] for row in rows(database, tables.records))


def test_every_item_and_salt_is_its_own(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(50)))
    found = rows(database)
    assert len({row["item"] for row in found}) == len({row["salt"] for row in found}) == 50
    assert {len(row["item"]) for row in found} == {32}
    assert {len(row["salt"]) for row in found} == {64}


def test_nothing_is_written_for_an_empty_batch(database: Database) -> None:
    assert admit(database) == Counts()
    assert records(database, "item.registered") == []


def test_one_id_in_two_accounts_is_two_responses(database: Database) -> None:
    counts = admit(database, registration("resp_1"), registration("resp_1", account="other"))
    assert counts == Counts(added_at={"main": 1, "other": 1})
    assert len(rows(database)) == 2


def test_keys_grow_with_every_batch(database: Database) -> None:
    admit(database, registration("resp_9"), registration("resp_8"))
    before = max(row["id"] for row in rows(database))
    admit(database, registration("resp_1"))
    assert by_id(database)["resp_1"]["id"] > before


def test_a_batch_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            admission.admit(connection, [registration("resp_1")], NOW_US)
            raise errors.AccountStopped

    with pytest.raises(errors.AccountStopped):
        fail()
    assert rows(database) == []
    assert rows(database, tables.label_sets) == []
    assert records(database, "item.registered") == []


# What is known


def test_registering_again_is_known_and_changes_nothing(database: Database) -> None:
    again = registration("resp_1", labels={"app": "chat"}, subject="u-1", previous="resp_0")
    admit(database, again)
    before = rows(database), rows(database, tables.records), live_counts(database)
    assert admit(database, again, again) == Counts(known=2)
    assert (rows(database), rows(database, tables.records), live_counts(database)) == before


def test_of_two_times_within_ten_minutes_the_later_stands(database: Database) -> None:
    admit(database, registration("resp_1", age=DAY))
    assert admit(database, registration("resp_1", age=DAY - 10 * MINUTE)) == Counts(known=1)
    row = by_id(database)["resp_1"]
    assert row["created_at"] == moment.to_us(NOW - DAY + 10 * MINUTE)
    assert row["first_created_at"] == moment.to_us(NOW - DAY)
    assert admit(database, registration("resp_1", age=DAY + 10 * MINUTE)) == Counts(known=1)
    assert by_id(database)["resp_1"]["created_at"] == moment.to_us(NOW - DAY + 10 * MINUTE)


def test_the_ten_minutes_count_from_the_time_first_registered(database: Database) -> None:
    admit(database, registration("resp_1", age=DAY))
    admit(database, registration("resp_1", age=DAY - 10 * MINUTE))
    counts = admit(database, registration("resp_1", age=DAY - 11 * MINUTE))
    assert [index for index, _ in counts.rejected] == [0]
    assert by_id(database)["resp_1"]["state"] == "quarantined"


def test_what_was_missing_completes_a_response(database: Database) -> None:
    admit(database, registration("resp_0"), registration("resp_1"))
    completed = registration("resp_1", subject="u-1", previous="resp_0")
    assert admit(database, completed) == Counts(completed=1)
    row = by_id(database)["resp_1"]
    assert row["subject"] == "u-1"
    assert edges(database) == {"resp_1": "resp_0"}
    assert admit(database, completed) == Counts(known=1)


CONFLICTS = [
    registration("resp_1", age=2 * DAY, subject="u-1", previous="resp_0"),
    registration("resp_1", labels={"app": "other"}, subject="u-1", previous="resp_0"),
    registration("resp_1", subject="u-2", previous="resp_0"),
    registration("resp_1", subject="u-1", previous="resp_9"),
]


@pytest.mark.parametrize("other", CONFLICTS, ids=["time", "labels", "subject", "previous"])
def test_what_conflicts_is_rejected_and_sets_the_response_aside(
    database: Database, other: Any
) -> None:
    admit(database, registration("resp_1", subject="u-1", previous="resp_0"))
    before = by_id(database)["resp_1"]
    counts = admit(database, registration("resp_2"), other)
    assert counts.added == 1
    ((index, reason),) = counts.rejected
    assert index == 1
    assert reason.startswith("conflicting: ")
    after = by_id(database)["resp_1"]
    assert after == {**before, "state": "quarantined", "quarantine_reason": "conflicting"}
    assert live_counts(database)["{}"] == 1
    (record,) = records(database, "item.quarantined")
    assert (record["item"], record["reason"]) == (before["item"], "conflicting")


def test_a_second_conflict_is_rejected_too_but_recorded_once(database: Database) -> None:
    admit(database, registration("resp_1", subject="u-1"))
    for _ in range(2):
        counts = admit(database, registration("resp_1", subject="u-2"))
        assert len(counts.rejected) == 1
    assert live_counts(database) == {"{}": 0}
    assert len(records(database, "item.quarantined")) == 1


@pytest.mark.parametrize("state", ["claimed", "verifying"])
def test_a_conflict_over_a_response_on_loan_waits_for_its_settlement(
    database: Database, state: str
) -> None:
    admit(database, registration("resp_1", subject="u-1"))
    put(database, "resp_1", state=state, token="t", yes_at=1, claims=1, attempts=1)
    admit(database, registration("resp_1", subject="u-2"))
    row = by_id(database)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == (state, "conflicting")
    assert live_counts(database) == {"{}": 1}


def test_a_conflict_over_a_response_that_is_gone_brings_nothing_back(database: Database) -> None:
    admit(database, registration("resp_1", subject="u-1"))
    put(database, "resp_1", state="gone", outcome="closed", finished_at=1)
    before = rows(database)
    assert len(admit(database, registration("resp_1", subject="u-2")).rejected) == 1
    assert rows(database) == before
    assert records(database, "item.quarantined") == []


def test_within_one_batch_the_same_rules_hold(database: Database) -> None:
    counts = admit(
        database,
        registration("resp_1"),
        registration("resp_1"),
        registration("resp_1", subject="u-1"),
        registration("resp_1", subject="u-2"),
        registration("resp_2"),
    )
    assert (counts.added, counts.known, counts.completed) == (2, 1, 1)
    assert [index for index, _ in counts.rejected] == [3]
    row = by_id(database)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", "conflicting")
    assert row["subject"] == "u-1"
    assert live_counts(database) == {"{}": 1}
    assert [one["item"] for one in records(database, "item.quarantined")] == [row["item"]]


@pytest.mark.parametrize("other", CONFLICTS[:2], ids=["time", "labels"])
def test_what_conflicts_within_its_own_first_batch_is_never_live(
    database: Database, other: Any
) -> None:
    """Nothing else stands out about such a row: neither a subject nor a previous response."""
    counts = admit(database, registration("resp_1"), other, registration("resp_2"))
    assert [index for index, _ in counts.rejected] == [1]
    row = by_id(database)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", "conflicting")
    assert live_counts(database)["{}"] == 1


# Links


def test_a_response_links_to_the_one_it_continues(database: Database) -> None:
    admit(database, registration("resp_1"))
    admit(database, registration("resp_2", previous="resp_1"))
    assert edges(database) == {"resp_2": "resp_1"}


def test_a_response_links_when_the_one_it_continues_comes_later(database: Database) -> None:
    admit(database, registration("resp_2", previous="resp_1"))
    admit(database, registration("resp_3", previous="resp_1"))
    assert edges(database) == {}
    admit(database, registration("resp_1"))
    assert edges(database) == {"resp_2": "resp_1", "resp_3": "resp_1"}


def test_a_response_never_links_into_another_account(database: Database) -> None:
    admit(
        database,
        registration("resp_1", account="other"),
        registration("resp_2", previous="resp_1"),
    )
    assert edges(database) == {}


def test_a_response_that_waits_is_not_linked_to_its_namesake_elsewhere(database: Database) -> None:
    admit(database, registration("resp_2", previous="resp_1"))
    admit(database, registration("resp_1", account="other"))
    assert edges(database) == {}
    admit(database, registration("resp_1"))
    assert len(edges(database)) == 1


def test_a_response_set_aside_for_a_conflict_still_holds_its_place(database: Database) -> None:
    admit(database, registration("resp_1", subject="u-1"))
    admit(database, registration("resp_1", subject="u-2"))
    admit(database, registration("resp_2", previous="resp_1"))
    assert edges(database) == {"resp_2": "resp_1"}


def test_a_response_is_never_linked_to_itself(database: Database) -> None:
    assert admit(database, registration("resp_1", previous="resp_1")).added == 1
    assert edges(database) == {}
    assert by_id(database)["resp_1"]["previous_response_id"] == "resp_1"
    assert len(records(database, "link.dropped")) == 1


@pytest.mark.parametrize("length", [2, 3, 25])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_the_link_that_would_close_a_circle_is_dropped_and_recorded(
    database: Database, length: int, size: int
) -> None:
    circle = [registration(f"resp_{n}", previous=f"resp_{(n + 1) % length}") for n in range(length)]
    random.Random(length * size).shuffle(circle)
    for start in range(0, length, size):
        admit(database, *circle[start : start + size])
    assert len(edges(database)) == length - 1
    (record,) = records(database, "link.dropped")
    items = {row["item"]: row for row in rows(database)}
    child = items[record["item"]]
    assert child["parent_id"] is None
    assert child["previous_response_id"] == items[record["previous"]]["response_id"]


def test_a_link_that_was_dropped_is_not_tried_again(database: Database) -> None:
    circle = [registration("resp_1", previous="resp_2"), registration("resp_2", previous="resp_1")]
    admit(database, *circle)
    before = edges(database)
    assert admit(database, *circle) == Counts(known=2)
    assert edges(database) == before
    assert len(records(database, "link.dropped")) == 1


def test_completing_a_chain_into_a_circle_is_dropped(database: Database) -> None:
    admit(
        database,
        registration("resp_1"),
        registration("resp_2", previous="resp_1"),
        registration("resp_3", previous="resp_2"),
    )
    assert admit(database, registration("resp_1", previous="resp_3")) == Counts(completed=1)
    assert edges(database) == {"resp_2": "resp_1", "resp_3": "resp_2"}
    assert len(records(database, "link.dropped")) == 1


def test_a_circle_that_somebody_wrote_into_the_table_stops_nothing(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    keys = {name: row["id"] for name, row in by_id(database).items()}
    put(database, "resp_1", parent_id=keys["resp_2"])
    put(database, "resp_2", parent_id=keys["resp_1"])
    admit(database, registration("resp_4", previous="resp_3"))
    admit(database, registration("resp_3", previous="resp_1"))
    assert edges(database)["resp_3"] == "resp_1"
    assert edges(database)["resp_4"] == "resp_3"


@pytest.mark.parametrize("size", [400, 5000])
def test_a_chain_of_ten_thousand_is_linked_in_whatever_order_it_comes(
    database: Database, size: int
) -> None:
    chain = [
        registration(f"resp_{n}", previous=None if n == 0 else f"resp_{n - 1}")
        for n in range(10_000)
    ]
    random.Random(7).shuffle(chain)
    for start in range(0, len(chain), size):
        admit(database, *chain[start : start + size])
    assert edges(database) == {f"resp_{n}": f"resp_{n - 1}" for n in range(1, 10_000)}
    assert records(database, "link.dropped") == []


def test_many_forks_of_a_long_chain_are_linked_at_once(sqlite_database: Database) -> None:
    admit(sqlite_database, *(registration(f"a_{n}", previous=f"a_{n - 1}") for n in range(4000)))
    admit(
        sqlite_database,
        *(registration(f"b_{n}", previous=f"a_{n}") for n in range(4000)),
        *(registration(f"c_{n}", previous=f"b_{n}") for n in range(4000)),
    )
    found = edges(sqlite_database)
    assert len(found) == 3999 + 4000 + 4000


class Model:
    """The rules of linking, written as plainly as possible: every walk goes all the way."""

    def __init__(self) -> None:
        self.previous: dict[str, str] = {}
        self.known: set[str] = set()

    def register(self, own: str, previous: str | None) -> None:
        self.known.add(own)
        if previous is not None:
            self.previous.setdefault(own, previous)

    def check(self, made: dict[str, str]) -> None:
        for child, parent in made.items():
            assert self.previous[child] == parent
        for own in self.known:
            assert own not in self.above(made, own), "a circle"
        for child, parent in self.previous.items():
            if child not in made and parent in self.known:
                assert child in (parent, *self.above(made, parent)), "a link is missing"

    def above(self, made: dict[str, str], own: str) -> list[str]:
        found: list[str] = []
        while own in made and made[own] not in found:
            own = made[own]
            found.append(own)
        return found


NAMES = st.integers(0, 7).map(lambda n: f"resp_{n}")
BATCHES = st.lists(
    st.lists(st.tuples(NAMES, st.none() | NAMES), min_size=1, max_size=8), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def scratch(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("scratch") / "ledger.db"
    path.write_bytes(sqlite_template.read_bytes())
    db = ledger_database.open_database(f"sqlite:///{path}")
    yield db
    db.close()


@contextmanager
def rolled_back(db: Database) -> Iterator[sa.Connection]:
    """One transaction of which nothing stays."""
    with db.engine.connect() as connection:
        yield connection
        connection.rollback()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=BATCHES)
def test_links_never_form_a_circle_and_none_is_missing(
    scratch: Database, batches: list[list[tuple[str, str | None]]]
) -> None:
    model, dropped = Model(), 0
    with rolled_back(scratch) as connection:
        for batch in batches:
            for own, previous in batch:
                model.register(own, previous)
            admission.admit(
                connection,
                [registration(own, previous=previous) for own, previous in batch],
                NOW_US,
            )
            made = linked(connection)
            model.check(made)
            dropped = sum(
                parent in model.known and child not in made
                for child, parent in model.previous.items()
            )
        kinds = connection.execute(
            sa.select(tables.records.c.type).where(tables.records.c.type == "link.dropped")
        ).all()
        assert len(kinds) == dropped


def linked(connection: sa.Connection) -> dict[str, str]:
    child, parent = tables.responses, tables.responses.alias("parent")
    found = connection.execute(
        sa.select(child.c.response_id, parent.c.response_id).where(child.c.parent_id == parent.c.id)
    )
    return {row[0]: row[1] for row in found}


# Draining


def test_draining_admits_what_was_registered_and_takes_it_out(database: Database) -> None:
    batch = [registration(f"resp_{n}", labels={"app": "ü"}, subject="s") for n in range(5)]
    with database.write() as connection:
        registrations.append(connection, batch, NOW_US)
    assert drain(database) == Drained(counts=Counts(added_at={"main": 5}), left=False)
    assert rows(database, tables.registrations) == []
    assert len(rows(database)) == 5
    assert live_counts(database) == {'{"app":"ü"}': 5}
    assert drain(database) == Drained(counts=Counts(), left=False)


def test_draining_takes_a_page_at_a_time_and_says_when_more_is_left(database: Database) -> None:
    with database.write() as connection:
        registrations.append(connection, [registration(f"resp_{n}") for n in range(5)], NOW_US)
    assert drain(database, limit=2).left
    assert drain(database, limit=2).left
    assert drain(database, limit=2) == Drained(counts=Counts(added_at={"main": 1}), left=False)


def test_a_time_too_far_ahead_is_set_aside_unless_the_clock_is_in_doubt(
    database: Database,
) -> None:
    ahead = NOW_US + 2 * 86_400_000_000
    append(database, **{**GOOD, "response_id": "resp_1", "created_at": ahead})
    drain(database)
    assert by_id(database)["resp_1"]["quarantine_reason"] == "malformed:bad_created_at"
    append(database, **{**GOOD, "response_id": "resp_2", "created_at": ahead})
    drain(database, judge_time=False)
    assert by_id(database)["resp_2"]["state"] == "live"


def test_a_longer_id_is_taken_where_the_profile_allows_it(database: Database) -> None:
    for long in ("a" * 200, "b" * 200):
        append(database, **{**GOOD, "response_id": long})
        drain(database, longest=(lambda _: 1024) if long[0] == "a" else None)
    assert by_id(database)["a" * 200]["state"] == "live"
    assert by_id(database)["b" * 200]["quarantine_reason"] == "malformed:bad_id"


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": (dict.fromkeys(GOOD), "bad_account"),
    "no account": ({"account": None}, "bad_account"),
    "account with a space": ({"account": "a b"}, "bad_account"),
    "the reserved account": ({"account": "(invalid)"}, "bad_account"),
    "huge account": ({"account": "a" * 100_000}, "bad_account"),
    "no id": ({"response_id": None}, "bad_id"),
    "empty id": ({"response_id": ""}, "bad_id"),
    "path": ({"response_id": "../files/x"}, "bad_id"),
    "fragment": ({"response_id": "resp_1#f"}, "bad_id"),
    "newline": ({"response_id": "resp_1\n"}, "bad_id"),
    "escape": ({"response_id": "\x1b[2Jresp"}, "bad_id"),
    "other digits": ({"response_id": "resp_\u0661"}, "bad_id"),
    "huge id": ({"response_id": "a" * 10_000_000}, "bad_id"),
    "no time": ({"created_at": None}, "bad_created_at"),
    "negative time": ({"created_at": -1}, "bad_created_at"),
    "seconds": ({"created_at": NOW_US // 1_000_000}, "bad_created_at"),
    "most": ({"created_at": 2**63 - 1}, "bad_created_at"),
    "least": ({"created_at": -(2**63)}, "bad_created_at"),
    "no labels": ({"labels": None}, "bad_labels"),
    "no JSON": ({"labels": "{"}, "bad_labels"),
    "a list": ({"labels": "[]"}, "bad_labels"),
    "numbers": ({"labels": '{"a":1}'}, "bad_labels"),
    "deep": ({"labels": "[" * 50_000}, "bad_labels"),
    "huge labels": ({"labels": " " * 10_000_000 + "{}"}, "bad_labels"),
    "empty subject": ({"subject": ""}, "bad_subject"),
    "subject of lines": ({"subject": "a\nb"}, "bad_subject"),
    "bad previous": ({"previous_response_id": "../x"}, "bad_previous"),
    "itself": ({"previous_response_id": "resp_good"}, "bad_previous"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_breaks_the_rules_is_set_aside_and_stops_no_other(
    database: Database, name: str
) -> None:
    changed, reason = HOSTILE[name]
    append(database, **{**GOOD, "response_id": "resp_before"})
    append(database, **{**GOOD, **changed})
    append(database, **{**GOOD, "response_id": "resp_after"})
    drained = drain(database)
    assert drained.counts.added == 2
    ((index, why),) = drained.counts.rejected
    assert index == 1
    assert why.startswith(f"{reason}: ")
    found = by_id(database)
    assert found.pop("resp_before")["state"] == found.pop("resp_after")["state"] == "live"
    ((own, row),) = found.items()
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", f"malformed:{reason}")
    assert row["parent_id"] is row["previous_response_id"] is row["first_created_at"] is None
    assert 0 < len(own) <= 200
    assert own.isascii()
    assert own.isprintable()
    assert live_counts(database) == {"{}": 2} or reason == "bad_account"
    assert [one["reason"] for one in records(database, "item.quarantined")] == [
        f"malformed:{reason}"
    ]
    (record,) = records(database, "item.registered")
    assert record["count"] == 3
    assert rows(database, tables.registrations) == []


@pytest.mark.parametrize("column", ["account", "response_id", "labels", "subject"])
@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80", b"\xff" * 200_000],
    ids=["no UTF-8", "NUL", "surrogate", "huge"],
)
def test_bytes_that_are_no_text_are_set_aside(
    sqlite_database: Database, column: str, text: bytes
) -> None:
    append(sqlite_database, **{**GOOD, "response_id": "resp_before"})
    assert sqlite_database.path is not None
    with closing(sqlite3.connect(sqlite_database.path)) as raw, raw:
        values = {**GOOD, "subject": None, column: text}
        raw.execute(
            "INSERT INTO registrations (account, response_id, created_at, labels, subject) VALUES"
            " (CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), CAST(? AS TEXT))",
            [values[key] for key in ("account", "response_id", "created_at", "labels", "subject")],
        )
    append(sqlite_database, **{**GOOD, "response_id": "resp_after"})
    drained = drain(sqlite_database)
    assert drained.counts.added == 2
    assert len(drained.counts.rejected) == 1
    states = Counter(row["state"] for row in rows(sqlite_database))
    assert states == {"live": 2, "quarantined": 1}


def test_a_broken_row_that_names_a_known_response_sets_that_aside(database: Database) -> None:
    admit(database, registration("resp_good"))
    append(database, **{**GOOD, "labels": "no"})
    assert len(drain(database).counts.rejected) == 1
    (row,) = rows(database)
    assert (row["state"], row["quarantine_reason"]) == ("quarantined", "conflicting")
    assert live_counts(database) == {"{}": 0}


def test_a_good_row_for_a_response_set_aside_as_broken_is_rejected(database: Database) -> None:
    append(database, **{**GOOD, "labels": "no"})
    append(database, **GOOD)
    assert [index for index, _ in drain(database).counts.rejected] == [0, 1]
    append(database, **GOOD)
    assert len(drain(database).counts.rejected) == 1
    (row,) = rows(database)
    assert row["quarantine_reason"] == "malformed:bad_labels"
    assert row["created_at"] == GOOD["created_at"]


def test_the_same_broken_row_twice_is_one_row_aside_and_others_are_their_own(
    database: Database,
) -> None:
    for subject in ("a", "a", "b"):
        append(database, **{**GOOD, "response_id": None, "subject": subject})
    assert len(drain(database).counts.rejected) == 3
    append(database, **{**GOOD, "response_id": None, "subject": "a"})
    drain(database)
    assert len(rows(database)) == 2


def test_nothing_links_to_a_broken_row_or_from_it(database: Database) -> None:
    append(database, **{**GOOD, "response_id": "resp_1", "labels": "no"})
    append(
        database,
        **{**GOOD, "response_id": "resp_2", "labels": "no", "previous_response_id": "resp_3"},
    )
    append(database, **{**GOOD, "response_id": "resp_3", "previous_response_id": "resp_1"})
    drain(database)
    append(database, **{**GOOD, "response_id": "resp_4", "previous_response_id": "resp_2"})
    drain(database)
    assert edges(database) == {}


def test_no_number_of_accounts_and_labels_makes_a_batch_too_large_to_record(
    database: Database,
) -> None:
    batch = [
        registration(f"resp_{n}", account=f"account-{n:058}", labels={"tenant": str(n)})
        for n in range(1000)
    ]
    assert admit(database, *batch).added == 1000
    assert len(rows(database, tables.label_sets)) == 1000


TEXTS = st.none() | st.text(max_size=20) | st.sampled_from(["main", "resp_1", "resp_2", "{}"])
ROWS = st.fixed_dictionaries(
    {
        "account": TEXTS,
        "response_id": TEXTS,
        "created_at": st.none()
        | st.integers(-(2**63), 2**63 - 1)
        | st.integers(NOW_US - 10**9, NOW_US),
        "labels": TEXTS,
        "subject": TEXTS,
        "previous_response_id": TEXTS,
    }
)


@settings(max_examples=150, deadline=None)
@given(batch=st.lists(ROWS, max_size=8))
def test_whatever_is_registered_is_live_or_set_aside_and_every_count_is_true(
    scratch: Database, batch: Sequence[dict[str, Any]]
) -> None:
    with rolled_back(scratch) as connection:
        if batch:
            connection.execute(sa.insert(tables.registrations), batch)
        counts = admission.drain(connection, now=NOW_US).counts
        assert counts.added + counts.known + counts.completed + len(counts.rejected) == len(batch)
        assert registrations.waiting(connection) == 0
        live = connection.execute(
            sa.select(sa.func.count()).where(tables.responses.c.state == "live")
        ).scalar_one()
        kept = connection.execute(sa.select(sa.func.sum(tables.label_sets.c.live_count)))
        assert (kept.scalar_one() or 0) == live


# Several at once


def test_two_that_drain_at_once_admit_every_registration_once(database: Database) -> None:
    with database.write() as connection:
        registrations.append(connection, [registration(f"resp_{n}") for n in range(400)], NOW_US)

    def work() -> int:
        added, left = 0, True
        while left:
            drained = drain(database, limit=20)
            added, left = added + drained.counts.added, drained.left
        return added

    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(work) for _ in range(3)]
        assert sum(one.result() for one in done) == 400
    assert live_counts(database) == {"{}": 400}
    assert len(rows(database)) == 400


def test_a_conflict_judges_the_state_that_a_settlement_leaves(
    postgresql_database: Database,
) -> None:
    db = postgresql_database
    admit(db, registration("resp_1", subject="u-1"))
    put(db, "resp_1", state="claimed", token="t", claims=1, attempts=1)
    with ThreadPoolExecutor(1) as pool:
        with db.write() as settling:
            settling.execute(
                sa.update(tables.responses).values(
                    state="gone", token=None, outcome="closed", finished_at=1
                )
            )
            admitting = pool.submit(admit, db, registration("resp_1", subject="u-2"))
            wait_for_a_lock(db)
        admitting.result(30)
    row = by_id(db)["resp_1"]
    assert (row["state"], row["quarantine_reason"]) == ("gone", None)
    assert records(db, "item.quarantined") == []


def wait_for_a_lock(db: Database) -> None:
    """Return when another transaction waits for a row that this one holds."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while True:
        with db.read() as connection:
            if connection.exec_driver_sql(waiting).scalar_one():
                return
