"""zsh and fish complete our words as bash does."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import command

pytestmark = pytest.mark.deploy


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A folder of commands that holds ours."""
    program = tmp_path / "sweeper"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sweeper "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


def asked(shell: str, options: list[str], script: str, path: str) -> list[str]:
    program = shutil.which(shell)
    assert program is not None, f"install {shell}"
    done = subprocess.run(
        [program, *options, script],
        capture_output=True,
        text=True,
        env=command.environment({"PATH": path, "TERM": "dumb"}),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_fish_completes_verbs_and_options(path: str) -> None:
    script = "sweeper completion fish | source; complete -C '{}'"
    for line, word in (("sweeper comp", "completion"), ("sweeper sweep --dry", "--dry-run")):
        told = asked("fish", ["--no-config", "-c"], script.format(line), path)
        assert [each.split("\t")[0] for each in told] == [word]


def test_zsh_completes_verbs_and_options(path: str) -> None:
    # Where zsh would show the words, print them: outside of a terminal nobody presses a key.
    script = """
    autoload -U compinit && compinit -u -D
    eval "$(sweeper completion zsh)"
    [[ ${_comps[sweeper]} == _sweeper_completion ]] || exit 7
    _describe() { print -l -- $completions_with_descriptions; }
    compadd() { print -l -- $completions; }
    words=(%s); CURRENT=${#words}
    _sweeper_completion
    """
    for line, word in (("sweeper comp", "completion"), ("sweeper sweep --dry", "--dry-run")):
        told = asked("zsh", ["-f", "-c"], script % line, path)
        assert [each.split(":")[0] for each in told] == [word]
