"""`sweeper run`: the daemon, which sweeps by itself."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from sweeper.config.settings import Config
    from sweeper.domain.event import Event
    from sweeper.domain.secret import Secret
    from sweeper.ledger.database import Database
    from sweeper.service.daemon.daemon import Daemon
    from sweeper.service.daemon.health import Health
    from sweeper.service.daemon.systemd import Notifier

_ENDS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_MOMENT: Final = 4.5
"""Seconds after which the process ends, when a part of it has died and another hangs."""


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

    from sweeper.service import assembly
    from sweeper.service.daemon.systemd import Notifier

    notifier = Notifier(os.environ)
    try:
        with _starting():
            config = call.config()
            keys = assembly.read_keys(config, os.environ)
            voice = _Voice(call, config, assembly.usable(keys))
            # A ledger that is gone is not begun anew: what it knew would never be due again.
            with call.ledger(config) as database:
                asyncio.run(_run(call, config, database, voice, notifier))
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


async def _run(
    call: Call, config: "Config", database: "Database", voice: "_Voice", notifier: "Notifier"
) -> None:
    await _daemon(call, config, database, voice, notifier).run()


def _daemon(
    call: Call, config: "Config", database: "Database", voice: "_Voice", notifier: "Notifier"
) -> "Daemon":
    from sweeper.service.daemon.daemon import Daemon
    from sweeper.service.daemon.health import Health
    from sweeper.service.daemon.rounds import Around
    from sweeper.service.daemon.vitals import Vitals
    from sweeper.telemetry.metrics import Metrics

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
        doom=_doom,
        reloaded=follow,
        beside=_beside(config, health),
    )


class _Voice:
    """The daemon's log, which goes by the configuration in force and by every key that was read."""

    def __init__(self, call: Call, config: "Config", keys: "Iterable[Secret]") -> None:
        self._call = call
        self._known = {key.reveal(): key for key in keys}
        self.follow(config)

    def __call__(self, happened: "Event") -> None:
        self._log(happened)

    def follow(self, config: "Config") -> None:
        from sweeper.telemetry import events, logs

        self._config = config
        self._call.start_logs(config, self._known.values())
        self._log = events.EventLog(logs.logger(), response_ids=config.log.response_ids)

    def redact(self, keys: "Iterable[Secret]") -> None:
        """Take these keys out of every line from now on."""
        new = {key.reveal(): key for key in keys}
        if new.keys() - self._known.keys():
            self._known |= new
            self.follow(self._config)


def _beside(config: "Config", health: "Health") -> "Mapping[str, Coroutine[None, None, None]]":
    if config.listen is None:
        return {}
    from sweeper.web import app, server

    listen = config.listen
    answering = app.application(health)
    return {"http": server.serve(answering, listen.host, listen.port)}


def _doom() -> None:
    """End the process a moment from now, whatever hangs."""
    last = threading.Timer(_LAST_MOMENT, os._exit, (1,))
    last.daemon = True
    last.start()
