"""How much of a core the daemon takes while there is nothing to do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import child, ledger, peer
from tests.support import command

SECONDS: Final = 60
_PATIENCE: Final = 60.0
_SETTLING: Final = 5.0
"""Seconds after the first sweep in which nothing is counted yet."""

_DAEMON: Final = """
[intake]
spool = "{spool}"

[schedule]
every = "1h"

[http]
listen = "127.0.0.1:{port}"

[log]
format = "json"
"""


def measure(folder: Path, *, rounds: int, tell: Callable[[str], None]) -> None:
    """Let a daemon with a spool and a listener idle for a minute, and print its CPU time."""
    shares = []
    for number in range(rounds):
        place = folder / f"idle-{number}"
        place.mkdir()
        with _daemon(place) as pid:
            time.sleep(_SETTLING)
            before, began = _cpu(pid), time.monotonic()
            time.sleep(SECONDS)
            shares.append((_cpu(pid) - before) / (time.monotonic() - began))
        tell(f"  round {number + 1}: {shares[-1]:.3%}")
    tell(f"\nidle daemon: `sweeper run` with a spool and a listener, {SECONDS} s each, n {rounds}")
    tell(f"CPU of one core: {median(shares):.3%} (median), {max(shares):.3%} (most)")


@contextmanager
def _daemon(folder: Path) -> Iterator[int]:
    """Run it until its first sweep has finished; its process id."""
    spool = folder / "spool"
    spool.mkdir()
    more = _DAEMON.format(spool=spool, port=peer.free_port())
    configuration = ledger.configure(folder, ledger.NOBODY, more + ledger.EVERYTHING)
    child.run(
        ["-m", "sweeper", "-c", configuration, "db", "upgrade"],
        out=folder / "upgrade.out",
        err=folder / "upgrade.err",
    )
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeper", "-c", configuration, "run"],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=command.environment(),
        )
    try:
        _wait_for_first_sweep(process, log)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)


def _wait_for_first_sweep(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        lines = log.read_text().splitlines()
        if any(json.loads(line)["event"] == "sweep_finished" for line in lines):
            return
        time.sleep(0.1)
    raise child.Failed(f"the daemon did not finish a sweep: {log.read_text()[-2000:]}")


def _cpu(pid: int) -> float:
    """CPU seconds of the whole process so far, in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
