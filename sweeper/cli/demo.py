"""`sweeper demo`: the whole main job against the sandbox, in a temporary folder."""

import shlex
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper import errors
from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.verbs import OptionsToCome

if TYPE_CHECKING:
    from sweeper.cli.stage import Sight, Stage
    from sweeper.config.settings import Config
    from sweeper.domain.event import Event
    from sweeper.engine.sweep import Ended
    from sweeper.ledger.database import Database

_LOOK_AROUND = ("status", "plan", "responses list", "explain {id}", "account list")


@click.command(
    "demo",
    cls=OptionsToCome,
    not_built=("--serve",),
    epilog="Example: sweeper demo --responses 500 --keep",
)
@click.option(
    "--responses",
    "count",
    type=click.IntRange(min=20, max=20_000),
    default=240,
    show_default=True,
    help="How many responses to create.",
)
@click.option("--keep", is_flag=True, help="Keep the folder, to look around in it.")
@as_json
@pass_call
def command(call: Call, *, count: int, keep: bool, as_json: bool) -> int:
    """Run the whole job once, without a key and without a network.

    Starts the sandbox on a free loopback port, creates responses of several applications and
    ages there, registers them, plans, sweeps through the code that production uses, and then
    asks the sandbox what is left.
    """
    from sweeper.cli.stage import Stage
    from sweeper.cli.sweep import terminable

    folder: Path | None = None
    with terminable():
        try:
            with _undisturbed():
                folder = Path(tempfile.mkdtemp(prefix="sweeper-demo-"))
            with Stage(folder) as stage:
                told = Teller(as_json=as_json)
                told.say(f"The demo runs in {folder}")
                return perform(call, stage, count, told, keep=keep)
        except KeyboardInterrupt:
            left = "stays" if keep else "is removed"
            where = "" if folder is None else f"; the folder {folder} {left}"
            raise errors.Interrupted(f"interrupted{where}") from None
        finally:
            if folder is not None and not keep:
                with _undisturbed():
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals wait, so that no folder is left behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Teller:
    """Says what happens: sentences and tables for people, JSON lines for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, text: str = "") -> None:
        if not self.as_json:
            output.line(text)

    def fields(self, kind: str, fields: Mapping[str, object]) -> None:
        if self.as_json:
            output.json_line(kind, fields)


def perform(call: Call, stage: "Stage", count: int, told: Teller, *, keep: bool) -> int:
    """Play the demo on a stage; returns the exit code, 1 if the sandbox shows anything wrong."""
    from sweeper.service import assembly

    stage.create(count)
    told.say(f"Created {count} responses of {len(stage.apps)} applications, up to 25 days old.")
    config = stage.config()
    assembly.make_ledger(config)
    database = assembly.open_ledger(config)
    try:
        registered = stage.register(config, database)
        told.say(f"Registered {registered} of them in the ledger {stage.ledger}")
        told.say()
        _plan(config, database, told)
        ended, outcomes = _sweep(call, config, database, told)
    finally:
        database.close()
    _outcomes(outcomes, told)
    if ended.summary.stop_reason == "interrupted":
        raise KeyboardInterrupt
    sight = stage.look()
    _compare(sight, told)
    _look_around(stage, [*sight.gone, *sight.kept, *sight.wrong][0], told, keep=keep)
    ok = not sight.wrong and ended.summary.complete
    told.fields(
        "summary",
        {
            "folder": str(stage.folder),
            "kept": keep,
            "created": count,
            "registered": registered,
            "still_there": len(sight.kept),
            "gone": len(sight.gone),
            "wrong": len(sight.wrong),
            "sweep": ended.summary.as_json(),
            "ok": ok,
        },
    )
    return 0 if ok else 1


def _compare(sight: "Sight", told: Teller) -> None:
    told.say()
    told.say(
        f"At the sandbox now: {len(sight.kept)} that were not due answer 200,"
        f" {len(sight.gone)} that were due answer 404."
    )
    for response_id, status in sight.wrong.items():
        told.say(f"WRONG: {response_id} answers {status}")
        told.fields("wrong", {"response_id": response_id, "status": status})


def _plan(config: "Config", database: "Database", told: Teller) -> None:
    from sweeper.cli import plan
    from sweeper.service import assembly, inquiry

    found = inquiry.forecast(config, database, assembly.scope(config))
    if told.as_json:
        told.fields("plan", plan.fields(found))
    else:
        plan.tell(found, assembly.scope(config))
        output.line()


def _sweep(
    call: Call, config: "Config", database: "Database", told: Teller
) -> "tuple[Ended, Counter[tuple[str, str]]]":
    from sweeper.cli import sweep
    from sweeper.domain import event
    from sweeper.service import assembly

    outcomes: Counter[tuple[str, str]] = Counter()

    def count(happened: "Event") -> None:
        if isinstance(happened, event.ResponseSettled):
            outcomes[happened.policy or "-", happened.outcome.value] += 1

    keys = assembly.read_keys(config, {})
    with sweep.terminable():
        ended = sweep.sweep_once(
            call.quieter(), config, database, keys, assembly.scope(config), listener=count
        )
    if not told.as_json:
        sweep.tell(ended, assembly.scope(config))
    return ended, outcomes


def _outcomes(outcomes: "Counter[tuple[str, str]]", told: Teller) -> None:
    rows = sorted((policy, outcome, number) for (policy, outcome), number in outcomes.items())
    for policy, outcome, number in rows:
        told.fields("outcome", {"policy": policy, "outcome": outcome, "responses": number})
    if not told.as_json:
        output.line()
        output.table(("POLICY", "OUTCOME", "RESPONSES"), rows, right=("RESPONSES",))


def _look_around(stage: "Stage", response_id: str, told: Teller, *, keep: bool) -> None:
    told.say()
    if keep:
        told.say("Look around:")
        start = f"{_called()} -c {shlex.quote(str(stage.config_path))}"
    else:
        told.say("The folder is removed now. With --keep it stays, to look around in FOLDER by")
        start = f"{_called()} -c FOLDER/{stage.config_path.name}"
        response_id = "ID"
    for verb in _LOOK_AROUND:
        told.say(f"  {start} {verb.format(id=response_id)}")


def _called() -> str:
    """Name this command so that it can be typed again: it may stand in no $PATH."""
    called = Path(sys.argv[0])
    if called.name == "sweeper":
        found = shutil.which("sweeper")
        return "sweeper" if found and called.resolve() == Path(found).resolve() else str(called)
    return f"{shlex.quote(sys.executable)} -m sweeper"
