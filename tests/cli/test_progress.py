"""A progress bar stands on a terminal only, and never among the results."""

import sys

import pytest

from sweeper.cli.progress import Bar
from tests.support import terminal


def test_where_no_terminal_is_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("deleting") as bar:
        bar.advance(1)
        bar.start(3)
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total, shown", [(3, "2/3"), (None, "2/?"), (0, "")])
def test_a_bar_counts_up_to_what_is_known(
    monkeypatch: pytest.MonkeyPatch, total: int | None, shown: str
) -> None:
    with terminal.opened() as (stream, read):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with Bar("reading [bold]") as bar:
            bar.start(total)
            bar.start(total)
            bar.advance(2)
        text = read()
    assert shown in text
    assert ("reading [bold]" in text) == (total != 0)
