"""Whatever somebody writes straight into the database, no row stops a sweep or has one sent."""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event, moment
from sweeper.domain.outcome import Outcome
from sweeper.ledger import accounts, invariants, tables
from sweeper.ledger.database import Database
from tests.support import lent, registered
from tests.support.command import Run
from tests.support.rehearsal import Rehearsal
from tests.support.sweeping import DAY, Site

NOW: Final = moment.to_us(datetime.now(UTC))
HUGE, LEAST, MOST = 2**31 - 1, -(2**63), 2**63 - 1

TIMES: Final = (
    0,
    1,
    -1,
    LEAST,
    NOW // 1000,
    NOW // 1_000_000,
    moment.to_us(datetime(2019, 12, 31, tzinfo=UTC)),
)
"""No time, times before 1970, this moment in other units: by their number all are long past."""
TEXTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "item": ("", "x" * 100_000, "\x1b[2J\n", "É" * 32, "0" * 33),
    "salt": (None, "", "zz", "abc", "x" * 100_000),
}
NUMBERS: Final[Mapping[str, tuple[Any, ...]]] = {
    "registered_at": (LEAST, MOST),
    "failures": (-5, HUGE),
    "ambiguous": (-7, HUGE),
    "first_attempt_at": (LEAST, MOST),
    "yes_at": (LEAST, MOST),
    "record_seq": (-1, 2**53, MOST),
}
OF_A_YES: Final[Mapping[str, tuple[Any, ...]]] = {
    "created_at": (MOST, *TIMES),
    "last_attempt_at": (LEAST, MOST),
    "yes_date": (LEAST, MOST),
    "due_at": (LEAST, MOST),
    "deadline_at": (LEAST, MOST),
    "policy": ("x" * 100_000,),
    "policies_sha256": ("x" * 100_000,),
    "yes_key": ("x" * 100_000,),
    "yes_request_id": ("x" * 100_000,),
}
IDS: Final = (
    "",
    "../files/x",
    "a#b",
    "a?b",
    "resp_1\n",
    "\x1b[2J",
    "é",
    "a" * 1025,
    "a" * 100_000,
)


def spread(table: Mapping[str, tuple[Any, ...]]) -> list[tuple[str, Any]]:
    return [(column, value) for column, values in table.items() for value in values]


def spoil(site: Site, cases: list[tuple[str, Any]], **also: object) -> list[int]:
    """Store one response for each case, and write what is wrong into its row; their keys."""
    names = site.store(len(cases))
    known = site.rows
    keys: list[int] = [known[name]["id"] for name in names]
    for key, (column, value) in zip(keys, cases, strict=True):
        wrong(site.db, key, **{**also, column: value})
    return keys


def wrong(db: Database, key: int, **values: object) -> None:
    """Write values straight into one response's row."""
    with db.write() as connection:
        connection.execute(
            sa.update(tables.responses).where(tables.responses.c.id == key).values(values)
        )


def by_key(site: Site) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in registered.rows(site.db)}


def asked_for(site: Site) -> set[str]:
    """Every id that stood in any request."""
    return {*site.deleted(), *site.looked_for()}


@pytest.mark.parametrize(
    "table, reason",
    [
        ({"created_at": TIMES}, "malformed:bad_created_at"),
        ({**TEXTS, **NUMBERS}, "malformed:bad_row"),
        ({"response_id": IDS}, "malformed:bad_id"),
    ],
    ids=["time", "row", "id"],
)
async def test_a_row_that_is_due_by_mistake_is_set_aside_and_never_sent(
    either: Site, table: Mapping[str, tuple[Any, ...]], reason: str
) -> None:
    good = either.store(3)
    cases = spread(table)
    bad = spoil(either, cases)
    ended = await either.sweep(checked=False)
    assert ended.fault is None
    assert set(either.deleted()) == set(good)
    rows = by_key(either)
    for key, case in zip(bad, cases, strict=True):
        assert rows[key]["state"] == "quarantined", case
        assert rows[key]["quarantine_reason"] == reason, case
        assert rows[key]["first_created_at"] is None
        assert rows[key]["attempts"] == 0
    assert ended.summary.outcomes == {"deleted": 3}
    assert ended.summary.remaining_by_reason == {"quarantined": len(bad)}
    assert not ended.summary.complete
    told = either.told(event.RowsSetAside)
    assert sum((Counter(one.reasons) for one in told), Counter()) == {reason: len(bad)}
    records = either.records("item.quarantined")
    assert sorted(one["item"] for one in records) == sorted(rows[key]["item"] for key in bad)
    assert {one["reason"] for one in records} == {reason}
    assert invariants.examine(either.db).faults == ()
    # What is set aside stays there, and keeps no sweep from its work.
    again = either.store(1)
    before = len(either.deleted())
    await either.sweep(checked=False)
    assert either.deleted()[before:] == again


