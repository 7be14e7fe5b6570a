from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.provider import headers
from sweeper.provider.headers import Fields

TEN = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


def fields(**lines: str) -> Fields:
    return Fields.of(
        [(name.replace("_", "-").encode(), value.encode()) for name, value in lines.items()]
    )


@pytest.mark.parametrize(
    "text",
    ["Mon, 23 Nov 2026 10:00:00 GMT", "Monday, 23-Nov-26 10:00:00 GMT", "Mon Nov 23 10:00:00 2026"],
)
def test_a_date_is_read_in_each_of_its_three_forms(text: str) -> None:
    assert headers.http_date(text) == TEN


def test_a_day_of_one_digit_and_a_year_of_two_are_read() -> None:
    assert headers.http_date("Sun Nov  6 08:49:37 1994") == datetime(
        1994, 11, 6, 8, 49, 37, tzinfo=UTC
    )
    assert headers.http_date("Sunday, 06-Nov-94 08:49:37 GMT") == datetime(
        1994, 11, 6, 8, 49, 37, tzinfo=UTC
    )
    for short, year in (("69", 2069), ("70", 1970)):
        told = headers.http_date(f"Sunday, 06-Nov-{short} 08:49:37 GMT")
        assert told is not None
        assert told.year == year


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "0",
        "2026-11-23T10:00:00Z",
        "Mon, 23 Nov 2026 10:00:00",
        "Mon, 23 Nov 2026 10:00:00 CET",
        "Mon, 23 Nov 2026 10:00:00 +0000",
        "Mon, 31 Feb 2026 10:00:00 GMT",
        "Mon, 23 Nov 2026 25:00:00 GMT",
        "Mon, 23 Nov 2026 10:00:60 GMT",
        "Mon, 23 Nov 0000 10:00:00 GMT",
        "mon, 23 nov 2026 10:00:00 gmt",
        "Mon, ٢٣ Nov 2026 10:00:00 GMT",
        "Mon, 23 Nov 2026 10:00:00 GMT, Mon, 23 Nov 2026 10:00:00 GMT",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert headers.http_date(text) is None
    assert fields(date=text).date is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)))  # noqa: DTZ001 - hypothesis takes naive bounds
def test_every_second_survives_the_usual_form(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert headers.http_date(format_datetime(moment, usegmt=True)) == moment


@pytest.mark.parametrize(
    "value, seconds",
    [
        ("0", 0),
        ("7", 7),
        ("007", 7),
        ("3600", 3600),
        ("3601", 3600),
        ("1" * 5000, 3600),
        ("00000000012", 12),
        ("Mon, 23 Nov 2026 10:02:00 GMT", 120),
        ("Monday, 23-Nov-26 10:02:00 GMT", 120),
        ("Mon Nov 23 10:02:00 2026", 120),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 0),
        ("Tue, 24 Nov 2026 10:00:00 GMT", 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
    ],
)
def test_a_pause_is_read_against_the_answers_own_date_and_clamped(value: str, seconds: int) -> None:
    told = fields(retry_after=value, date="Mon, 23 Nov 2026 10:00:00 GMT")
    assert told.retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "+1", "1.5", "1e3", "1, 2", "٣", "²", " ", "0x10", "1s"]
)
def test_a_pause_that_is_garbage_is_none(value: str) -> None:
    told = fields(retry_after=value, date="Mon, 23 Nov 2026 10:00:00 GMT")
    assert told.retry_after is None


@pytest.mark.parametrize("date", ["", "garbage"])
def test_a_pause_until_a_date_needs_a_date_to_count_from(date: str) -> None:
    assert fields(retry_after="Mon, 23 Nov 2026 10:02:00 GMT", date=date).retry_after is None


def test_a_field_that_came_twice_is_taken_for_none_of_the_two() -> None:
    twice = Fields.of(
        [
            (b"date", b"Mon, 23 Nov 2026 10:00:00 GMT"),
            (b"retry-after", b"1"),
            (b"retry-after", b"2"),
            (b"x-fireworks-account-id", b"acme"),
            (b"x-fireworks-account-id", b"other"),
        ]
    )
    assert twice.retry_after is None
    assert twice.account_id("x-fireworks-account-id") is None
    assert twice.date == TEN


@pytest.mark.parametrize(
    "value, read",
    [("req-1_a.b", "req-1_a.b"), ("a b", None), ("a" * 129, None), ("ä", None), ("a\x1b[0m", None)],
)
def test_a_request_id_is_kept_when_it_can_stand_in_a_log(value: str, read: str | None) -> None:
    assert fields(x_request_id=value).request_id == read
    assert fields(request_id=value).request_id == read


@pytest.mark.parametrize(
    "value, is_encoded",
    [("identity", False), ("Identity", False), ("", False), ("gzip", True), ("identity, br", True)],
)
def test_any_coding_but_identity_counts(value: str, *, is_encoded: bool) -> None:
    assert fields(content_encoding=value).is_encoded is is_encoded
    assert not fields().is_encoded


def test_fields_show_nothing_of_what_came() -> None:
    assert "canary" not in repr(fields(x_canary="canary"))
