"""`sweeper completion`: what makes a shell complete our words, and the answer when it asks."""

import os
from typing import Final

import click

from sweeper.cli import output
from sweeper.cli.call import COMPLETE, as_json

_SHELLS: Final = ("bash", "zsh", "fish")
_NAME: Final = "sweeper"


@click.command("completion", epilog="""Example: eval "$(sweeper completion bash)\"""")
@click.argument("shell", metavar="SHELL", type=click.Choice(_SHELLS))
@as_json
@click.pass_context
def command(context: click.Context, *, shell: str, as_json: bool) -> None:
    """Print the script by which bash, zsh or fish completes verbs and options.

    For good: bash keeps it in ~/.local/share/bash-completion/completions/sweeper, zsh as _sweeper
    in a folder of $fpath, fish in ~/.config/fish/completions/sweeper.fish.
    """
    from click import shell_completion

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None, "click knows each of them"
    asking = kind(context.find_root().command, {}, _NAME, COMPLETE)
    # Not its source(): that starts a bash to learn its version.
    script = asking.source_template % asking.source_vars()
    if as_json:
        output.json_line("completion", {"shell": shell, "script": script})
        return
    click.echo(script.rstrip("\n"))


def answer(group: click.Group) -> int:
    """Answer a shell that asks how the words in its variables may go on; return the exit code.

    Whatever is wrong with them, nothing is said: a person is in the middle of a line, and hears
    of it when the command is called.
    """
    from click import shell_completion

    try:
        return shell_completion.shell_complete(group, {}, _NAME, COMPLETE, os.environ[COMPLETE])
    except Exception:  # noqa: BLE001 - see above
        return 1
