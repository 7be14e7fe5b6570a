"""Which texts may name a response, an account or a subject."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import response

ALLOWED = string.ascii_letters + string.digits + "_-"


@given(st.text(ALLOWED, min_size=1, max_size=128))
def test_every_text_of_the_allow_list_is_an_id(text: str) -> None:
    assert response.is_response_id(text)


@given(st.text(max_size=12) | st.text(ALLOWED + "/.#?%\n \u00e9", max_size=12))
def test_an_id_is_only_of_the_allow_list(text: str) -> None:
    assert response.is_response_id(text) == (text != "" and all(c in ALLOWED for c in text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../files/x",
        "a/b",
        "a#b",
        "a?b",
        "a%2fb",
        "a b",
        "a\n",
        "\nresp_1",
        "a\x00",
        "r\u00e9sp",
        "\uff41",
        "\u0661",
        "\ud800",
        "a\\b",
        "a:b",
        "a@b",
        "a;b",
        "a=b",
        "a+b",
        "~",
    ],
)
def test_what_could_lead_elsewhere_is_no_id(text: str) -> None:
    assert not response.is_response_id(text)
    assert not response.is_account_name(text)


@pytest.mark.parametrize("value", [None, 1, b"resp_1", ["resp_1"], True, 1.0])
def test_what_is_no_text_names_nothing(value: object) -> None:
    assert not response.is_response_id(value)
    assert not response.is_account_name(value)
    assert not response.is_subject(value)


def test_an_id_is_as_long_as_the_profile_says_and_never_longer_than_any_may() -> None:
    assert response.is_response_id("a" * 128)
    assert not response.is_response_id("a" * 129)
    assert response.is_response_id("a" * 1024, 1024)
    assert not response.is_response_id("a" * 1025, 1024)
    assert not response.is_response_id("a" * 1025, 100_000)
    assert not response.is_response_id("aa", 1)
    assert not response.is_response_id("a", 0)


def test_an_account_has_a_short_plain_name() -> None:
    assert response.is_account_name("main-EU_2")
    assert response.is_account_name("a" * 64)
    assert not response.is_account_name("a" * 65)
    assert not response.is_account_name("(invalid)")


@pytest.mark.parametrize("text", ["u-17", "x" * 256, "M\u00fcller, Ren\u00e9", "\U0001f600", " "])
def test_a_subject_is_any_short_plain_text(text: str) -> None:
    assert response.is_subject(text)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 257, "a\nb", "a\x00", "\x1b[2J", "\x7f", "\x85", "\ud800", "a\udfff", "\u2028"],
)
def test_a_subject_forges_no_line_and_fits_every_database(text: str) -> None:
    assert not response.is_subject(text)


def test_states_are_written_in_small_letters() -> None:
    assert [state.value for state in response.State] == [
        "live",
        "claimed",
        "verifying",
        "gone",
        "quarantined",
    ]
