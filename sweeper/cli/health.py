"""`sweeper health`: ask the daemon whether it is alive or ready; made for container checks."""

import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from sweeper import errors
from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from sweeper.config.settings import Config

_TIME_OUT: Final = 5.0
_LONGEST: Final = 65_536
_NOT_WELL: Final = 1


@click.command("health", epilog="Example: sweeper health --ready")
@click.option("--ready", is_flag=True, help="Ask whether it can do its duty, and what keeps it.")
@as_json
@pass_call
def command(call: Call, *, ready: bool, as_json: bool) -> int:
    """Ask the daemon at [http] listen whether it is alive.

    Exit code 0 when it is, 1 when it is not or does not answer within 5 seconds. Alive means that
    its loop turns and its sweep gets on; a check that restarts should ask no more. With --ready
    it names what is stopped, late or not working.
    """
    host, port = _address(call.config())
    told = _Question(host=host, port=port, path="/readyz" if ready else "/healthz").ask()
    well = told["ready"] is True if ready else told["status"] == "ok"
    if as_json:
        output.json_line("health", {"ok": well, **told})
    else:
        _tell(told, well=well, ready=ready)
    return 0 if well else _NOT_WELL


def _address(config: "Config") -> tuple[str, int]:
    from sweeper.config import listening

    listen = config.listen
    if listen is None or listen.port == 0:
        raise errors.ConfigurationError(
            "nobody can be asked: [http] listen names no fixed address and port",
            hint='write [http] listen = "127.0.0.1:8787" into the configuration of sweeper run',
        )
    return listening.reached_at(listen.host), listen.port


def _tell(told: dict[str, object], *, well: bool, ready: bool) -> None:
    role = told.get("role")
    if not ready:
        output.line(f"{'alive' if well else 'the sweep does not get on'} ({role})")
        return
    output.line(f"{'ready' if well else 'not ready'} ({role})")
    failing = told.get("failing")
    for reason in failing if isinstance(failing, list) else ():
        output.line(f"  {reason}")
    if not well:
        output.line("next: sweeper status")


@dataclass(slots=True, kw_only=True)
class _Question:
    """One question to the daemon, which nobody waits for longer than told."""

    host: str
    port: int
    path: str
    _answer: dict[str, object] | None = None
    _fault: Exception | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> dict[str, object]:
        """The answer as it stands in JSON; raises SweeperError where there is none."""
        from sweeper.config import listening

        threading.Thread(target=self._work, daemon=True).start()
        in_time = self._done.wait(_TIME_OUT)
        where = listening.render(self.host, self.port)
        if not in_time:
            raise _silent(f"nothing answered at {where} within {_TIME_OUT:.0f} s")
        if isinstance(self._fault, OSError):
            reason = self._fault.strerror or type(self._fault).__name__
            raise _silent(f"nothing answers at {where}: {reason}")
        if self._answer is None:
            raise _silent(f"what answers at {where} is not sweeper run")
        return self._answer

    def _work(self) -> None:
        from http import client

        connection = client.HTTPConnection(self.host, self.port, timeout=_TIME_OUT)
        try:
            connection.request("GET", self.path)
            with connection.getresponse() as answer:
                self._answer = _understood(json.loads(answer.read(_LONGEST)), self.path)
        except (OSError, client.HTTPException, ValueError, RecursionError) as fault:
            self._fault = fault
        finally:
            connection.close()
            self._done.set()


def _silent(message: str) -> errors.DaemonSilent:
    return errors.DaemonSilent(
        message, hint="is sweeper run at work, with this configuration? See its log"
    )


def _understood(told: object, path: str) -> dict[str, object] | None:
    expected = "ready" if path == "/readyz" else "status"
    return told if isinstance(told, dict) and expected in told else None
