"""Let the daemon's tasks live and die together: none may be missing without anybody noticing."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

from sweeper import errors

PATIENCE: Final = 3.0
"""Seconds for which the main task may come to its end when another has died."""


async def together(
    main: Coroutine[None, None, None],
    others: Mapping[str, Coroutine[None, None, None]],
    *,
    died: Callable[[], None],
) -> None:
    """Run the main task to its end, and the others, by their names, for as long.

    The others never end by themselves. Where one does, or the main task fails, `died` is called,
    which asks the main one to end; after a moment all are cancelled, and the fault is raised.
    """
    work = asyncio.create_task(main)
    beside = {name: asyncio.create_task(other) for name, other in others.items()}
    try:
        await asyncio.wait([work, *beside.values()], return_when=asyncio.FIRST_COMPLETED)
        dead = {name: task for name, task in beside.items() if task.done()}
        failed = work.done() and not work.cancelled() and work.exception() is not None
        if dead or failed:
            died()
        if dead and not work.done():
            await asyncio.wait([work], timeout=PATIENCE)
        for name, task in dead.items():
            task.result()
            raise errors.SweeperError(
                f"a part of the daemon ended by itself ({name}), which is a fault of sweeper's",
                hint="start it again, and report this with the lines of the log before it",
            )
        await work
    finally:
        for task in (work, *beside.values()):
            task.cancel()
        await asyncio.wait([work, *beside.values()], timeout=PATIENCE)
