"""Run one command as a process of its own and measure what it takes."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import command


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process took: wall and CPU seconds of the whole of it, and its peak memory."""

    wall: float
    cpu: float
    peak_mib: float


class Failed(Exception):
    """A measured process did not do what it was to do, so nothing was measured."""


def run(arguments: Sequence[object], *, out: Path, err: Path) -> Usage:
    """Run Python with these arguments to its end; its two streams go to files.

    The process is waited for with its resource usage, so nothing else is counted. Its peak memory
    is at least what this process holds when it starts it: where that would be told instead, Failed
    is raised.
    """
    with out.open("wb") as out_file, err.open("wb") as err_file:
        began = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            env=command.environment(),
        )
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failed(f"{arguments[0]} ended with {child.returncode}: {_end_of(err)}")
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        raise Failed(f"{arguments[0]} took less memory than what measures it")
    return Usage(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
    )


def _end_of(file: Path) -> str:
    return file.read_text(errors="replace")[-2000:]
