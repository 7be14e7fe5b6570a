"""A shell completes verbs and options, and a line that is wrong so far is left alone."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.cli import main
from tests.support import command
from tests.support.command import Run

SHELLS = ("bash", "zsh", "fish")
Complete = Callable[[str], set[str]]

# What readline does: find the function of the command, tell it the line, and take its reply.
DRIVER = """
eval "$(sweeper completion bash)"
line=$1
COMP_WORDS=($line)
[[ $line == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
COMP_LINE=$line
COMP_POINT=${#line}
compopt() { printf 'compopt %s %s\n' "$1" "$2"; }
[[ $(complete -p sweeper) =~ -F\\ ([^ ]+) ]]
"${BASH_REMATCH[1]}" sweeper "${COMP_WORDS[COMP_CWORD]}" ""
(( ${#COMPREPLY[@]} == 0 )) || printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A folder of commands that holds ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "sweeper"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sweeper "$@"\n')
    program.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


@pytest.fixture
def complete(path: str) -> Complete:
    """Let a real bash complete the line and return what it would offer."""
    bash = shutil.which("bash")
    assert bash is not None

    def ask(line: str) -> set[str]:
        done = subprocess.run(
            [bash, "--norc", "-c", DRIVER, "bash", line],
            capture_output=True,
            text=True,
            env=command.environment({"PATH": path}),
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return set(done.stdout.splitlines())

    return ask


def test_bash_completes_every_verb(complete: Complete) -> None:
    assert complete("sweeper ") == set(main.VERBS)
    assert complete("sweeper co") == {"completion", "config"}


def test_bash_completes_verbs_of_a_group_behind_options(complete: Complete) -> None:
    assert complete("sweeper -q account r") == {"reset"}


def test_bash_completes_options_and_their_values(complete: Complete) -> None:
    assert complete("sweeper sweep --dry") == {"--dry-run"}
    assert complete("sweeper sandbox --shape ") == {"fireworks", "openai"}
    assert complete("sweeper completion ") == set(SHELLS)


def test_bash_completes_the_name_of_a_file_itself(complete: Complete) -> None:
    assert complete("sweeper -c ") == {"compopt -o default"}


@pytest.mark.parametrize("line", ["sweeper swep --", "sweeper approve ", "sweeper account x "])
def test_a_line_that_is_wrong_so_far_is_left_alone(complete: Complete, line: str) -> None:
    assert complete(line) == set()


def test_nothing_is_read_or_made_while_a_line_is_typed(complete: Complete, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert complete(f"sweeper -c {tmp_path}/none.toml db up") == {"upgrade"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_question_of_no_known_kind_is_not_answered() -> None:
    for asked in ("", "bash", "bash_tell", "tcsh_complete", "bash_complete"):
        result = command.process("plan", _SWEEPER_COMPLETE=asked)
        assert (result.code, result.out, result.err) == (1, "", ""), asked


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_by_the_variable_that_we_answer(run: Run, shell: str) -> None:
    script = run("completion", shell)
    assert script.code == 0
    assert f"_SWEEPER_COMPLETE={shell}_complete" in script.out
    told = json.loads(run("completion", shell, "--json").out)
    assert told == {"type": "completion", "shell": shell, "script": told["script"]}
    assert told["script"].strip() == script.out.strip()


def test_zsh_gets_the_words_with_what_they_are_for() -> None:
    done = command.process(
        "x", _SWEEPER_COMPLETE="zsh_complete", COMP_WORDS="sweeper account re", COMP_CWORD="2"
    )
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["plain", "reset"]


def test_another_shell_is_refused_by_name(run: Run) -> None:
    result = run("completion", "tcsh")
    assert result.code == 2
    assert "tcsh" in result.err


def test_without_a_shell_the_choices_are_told_in_a_plain_line(run: Run) -> None:
    result = run("completion")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].endswith("Choose from: bash, zsh, fish")
    assert "\\x" not in result.err
