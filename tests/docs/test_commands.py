"""docs/commands.md says all that the command can do, and nothing that it cannot."""

import ast
import re
from collections.abc import Iterator

import click
import pytest

from sweeper import errors
from sweeper.cli import failure, main
from sweeper.cli.verbs import OptionsToCome, Verbs
from sweeper.domain.answer import AnswerKind
from sweeper.domain.decision import Verdict
from sweeper.domain.response import State
from tests.docs import pages

PAGE = pages.read("docs/commands.md")
CLI = sorted((pages.ROOT / "sweeper" / "cli").glob("*.py"))


def _commands() -> dict[str, click.Command]:
    """Every verb by its full name; groups are not verbs."""
    return dict(_walk("sweeper", main.group))


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _walk(f"{path} {name}", found)


COMMANDS = _commands()


def _options(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_verb_is_documented_and_no_other(name: str) -> None:
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", pages.own_section(PAGE, name)))

    assert _options(COMMANDS[name]) <= documented
    assert documented <= _options(COMMANDS[name])


def test_no_verb_is_documented_that_does_not_exist() -> None:
    headings = set(re.findall(r"^#+ (sweeper .*)$", PAGE, re.MULTILINE))
    groups = {name.rpartition(" ")[0] for name in COMMANDS} - {"sweeper"}

    assert headings == COMMANDS.keys() | groups


def test_the_options_before_the_verb_are_documented() -> None:
    head = PAGE.partition("## Exit codes")[0]

    assert _options(main.group) <= set(re.findall(r"--?[a-z]+", head))


def test_what_is_not_built_is_named() -> None:
    named = pages.words(pages.section(PAGE, "Not built yet"))
    groups = [click.Context(main.group), *_groups()]

    for context in groups:
        assert isinstance(context.command, Verbs)
        assert context.command.not_built <= named


def test_nothing_is_called_not_built_that_is() -> None:
    section = " ".join(pages.section(PAGE, "Not built yet").split())
    verbs: set[str] = set()
    for context in (click.Context(main.group), *_groups()):
        assert isinstance(context.command, Verbs)
        verbs |= context.command.not_built

    assert set(re.findall(r"`([a-z]+)`", section)) == verbs


def test_every_option_called_not_built_is_refused_so(capsys: pytest.CaptureFixture[str]) -> None:
    section = " ".join(pages.section(PAGE, "Not built yet").split())
    options = re.findall(r"`([a-z]+ --[a-z -]+)`", section)

    assert "report --format html" in options
    for words in options:
        assert main.run(words.split()) == 2
        assert f"sweeper {words} is not built yet" in capsys.readouterr().err


def test_options_that_are_not_built_are_named() -> None:
    named = pages.section(PAGE, "Not built yet")
    options = {
        f"`{name.removeprefix('sweeper ')} {option}`"
        for name, command in COMMANDS.items()
        if isinstance(command, OptionsToCome)
        for option in command.not_built
    }

    assert len(options) == 3
    assert {option for option in options if option not in " ".join(named.split())} == set()


def test_every_answer_to_a_try_is_explained() -> None:
    told = pages.words(pages.section(PAGE, "sweeper explain"))

    assert {kind.value for kind in AnswerKind} <= told


def _groups() -> Iterator[click.Context]:
    context = click.Context(main.group)
    for name in main.group.list_commands(context):
        command = main.group.get_command(context, name)
        if isinstance(command, Verbs):
            yield click.Context(command)


def _errors(kind: type[errors.SweeperError]) -> Iterator[type[errors.SweeperError]]:
    yield kind
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from _errors(one)


def _exit_codes() -> dict[int, set[str]]:
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|", PAGE, re.MULTILINE)
    return {int(code): set(re.findall(r"`(\w+)`", named)) for code, named in rows}


def test_every_error_code_stands_at_its_exit_code() -> None:
    documented = _exit_codes()

    for kind in _errors(errors.SweeperError):
        assert kind.code in documented[kind.exit_code]
    told = failure.of(KeyboardInterrupt()), failure.of(RuntimeError())
    assert all(each.code in documented[each.exit_code] for each in told)


def test_no_error_code_is_documented_that_does_not_exist() -> None:
    codes = {kind.code for kind in _errors(errors.SweeperError)} | {"internal", "interrupted"}

    assert set().union(*_exit_codes().values()) == codes
    assert set(_exit_codes()) == {0, 1, 2, 3, 10, 11, 12, 13, 14}


def test_states_and_verdicts_are_documented() -> None:
    named = pages.words(PAGE)

    assert {state.value for state in State} <= named
    assert {verdict.value for verdict in Verdict} <= named


def _json_kinds() -> set[str]:
    """What `type` can be: the first argument of whatever writes a JSON line."""
    kinds = set()
    for path in CLI:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_json_writer(node.func):
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    kinds.add(str(first.value))
    return kinds


def _is_json_writer(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr in {"json_line", "fields"}


def _json_fields() -> set[str]:
    """The keys of what is printed: words that stand as keys in the verbs' own dictionaries."""
    return {
        key.value
        for path in CLI
        if path.name not in {"stage.py", "verbs.py", "config.py", "main.py"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def test_every_kind_of_json_is_documented() -> None:
    kinds = _json_kinds()

    assert {"summary", "plan", "status", "response", "rejected"} <= kinds
    assert {kind for kind in kinds if f'"type":"{kind}"' not in PAGE} == set()


def test_every_field_of_json_is_documented() -> None:
    fields = _json_fields()

    assert {"sweep_id", "takes_seconds", "waits_for_reset", "created_until"} <= fields
    assert fields - set(re.findall(r"[a-z0-9_]+", PAGE)) == set()
