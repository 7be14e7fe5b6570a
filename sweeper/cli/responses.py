"""`sweeper responses`: register stored responses, look them up, and decide about them."""

import gc
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from sweeper import errors
from sweeper.cli import failure, intervene, lookup, output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.interruption import Interruptible
from sweeper.cli.progress import Bar
from sweeper.cli.verbs import Verbs

if TYPE_CHECKING:
    from sweeper.config.settings import Config
    from sweeper.service.intake import Batch, Tally
    from sweeper.service.lines import Line

_OBJECTS_AT_ONCE: Final = 200_000
"""How many new objects there may be before Python looks for cycles among them."""


@click.group("responses", cls=Verbs)
def command() -> None:
    """Register stored responses, look them up, and decide about single ones."""


@command.command(
    "add",
    epilog="Example: sweeper responses add resp_1 --created-at 1763769600 --label app=support",
)
@click.argument("id")
@click.option("--created-at", required=True, metavar="TIME", help="Unix seconds or RFC 3339.")
@click.option("--account", metavar="NAME", help="The account it is stored in.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--subject", metavar="TEXT", help="An opaque reference to the data subject.")
@click.option("--previous", metavar="ID", help="The response that this one continues.")
@as_json
@pass_call
def add(
    call: Call,
    *,
    id: str,  # noqa: A002 - the argument is called so
    created_at: str,
    account: str | None,
    labels: tuple[str, ...],
    subject: str | None,
    previous: str | None,
    as_json: bool,
) -> None:
    """Register one response by its ID.

    The account may be left out where only one is configured.
    """
    from sweeper.service import intake, lines

    line = {
        "id": id,
        "created_at": lines.timestamp(created_at),
        "labels": lookup.labels(labels),
        "subject": subject,
        "previous_response_id": previous,
    }
    config = call.config()
    with call.ledger(config) as database:
        only = [lines.Line(number=1, value=line)]
        (batch,) = intake.register(database, only, config=config, default_account=account)
    if batch.rejected:
        raise errors.InvalidRegistration(
            f"it was rejected: {_told(batch.rejected[0].reason)}",
            hint=_hint(batch.rejected[0].reason),
        )
    if as_json:
        output.json_line("summary", _fields(batch.tally))
    else:
        output.line(_sentence(batch.tally))
    if account is not None:
        _warn({account}, config, as_json=as_json)


def _told(reason: str) -> str:
    """The reason, and what else it did: a conflict is a person's to decide."""
    if not reason.startswith("conflicting:"):
        return reason
    return f"{reason}; the known response is set aside too, until a person decides"


def _hint(reason: str) -> str | None:
    if not reason.startswith("bad_created_at"):
        return None
    return "write Unix seconds, as 1763769600, or RFC 3339, as 2025-11-22T00:00:00Z"


def _warn(names: Collection[str], config: "Config", *, as_json: bool) -> None:
    """Warn once of each account at which nothing can be deleted."""
    for name in sorted(names):
        if config.account(name) is None:
            failure.warn(
                f"account {name} is not configured: nothing is deleted there until it is",
                as_json=as_json,
                account=name,
            )


@command.command("import", epilog="Example: sweeper responses import - < registered.jsonl")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--account", metavar="NAME", help="For lines that name no account.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    help="What FILE holds; by default csv where its name ends so, jsonl otherwise.",
)
@as_json
@pass_call
def import_(call: Call, *, file: Path, account: str | None, form: str | None, as_json: bool) -> int:
    """Register the responses in FILE; - reads the standard input.

    JSON lines: {"id":"resp_1","created_at":1763769600,"account":"main","labels":{"app":"x"},
    "subject":"u-17","previous_response_id":null,"store":true}. CSV has a header with the same
    names, where labels is a JSON object and label.NAME one label. Lines that break the rules are
    named and the others kept (exit code 1). Importing again what is known changes nothing.
    """
    from sweeper.service import intake, lines

    config = call.config()
    form = form or ("csv" if file.suffix.lower() == ".csv" else "jsonl")
    names = set() if account is None else {account}
    with (
        _stream(file) as stream,
        call.ledger(config) as database,
        Interruptible() as ctrl_c,
        _rarely_collecting(),
    ):
        read = ctrl_c.until(lines.of_csv(stream) if form == "csv" else lines.of_json(stream))
        read = _noting(read, names)
        batches = intake.register(database, read, config=config, default_account=account)
        tally, fault = _count(batches, as_json=as_json)
    _warn(names, config, as_json=as_json)
    if as_json:
        output.json_line("summary", _fields(tally))
    else:
        output.line(_sentence(tally))
    if fault is not None:
        sys.stdout.flush()
        raise fault
    if ctrl_c.asked:
        sys.stdout.flush()
        raise errors.Interrupted(
            "interrupted: what was counted is kept", hint="run it again for the rest"
        )
    return 1 if tally.rejected else 0


def _noting(read: "Iterable[Line]", names: set[str]) -> "Iterator[Line]":
    """Pass the lines on, and note which accounts they name."""
    from sweeper.domain import response

    last: str | None = None
    for line in read:
        named = line.value.get("account") if isinstance(line.value, dict) else None
        if named != last and response.is_account_name(named):
            names.add(named)
            last = named
        yield line


def _count(
    batches: "Iterable[Batch]", *, as_json: bool
) -> "tuple[Tally, errors.LedgerError | None]":
    """Add up what was kept, also where the ledger could not take the rest."""
    from sweeper.service import intake

    tally = intake.Tally()
    with Bar("registering") as bar:
        bar.start()
        try:
            for batch in batches:
                tally += batch.tally
                bar.advance(batch.tally.read)
                _tell_rejected(batch, as_json=as_json)
        except errors.LedgerError as fault:
            return tally, fault
    return tally, None


def _tell_rejected(batch: "Batch", *, as_json: bool) -> None:
    for each in batch.rejected:
        reason = _told(each.reason)
        if as_json:
            output.json_line("rejected", {"line": each.line, "reason": reason})
        else:
            output.note(f"line {each.line}: {reason}")


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    """A batch is many objects without a cycle: looking for one again and again took a fifth."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS_AT_ONCE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _stream(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as fault:
        raise errors.SweeperError(
            f"{file}: {fault.strerror}", hint="name a file that you may read, or - for stdin"
        ) from None
    with stream:
        yield stream


def _fields(tally: "Tally") -> dict[str, object]:
    return {
        "read": tally.read,
        "added": tally.added,
        "completed": tally.completed,
        "known": tally.known,
        "skipped": tally.skipped,
        "rejected": tally.rejected,
    }


def _sentence(tally: "Tally") -> str:
    return ", ".join(f"{count:,} {name}" for name, count in _fields(tally).items())


command.add_command(lookup.list_)
command.add_command(lookup.show)
command.add_command(intervene.retry)
command.add_command(intervene.correct)
command.add_command(intervene.close)