async def test_a_row_that_waits_to_be_verified_is_set_aside_and_never_asked_for(
    either: Site,
) -> None:
    good = either.store(2)
    cases = [*spread({**TEXTS, **NUMBERS, **OF_A_YES}), *(("response_id", one) for one in IDS)]
    bad = spoil(either, cases, state="verifying", yes_at=NOW, verify_at=0, touched=1)
    ended = await either.sweep(checked=False)
    assert ended.fault is None
    rows = by_key(either)
    states = {rows[key]["state"]: case for key, case in zip(bad, cases, strict=True)}
    assert set(states) == {"quarantined"}, states
    assert asked_for(either) == set(good)
    assert ended.summary.outcomes == {"deleted": 2}
    assert ended.summary.verified == 2
    assert Outcome.DELETED not in {rows[key]["outcome"] for key in bad}
    assert {one["outcome"] for one in either.records("deletion.outcome")} == {"deleted"}
    assert len(either.records("deletion.outcome")) == 2


async def test_a_time_that_lies_far_ahead_is_never_due(either: Site) -> None:
    ahead = [MOST, 2**53, NOW * 1000, NOW + 10**12]
    bad = spoil(either, [("created_at", one) for one in ahead])
    ended = await either.sweep()
    assert ended.summary.due == 0
    assert either.sandbox.journal.entries == []
    assert {by_key(either)[key]["state"] for key in bad} == {"live"}


async def test_a_response_that_was_claimed_too_often_fails_no_other(either: Site) -> None:
    """One more claim would not fit into PostgreSQL's column."""
    often, *good = either.store(3)
    lent.put(either.db, often, claims=HUGE)
    ended = await either.sweep(checked=False)
    assert ended.fault is None
    assert set(either.deleted()) == set(good)
    assert either.states()[often] == ("live", None)
    assert ended.summary.remaining == 1
    assert not ended.summary.complete


async def test_a_page_of_nothing_but_bad_rows_does_not_end_a_sweep(site: Site) -> None:
    """More of them than are claimed at once, and what is good comes after them."""
    bad = spoil(site, [("failures", -1)] * 60)
    (good,) = site.store(1, age=15 * DAY)
    ended = await site.sweep(site.account("main", max_in_flight=1))
    assert site.deleted() == [good]
    assert {by_key(site)[key]["state"] for key in bad} == {"quarantined"}
    assert len(site.told(event.RowsSetAside)) > 1
    assert ended.summary.remaining_by_reason == {"quarantined": 60}


async def test_a_dispute_that_waited_for_a_verification_outlasts_what_is_wrong_with_the_row(
    site: Site,
) -> None:
    (key,) = spoil(
        site,
        [("failures", -1)],
        state="verifying",
        yes_at=NOW,
        verify_at=0,
        quarantine_reason="conflicting",
    )
    await site.sweep(checked=False)
    assert by_key(site)[key]["quarantine_reason"] == "conflicting"


UNREADABLE: Final = (
    "",
    "{",
    "[]",
    '{"a":1}',
    "x" * 100_000,
    "[" * 100_000,
    '{"a":"b","a":"c"}',
    "null",
)


async def test_labels_that_cannot_be_read_match_no_policy_not_even_one_for_everything(
    either: Site,
) -> None:
    for number in range(len(UNREADABLE)):
        either.store(1, labels={"app": f"spoilt {number}"})
    good = either.store(1)
    with either.db.write() as connection:
        for number, stands in enumerate(UNREADABLE):
            connection.execute(
                sa.update(tables.label_sets)
                .where(tables.label_sets.c.labels == f'{{"app":"spoilt {number}"}}')
                .values(labels=stands)
            )
    ended = await either.sweep()
    assert either.deleted() == good
    assert ended.plan.unmatched == len(UNREADABLE)
    assert ended.summary.complete


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80"])
async def test_bytes_that_are_no_text_stop_no_sweep(site: Site, raw: bytes) -> None:
    columns = (
        *("response_id", "item", "salt", "subject", "previous_response_id", "policy"),
        *("yes_key", "yes_request_id", "settled_token", "policies_sha256", "sweep_id"),
    )
    good = site.store(2)
    names = site.store(2 * len(columns))
    assert site.db.path is not None
    with closing(sqlite3.connect(site.db.path)) as beside, beside:
        for number, (name, column) in enumerate(zip(names, columns * 2, strict=True)):
            beside.execute(
                f"UPDATE responses SET {column} = CAST(? AS TEXT) WHERE response_id = ?",
                [raw + b"%d" % number, name],
            )
        beside.execute(
            "UPDATE responses SET state = 'verifying', yes_at = ?, verify_at = 0 WHERE id IN"
            " (SELECT id FROM responses ORDER BY id DESC LIMIT ?)",
            [NOW, len(columns)],
        )
    ended = await site.sweep(checked=False)
    assert ended.fault is None
    assert set(good) <= set(site.deleted())
    named = {"response_id", "item", "salt"}
    kept = Counter(row["quarantine_reason"] for row in site.rows.values())
    assert kept["malformed:bad_id"] == 2
    assert kept["malformed:bad_row"] == 4
    spoilt = [name for name, column in zip(names, columns * 2, strict=True) if column in named]
    # The control looks at whatever is newest, which may be one of which only the item is spoilt.
    assert not set(spoilt) & set(site.deleted())
    await site.sweep(checked=False)


