"""A sweep and its daemon take the spool in by turns, and neither holds up the event loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.domain.event import Event
from sweeper.ledger.database import Database
from sweeper.service.spool.turns import Turns
from tests.support import spooled
from tests.support.spooled import Spooled, line

PATIENCE = 30


@pytest.fixture
def here(tmp_path: Path, sqlite_database: Database, sqlite_url: str) -> Spooled:
    folder = tmp_path / "spool"
    folder.mkdir()
    config = spooled.configured(tmp_path, sqlite_url, folder)
    return Spooled(folder=folder, config=config, db=sqlite_database)


class Gate:
    """Holds the work up at its nth step until it is opened."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            assert self.open.wait(PATIENCE)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, PATIENCE)


async def test_what_happens_is_told_from_the_loop(here: Spooled) -> None:
    here.put("a.jsonl", line("resp_1"))
    heard: list[tuple[Event, threading.Thread]] = []
    turns = Turns(here.spool(), lambda one: heard.append((one, threading.current_thread())))
    assert await turns(spooled.nothing) == 0
    ((happened, thread),) = heard
    assert list(spooled.tallies([happened])) == ["a.jsonl"]
    assert thread is threading.current_thread()


async def test_the_second_waits_for_the_first(here: Spooled) -> None:
    here.put("a.jsonl", *(line(f"resp_{n}") for n in range(7)))
    turns = Turns(here.spool(), lambda _: None)
    gate = Gate(2)
    first = asyncio.create_task(turns(gate))
    await gate.until_reached()
    second = asyncio.create_task(turns(spooled.nothing))
    await asyncio.sleep(0)
    assert not second.done()
    gate.open.set()
    assert (await first, await second) == (0, 0)
    assert here.counted() == 7


async def test_who_waits_is_told_of_the_others_steps(here: Spooled) -> None:
    """Otherwise a sweep that waits for a large file would look as if it were stuck."""
    for n in range(4):
        here.put(f"{n}.jsonl", line(f"resp_{n}"))
    gates = [Gate(1), Gate(1)]
    steps: Iterator[Callable[[], None]] = iter([*gates, *[spooled.nothing] * 20])

    def step() -> None:
        next(steps)()

    turns = Turns(here.spool(), lambda _: None)
    first = asyncio.create_task(turns(step))
    await gates[0].until_reached()
    heard = asyncio.Event()
    second = asyncio.create_task(turns(heard.set))
    await asyncio.sleep(0)
    gates[0].open.set()
    await gates[1].until_reached()
    async with asyncio.timeout(PATIENCE):
        await heard.wait()
    assert not first.done()
    gates[1].open.set()
    await asyncio.gather(first, second)


async def test_cancelling_ends_it_at_the_next_step_and_the_rest_is_taken_later(
    here: Spooled,
) -> None:
    here.put("a.jsonl", *(line(f"resp_{n}") for n in range(7)))
    here.put("b.txt")
    heard: list[Event] = []
    turns = Turns(here.spool(), heard.append)
    gate = Gate(2)
    work = asyncio.create_task(turns(gate))
    await gate.until_reached()
    work.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (here.counted(), heard) == (3, [])
    assert await turns(spooled.nothing) == 0
    assert here.counted() == 7
    assert spooled.tallies(heard) == {"a.jsonl": spooled.tally(read=7, added=7)}
    assert list(spooled.left(heard)) == ["b.txt"]


async def test_a_fault_of_the_ledger_reaches_the_sweep_and_frees_the_turn(here: Spooled) -> None:
    here.put("a.jsonl", line("resp_1"))
    turns = Turns(here.spool(), lambda _: None)
    with here.db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE spool_files RENAME TO elsewhere")
    with pytest.raises(errors.LedgerError):
        await turns(spooled.nothing)
    with here.db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO spool_files")
    assert await turns(spooled.nothing) == 0
