"""Run the command: as a process, where that matters, or within the test, which is faster."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import canary

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a call ended, and what it wrote."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        canary.hear(self.out)
        canary.hear(self.err)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON object of a fatal error."""
        (line,) = self.err.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


Run = Callable[..., Result]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would configure the command."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("SWEEPER")}
    path = os.pathsep.join(filter(None, [str(ROOT), plain.get("PYTHONPATH", "")]))
    return {**plain, "PYTHONPATH": path, **(more or {})}


def process(*arguments: object, stdin: bytes = b"", **environ: str) -> Result:
    """Run `sweeper` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sweeper", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=environment(environ),
        timeout=60,
        check=False,
    )
    return _result(done.returncode, done.stdout, done.stderr)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start `sweeper` and leave it to the caller, pipes on all three streams."""
    return subprocess.Popen(
        [sys.executable, "-m", "sweeper", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        **options,
    )


def end(child: subprocess.Popen[bytes], number: int = signal.SIGINT) -> Result:
    """Send the signal and collect what the process wrote."""
    with suppress(ProcessLookupError):
        child.send_signal(number)
    return ended(child)


def ended(child: subprocess.Popen[bytes]) -> Result:
    """Wait for its end and collect what the process wrote."""
    out, err = child.communicate(timeout=60)
    return _result(child.returncode, out, err)


def _result(code: int, out: bytes, err: bytes) -> Result:
    return Result(code=code, out=out.decode(), err=err.decode())
