"""The sandbox runs as a server of its own until it is told to end."""

import json
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.support import command
from tests.support.command import Run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_ends_it(tmp_path: Path, number: int) -> None:
    journal = tmp_path / "journal.jsonl"
    words = ("--key", "k1=acme", "--key", "k2=other", "--rate", 1000, "--journal", journal)
    child = command.start("sandbox", "--json", *words)
    assert child.stdout is not None
    told = json.loads(child.stdout.readline())
    assert (told["type"], told["keys"]) == ("sandbox", {"k1": "acme", "k2": "other"})
    url = f"{told['base_url']}/v1/responses"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer k1"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    result = command.end(child, number)
    assert (result.code, result.err) == (0, "")
    assert len(journal.read_text().splitlines()) == 1


def test_it_says_where_it_is_in_words(tmp_path: Path) -> None:
    script = tmp_path / "faults.json"
    script.write_text('[{"status": 500}]')
    child = command.start("sandbox", "--shape", "openai", "--faults", script)
    assert child.stdout is not None
    assert b"its base_url is http://127.0.0.1:" in child.stdout.readline()
    assert command.end(child).code == 0


@pytest.mark.parametrize(
    "words",
    [("--key", "nothing"), ("--key", "a=b", "--key", "a=c"), ("--key", "=x"), ("--port", "70000")],
)
def test_odd_words_are_refused(run: Run, words: tuple[str, ...]) -> None:
    assert run("sandbox", *words).code == 2


def test_a_faulty_script_is_refused(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "faults.json"
    script.write_text('[{"statu": 500}]')
    result = run("sandbox", "--faults", script)
    assert result.code == 2
    assert "statu" in result.err
    assert run("sandbox", "--faults", tmp_path / "none").code == 1


def test_a_port_that_is_taken_is_told(run: Run) -> None:
    child = command.start("sandbox", "--json")
    assert child.stdout is not None
    port = json.loads(child.stdout.readline())["origin"].rpartition(":")[2]
    result = command.process("sandbox", "--port", port)
    assert result.code == 1
    assert result.err.splitlines() == [
        f"error: port {port} of 127.0.0.1 is in use",
        "hint: name another with --port, or none for any that is free",
    ]
    assert command.end(child).code == 0
