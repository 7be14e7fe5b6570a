"""Measure how fast sweeper is: `python -m tests.bench`, from the top of a checkout.

Needs `pip install -e .[test,bench]` and, for the deletions end to end and the memory of a sweep,
Debian's nginx.
"""

import argparse
import os
import platform
import signal
import sqlite3
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from tests.bench import end_to_end, idle, importing, limits, memory, pacing, peer, planning

END_TO_END = "end-to-end"
PACING = "pacing"
LIMITS = "limits"
SIZE = "size"
IDLE = "idle"
_LIBRARIES = ("sqlalchemy", "openai", "aiohttp")


def main() -> None:
    wanted = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    _tell(_machine())
    with tempfile.TemporaryDirectory(prefix="sweeper-bench-") as name:
        try:
            _measure(Path(name), wanted)
        except peer.Missing as missing:
            sys.exit(str(missing))


def _measure(folder: Path, wanted: argparse.Namespace) -> None:
    rounds: int = wanted.rounds
    if wanted.only in (None, END_TO_END):
        end_to_end.measure(folder, count=wanted.count, rounds=rounds, tell=_tell)
    if wanted.only in (None, PACING):
        pacing.measure(folder, seconds=wanted.seconds, rounds=rounds, tell=_tell)
    if wanted.only in (None, LIMITS):
        limits.measure(tell=_tell)
    if wanted.only in (None, SIZE):
        planning.measure(folder, rounds=rounds, tell=_tell)
        importing.measure(folder, rounds=rounds, tell=_tell)
        memory.measure(folder, rounds=rounds, tell=_tell)
    if wanted.only in (None, IDLE):
        idle.measure(folder, rounds=rounds, tell=_tell)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--count", type=int, default=100_000, help="deletions end to end")
    parser.add_argument("--seconds", type=int, default=20, help="how long each pacing run sends")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each variant")
    parser.add_argument(
        "--only", choices=[END_TO_END, PACING, LIMITS, SIZE, IDLE], help="one measurement only"
    )
    return parser.parse_args()


def _machine() -> str:
    cpus = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return (
        f"{platform.machine()}, {cpus} CPUs, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}"
    )


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what the command is for


if __name__ == "__main__":
    main()
