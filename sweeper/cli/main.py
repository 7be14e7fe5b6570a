"""The command `sweeper`: its verbs, its options before the verb, and how every call ends."""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Final, NoReturn

import click

from sweeper.cli import call, failure, output
from sweeper.cli.verbs import Verb, Verbs

VERBS: Final = {
    "sweep": Verb(module="sweeper.cli.sweep", summary="Delete what is due, once."),
    "run": Verb(module="sweeper.cli.run", summary="Sweep by a schedule: the daemon."),
    "plan": Verb(module="sweeper.cli.plan", summary="Show what is due, by policy, and why."),
    "explain": Verb(module="sweeper.cli.explain", summary="Explain what holds for one response."),
    "status": Verb(module="sweeper.cli.status", summary="Show what is late, stopped and open."),
    "responses": Verb(module="sweeper.cli.responses", summary="Register and look up responses."),
    "account": Verb(module="sweeper.cli.account", summary="Check accounts and lift their stops."),
    "doctor": Verb(module="sweeper.cli.doctor", summary="Examine all that a sweep relies on."),
    "report": Verb(module="sweeper.cli.report", summary="Report a period: deletions, lateness."),
    "db": Verb(module="sweeper.cli.db", summary="Upgrade, check and copy the ledger."),
    "check": Verb(module="sweeper.cli.check", summary="Check the configuration."),
    "config": Verb(
        module="sweeper.cli.config",
        summary="Show the configuration in effect, or what one may hold.",
    ),
    "health": Verb(module="sweeper.cli.health", summary="Ask the daemon whether it is well."),
    "demo": Verb(module="sweeper.cli.demo", summary="Show the whole job against the sandbox."),
    "sandbox": Verb(module="sweeper.cli.sandbox", summary="Run the stand-in provider."),
    "completion": Verb(
        module="sweeper.cli.completion", summary="Print what makes a shell complete our words."
    ),
}
NOT_BUILT: Final = (
    "approve", "hold", "pause", "resume", "policies", "audit",
)  # fmt: skip
_LOST_READER: Final = 1


@click.command(
    cls=Verbs,
    lazy=VERBS,
    not_built=NOT_BUILT,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: sweeper -c sweeper.toml plan",
)
@click.option(
    "-c",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration; else $SWEEPER_CONFIG, else /etc/sweeper/config.toml.",
)
@click.option("-v", "verbose", is_flag=True, help="Log more.")
@click.option("-q", "quiet", is_flag=True, help="Log warnings and errors only.")
@click.version_option(package_name="sweeper", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context, *, config_path: Path | None, verbose: bool, quiet: bool) -> None:
    """Delete stored LLM responses when their retention is over, and prove it."""
    if verbose and quiet:
        raise click.UsageError("-v and -q exclude each other", context)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    context.obj = call.Call(config_path=config_path, level=level)


def main() -> NoReturn:
    fill_missing_streams()
    output.survive_odd_encodings(sys.stdout, sys.stderr)
    if call.COMPLETE in os.environ:
        from sweeper.cli import completion

        sys.exit(completion.answer(group))
    sys.exit(run(sys.argv[1:]))


def fill_missing_streams() -> None:
    """Give what was started with a closed stream one that leads nowhere.

    Else the next file that is opened, which may be the ledger, would get the stream's number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def run(arguments: list[str]) -> int:
    """Do what the arguments say and return the exit code; a verb returns its own, or none for 0."""
    try:
        code = _called(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads the results any more; what is left in the buffer must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _LOST_READER
    except OSError as error:
        failure.tell(failure.of(error), as_json="--json" in arguments)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _LOST_READER
    return code


def _called(arguments: list[str]) -> int:
    try:
        with group.make_context("sweeper", list(arguments)) as context:
            code = group.invoke(context)
            return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message(), err=True)
        return asked.exit_code
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - each is told, none is kept
        told = failure.of(error)
        if told.code == "internal" and "-v" in arguments:
            traceback.print_exception(error)
        failure.tell(told, as_json="--json" in arguments)
        return told.exit_code
