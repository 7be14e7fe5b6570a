"""Foreign text stays one line that moves nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import display


@given(st.text())
def test_escaped_text_is_one_line_that_can_be_written(text: str) -> None:
    escaped = display.escape(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", escaped)
    escaped.encode()


@pytest.mark.parametrize(
    "text,shown",
    [
        ("plain ünï 漢字", "plain ünï 漢字"),
        ("a\nb", "a\\nb"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
    ],
)
def test_only_what_is_unsafe_is_escaped(text: str, shown: str) -> None:
    assert display.escape(text) == shown