async def test_bytes_that_are_no_text_in_labels_match_no_policy(site: Site) -> None:
    site.store(1)
    assert site.db.path is not None
    with closing(sqlite3.connect(site.db.path)) as beside, beside:
        beside.execute("UPDATE label_sets SET labels = CAST(x'7bff7d' AS TEXT)")
    assert (await site.sweep()).plan.unmatched == 1
    assert site.deleted() == []


WRONG_TYPES: Final = [
    ("responses", "created_at", "soon"),
    ("responses", "created_at", 1.5),
    ("responses", "created_at", b"\x00"),
    ("responses", "failures", "many"),
    ("responses", "response_id", None),
    ("responses", "state", "nonsense"),
    ("responses", "state", "gone"),
    ("responses", "state", "claimed"),
    ("responses", "state", "verifying"),
    ("responses", "outcome", "vanished"),
    ("responses", "outcome", "deleted"),
    ("responses", "attempts", -1),
    ("responses", "attempts", 5),
    ("responses", "label_set_id", None),
    ("label_sets", "live_count", "one"),
    ("label_sets", "labels", None),
    ("accounts", "expect_absent", -1),
    ("accounts", "expect_absent", 2.5),
    ("registrations", "created_at", "soon"),
    ("ledger", "id", 2),
    ("ledger", "log_size", -1),
]


def test_the_database_itself_refuses_values_of_wrong_types(database: Database) -> None:
    registered.admit(database, registered.registration("resp_1"))
    with database.write() as connection:
        connection.execute(sa.insert(tables.registrations).values(account="main"))
    for table, column, value in WRONG_TYPES:
        if not database.is_sqlite and isinstance(value, float):
            continue  # which PostgreSQL rounds
        told = sa.text(f"UPDATE {table} SET {column} = :value")
        with pytest.raises(errors.LedgerError), database.write() as connection:
            connection.execute(told, {"value": value})


async def test_hostile_registrations_are_set_aside_while_others_are_swept(either: Site) -> None:
    good = either.store(2)
    (victim,) = either.store(1, age=DAY)
    old = NOW - 30 * 86_400_000_000
    row = {"account": "main", "created_at": old, "labels": "{}"}
    hostile: list[dict[str, Any]] = [
        *({**row, "response_id": one} for one in (*IDS, f"{victim}#x", f"{victim}?y", None)),
        *({**row, "response_id": "resp_t", "created_at": one} for one in (*TIMES, MOST, None)),
        *({**row, "response_id": "resp_l", "labels": one} for one in (*UNREADABLE, None)),
        *({**row, "response_id": "resp_a", "account": one} for one in ("", "\x1b", "a/b", None)),
        # The response is known, and not due: who says otherwise sets it aside.
        {**row, "response_id": victim},
    ]
    with either.db.write() as connection:
        for one in hostile:
            connection.execute(sa.insert(tables.registrations).values(**one))
    ended = await either.sweep()
    assert set(either.deleted()) == set(good)
    assert ended.summary.outcomes == {"deleted": 2}
    assert registered.rows(either.db, tables.registrations) == []
    assert victim in either.sandbox.kept()
    assert either.row(victim)["quarantine_reason"] == "conflicting"
    aside = [row for row in either.rows.values() if row["state"] == "quarantined"]
    assert len(aside) == len(either.rows) - 2
    assert all(name.isascii() and name.isprintable() for name in either.rows)


# What people are shown of such rows


