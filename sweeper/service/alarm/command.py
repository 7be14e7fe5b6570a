"""Run the alarm command: a process of its own that can neither hang us nor see our secrets."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

LONGEST: Final = 30.0
"""Seconds that a command may take."""
GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""

_PASSED_ON: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ"}
)
"""Variables that a command sees, besides those of the locale; keys may stand in all others."""


async def tell(
    command: Sequence[str],
    document: bytes,
    *,
    environ: Mapping[str, str],
    longest: float = LONGEST,
    grace: float = GRACE,
) -> str | None:
    """Run a command with this on its standard input; what went wrong, or None.

    It has a session of its own, so that what it starts ends with it when it takes too long, or
    when this is cancelled.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
            start_new_session=True,
            cwd="/",
            env=scrubbed(environ),
        )
    except (OSError, ValueError) as fault:
        return f"it could not be started: {getattr(fault, 'strerror', None) or fault}"
    try:
        async with asyncio.timeout(longest):
            await process.communicate(document)
    except TimeoutError:
        return f"it took longer than {longest:g} s"
    finally:
        if process.returncode is None:
            await _end(process, grace)
    return _ending(process)


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a command may see."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }


async def _end(process: Process, grace: float) -> None:
    """End a command with all that it started, and leave nothing of it behind."""
    try:
        _signal(process, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
    finally:
        _signal(process, signal.SIGKILL)
    # What runs as another user may not be ended by us, and is left behind.
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            await process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    # Its session makes it the leader of a group of the same number.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _ending(process: Process) -> str | None:
    code = process.returncode
    assert code is not None, "a process that was waited for has ended"
    if code < 0:
        return f"it was ended by signal {-code}"
    return None if code == 0 else f"it ended with code {code}"
