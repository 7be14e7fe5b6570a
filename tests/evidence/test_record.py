"""A record is one text, byte for byte, and names no response in clear."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.evidence import record
from sweeper.evidence.record import RecordType

KEYS = st.from_regex(r"\A[a-z0-9_]{1,32}\Z")
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.dictionaries(KEYS, VALUES, max_size=8)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@settings(deadline=None)
@given(RECORDS)
def test_a_record_is_written_as_rfc_8785_says_and_read_back_as_it_was(
    fields: dict[str, Any],
) -> None:
    try:
        text = record.canonical(fields)
    except ValueError:
        return  # deeper than a record may be: a test of its own
    assert text.encode() == rfc8785.dumps(fields)
    assert json.loads(text) == fields
    assert record.canonical(json.loads(text)) == text
    assert "\n" not in text


def test_the_order_of_keys_and_characters_beyond_ascii_change_nothing() -> None:
    text = '{"a":"é\U0001f600\\n\x7f\u2028","b":[1,true,null]}'
    assert record.canonical({"b": (1, True, None), "a": "é\U0001f600\n\x7f\u2028"}) == text
    assert record.canonical(MappingProxyType({"b": RecordType.LOG_OPENED})) == '{"b":"log.opened"}'


@pytest.mark.parametrize(
    "value,reason",
    [
        (1.5, "holds no float"),
        (float("nan"), "holds no float"),
        (b"x", "holds no bytes"),
        ({1}, "holds no set"),
        (datetime(2026, 1, 1, tzinfo=UTC), "holds no datetime"),
        (2**53, "below 2\\^53"),
        (-(2**53), "below 2\\^53"),
        ("\ud800", "surrogates"),
        ({"A": 1}, "no key"),
        ({"": 1}, "no key"),
        ({"a" * 33: 1}, "no key"),
        ({"a b": 1}, "no key"),
        ({"a\n": 1}, "no key"),
        ({"é": 1}, "no key"),
        ({1: 1}, "no key"),
        ([{"a": [0.0]}], "holds no float"),
        ("x" * 16_384, "16384 bytes"),
        ("é" * 8_190, "16384 bytes"),
        (nested(8), "8 deep"),
    ],
)
def test_what_has_more_than_one_text_is_refused(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        record.canonical({"a": value})
    with pytest.raises(ValueError, match=reason):
        record.canonical({"a": [value]})


def test_the_bounds_themselves_are_allowed() -> None:
    edge = {"a" * 32: 2**53 - 1, "b": -(2**53) + 1, "c": nested(7)}
    assert json.loads(record.canonical(edge)) == edge
    assert len(record.canonical({"a": "x" * (16_384 - 8)})) == 16_384


def test_a_key_of_the_record_itself_is_judged_too() -> None:
    with pytest.raises(ValueError, match="no key"):
        record.canonical({"Policy": "x"})


def compose(**fields: object) -> str:
    return record.compose(
        type=RecordType.BREAKER_OPENED,
        log="sweeper/abc/1",
        seq=7,
        at_us=1_763_769_600_000_001,
        writer="w-1",
        sw="0.1.0",
        fields=fields,
    )


def test_every_record_says_what_it_is_where_it_stands_and_who_wrote_it() -> None:
    assert compose(account="main") == (
        '{"account":"main","at":"2025-11-22T00:00:00.000001Z","log":"sweeper/abc/1","seq":7,'
        '"sw":"0.1.0","type":"breaker.opened","v":1,"writer":"w-1"}'
    )


def test_no_field_may_stand_in_for_one_that_every_record_has() -> None:
    with pytest.raises(ValueError, match="has its own at, seq"):
        compose(seq=8, at="2020-01-01T00:00:00.000000Z", account="main")


def test_every_type_of_record_has_its_fixed_word() -> None:
    assert sorted(RecordType) == [
        "account.pinned",
        "breaker.closed",
        "breaker.opened",
        "clock.anomaly",
        "credential.changed",
        "deletion.late_outcome",
        "deletion.outcome",
        "item.corrected",
        "item.quarantined",
        "item.registered",
        "item.retried",
        "link.dropped",
        "log.opened",
        "policy.effective",
        "run.summary",
    ]


SALT = bytes(range(32))
GOLDEN = "44dd13c8a90e4b05a2a9f77d32a2b592ec1829324111ea2d7c44f97577b268da"
OPENED = (
    '{"at":"2026-11-22T00:00:00.000000Z","hash":"sha256","log":"sweeper.example/audit/test-1",'
    '"previous":null,"reason":"initial","seq":0,"sw":"1.0.0","type":"log.opened","v":1,'
    '"writer":"w-7f3a"}'
)


def test_the_commitment_is_the_golden_one() -> None:
    text = record.commitment(SALT, "fireworks", "acct-main", "resp_0123456789abcdef")
    assert text == "RN0TyKkOSwWiqfd9MqK1kuwYKTJBEeotfET5dXeyaNo"
    assert base64.urlsafe_b64decode(text + "=").hex() == GOLDEN


def test_the_first_record_is_the_golden_text() -> None:
    fields = {"hash": "sha256", "previous": None, "reason": "initial"}
    text = record.compose(
        type=RecordType.LOG_OPENED,
        log="sweeper.example/audit/test-1",
        seq=0,
        at_us=1_795_305_600_000_000,
        writer="w-7f3a",
        sw="1.0.0",
        fields=fields,
    )
    assert text == OPENED


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.tuples(WORDS, WORDS, WORDS), st.tuples(WORDS, WORDS, WORDS))
def test_different_responses_never_share_a_commitment(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    same = record.commitment(SALT, *one) == record.commitment(SALT, *other)
    assert same == (one == other)


def test_where_one_part_ends_and_the_next_begins_makes_a_difference() -> None:
    assert record.commitment(SALT, "ab", "c", "d") != record.commitment(SALT, "a", "bc", "d")
    assert record.commitment(SALT, "ab", "c", "d") != record.commitment(bytes(32), "ab", "c", "d")


@pytest.mark.parametrize(
    "us,text",
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_763_769_600_120_000, "2025-11-22T00:00:00.120000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_always_has_six_digits_and_a_z(us: int, text: str) -> None:
    assert record.instant(us) == text


def test_evidence_tells_classes_numbers_and_times() -> None:
    answer = Answer(
        kind=AnswerKind.ABSENT,
        status=404,
        body=Body.JSON_DETAIL,
        date=datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1))),
        request_id="req-1",
    )
    assert record.evidence(answer, control=True, verify_status=404) == {
        "status": 404,
        "body": "json_detail",
        "date": "2026-03-01T12:00:00.000000Z",
        "request_id": "req-1",
        "control": "pass",
        "verify_get": 404,
    }


def test_evidence_of_an_answer_that_never_came_is_empty_and_still_a_record() -> None:
    empty = record.evidence(Answer(kind=AnswerKind.LOST), control=False, verify_status=None)
    assert record.canonical({"evidence": empty}) == (
        '{"evidence":{"body":"none","control":"none","date":null,"request_id":null,'
        '"status":null,"verify_get":null}}'
    )


@pytest.mark.parametrize("request_id", ["", "x" * 129, "a b", "\ud800", "é", "a\nb", '{"x":1}'])
def test_a_request_id_that_is_no_plain_word_is_left_out(request_id: str) -> None:
    answer = Answer(kind=AnswerKind.YES, status=200, request_id=request_id)
    told = record.evidence(answer, control=False, verify_status=None)
    assert told["request_id"] is None