def test_what_is_wrong_can_be_shown_explained_and_closed(
    rehearsal: Rehearsal, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    names = rehearsal.responses(7)
    spoilt: list[dict[str, Any]] = [
        {"created_at": 0},
        {"salt": "zz", "registered_at": MOST},
        {"item": "\x1b[2J\n", "subject": "\x1b[31m", "failures": -1},
        {"created_at": MOST, "first_created_at": LEAST},
        {"response_id": "../\x1b[2J"},
    ]
    rehearsal.pass_time()
    run("-c", rehearsal.config, "status")
    with rehearsal.database() as db:
        known = registered.by_id(db)
        for name, values in zip(names, spoilt, strict=False):
            wrong(db, known[name]["id"], **values)
    names[4] = "../\x1b[2J"
    for verb in (["status"], ["plan"], ["report"], ["responses", "list"], ["account", "list"]):
        told = run("-c", rehearsal.config, *verb)
        assert told.code in (0, 3), (verb, told.err)
        assert "\x1b" not in told.out + told.err
    for name in names[:5]:
        for verb in (["explain"], ["responses", "show"]):
            told = run("-c", rehearsal.config, *verb, "--json", name)
            assert told.code == 0, told.err
            assert "\x1b" not in told.out + told.err
    swept = run("-c", rehearsal.config, "sweep", "--json")
    assert swept.out, swept.err
    assert (swept.code, swept.last["outcomes"]) == (3, {"deleted": 2})
    assert swept.last["remaining_by_reason"] == {"quarantined": 4}
    assert '"event":"rows_set_aside"' in swept.err
    seen = run("-c", rehearsal.config, "status", "--json").last
    assert seen["quarantined"] == {
        "malformed:bad_created_at": 1,
        "malformed:bad_id": 1,
        "malformed:bad_row": 2,
    }
    for name in (*names[:3], names[4]):
        closed = run("-c", rehearsal.config, "responses", "close", name, "--reason", "odd row")
        assert closed.code == 0, closed.err
    assert run("-c", rehearsal.config, "sweep", "--json").code == 0
    assert run("-c", rehearsal.config, "db", "check").code == 0
    assert rehearsal.requests("DELETE") == 2


def test_labels_that_cannot_be_read_are_shown_as_such(rehearsal: Rehearsal, run: Run) -> None:
    (name,) = rehearsal.responses(1)
    run("-c", rehearsal.config, "status")
    rehearsal.change(tables.label_sets, labels='{"app":')
    listed = run("-c", rehearsal.config, "responses", "list")
    assert (listed.code, "(unreadable)" in listed.out) == (0, True)
    shown = run("-c", rehearsal.config, "responses", "show", name, "--json").last
    assert (shown["labels"], shown["policy"], shown["due_at"]) == (None, None, None)
    told = run("-c", rehearsal.config, "explain", name, "--json")
    assert (told.code, told.last["policy"]) == (0, None)
    right = ("responses", "correct", name, "--label", "app=support", "--reason", "as it was")
    assert run("-c", rehearsal.config, *right, "--earlier").code == 0
    assert run("-c", rehearsal.config, "sweep", "--json").last["outcomes"] == {"deleted": 1}


# A ledger that contradicts itself


async def test_a_stop_for_an_unknown_reason_is_never_passed_over(either: Site) -> None:
    either.store(2)
    with either.db.write() as connection:
        connection.execute(
            sa.insert(tables.breakers).values(
                account_id=lent.account_id(either.db), breaker="n\x1b[2Jew", opened_at=NOW
            )
        )
    ended = await either.sweep(checked=False)
    assert ended.fault is not None
    assert "for a reason nobody knows" in ended.fault.message
    assert "\x1b" not in ended.fault.message
    assert ended.summary.stop_reason == "ledger"
    assert either.deleted() == []
    with either.db.read() as connection, pytest.raises(errors.LedgerError):
        accounts.open_breakers(connection)


ODD_LEDGERS: Final[list[dict[str, Any]]] = [
    {"fingerprint_salt": "zz"},
    {"last_good_at": MOST},
    {"log_size": 0},
    {"log_size": MOST},
    {"log_last_at": MOST},
    {"log_origin": "x" * 100_000},
]


@pytest.mark.untrue
def test_a_ledger_whose_head_is_odd_sends_nothing_and_is_told(
    rehearsal: Rehearsal, run: Run
) -> None:
    rehearsal.responses(2)
    run("-c", rehearsal.config, "status")
    (right,) = rehearsal.rows(tables.ledger)
    for odd in ODD_LEDGERS:
        rehearsal.change(tables.ledger, **(right | odd))
        result = run("-c", rehearsal.config, "sweep", "--json")
        assert result.code not in (0, 2), (odd, result.out)
        assert rehearsal.requests("DELETE") == 0, odd
        assert {row["state"] for row in rehearsal.rows()} == {"live"}, odd
