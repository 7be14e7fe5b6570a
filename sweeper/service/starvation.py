"""End a process that has no more memory where nobody can catch that: it would only seem to work."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_TOLD: Final = b"error: no more memory: the process ends at once, as by a crash\n"
_FAILED: Final = 1


@contextmanager
def watched() -> Iterator[None]:
    """Watch the loop that runs, and every thread, until the block ends.

    A loop that cannot read goes on as if nothing were the matter, and whoever waits for a thread
    that could not begin waits for ever. Nothing can be written down then: who ends leaves what is
    in flight in doubt, and the next sweep settles it.
    """
    loop = asyncio.get_running_loop()
    in_loop, unraisable, in_thread = (
        loop.get_exception_handler(),
        sys.unraisablehook,
        threading.excepthook,
    )

    def loop_met(its: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _look(context.get("exception"))
        its.default_exception_handler(context)

    def nobody_caught(found: "sys.UnraisableHookArgs") -> None:
        _look(found.exc_value)
        unraisable(found)

    def thread_met(found: threading.ExceptHookArgs) -> None:
        _look(found.exc_value)
        in_thread(found)

    loop.set_exception_handler(loop_met)
    sys.unraisablehook, threading.excepthook = nobody_caught, thread_met
    try:
        yield
    finally:
        loop.set_exception_handler(in_loop)
        sys.unraisablehook, threading.excepthook = unraisable, in_thread


def _look(fault: BaseException | None) -> None:
    if isinstance(fault, MemoryError):
        try:
            os.write(2, _TOLD)
        finally:
            os._exit(_FAILED)
