"""The one writer: it tries again while the ledger is away, and nobody sends meanwhile."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event
from sweeper.domain.event import Event
from sweeper.engine import recorder as recorders
from sweeper.engine.gate import Gate
from sweeper.engine.recorder import Recorder
from sweeper.ledger import database as ledger_database
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from tests.support import registered
from tests.support.outage import Failures, until

ONE = sa.insert(tables.accounts).values(name="main")


@pytest.fixture
def told() -> list[Event]:
    """What the recorder has told of the ledger."""
    return []


@pytest.fixture
async def recorder(
    sqlite_url: str, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Recorder]:
    monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT", 0.05)
    db = ledger_database.open_database(sqlite_url)
    made = Recorder(db, emit=told.append)
    yield made
    made.close()
    db.close()


@contextmanager
def busy(db: Database) -> Iterator[None]:
    assert db.path is not None
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_what_came_to_nothing_is_done_again_and_once(recorder: Recorder) -> None:
    calls: list[None] = []

    def work(connection: sa.Connection) -> str:
        calls.append(None)
        connection.execute(ONE)
        return "done"

    failures = Failures(recorder.db)
    with busy(recorder.db):
        writing = asyncio.create_task(recorder.write(work))
        await failures.more(3)
        assert not recorder.gate.is_open
    assert await writing == "done"
    assert recorder.gate.is_open
    assert len(calls) == 1
    assert len(registered.rows(recorder.db, tables.accounts)) == 1


async def test_it_is_told_once_that_the_ledger_is_waited_for_and_once_that_it_is_back(
    recorder: Recorder, told: list[Event]
) -> None:
    """However many wait, and whether the first of them gives up before."""
    failures = Failures(recorder.db)
    with busy(recorder.db):
        with pytest.raises(errors.LedgerAway):
            await recorder.write(lambda c: c.execute(ONE), patience=0.3)
        (waited,) = told
        assert isinstance(waited, event.LedgerWaitedFor)
        assert "locked" in waited.detail
        assert waited.hint
        look = sa.select(tables.accounts)
        waiting = [
            asyncio.create_task(recorder.write(lambda c: c.execute(look).all())) for _ in range(3)
        ]
        await failures.more(6)
        assert told == [waited]
    await asyncio.gather(*waiting)
    await recorder.write(lambda c: c.execute(look).all())
    (back,) = told[1:]
    assert isinstance(back, event.LedgerBack)
    assert back.seconds > 0.2


async def test_whoever_does_not_wait_does_not_tell_so(
    recorder: Recorder, told: list[Event]
) -> None:
    with busy(recorder.db), pytest.raises(errors.LedgerAway):
        await recorder.write(lambda c: c.execute(ONE), patience=0)
    await recorder.write(lambda c: c.execute(ONE))
    assert told == []


async def test_a_ledger_that_only_does_not_answer_is_told_of_after_a_while(
    recorder: Recorder, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "SLOW", 0.05)
    let_go = threading.Event()
    writing = asyncio.create_task(recorder.write(lambda _: let_go.wait(30)))
    await until(lambda: told, "word of it")
    let_go.set()
    await writing
    assert [one.name for one in told] == ["ledger_waited_for", "ledger_back"]


async def test_nobody_is_more_patient_than_he_says(recorder: Recorder) -> None:
    began = time.monotonic()
    with busy(recorder.db):
        with pytest.raises(errors.LedgerAway):
            await recorder.write(lambda c: c.execute(ONE), patience=0.5)
        assert 0.2 < time.monotonic() - began < 5
        failures = Failures(recorder.db)
        with pytest.raises(errors.LedgerAway):
            await recorder.write(lambda c: c.execute(ONE), patience=0)
    assert failures.count == 1
    assert recorder.gate.is_open


async def test_in_a_hurry_nothing_is_tried_twice(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "_FIRST_PAUSE", 30.0)
    failures = Failures(recorder.db)
    with busy(recorder.db):
        waiting = asyncio.create_task(recorder.write(lambda c: c.execute(ONE)))
        await failures.more(1)
        recorder.hurry()
        with pytest.raises(errors.LedgerAway):
            async with asyncio.timeout(10):
                await waiting
        with pytest.raises(errors.LedgerAway):
            await recorder.write(lambda c: c.execute(ONE))
    assert failures.count == 3


async def test_a_fault_that_does_not_pass_is_raised_at_once(recorder: Recorder) -> None:
    await recorder.write(lambda c: c.execute(ONE))
    failures = Failures(recorder.db)
    with pytest.raises(errors.LedgerError, match="UNIQUE") as raised:
        await recorder.write(lambda c: c.execute(ONE))
    assert not isinstance(raised.value, errors.LedgerAway)
    assert failures.count == 1


class TestAGate:
    async def test_is_shut_by_whoever_takes_too_long_and_until_all_are_done(self) -> None:
        gate = Gate()
        with gate.watching(30) as shut:
            assert gate.is_open
            with gate.watching(0.01):
                await until(lambda: not gate.is_open, "shut gate")
                shut()
            assert not gate.is_open
        assert gate.is_open
        await asyncio.sleep(0)

    async def test_is_waited_for_no_longer_than_one_may_wait(self) -> None:
        gate = Gate()
        assert await gate.passed(-1)
        with gate.watching(30) as shut:
            shut()
            assert not await gate.passed(0.01)
            waiting = asyncio.create_task(gate.passed(30))
        assert await waiting
