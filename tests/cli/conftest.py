"""A configuration with a ledger of its own, and the command within the test's process."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.cli import main
from tests.support import canary
from tests.support import rehearsal as rehearsals
from tests.support.command import Result, Run
from tests.support.rehearsal import Rehearsal

CONFIG = """
[ledger]
url = "{url}"

[accounts.main]
provider = "fireworks"
api_key_env = "NO_SUCH_KEY"

[[policies]]
name = "support"
match = {{ labels = {{ app = "support" }} }}
delete_after = "14d"
deadline = "1d"
"""


@pytest.fixture
def config(tmp_path: Path, sqlite_url: str) -> Path:
    """The path of a configuration whose ledger is empty and upgraded."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(url=sqlite_url))
    path.chmod(0o600)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process: `run("check", stdin=b"…")`."""

    def call(*arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        canary.hear("".join(capsys.readouterr()))
        code = main.run([str(each) for each in arguments])
        written = capsys.readouterr()
        return Result(code=code, out=written.out, err=written.err)

    return call


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """A sandbox with an SQLite ledger and a configuration that names both."""
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made
