"""`sweeper run`: the daemon, which sweeps by itself."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from sweeper.cli.voice import Voice
    from sweeper.config.settings import Config
    from sweeper.domain.event import Event
    from sweeper.ledger.database import Database
    from sweeper.service.daemon.daemon import Daemon
    from sweeper.service.daemon.health import Health
    from sweeper.service.daemon.systemd import Notifier

_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_MOMENT: Final = 4.5
"""Seconds after which the process ends, when a part of it has died and another hangs."""


class _Doom:
    """Ends the process a moment after it is called, whatever hangs."""

    def __init__(self) -> None:
        self._timer = threading.Timer(_LAST_MOMENT, os._exit, (1,))
        self._timer.daemon = True

    def __call__(self) -> None:
        with suppress(RuntimeError):  # it has been called already
            self._timer.start()

    def lift(self) -> None:
        """Nothing hangs: all that was to end has ended."""
        self._timer.cancel()


@click.command("run", epilog="Example: SWEEPER__LOG__FORMAT=json sweeper run")
@as_json
@pass_call
def command(call: Call, *, as_json: bool) -> None:  # noqa: ARG001 - whoever tells of a failure asks for it
    """Sweep by the schedule, and whenever something is to be tried again, until told to end.

    At the start it catches up with what should have run meanwhile. Where another sweeper run is at
    work on the ledger it stands by, and takes over when that one is gone. SIGTERM and Ctrl-C let
    what is in flight finish and end with code 0; a second one waits less. SIGHUP takes up the
    configuration anew, wholly or not at all. What happens is told in the log, on stderr; --json is
    for a failure that ends it.
    """
    import asyncio

    from sweeper.cli.voice import Voice
    from sweeper.service import assembly
    from sweeper.service.daemon.systemd import Notifier

    notifier = Notifier(os.environ)
    try:
        with _starting():
            config = call.config()
            keys = assembly.read_keys(config, os.environ)
            voice = Voice(call, config, assembly.usable(keys))
            # A ledger that is gone is not begun anew: what it knew would never be due again.
            with _telling(voice, notifier) as doom, call.ledger(config) as database:
                asyncio.run(_run(call, database, voice, notifier, doom))
    except KeyboardInterrupt:
        return  # told to end before there was anything to finish


@contextmanager
def _starting() -> Iterator[None]:
    """Until the daemon listens, end at the first signal, and be deaf to hangups and to more.

    A hangup means nothing while the configuration is being read. What was ignored when all went
    well stays so: nothing is left to be ended.
    """
    before = {number: signal.getsignal(number) for number in (*_ENDS, signal.SIGHUP)}

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _ENDS:
        signal.signal(number, end)
    try:
        yield
    except Exception:
        for number, handler in before.items():
            signal.signal(number, handler)
        raise


@contextmanager
def _telling(voice: "Voice", notifier: "Notifier") -> Iterator[_Doom]:
    """Have somebody told when it is the ledger that ends the daemon, or lets it not begin.

    Only what has ended is told of: no part that dies is waited for longer because of it.
    """
    from sweeper import errors
    from sweeper.service.alarm import alarms

    doom = _Doom()
    try:
        yield doom
    except errors.LedgerError as fault:
        doom.lift()
        notifier.alive()
        alarms.tell_that_none_runs(voice.config, voice, fault.message)
        raise


async def _run(
    call: Call, database: "Database", voice: "Voice", notifier: "Notifier", doom: _Doom
) -> None:
    from sweeper.service import starvation

    with starvation.watched():
        await _daemon(call, database, voice, notifier, doom).run()


def _daemon(
    call: Call, database: "Database", voice: "Voice", notifier: "Notifier", doom: _Doom
) -> "Daemon":
    from sweeper.service.daemon.daemon import Daemon
    from sweeper.service.daemon.health import Health
    from sweeper.service.daemon.rounds import Around
    from sweeper.service.daemon.vitals import Vitals
    from sweeper.telemetry.metrics import Metrics

    config = voice.config
    metrics = Metrics(metadata.version("sweeper"))
    vitals = Vitals()
    health = Health(config, database, vitals, metrics)

    def emit(happened: "Event") -> None:
        voice(happened)
        metrics.hear(happened)

    def follow(new: "Config") -> None:
        voice.follow(new)
        health.follow(new)

    around = Around(
        load=call.config,
        environ=os.environ,
        emit=emit,
        notifier=notifier,
        redact=voice.redact,
        measure=metrics.measure,
        waits=metrics.waited,
    )
    return Daemon(
        config=config,
        db=database,
        around=around,
        vitals=vitals,
        doom=doom,
        reloaded=follow,
        beside=_beside(config, health),
    )


def _beside(config: "Config", health: "Health") -> "Mapping[str, Coroutine[None, None, None]]":
    if config.listen is None:
        return {}
    from sweeper.web import app, server

    listen = config.listen
    answering = app.application(health)
    return {"http": server.serve(answering, listen.host, listen.port)}
