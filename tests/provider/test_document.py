import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.provider import document

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_every_object_is_read_back(found: dict[str, object]) -> None:
    assert document.parsed(json.dumps(found).encode()) == found


@given(st.binary())
def test_bytes_of_any_kind_give_an_object_or_nothing(body: bytes) -> None:
    assert isinstance(document.parsed(body), dict | None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"ok"',
        b"1",
        b"{",
        b"{}{}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b'{"b":{"a":1,"a":2}}',
        b'\xef\xbb\xbf{"message":"x"}',
        b'{"message":"\xff"}',
        '{"message":"x"}'.encode("utf-16"),
        '{"message":"x"}'.encode("utf-32-le"),
        b'{"a":"\x01"}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' + b"[" * 60_000,
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
    ],
)
def test_what_is_not_plainly_one_object_is_nothing(body: bytes) -> None:
    assert document.parsed(body) is None


def test_depth_counts_and_not_the_number_of_brackets() -> None:
    assert document.parsed(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}") is not None
    assert document.parsed(json.dumps({"a": [{"b": []}] * 100}).encode()) is not None
    assert document.parsed(json.dumps({"a": '[{"\\' * 100}).encode()) is not None


def test_what_was_closed_again_counts_no_more() -> None:
    """Many stand beside one another, then one as deep as is allowed, or a step deeper."""
    siblings = b"[]," * 40
    for depth, is_read in ((30, True), (31, False)):
        deep = b"[" * depth + b"]" * depth
        body = b'{"a":[' + siblings + deep + b"]}"
        assert (document.parsed(body) is not None) is is_read
    after_a_closing = b'{"a":[[[]],' + b"[" * 31 + b"]" * 31 + b"]}"
    assert document.parsed(after_a_closing) is None
