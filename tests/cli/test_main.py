"""How every call begins and ends: verbs, exit codes, and who gets which stream."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest

from sweeper import errors
from sweeper.cli import failure, main
from sweeper.cli.verbs import Verbs
from tests.support import command
from tests.support.command import Run
from tests.support.rehearsal import Rehearsal


def leaves(group: Verbs, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group, info_name="sweeper")
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        if isinstance(verb, Verbs):
            found |= leaves(verb, (*path, name))
        else:
            found[(*path, name)] = verb
    return found


def test_help_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from sweeper.cli import main; code = main.run(['--help']);"
        "heavy = {'sqlalchemy', 'alembic', 'pydantic', 'structlog', 'httpx', 'rich', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=command.environment(),
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_help_names_every_verb_with_the_first_sentence_of_its_own_help(run: Run) -> None:
    shown = run("--help").out
    context = click.Context(main.group, info_name="sweeper")
    for name, verb in main.VERBS.items():
        assert f"  {name} " in shown
        assert verb.summary in shown
        assert main.group.get_command(context, name) is not None


def test_every_verb_has_help_with_an_example_and_every_option_says_what_it_is_for() -> None:
    for path, verb in leaves(main.group).items():
        context = click.Context(verb, info_name=" ".join(("sweeper", *path)))
        text = " ".join(verb.get_help(context).split())
        assert f"sweeper {' '.join(path)}" in text.partition("Example: ")[2], path
        for parameter in verb.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


def test_every_verb_can_print_json() -> None:
    for path, verb in leaves(main.group).items():
        assert any("--json" in parameter.opts for parameter in verb.params), path


@pytest.mark.parametrize("name", main.NOT_BUILT)
def test_a_verb_that_is_not_built_is_refused_by_name(run: Run, name: str) -> None:
    result = run(name, "--whatever")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: sweeper {name} is not built yet")


@pytest.mark.parametrize(
    "words",
    [("sweep", "--plan", "f"), ("sweep", "--plan=f"), ("plan", "--save", "f"), ("demo", "--serve")],
)
def test_so_is_an_option(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    option = words[1].partition("=")[0]
    assert result.code == 2
    assert f"sweeper {words[0]} {option} is not built yet" in result.err
    assert "No such option" in run(words[0], "--savee").err


def test_an_unknown_verb_is_refused_with_the_one_that_was_meant(run: Run) -> None:
    result = run("swep")
    assert result.code == 2
    assert result.err == "error: sweeper has no verb 'swep'\nhint: did you mean sweep?\n"
    assert "hint: see: sweeper --help" in run("frobnicate").err


def test_without_a_verb_the_help_is_shown_as_an_error(run: Run) -> None:
    result = run()
    assert (result.code, result.out) == (2, "")
    assert "Verbs:" in result.err


def test_an_unknown_option_is_a_usage_error_in_words_or_as_json(run: Run) -> None:
    result = run("check", "--jsn")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert "hint: see: sweeper check --help" in result.err
    assert run("check", "--json", "--nope").error["error"] == "usage"


def test_verbose_and_quiet_exclude_each_other(run: Run) -> None:
    assert run("-v", "-q", "check").code == 2


def test_a_fault_of_the_configuration_ends_with_10_and_tells_every_fault(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "faulty.toml"
    path.write_text('[log]\nformat = "x"\n[audit]\n')
    result = run("-c", path, "check")
    assert (result.code, result.out) == (10, "")
    assert result.err.splitlines() == [
        f"error: {path} has 2 faults",
        "  log.format: " + 'write "auto" or "json" or "console"',
        "  audit: is not built yet in this version of sweeper; leave it out",
    ]
    told = run("-c", path, "check", "--json").error
    assert (told["type"], told["exit_code"], told["error"]) == ("error", 10, "configuration")
    assert len(told["faults"]) == 2


def test_a_missing_configuration_is_named_with_a_hint() -> None:
    result = command.process("check", SWEEPER_CONFIG="/none/such.toml")
    assert (result.code, result.out) == (10, "")
    assert "/none/such.toml cannot be read" in result.err
    assert "hint: name the file with -c" in result.err


def test_the_module_runs_as_the_command_does(config: Path) -> None:
    result = command.process("-c", config, "check")
    assert result.code == 0
    assert result.out.endswith("can be used: 1 account, 1 policy\n")
    assert result.err == ""


def test_foreign_text_in_an_error_moves_no_cursor(run: Run) -> None:
    assert "\\x1b[2J" in run("-c", "/none/\x1b[2J", "check").err


def test_a_fault_of_our_own_tells_its_kind_and_place_and_not_its_text(
    run: Run, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    from sweeper.config import load  # noqa: PLC0415 - what the verb imports when it is called

    def broken(*_: object) -> None:
        raise RuntimeError("fw_hush")

    monkeypatch.setattr(load, "load", broken)
    result = run("-c", config, "check")
    assert result.code == 1
    assert "RuntimeError at " in result.err
    assert "test_main.py" in result.err
    assert "fw_hush" not in result.err
    assert "Traceback" in run("-v", "-c", config, "check").err
    assert run("check", "--json").error["error"] == "internal"


@pytest.mark.parametrize(
    "error,code,word",
    [
        (errors.LedgerBusy(), 11, "ledger_busy"),
        (errors.AccountStopped(), 12, "account_stopped"),
        (errors.SchemaMismatch(), 13, "schema"),
        (errors.Interrupted(), 3, "interrupted"),
        (errors.UsageError(), 2, "usage"),
        (errors.SweeperError(), 1, "failed"),
        (click.ClickException("no"), 1, "failed"),
        (click.UsageError("no"), 2, "usage"),
        (KeyboardInterrupt(), 3, "interrupted"),
        (PermissionError(13, "Permission denied", "file"), 1, "failed"),
        (OSError(), 1, "failed"),
        (KeyError("x"), 1, "internal"),
    ],
)
def test_every_error_has_its_exit_code_and_its_word(
    error: BaseException, code: int, word: str
) -> None:
    told = failure.of(error)
    assert (told.exit_code, told.code) == (code, word)
    assert told.message


def test_a_reader_that_goes_away_is_no_reason_to_complain(config: Path) -> None:
    child = command.start("-c", config, "config", "show")
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    result = command_end(child)
    assert result == (1, "")


def command_end(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    assert child.stdin is not None
    assert child.stderr is not None
    child.stdin.close()
    with child.stderr as stream:
        told = stream.read().decode()
    return child.wait(timeout=60), told


def test_results_that_cannot_be_written_are_a_failure(config: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", "-c", str(config), "config", "show", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=command.environment(),
            check=False,
        )
    assert done.returncode == 1
    told = json.loads(done.stderr)
    assert told["message"] == "No space left on device"
    assert "send the output elsewhere" in told["hint"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_sweep_whose_streams_are_closed_sweeps_and_ends_with_its_own_code(
    rehearsal: Rehearsal, closed: str
) -> None:
    """Else the ledger would be opened under the number of a stream, and be written over."""
    rehearsal.responses(2)
    rehearsal.responses(1, stored=False)
    rehearsal.fault(method="DELETE", times=1, status=500)
    line = f'exec "$@" {closed}'
    words = [sys.executable, "-m", "sweeper", "-v", "-c", str(rehearsal.config), "sweep"]
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *words],
        capture_output=True,
        env=command.environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert rehearsal.requests("DELETE") == 3
    assert b"Traceback" not in done.stderr
    assert Counter(row["outcome"] for row in rehearsal.rows())["failing"] == 1
    checked = command.process("-c", rehearsal.config, "db", "check")
    assert checked.code == 0, checked.out


def test_what_a_closed_stream_is_replaced_by_has_its_number(tmp_path: Path) -> None:
    """Whatever is opened next, here a file, gets another, and a child inherits the stream."""
    code = (
        "import os, sys; from sweeper.cli import main; main.fill_missing_streams();"
        f"file = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY);"
        "print('lost'); print('lost', file=sys.stderr);"
        "kept = [os.path.realpath(f'/proc/self/fd/{n}') for n in range(3)];"
        "fit = file > 2 and kept == ['/dev/null'] * 3 and all(map(os.get_inheritable, range(3)));"
        "os._exit(7 if fit else 1)"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", sys.executable, "-c", code],
        env=command.environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 7


def test_a_stream_of_another_encoding_gets_escapes(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[[policies]]\nname = "Löschen"\ndelete_after = "1d"\n')
    result = command.process("-c", path, "config", "show", PYTHONIOENCODING="ascii")
    assert result.code == 0
    assert "L\\xf6schen" in result.out


def test_of_several_faults_at_once_the_first_is_told() -> None:
    told = failure.of(ExceptionGroup("both", [errors.LedgerBusy("busy"), ValueError("x")]))

    assert (told.exit_code, told.code, told.message) == (11, "ledger_busy", "busy")
