"""Lengths of time: what people may write, what is refused, and that nothing is lost."""

import re
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sweeper.domain import duration

LENGTHS = st.integers(1, 36_525 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
# Texts that look like durations, so that some of them are read.
PIECES = "0 1 30 007 99999999999 w d h m s mo y M Y D H S W P T + - . , forever month year days"
LOOKALIKES = st.lists(
    st.sampled_from([*PIECES.split(), " ", "\n", "\u2212", "\u0663"]), max_size=8
).map("".join)


@pytest.mark.parametrize(
    "text, length",
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("2w", timedelta(days=14)),
        ("1d12h", timedelta(hours=36)),
        ("1d 12h", timedelta(hours=36)),
        ("1w 2d3h 4m 5s", timedelta(days=9, hours=3, minutes=4, seconds=5)),
        ("1w 5s", timedelta(weeks=1, seconds=5)),
        ("P30D", timedelta(days=30)),
        ("PT12H", timedelta(hours=12)),
        ("P2W", timedelta(days=14)),
        ("P1DT12H", timedelta(hours=36)),
        ("PT90M", timedelta(minutes=90)),
        ("PT45S", timedelta(seconds=45)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("36525d", timedelta(days=36_525)),
        ("forever", None),
    ],
)
def test_these_are_read(text: str, length: timedelta | None) -> None:
    assert duration.parse(text) == length


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "missing"),
        ("  ", "missing"),
        (" 30d", "spaces"),
        ("30d\n", "spaces"),
        ("30", "unit"),
        ("1.5", "unit"),
        ("1 000", "unit"),
        ("-30d", "signs"),
        ("+30d", "signs"),
        ("\u221230d", "signs"),
        ("P-1D", "signs"),
        ("1y", "365d"),
        ("2 years", "365d"),
        ("P1Y", "365d"),
        ("P1Y2M", "365d"),
        ("1mo", "months"),
        ("1 month", "months"),
        ("3MONTHS", "months"),
        ("one month", "months"),
        ("3M", "months"),
        ("P1M", "months"),
        ("P1MT5M", "months"),
        ("1.5d", "whole numbers"),
        ("PT0,5H", "whole numbers"),
        ("Forever", "small letters"),
        ("0d", "zero"),
        ("P0D", "zero"),
        ("1d0h", "zero"),
        ("36526d", "forever"),
        ("99999999999999999999w", "forever"),
        ("1d  12h", "no length"),
        ("1 d", "no length"),
        ("12h1d", "no length"),
        ("1d1d", "no length"),
        ("30D", "no length"),
        ("p30d", "no length"),
        ("30 days", "no length"),
        ("P", "no length"),
        ("PT", "no length"),
        ("P1DT", "no length"),
        ("P2W1D", "no length"),
        ("PT30D", "no length"),
        ("\u0663d", "no length"),
        ("never", "no length"),
        ("0" * 63 + "1d", "at most 64"),
    ],
)
def test_these_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        duration.parse(text)


def test_every_refusal_but_that_of_years_and_months_shows_a_text_that_would_be_read() -> None:
    for text in ("", "5", "-1d", "1.5h", "1y", "1mo", "0d", "nonsense", "FOREVER", "99999d"):
        with pytest.raises(ValueError, match=r".+") as refused:
            duration.parse(text)
        words = re.findall(r"[0-9]+[a-z]|P[0-9]+D|forever", str(refused.value))
        for word in words:
            duration.parse(word)
        assert words


@given(LENGTHS)
def test_what_is_written_is_read_back(length: timedelta) -> None:
    assert duration.parse(duration.render(length)) == length


def test_forever_is_written_and_read_back() -> None:
    assert duration.parse(duration.render(None)) is None


@given(LOOKALIKES | st.text(max_size=12))
@example("1d\n")
def test_no_accepted_text_is_doubtful(text: str) -> None:
    try:
        length = duration.parse(text)
    except ValueError:
        return
    if length is None:
        assert text == "forever"
        return
    assert timedelta(0) < length <= duration.LONGEST
    assert duration.parse(duration.render(length)) == length
    assert re.fullmatch("[0-9wdhms PTWDHMS]+", text)  # so no sign, point, month or year by name
    assert re.search("[a-zA-Z]$", text)
    assert "M" not in text.partition("T")[0]
    assert re.search("[1-9]", text)


@pytest.mark.parametrize(
    "length, text",
    [
        (timedelta(days=14), "14d"),
        (timedelta(days=30), "30d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(hours=24), "1d"),
        (timedelta(days=365, seconds=1), "365d1s"),
        (timedelta(days=2, hours=3, minutes=4), "3064m"),
        (timedelta(seconds=45), "45s"),
    ],
)
def test_the_shortest_sum_is_written(length: timedelta | None, text: str) -> None:
    assert duration.render(length) == text


@given(LENGTHS)
def test_no_sum_of_two_units_is_shorter_than_what_is_written(length: timedelta) -> None:
    seconds = int(length.total_seconds())
    plain = [f"{seconds // 86400}d{seconds % 86400}s", f"{seconds // 3600}h{seconds % 3600}s"]

    assert all(len(duration.render(length)) <= len(text) for text in plain)


@pytest.mark.parametrize(
    "length",
    [
        timedelta(0),
        timedelta(days=-1),
        timedelta(microseconds=1),
        timedelta(days=1, milliseconds=1),
        timedelta(days=36_525, seconds=1),
    ],
)
def test_what_cannot_be_read_is_not_written(length: timedelta | None) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        duration.render(length)
