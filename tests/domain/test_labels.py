"""Labels: their limits and their one text."""

import json
from random import Random

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import labels

KEYS = st.text("abcXYZ019_.:/-", min_size=1, max_size=64)
VALUES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=256
)
LABELS = st.dictionaries(KEYS, VALUES, max_size=16)


@given(LABELS)
def test_labels_within_the_limits_come_back_from_their_text(some: dict[str, str]) -> None:
    assert labels.check(some) == some
    assert labels.read(labels.canonical(some)) == some


@given(LABELS)
def test_the_text_is_canonical_json(some: dict[str, str]) -> None:
    assert labels.canonical(some).encode() == rfc8785.dumps(some)


@given(LABELS, st.randoms())
def test_the_order_in_which_labels_are_given_changes_nothing(
    some: dict[str, str], random: Random
) -> None:
    pairs = list(some.items())
    random.shuffle(pairs)

    assert labels.canonical(dict(pairs)) == labels.canonical(some)


@given(LABELS, st.randoms())
def test_the_checked_text_is_the_canonical_one_however_often_it_is_asked_for(
    some: dict[str, str], random: Random
) -> None:
    pairs = list(some.items())
    random.shuffle(pairs)

    for given_labels in (some, dict(pairs), some):
        assert labels.checked_text(given_labels) == labels.canonical(some)


@pytest.mark.parametrize(
    "some, reason",
    [
        ({str(n): "x" for n in range(17)}, "at most 16"),
        ({"": "x"}, "key"),
        ({"a" * 65: "x"}, "key"),
        ({"a b": "x"}, "key"),
        ({"a\n": "x"}, "key"),
        ({"\u00e4": "x"}, "key"),
        ({1: "x"}, "key"),
        ({None: "x"}, "key"),
        ({"a": ""}, "value"),
        ({"a": "x" * 257}, "value"),
        ({"a": "\x00"}, "value"),
        ({"a": "\x9b"}, "value"),
        ({"a": "\ud83d"}, "value"),
        ({"a": "\u2029"}, "value"),
        ({"a": 1}, "value"),
        ({"a": None}, "value"),
        ({"a": ["x"]}, "value"),
        ({"a": True}, "value"),
    ],
)
def test_labels_beyond_the_limits_are_refused(some: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        labels.check(some)


@pytest.mark.parametrize("value", [1, 1.0, True, None, ["x"], {"x": "y"}, "", "x" * 257])
def test_what_is_no_label_is_refused_each_time_and_beside_what_was_accepted(value: object) -> None:
    assert labels.checked_text({"a": "1"}) == '{"a":"1"}'
    for _ in range(2):
        with pytest.raises(ValueError, match="value"):
            labels.checked_text({"a": value})


def test_sixteen_labels_of_the_greatest_size_are_read_however_they_are_escaped() -> None:
    some = {f"{n:064}": "\U0001f600" * 256 for n in range(16)}

    assert labels.read(json.dumps(some)) == some


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "JSON object"),
        ("[]", "JSON object"),
        ('"a"', "JSON object"),
        ('{"a":"x","a":"y"}', "twice"),
        ('{"a":{"b":"x"}}', "value"),
        ('{"a":NaN}', "value"),
        ('{"a":"\\ud800"}', "value"),
        ("[" * 60_000, "nested|JSON"),
        ('{"a":' * 12_000, "nested|JSON"),
        (f'{{"a":"{"x" * 70_000}"}}', "too long"),
        ('{"a":' + "9" * 5_000 + "}", "."),
    ],
)
def test_a_text_that_holds_no_labels_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        labels.read(text)


def test_no_labels_are_labels_too() -> None:
    assert labels.canonical({}) == "{}"
    assert labels.read("{}") == {}
    assert labels.read(' { "b" : "2", "a" : "1" } ') == {"a": "1", "b": "2"}


@given(LABELS)
def test_what_stands_in_the_ledger_is_read_where_it_can_be(some: dict[str, str]) -> None:
    assert labels.stored(labels.canonical(some)) == some


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a":1}', "[" * 9000, " " * 70_000 + "{}"])
def test_what_breaks_the_rules_there_is_nothing(text: str) -> None:
    assert labels.stored(text) is None
