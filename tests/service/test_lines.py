"""Streams of registered lines are taken apart without trusting them."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper import errors
from sweeper.domain.registration import Fault
from sweeper.service import lines


def json_values(data: bytes) -> list[Any]:
    return [line.value for line in lines.of_json(io.BytesIO(data))]


def csv_values(text: str) -> list[Any]:
    return [line.value for line in lines.of_csv(io.BytesIO(text.encode()))]


def reasons(values: list[Any]) -> list[str]:
    assert all(isinstance(value, Fault) for value in values)
    return [value.reason for value in values]


def test_json_lines_are_numbered_as_an_editor_numbers_them() -> None:
    data = b'\xef\xbb\xbf{"id":"a"}\r\n\n  \n{"id":"b"}'
    found = list(lines.of_json(io.BytesIO(data)))
    assert [(line.number, line.value) for line in found] == [(1, {"id": "a"}), (4, {"id": "b"})]


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"\xff",
        b'{"id":"a","id":"b"}',
        b'{"labels":{"a":"x","a":"y"}}',
        b"[" * 60_000,
        b'{"created_at":' + b"9" * 5000 + b"}",
        b'{"id":"a"} x',
    ],
)
def test_what_is_no_unambiguous_json_is_a_fault(data: bytes) -> None:
    assert reasons(json_values(data)) == ["not_json"]


def test_a_line_without_end_is_rejected_and_the_next_is_read() -> None:
    data = b'{"id":"' + b"a" * 300_000 + b'"}\n{"id":"b"}\n' + b"x" * 70_000
    first, second, third = json_values(data)
    assert reasons([first, third]) == ["too_long", "too_long"]
    assert second == {"id": "b"}


@given(st.binary(max_size=200))
def test_no_bytes_stop_the_reading(data: bytes) -> None:
    json_values(data)
    try:
        list(lines.of_csv(io.BytesIO(b"id,created_at,label.a\n" + data)))
    except errors.InvalidRegistration:
        pytest.fail("only a header can be refused as a whole")


def test_csv_has_the_same_names_and_a_column_for_each_label() -> None:
    text = (
        "\ufeffid,created_at,account,labels,label.env,subject,previous_response_id,store\n"
        'a,1763769600,main,"{""app"":""x""}",prod,u,b,true\r\n'
        "b,2025-11-22T00:00:00Z,,,,,,False\n"
        "\n"
        "c,1763769600.5,,,,,,maybe\n"
    )
    assert csv_values(text) == [
        {
            "id": "a",
            "created_at": 1763769600,
            "account": "main",
            "labels": {"app": "x", "env": "prod"},
            "subject": "u",
            "previous_response_id": "b",
            "store": True,
        },
        {"id": "b", "created_at": "2025-11-22T00:00:00Z", "labels": {}, "store": False},
        {"id": "c", "created_at": 1763769600.5, "labels": {}, "store": "maybe"},
    ]


def test_a_csv_row_over_several_lines_is_numbered_by_its_last() -> None:
    data = b'id,created_at,subject\na,1,"x\ny"\nb,2,z\n'
    assert [line.number for line in lines.of_csv(io.BytesIO(data))] == [3, 4]


@pytest.mark.parametrize(
    "row,reason",
    [
        ("a,1", "bad_row"),
        ("a,1,,,", "bad_row"),
        ("a,1,[],", "bad_labels"),
        ("a,1,{,", "bad_labels"),
        ('a,1,"{""env"":""x""}",y', "bad_labels"),
        ('a,1,"x"y,z', "not_csv"),
        ('a,1,"' + "x" * 140_000 + '",z', "not_csv"),
    ],
)
def test_a_row_that_does_not_fit_is_a_fault(row: str, reason: str) -> None:
    assert reasons(csv_values(f"id,created_at,labels,label.env\n{row}\n")) == [reason]


def test_what_is_no_utf8_is_left_for_the_checks_of_each_value() -> None:
    (line,) = lines.of_csv(io.BytesIO(b"id,created_at,subject\na,1,\xff\n"))
    assert isinstance(line.value, dict)
    assert line.value["subject"] == "\udcff"


@pytest.mark.parametrize(
    "header",
    [
        "",
        '"id"x',
        "id",
        "created_at",
        "id,created_at,id",
        "id,created_at,Labels",
        "id,created_at,label",
    ],
)
def test_a_header_that_cannot_be_used_refuses_the_file(header: str) -> None:
    with pytest.raises(errors.InvalidRegistration) as caught:
        csv_values(f"{header}\nx,1\n")
    assert "header" in caught.value.message


@pytest.mark.parametrize("text", ["", "\ufeff", "\n\n"])
def test_a_file_without_a_line_holds_nothing_in_either_form(text: str) -> None:
    assert csv_values(text) == json_values(text.encode()) == []


def test_the_stream_is_left_open_for_who_opened_it() -> None:
    stream = io.BytesIO(b"id,created_at\na,1\n")
    list(lines.of_csv(stream))
    assert not stream.closed
