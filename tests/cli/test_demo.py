"""The demo does the whole job in a folder of its own, and does not take its own word for it."""

import json
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from sweeper.cli import demo
from sweeper.cli.call import Call
from sweeper.cli.stage import Stage
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Manner
from tests.support import command, terminal
from tests.support.command import Run

SUMMARY = {
    "type", "folder", "kept", "created", "registered", "still_there", "gone", "wrong", "sweep",
    "ok",
}  # fmt: skip


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where demos make their folders; a quote and a blank are in its name."""
    folder = tmp_path / "it's temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def folders(temporary: Path) -> list[Path]:
    return list(temporary.glob("sweeper-demo-*"))


def test_the_demo_deletes_what_is_due_and_leaves_nothing_behind(run: Run, temporary: Path) -> None:
    result = run("demo", "--responses", "40")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert re.fullmatch(rf"The demo runs in {re.escape(str(temporary))}/sweeper-demo-\w+", lines[0])
    assert lines[1] == "Created 40 responses of 4 applications, up to 25 days old."
    assert "12 of 12 due were planned: 12 deleted" in lines
    assert [line.split() for line in lines if line.startswith(("search ", "support chats "))][
        -2:
    ] == [
        ["search", "deleted", "6"],
        ["support", "chats", "deleted", "6"],
    ]
    assert (
        "At the sandbox now: 28 that were not due answer 200, 12 that were due answer 404." in lines
    )
    assert "WRONG" not in result.out
    assert folders(temporary) == []


def test_every_line_of_json_has_its_type_and_the_last_is_the_summary(
    run: Run, temporary: Path
) -> None:
    result = run("demo", "--responses", "23", "--json")
    assert (result.code, result.err) == (0, "")
    assert [line["type"] for line in result.lines] == ["plan", "outcome", "outcome", "summary"]
    summary = result.last
    assert set(summary) == SUMMARY
    assert (summary["created"], summary["registered"], summary["ok"]) == (23, 23, True)
    assert summary["gone"] == summary["sweep"]["verified"] == result.lines[0]["planned"]
    assert summary["still_there"] + summary["gone"] == 23
    assert not Path(summary["folder"]).exists()


def test_what_is_kept_can_be_looked_at_by_the_printed_commands(run: Run, temporary: Path) -> None:
    result = command.process("demo", "--responses", "20", "--keep", TMPDIR=str(temporary))
    assert result.code == 0, result.err
    assert len(folders(temporary)) == 1
    printed = [line for line in result.out.splitlines() if line.startswith("  ")]
    assert len(printed) == 5
    for line in printed:
        words = shlex.split(line)
        assert words[:3] == [sys.executable, "-m", "sweeper"]
        done = run(*words[3:])
        assert done.code == 0, (line, done.err)


def test_an_installed_command_is_printed_as_it_was_called(
    run: Run, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command_file = temporary / "sweeper"
    command_file.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(command_file)])
    assert f"  {command_file} -c FOLDER/config.toml status" in run("demo", "--responses", "20").out
    monkeypatch.setenv("PATH", str(temporary))
    assert "  sweeper -c FOLDER/config.toml status" in run("demo", "--responses", "20").out


@pytest.mark.parametrize("count", ["19", "x", "20001"])
def test_too_few_or_too_many_responses_are_refused(run: Run, count: str) -> None:
    assert run("demo", "--responses", count).code == 2


def play(folder: Path, *faults: Fault, as_json: bool = False) -> int:
    """Play the demo at a sandbox that does not do what it says."""
    with Stage(folder) as stage:
        stage.sandbox.call(lambda sandbox: sandbox.faults.add(*faults))
        call = Call(config_path=None, level=50)
        return demo.perform(call, stage, 20, demo.Teller(as_json=as_json), keep=False)


def test_a_server_that_lies_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(tmp_path, Fault(method="DELETE", do=Manner.LIE)) == 1
    out = capsys.readouterr().out
    assert "6 of 6 due were planned: 5 still present" in out
    assert len(re.findall(r"^WRONG: resp_\w+ answers 200$", out, re.MULTILINE)) == 6


def test_the_demo_looks_for_itself_and_does_not_trust_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lie = Fault(method="DELETE", do=Manner.LIE, times=1)
    # The first GET is the control's; those that verify all find nothing, whatever is there.
    body = b'{"error": {"message": "not there"}}'
    hide = Fault(method="GET", path="/v1/responses/", after=1, times=6, status=404, body=body)
    assert play(tmp_path, lie, hide, as_json=True) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["sweep"]["outcomes"] == {"deleted": 6}
    assert (lines[-1]["sweep"]["complete"], lines[-1]["ok"], lines[-1]["wrong"]) == (True, False, 1)
    assert (lines[-2]["type"], lines[-2]["status"]) == ("wrong", 200)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_folder_away(temporary: Path, number: signal.Signals) -> None:
    child = command.start("demo", "--responses", "20000", "--json")
    end = time.monotonic() + 30
    while not folders(temporary):
        assert time.monotonic() < end, "the demo did not begin"
    result = command.end(child, number)
    assert (result.code, result.error["error"]) == (3, "interrupted")
    assert re.search(r"the folder .*/sweeper-demo-\w+ is removed$", result.error["message"])
    assert folders(temporary) == []


def test_on_a_terminal_a_bar_shows_the_progress_and_none_of_it_is_a_result(
    temporary: Path,
) -> None:
    result, shown = terminal.run("demo")
    assert result.code == 0, shown
    assert "deleting" in shown
    assert "66/66" in shown
    assert "\x1b" not in result.out
    assert "deleting" not in result.out
    assert folders(temporary) == []
