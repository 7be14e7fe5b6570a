"""A process without memory ends; every other fault goes where it went before."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper.service import starvation

Ways = dict[str, Callable[[BaseException], object]]


class Ended(Exception):
    """The process would have ended."""


@pytest.fixture(autouse=True)
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """With what the process would have ended."""
    seen: list[int] = []

    def end(code: int) -> None:
        seen.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return seen


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What was passed on."""
    heard: list[BaseException | None] = []
    for module, name in ((sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, lambda found: heard.append(found.exc_value))
    return heard


def ways() -> Ways:
    """How a fault is told that nobody caught."""
    loop = asyncio.get_running_loop()

    def met(fault: BaseException) -> Any:
        return SimpleNamespace(exc_value=fault)

    return {
        "loop": lambda fault: loop.call_exception_handler({"message": "x", "exception": fault}),
        "nobody": lambda fault: sys.unraisablehook(met(fault)),
        "thread": lambda fault: threading.excepthook(met(fault)),
    }


@pytest.mark.parametrize("way", ["loop", "nobody", "thread"])
async def test_who_has_no_more_memory_ends_with_a_word(
    way: str, codes: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with starvation.watched(), suppress(Ended):
        ways()[way](MemoryError())
    assert codes == [1]
    assert "no more memory" in capfd.readouterr().err


async def test_every_other_fault_goes_where_it_went_before(
    told: list[BaseException | None], caplog: pytest.LogCaptureFixture
) -> None:
    fault = ValueError("odd")
    with starvation.watched():
        for tell in ways().values():
            tell(fault)
    assert told == [fault, fault]
    assert "odd" in caplog.text


async def test_behind_the_block_all_is_as_it_was() -> None:
    before = sys.unraisablehook, threading.excepthook
    with starvation.watched():
        assert sys.unraisablehook is not before[0]
    assert (sys.unraisablehook, threading.excepthook) == before
    assert asyncio.get_running_loop().get_exception_handler() is None
