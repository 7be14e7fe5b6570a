"""The README is short, and what it shows works."""

import importlib.util
import json
import re
import shlex
import sys
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.cli import main
from sweeper.config import load
from sweeper.ledger import admission, database, responses
from sweeper.sandbox.thread import SandboxThread
from tests.docs import pages

README = pages.read("README.md")
LONGEST = 150


def _commands() -> list[str]:
    return [
        line.strip()
        for line in re.findall(r"^ {4}(.*)$", README, re.MULTILINE)
        if line.strip().startswith("python3 -m venv .venv")
    ]


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= LONGEST


def test_the_two_commands_are_the_ones_that_ci_runs() -> None:
    ci = pages.read(".ci/run")

    assert len(_commands()) == 2
    assert all(command in ci for command in _commands())


def test_each_command_sets_itself_up() -> None:
    demo, tests = (shlex.split(command) for command in _commands())

    assert demo[:5] == tests[:5] == ["python3", "-m", "venv", ".venv", "&&"]
    assert demo[-2:] == [".venv/bin/sweeper", "demo"]
    assert ".venv/bin/pytest" in tests


def test_the_configuration_loads_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(pages.code(README, "toml"))
    path.chmod(0o600)

    config = load.load(path, {})

    assert [account.name for account in config.accounts] == ["main"]
    assert not config.warnings


def test_every_verb_that_is_shown_exists() -> None:
    shown = re.findall(r"^ {4}sweeper ([a-z]+)", README, re.MULTILINE)

    assert shown
    assert set(shown) <= set(main.VERBS)


def test_the_demo_says_what_the_session_shows(capsys: pytest.CaptureFixture[str]) -> None:
    code = main.run(["demo"])
    said = capsys.readouterr().out

    session = pages.section(README, "See it work, without a key")
    shown = re.findall(r"^ {4}(?!python3)(.*)$", session, re.MULTILINE)
    assert code == 0
    assert [
        line for line in map(_steady, shown) if line not in map(_steady, said.splitlines())
    ] == []


def _steady(line: str) -> str:
    """A line without what differs from run to run: times, widths, hashes."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", line)
    line = re.sub(r"plan [0-9a-f]{16}", "plan HASH", line)
    return " ".join(line.split())


@pytest.fixture
def provider() -> Iterator[SandboxThread]:
    with SandboxThread() as sandbox:
        yield sandbox


def test_the_example_registers_a_response_that_the_provider_stored(
    provider: SandboxThread, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("openai") is None:
        monkeypatch.setitem(sys.modules, "openai", _stand_in())
    monkeypatch.setenv("FIREWORKS_API_KEY", provider.key)
    example = pages.code(README, "python")
    for shown, real in (
        ("sqlite:////var/lib/sweeper/ledger.db", sqlite_url),
        ("https://api.fireworks.ai/inference/v1", f"{provider.base_url}/v1"),
    ):
        assert shown in example
        example = example.replace(shown, real)
    names: dict[str, Any] = {}

    exec(compile(example, "README.md", "exec"), names)

    answer = names["answer"]
    names["ledger"].close()
    if hasattr(names["provider"], "close"):
        names["provider"].close()
    row = _admitted(sqlite_url, answer.id)
    assert row.account == "main"
    assert json.loads(row.labels) == {"app": "support", "env": "prod"}
    assert row.subject == "u-17"
    assert row.created_at == int(answer.created_at) * 1_000_000
    assert (
        provider.call(lambda sandbox: sandbox.store.count(sandbox.account, now=sandbox.clock.now()))
        == 1
    )


def _admitted(url: str, response_id: str) -> responses.Response:
    db = database.open_database(url)
    try:
        with db.write() as connection:
            admission.drain(connection, now=2**52, longest=lambda _: 128)
        with db.read() as connection:
            return responses.show(connection, response_id, None)
    finally:
        db.close()


def _stand_in() -> types.ModuleType:
    """A module with the little of the OpenAI SDK that the example uses, where it is missing."""

    class OpenAI:
        def __init__(self, *, base_url: str, api_key: str) -> None:
            self._base_url, self._key = base_url, api_key
            self.responses = SimpleNamespace(create=self._create)

        def _create(self, **wish: object) -> SimpleNamespace:
            request = urllib.request.Request(
                f"{self._base_url}/responses",
                data=json.dumps(wish).encode(),
                headers={
                    "Authorization": f"Bearer {self._key}",
                    "Content-Type": "application/json",
                },
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                return SimpleNamespace(**json.load(answer))

    module = types.ModuleType("openai")
    vars(module)["OpenAI"] = OpenAI
    return module
