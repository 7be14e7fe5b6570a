"""Tasks live and die together."""

import asyncio

import pytest

from sweeper import errors
from sweeper.service.daemon import supervision


class Death:
    def __init__(self) -> None:
        self.heard = 0

    def __call__(self) -> None:
        self.heard += 1


async def forever() -> None:
    await asyncio.Event().wait()


async def test_when_the_main_task_ends_the_others_are_cancelled_and_nobody_has_died() -> None:
    cancelled = asyncio.Event()

    async def beside() -> None:
        try:
            await forever()
        finally:
            cancelled.set()

    async def main() -> None:
        await asyncio.sleep(0)

    death = Death()
    await supervision.together(main(), {"beside": beside()}, died=death)
    assert cancelled.is_set()
    assert death.heard == 0


async def test_the_fault_of_another_task_is_raised_once_the_main_one_has_ended() -> None:
    asked = asyncio.Event()
    ended = []

    async def main() -> None:
        await asked.wait()
        ended.append(True)

    async def beside() -> None:
        raise errors.LedgerError("gone")

    with pytest.raises(errors.LedgerError, match="gone"):
        await supervision.together(main(), {"beside": beside()}, died=asked.set)
    assert ended


async def test_a_task_that_simply_returns_is_a_fault_too() -> None:
    async def beside() -> None:
        return

    death = Death()
    with pytest.raises(errors.SweeperError, match="ended by itself \\(beside\\)"):
        await supervision.together(forever(), {"beside": beside()}, died=death)
    assert death.heard == 1


async def test_a_main_task_that_fails_is_told_and_takes_the_others_with_it() -> None:
    async def main() -> None:
        raise ZeroDivisionError

    death = Death()
    with pytest.raises(ZeroDivisionError):
        await supervision.together(main(), {"beside": forever()}, died=death)
    assert death.heard == 1


async def test_a_main_task_that_does_not_end_is_cancelled_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "PATIENCE", 0.05)

    async def beside() -> None:
        raise errors.LedgerError("gone")

    with pytest.raises(errors.LedgerError):
        await supervision.together(forever(), {"beside": beside()}, died=Death())
