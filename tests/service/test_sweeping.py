"""Whatever ends a sweep, it comes to its end, and the process is left as it should be."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load
from sweeper.domain import event
from sweeper.domain.event import Event
from sweeper.engine.sweep import Ended
from sweeper.ledger import leases
from sweeper.service import assembly, sweeping
from tests.support import rehearsal as rehearsals
from tests.support import truth
from tests.support.rehearsal import Rehearsal


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Put back what a sweep does to the process's signals."""
    before = {number: signal.getsignal(number) for number in sweeping.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def swept(rehearsal: Rehearsal, heard: list[Event] | None = None) -> Ended:
    config = load.load(rehearsal.config, {})
    keys = assembly.read_keys(config, {})
    emit = ([] if heard is None else heard).append
    with rehearsal.database() as db:
        return await sweeping.run(
            sweeping.workshop(config, db, emit), config, keys, assembly.scope(config)
        )


async def test_every_event_of_a_sweep_is_heard_in_its_order(rehearsal: Rehearsal) -> None:
    rehearsal.responses(2)
    heard: list[Event] = []
    ended = await swept(rehearsal, heard)
    assert [type(one) for one in heard] == [
        event.PoliciesChanged,
        event.SweepStarted,
        event.AccountChecked,
        event.ResponseSettled,
        event.ResponseSettled,
        event.SweepFinished,
    ]
    assert isinstance(heard[-1], event.SweepFinished)
    assert heard[-1].numbers == ended.summary.as_json()


async def test_signals_are_ignored_once_the_sweep_is_over(rehearsal: Rehearsal) -> None:
    await swept(rehearsal)
    for number in sweeping.SIGNALS:
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)


async def test_a_signal_during_the_sweep_ends_it_early(rehearsal: Rehearsal) -> None:
    rehearsal.responses(30)
    heard: list[Event] = []

    class Interrupting(list[Event]):
        def append(self, happened: Event) -> None:
            heard.append(happened)
            if isinstance(happened, event.ResponseSettled):
                os.kill(os.getpid(), signal.SIGTERM)

    rehearsal.fault(method="DELETE", delay=0.05)
    ended = await swept(rehearsal, Interrupting())
    assert ended.summary.stop_reason == "interrupted"
    assert not [one for one in heard if isinstance(one, event.BreakerOpened)]
    assert truth.violations(rehearsal) == []
    assert not [row for row in rehearsal.rows() if row["token"] is not None]


async def test_a_busy_ledger_is_told_and_nothing_is_sent(rehearsal: Rehearsal) -> None:
    rehearsal.responses(1)
    with rehearsal.database() as db, leases.file_lock(db), pytest.raises(errors.LedgerBusy):
        await swept(rehearsal)
    assert rehearsal.requests() == 0


async def test_a_rehearsal_needs_no_key_and_sends_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.key_file.unlink()
    config = load.load(rehearsal.config, {})
    with rehearsal.database() as db:
        ended = await sweeping.rehearse(
            sweeping.workshop(config, db, print), config, assembly.scope(config)
        )
    assert (ended.summary.planned, ended.summary.dry_run) == (3, True)
    assert rehearsal.requests() == 0


async def test_who_cannot_read_keys_again_stops_at_a_refused_one(rehearsal: Rehearsal) -> None:
    rehearsal.responses(1)
    rehearsal.use_key("fw_no_such_key")
    assert (await swept(rehearsal)).summary.stop_reason == "account:main:credential"
