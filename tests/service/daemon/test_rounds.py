"""A sweep that is only being opened is bound by what is taken up meanwhile."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.config import load
from sweeper.domain.event import Event
from sweeper.service.daemon.rounds import Around, Rounds
from sweeper.service.daemon.systemd import Notifier
from sweeper.service.daemon.vitals import Vitals
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import Rehearsal


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


async def test_a_sweep_that_waits_for_the_ledger_deletes_nothing_that_is_kept_by_now(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.responses(4)
    config = load.load(rehearsal.config, {})
    heard: list[Event] = []
    around = Around(
        load=lambda: config,
        environ={},
        emit=heard.append,
        notifier=Notifier({}),
        redact=lambda _keys: None,
    )
    with rehearsal.database() as db:
        rounds = Rounds(config=config, db=db, around=around, vitals=Vitals())
        locked = sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        rounds._superseded = True
        opening = asyncio.create_task(rounds._swept())
        async with asyncio.timeout(20):
            # Nothing tells when it has taken up the configuration of now, but this.
            while rounds._superseded:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0)
        kept = tuple(replace(one, delete_after=None) for one in config.policies)
        rounds.adopt(replace(config, policies=kept), ("policies",), now=True)
        locked.execute("ROLLBACK")
        locked.close()
        ended = await opening
        await asyncio.to_thread(rounds._recorder.close)
    assert ended.summary.stop_reason == "interrupted"
    assert rehearsal.requests("DELETE") == 0
