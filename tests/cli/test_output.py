"""Results are plain for pipes, pretty for terminals, and foreign text is harmless in both."""

import io
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sweeper.cli import output
from sweeper.cli.progress import Bar

HOSTILE = "a\x1b[2J\nb[red]\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Put a terminal in the place of both streams, from within the test."""

    def on_a_terminal() -> Terminal:
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "100")
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    monkeypatch.delenv("NO_COLOR", raising=False)
    return on_a_terminal


def test_a_plain_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(
        ("NAME", "COUNT", "NOTE"), [("a", 1, None), ("longer", 1234, "x")], right={"COUNT"}
    )
    assert capsys.readouterr().out.splitlines() == [
        "NAME    COUNT  NOTE",
        "a           1  -",
        "longer   1234  x",
    ]


def test_columns_of_nothing_but_zeros_are_left_out_where_that_is_wished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("a", 0, "0"), ("b", 0, "3")]
    output.table(("NAME", "ONE", "TWO"), rows, unless_zero=("ONE", "TWO"))
    assert capsys.readouterr().out.splitlines() == ["NAME  TWO", "a     0", "b     3"]


@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_on_a_narrow_terminal_only_texts_are_broken_and_between_words_only(
    show: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    terminal = show()
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    when = "2026-01-02 03:04:05Z"
    row = ("resp_" + "a" * 48, "app=support env=prod", "1,234,567", when)
    output.table(("RESPONSE", "LABELS", "DUE NOW", "CREATED UNTIL"), [row], fold=("LABELS",))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    for whole in (row[0], "app=support", "env=prod", row[2], when, "DUE NOW", "CREATED UNTIL"):
        assert whole in shown
    assert (row[1] in shown) == (columns == "120")
    widths = {len(line) for line in shown.splitlines()}
    assert max(widths) <= max(120, int(columns))


def test_an_empty_table_still_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [])
    assert capsys.readouterr().out == "A  B\n"


def test_foreign_text_is_escaped_wherever_it_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table(("A",), [(HOSTILE,)])
    output.line(HOSTILE)
    output.pairs({"name": HOSTILE})
    output.note(HOSTILE)
    written = capsys.readouterr()
    assert len(written.out.splitlines()) == 4
    assert not re.search("[\x1b\u202e]", written.out + written.err)
    output.json_line("row", {"value": HOSTILE})
    assert capsys.readouterr().out.isascii()


def test_a_terminals_table_shows_foreign_text_as_it_is_written(
    show: Callable[[], Terminal],
) -> None:
    terminal = show()
    output.table(("A", "N"), [(HOSTILE, 5)], right={"N"})
    shown = terminal.getvalue()
    assert "[red]" in shown
    assert "\\x1b[2J" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b[1m" in shown


def test_no_color_is_honoured(
    show: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = show()
    monkeypatch.setenv("NO_COLOR", "1")
    output.table(("A",), [("x",)])
    assert not re.search("\x1b\\[3[0-9]", terminal.getvalue())


def test_a_bar_shows_on_a_terminal_from_when_it_is_started(
    show: Callable[[], Terminal],
) -> None:
    terminal = show()
    with Bar("deleting") as bar:
        bar.advance(1)
        bar.start(0)
        assert terminal.getvalue() == ""
        bar.start()
        bar.start(7)
        bar.advance(3)
    assert "deleting" in terminal.getvalue()


def test_elsewhere_no_bar_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = io.StringIO()
    monkeypatch.setattr(sys, "stderr", quiet)
    with Bar("registering") as bar:
        bar.start(5)
        bar.advance(5)
    assert quiet.getvalue() == ""


def test_a_stream_without_encoding_is_left_alone() -> None:
    output.survive_odd_encodings(io.StringIO())


def test_moments_are_utc_to_the_microsecond_for_programs_and_to_the_second_for_people() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5)))
    for each in (moment, elsewhere, int(moment.timestamp()) * 1_000_000 + 678):
        assert output.instant(each) == "2026-01-02T03:04:05.000678Z"
        assert output.short_instant(each) == "2026-01-02 03:04:05Z"
    assert output.instant(None) is None
    assert output.short_instant(None) == "-"
