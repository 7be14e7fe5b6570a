"""The sandbox as a server of its own, which a signal ends."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sweeper.sandbox.faults import Fault
from sweeper.sandbox.server import Sandbox
from sweeper.sandbox.shapes import Shape


async def serve(
    host: str,
    port: int,
    *,
    keys: Mapping[str, str] | None = None,
    shape: Shape = Shape.FIREWORKS,
    rate: float | None = None,
    burst: int = 1,
    faults: Iterable[Fault] = (),
    journal: Path | None = None,
    ready: Callable[[Sandbox], None],
) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once it listens.

    The journal file gets one JSON line per finished request. Raises OSError where the port
    or the file cannot be had. How it is moved from outside stands in `controls`.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    with contextlib.ExitStack() as stack:
        file = None
        if journal is not None:
            file = stack.enter_context(journal.open("a", encoding="utf-8"))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
            stack.callback(loop.remove_signal_handler, number)
        async with Sandbox(
            host=host,
            port=port,
            keys=keys,
            shape=shape,
            rate=rate,
            burst=burst,
            faults=faults,
            journal_file=file,
        ) as sandbox:
            ready(sandbox)
            await ended.wait()
