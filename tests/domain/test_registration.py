"""Registered lines and rows: read, refused with a reason, and merged with what is known."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import registration
from sweeper.domain.registration import (
    Fault,
    Known,
    Merged,
    Registration,
    Skipped,
    Verdict,
    merge,
    read_line,
    read_row,
)
from sweeper.domain.response import AccountName, ResponseId

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
CREATED = datetime(2025, 11, 22, tzinfo=UTC)
LINE = {
    "id": "resp_1",
    "created_at": 1763769600,
    "account": "main",
    "labels": {"env": "prod", "app": "support"},
    "subject": "u-17",
    "previous_response_id": None,
    "store": True,
}
ROW: dict[str, Any] = {
    "account": "main",
    "response_id": "resp_1",
    "created_at": 1763769600_000_000,
    "labels": '{"env": "prod", "app": "support"}',
    "subject": "u-17",
    "previous_response_id": None,
}
REGISTERED = Registration(
    account=AccountName("main"),
    response_id=ResponseId("resp_1"),
    created_at=CREATED,
    labels='{"app":"support","env":"prod"}',
    subject="u-17",
)
FIRST = Known(first_created_at=CREATED, created_at=CREATED, labels=REGISTERED.labels)

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def line(**changed: object) -> Registration | Skipped | Fault:
    return read_line({**LINE, **changed}, now=NOW)


def row(**changed: object) -> Registration | Fault:
    return read_row(**{**ROW, "now": NOW, **changed})


def test_a_line_is_read() -> None:
    assert line() == REGISTERED


def test_a_row_is_read_and_its_labels_become_canonical() -> None:
    assert row() == REGISTERED


def test_the_least_that_a_line_must_say_is_id_time_and_account() -> None:
    found = read_line({"id": "resp_1", "created_at": 1763769600, "account": "main"}, now=NOW)

    assert found == replace(REGISTERED, labels="{}", subject=None)


def test_nulls_stand_for_what_is_left_out() -> None:
    found = line(labels=None, subject=None, store=None)

    assert found == replace(REGISTERED, labels="{}", subject=None)


def test_the_default_account_stands_in_for_a_missing_one_only() -> None:
    bare = {key: value for key, value in LINE.items() if key != "account"}

    assert read_line(bare, now=NOW, default_account="main") == REGISTERED
    assert read_line({**LINE, "account": None}, now=NOW, default_account="main") == REGISTERED
    assert read_line(LINE, now=NOW, default_account="other") == REGISTERED
    assert read_line(bare, now=NOW) == Fault(reason="bad_account", detail="account is missing")
    assert read_line({**LINE, "account": ""}, now=NOW, default_account="main") == Fault(
        reason="bad_account", detail="account must be 1 to 64 of A-Za-z0-9_-: ''"
    )


def test_what_was_not_stored_is_skipped_whatever_else_the_line_says() -> None:
    assert line(store=False) == Skipped()
    assert line(store=False, id=None, created_at="?") == Skipped()


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"extra": 1}, "unknown_key"),
        ({"store": False, "extra": 1}, "unknown_key"),
        ({"store": "false"}, "bad_store"),
        ({"store": 0}, "bad_store"),
        ({"account": "a/b"}, "bad_account"),
        ({"account": 1}, "bad_account"),
        ({"id": None}, "bad_id"),
        ({"id": ""}, "bad_id"),
        ({"id": "../files/x"}, "bad_id"),
        ({"id": "a?b"}, "bad_id"),
        ({"id": "a" * 129}, "bad_id"),
        ({"created_at": None}, "bad_created_at"),
        ({"created_at": True}, "bad_created_at"),
        ({"created_at": 1763769600000}, "bad_created_at"),
        ({"created_at": "2025-11-22T00:00:00"}, "bad_created_at"),
        ({"labels": []}, "bad_labels"),
        ({"labels": "{}"}, "bad_labels"),
        ({"labels": {"a": 1}}, "bad_labels"),
        ({"subject": ""}, "bad_subject"),
        ({"subject": 17}, "bad_subject"),
        ({"subject": "a\nb"}, "bad_subject"),
        ({"previous_response_id": ""}, "bad_previous"),
        ({"previous_response_id": "a/b"}, "bad_previous"),
        ({"previous_response_id": "resp_1"}, "bad_previous"),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused_by_the_rule(
    changed: dict[str, Any], reason: str
) -> None:
    found = line(**changed)

    assert isinstance(found, Fault)
    assert found.reason == reason


@pytest.mark.parametrize("raw", [None, [], "x", 1, [("id", "resp_1")]])
def test_a_line_is_an_object(raw: Any) -> None:
    found = read_line(raw, now=NOW)

    assert isinstance(found, Fault)
    assert found.reason == "not_an_object"


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"account": None}, "bad_account"),
        ({"response_id": None}, "bad_id"),
        ({"response_id": 7}, "bad_id"),
        ({"created_at": None}, "bad_created_at"),
        ({"created_at": 1763769600}, "bad_created_at"),
        ({"created_at": 4_000_000_000_000_000}, "bad_created_at"),
        ({"created_at": "2025-11-22T00:00:00Z"}, "bad_created_at"),
        ({"labels": None}, "bad_labels"),
        ({"labels": "nonsense"}, "bad_labels"),
        ({"labels": '{"a":"x","a":"y"}'}, "bad_labels"),
        ({"subject": "\x00"}, "bad_subject"),
        ({"previous_response_id": "resp_1"}, "bad_previous"),
        ({"previous_response_id": 0}, "bad_previous"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused_by_the_rule(
    changed: dict[str, Any], reason: str
) -> None:
    found = row(**changed)

    assert isinstance(found, Fault)
    assert found.reason == reason


def test_without_a_clock_a_row_is_not_refused_for_lying_ahead() -> None:
    ahead = row(created_at=4_000_000_000_000_000, now=None)

    assert isinstance(ahead, Registration)


def test_the_longest_id_is_what_the_account_s_profile_says() -> None:
    def longest(account: str) -> int:
        return {"main": 1024}[account]

    raw = {**LINE, "id": "a" * 1024, "previous_response_id": "b" * 1024}
    found = read_line(raw, now=NOW, longest=longest)

    assert isinstance(found, Registration)
    assert found.previous_response_id == "b" * 1024
    assert isinstance(row(response_id="a" * 1024, longest=longest), Registration)
    assert isinstance(row(response_id="a" * 1025, longest=longest), Fault)
    assert isinstance(row(response_id="a" * 129), Fault)


@given(st.dictionaries(st.sampled_from([*LINE, "x"]), JUNK) | JUNK)
def test_no_line_breaks_the_reader_and_no_fault_repeats_it_raw(raw: Any) -> None:
    found = read_line(raw, now=NOW, default_account="main")

    assert_sound(found)


@given(st.fixed_dictionaries(dict.fromkeys(ROW, JUNK)))
def test_no_row_breaks_the_reader_and_no_fault_repeats_it_raw(raw: Any) -> None:
    assert_sound(read_row(**raw, now=NOW))


@given(
    st.sampled_from(["id", "account", "subject", "created_at", "previous_response_id"]), st.text()
)
def test_a_hostile_text_is_told_escaped_and_cut(key: str, text: str) -> None:
    assert_sound(line(**{key: text}))


def assert_sound(found: object) -> None:
    if isinstance(found, Fault):
        assert found.detail.isascii()
        assert found.detail.isprintable()
        assert 0 < len(found.detail) <= 80
    elif isinstance(found, Registration):
        assert json.loads(found.labels) is not None
        assert found.previous_response_id != found.response_id
        assert found.created_at <= NOW + timedelta(days=1)


def test_the_same_again_is_known() -> None:
    assert merge(FIRST, replace(REGISTERED, subject=None)).verdict is Verdict.KNOWN


@pytest.mark.parametrize("minutes, stands", [(10, 10), (3, 3), (0, 0), (-3, 0), (-10, 0)])
def test_of_two_times_ten_minutes_apart_the_later_stands(minutes: int, stands: int) -> None:
    new = replace(REGISTERED, subject=None, created_at=CREATED + timedelta(minutes=minutes))

    merged = merge(FIRST, new)

    assert merged.verdict is Verdict.KNOWN
    assert merged.created_at == CREATED + timedelta(minutes=stands)


def test_ten_minutes_are_counted_from_the_first_time_and_not_from_the_one_that_stands() -> None:
    moved = replace(FIRST, created_at=CREATED + timedelta(minutes=10))

    later = replace(REGISTERED, subject=None, created_at=CREATED + timedelta(minutes=11))
    assert merge(moved, later).verdict is Verdict.CONFLICTING
    earlier = replace(later, created_at=CREATED - timedelta(minutes=10))
    assert merge(moved, earlier).verdict is Verdict.KNOWN
    assert merge(moved, earlier).created_at == moved.created_at


def test_what_was_missing_completes() -> None:
    new = replace(REGISTERED, previous_response_id=ResponseId("resp_0"))

    merged = merge(FIRST, new)

    assert merged.verdict is Verdict.COMPLETED
    assert (merged.subject, merged.previous_response_id) == ("u-17", "resp_0")


def test_what_is_left_out_takes_nothing_away() -> None:
    full = replace(FIRST, subject="u-17", previous_response_id=ResponseId("resp_0"))

    merged = merge(full, replace(REGISTERED, subject=None))

    assert merged.verdict is Verdict.KNOWN
    assert (merged.subject, merged.previous_response_id) == ("u-17", "resp_0")


@pytest.mark.parametrize(
    "changed, detail",
    [
        ({"labels": "{}"}, "labels differ"),
        ({"subject": "u-18"}, "subject differs"),
        ({"previous_response_id": ResponseId("resp_9")}, "previous_response_id differs"),
        ({"created_at": CREATED + timedelta(seconds=601)}, "created_at differs"),
        ({"created_at": CREATED - timedelta(seconds=601)}, "created_at differs"),
    ],
)
def test_what_differs_conflicts_and_changes_nothing(changed: dict[str, Any], detail: str) -> None:
    full = replace(FIRST, subject="u-17", previous_response_id=ResponseId("resp_0"))

    merged = merge(full, replace(REGISTERED, **changed))

    assert merged.verdict is Verdict.CONFLICTING
    assert detail in merged.detail
    assert (merged.created_at, merged.subject) == (full.created_at, full.subject)
    assert merged.previous_response_id == full.previous_response_id


IDS = st.none() | st.sampled_from(["resp_0", "resp_9"]).map(ResponseId)
NEWS = st.builds(
    Registration,
    account=st.just(AccountName("main")),
    response_id=st.just(ResponseId("resp_1")),
    created_at=st.integers(-700, 700).map(lambda s: CREATED + timedelta(seconds=s)),
    labels=st.sampled_from([FIRST.labels, FIRST.labels, "{}"]),
    subject=st.none() | st.sampled_from(["u-17", "u-18"]),
    previous_response_id=IDS,
)


def after(known: Known, merged: Merged) -> Known:
    return replace(
        known,
        created_at=merged.created_at,
        subject=merged.subject,
        previous_response_id=merged.previous_response_id,
    )


@given(st.lists(NEWS, max_size=4), NEWS)
def test_merging_the_same_twice_changes_nothing_more(
    before: list[Registration], new: Registration
) -> None:
    known = FIRST
    for one in before:
        known = after(known, merge(known, one))

    once = merge(known, new)
    twice = merge(after(known, once), new)

    assert after(known, twice) == after(known, once)
    if once.verdict is Verdict.CONFLICTING:
        assert twice.verdict is Verdict.CONFLICTING
        assert after(known, once) == known
    else:
        assert twice.verdict is Verdict.KNOWN


@given(st.lists(NEWS, max_size=6))
def test_no_merge_makes_a_response_older_or_moves_it_more_than_ten_minutes(
    news: list[Registration],
) -> None:
    known = FIRST
    for one in news:
        merged = after(known, merge(known, one))
        assert merged.created_at >= known.created_at
        known = merged

    assert known.created_at - known.first_created_at <= registration.SAME_TIME
