"""A reading of the ledger is made by one thread, seldom, and nobody waits for it long."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from sweeper import errors
from sweeper.service.daemon import reading
from sweeper.service.daemon.reading import Reading


class Source:
    """Numbers its readings; each waits until it may end."""

    def __init__(self) -> None:
        self.reads = 0
        self.at_once = 0
        self.most_at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.last_may_end = threading.Event()
        self.last_may_end.set()
        self.fault: Exception | None = None

    def __call__(self) -> int:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.reads += 1
        number = self.reads
        self.go_on.wait(20)
        if number > 1:
            self.last_may_end.wait(20)
        self.at_once -= 1
        if self.fault is not None:
            raise self.fault
        return number


@pytest.fixture
def source() -> Source:
    return Source()


async def wait_for(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.005)


async def test_however_many_ask_it_is_read_once(source: Source) -> None:
    read = Reading(source, fresh=60, patience=5)
    source.go_on.clear()
    asked = [asyncio.create_task(read.value()) for _ in range(50)]
    await wait_for(lambda: source.reads == 1)
    source.go_on.set()

    assert await asyncio.gather(*asked) == [1] * 50
    assert await read.value() == 1
    assert (source.reads, source.most_at_once) == (1, 1)


async def test_what_is_no_longer_fresh_is_read_again(source: Source) -> None:
    read = Reading(source, fresh=0, patience=5)

    assert [await read.value(), await read.value()] == [1, 2]


async def test_nobody_waits_longer_than_told(source: Source) -> None:
    read = Reading(source, fresh=60, patience=0.1)
    source.go_on.clear()

    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(errors.LedgerError, match="in time"):
            await read.value()

    assert time.monotonic() - began < 2
    assert source.reads == 1
    source.go_on.set()
    await wait_for(lambda: source.at_once == 0)
    assert await read.value() == 1


async def test_a_cheap_value_is_not_told_when_it_is_old(source: Source) -> None:
    read = Reading(source, fresh=60, patience=0.1)
    assert await read.value() == 1
    assert read._read_at is not None
    read._read_at -= 61
    source.go_on.clear()

    with pytest.raises(errors.LedgerError, match="in time"):
        await read.value()
    source.go_on.set()


async def test_a_costly_value_is_told_while_the_next_is_read_and_not_for_ever(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reading(source, fresh=0.2, patience=0.01, costly=True)
    await wait_for(lambda: True)
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(read, "_patience", 5)
        assert await read.value() == 1
    source.go_on.clear()
    at = read._read_at
    assert at is not None

    monkeypatch.setattr(read, "_read_at", at - 0.5)
    assert await read.value() == 1
    assert source.reads == 2

    monkeypatch.setattr(read, "_read_at", at - 0.9)
    with pytest.raises(errors.LedgerError, match="in time"):
        await read.value()
    source.go_on.set()


async def test_a_costly_reading_rests_twenty_times_as_long_as_it_takes(source: Source) -> None:
    read = Reading(source, fresh=1, patience=5, costly=True)
    await read.value()

    read._took = 10.0
    assert read._lasts == 190.0
    read._took = 1000.0
    assert read._lasts == reading._LONGEST_REST
    read._took = 0.0
    assert read._lasts == 1

    cheap = Reading(source, fresh=1, patience=5)
    cheap._took = 10.0
    assert cheap._lasts == 1


async def test_a_fault_is_told_and_tried_again(source: Source) -> None:
    read = Reading(source, fresh=0, patience=5)
    source.fault = errors.LedgerError("broken")
    with pytest.raises(errors.LedgerError, match="broken"):
        await read.value()

    source.fault = None
    assert await read.value() == 2


async def test_a_fault_takes_the_place_of_what_was_known(source: Source) -> None:
    read = Reading(source, fresh=0.0, patience=5, costly=True)
    assert await read.value() == 1
    read._took = 0.0
    source.fault = errors.LedgerError("broken")

    with pytest.raises(errors.LedgerError, match="broken"):
        await read.value()


async def test_what_was_being_read_when_it_was_to_be_renewed_is_not_told(source: Source) -> None:
    read = Reading(source, fresh=60, patience=5)
    source.go_on.clear()
    source.last_may_end.clear()
    outdated = asyncio.create_task(read.value())
    await wait_for(lambda: source.reads == 1)

    read.renew()
    new = asyncio.create_task(read.value())
    await wait_for(lambda: source.reads == 2)
    source.go_on.set()
    await wait_for(lambda: source.at_once == 1)
    source.last_may_end.set()

    assert await new == 2
    assert await outdated == 2
    assert await read.value() == 2


def test_a_reading_that_outlives_its_loop_harms_nobody(source: Source) -> None:
    async def leave() -> None:
        read = Reading(source, fresh=60, patience=0.05)
        with pytest.raises(errors.LedgerError):
            await read.value()

    source.go_on.clear()
    asyncio.run(leave())
    threads = [each for each in threading.enumerate() if each.name == "reading"]
    assert all(each.daemon for each in threads)

    source.go_on.set()
    for each in threads:
        each.join(10)
