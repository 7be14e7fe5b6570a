"""`sweeper sandbox`: the stand-in provider as a server, for rehearsals."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper import errors
from sweeper.cli import output
from sweeper.cli.call import as_json

if TYPE_CHECKING:
    from sweeper.sandbox.faults import Fault
    from sweeper.sandbox.server import Sandbox


@click.command(
    "sandbox", epilog="Example: sweeper sandbox --port 8700 --rate 100 --journal requests.jsonl"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=0,
    show_default="any that is free",
    type=click.IntRange(0, 65535),
    help="The port to listen on.",
)
@click.option(
    "--shape",
    default="fireworks",
    show_default=True,
    type=click.Choice(["fireworks", "openai"]),
    help="Whose API it speaks.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY=ACCOUNT",
    help="A key that it accepts, and whose it is; may be repeated.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Requests per second that each account may send; unlimited by default.",
)
@click.option(
    "--burst",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Requests that may come at once within the rate.",
)
@click.option(
    "--faults",
    "script",
    type=click.Path(path_type=Path),
    help="A JSON file with a list of rules for what goes wrong.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    help="A file to which a JSON line is appended for every request.",
)
@as_json
def command(
    *,
    host: str,
    port: int,
    shape: str,
    keys: tuple[str, ...],
    rate: float | None,
    burst: int,
    script: Path | None,
    journal: Path | None,
    as_json: bool,
) -> None:
    """Run the stand-in provider until Ctrl-C or SIGTERM.

    It keeps its responses in memory and owns a clock that can be moved. Under /_sandbox/ it is
    told so from loopback: clock, seed, faults, state and journal. Never give it a real key.
    """
    import asyncio

    from sweeper.sandbox import process
    from sweeper.sandbox.shapes import Shape

    serving = process.serve(
        host,
        port,
        keys=_keys(keys),
        shape=Shape(shape),
        rate=rate,
        burst=burst,
        faults=_faults(script),
        journal=journal,
        ready=lambda sandbox: _tell(sandbox, as_json=as_json),
    )
    with _listening(host, port):
        asyncio.run(serving)


@contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno != errno.EADDRINUSE:
            raise
        raise errors.SweeperError(
            f"port {port} of {host} is in use",
            hint="name another with --port, or none for any that is free",
        ) from None


def _keys(given: tuple[str, ...]) -> dict[str, str] | None:
    keys: dict[str, str] = {}
    for text in given:
        key, separator, account = text.partition("=")
        if not (key and separator and account) or key in keys:
            raise errors.UsageError("--key: write KEY=ACCOUNT, each key once")
        keys[key] = account
    return keys or None


def _faults(script: Path | None) -> "list[Fault]":
    from sweeper.sandbox import faults

    if script is None:
        return []
    try:
        return faults.read(script.read_bytes())
    except ValueError as error:
        raise errors.UsageError(f"--faults {script}: {error}") from None


def _tell(sandbox: "Sandbox", *, as_json: bool) -> None:
    """Say where it is, in words that can be copied into a configuration."""
    import sys

    if as_json:
        fields = {"base_url": sandbox.base_url, "origin": sandbox.origin, "keys": sandbox.keys}
        output.json_line("sandbox", fields)
    else:
        output.line(f"the sandbox listens; its base_url is {sandbox.base_url}")
        for key, account in sandbox.keys.items():
            output.line(f"the key {key} is that of account {account}")
        output.line(f"move its clock and more under {sandbox.origin}/_sandbox/; Ctrl-C ends it")
    sys.stdout.flush()
