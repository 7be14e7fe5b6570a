"""Somebody is told of what is wrong, by a real command, whatever happens to it or the ledger."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.config.settings import Config, LogFormat, LogSettings
from sweeper.domain import alarm, event, moment
from sweeper.domain.event import Event
from sweeper.domain.policy import Match, Policy
from sweeper.domain.schedule import Missed
from sweeper.ledger import database as ledger_database
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.service.alarm import alarms
from sweeper.service.alarm.alarms import Alarms
from tests.support import pager as pagers
from tests.support import patience, registered
from tests.support.pager import Pager
from tests.support.sweeping import DAY, OPEN

MISSED = Missed(
    count=2,
    first=datetime(2026, 6, 1, 12, tzinfo=UTC),
    last=datetime(2026, 6, 1, 13, tzinfo=UTC),
)
LATE = "overdue:late"
RUN = "missed_run"


@pytest.fixture
def pager(tmp_path: Path) -> Pager:
    return pagers.pager(tmp_path / "pager")


class Site:
    """A ledger with one response that was due long ago, and what looks at it."""

    def __init__(self, db: Database, pager: Pager) -> None:
        self.db = db
        self.pager = pager
        self.events: list[Event] = []
        self.config = _config(pager)
        self.alarms = self.another()

    def another(self) -> Alarms:
        """What another process would have."""
        return Alarms(self.config, self.db, self.events.append)

    def make_late(self, *names: str) -> None:
        self.config = replace(self.config, policies=tuple(map(_policy, names or ("late",))))
        self.alarms.config = self.config
        for name in names or ("late",):
            one = registered.registration(f"resp_{name}", labels={"app": name})
            old = replace(one, created_at=datetime.now(UTC) - 20 * DAY)
            registered.admit(self.db, old, now=moment.to_us(datetime.now(UTC)))

    def make_good(self) -> None:
        """Nothing is late any more: nobody says that anything must be deleted."""
        self.config = replace(self.config, policies=())
        self.alarms.config = self.config

    async def look(
        self, *, missed: Missed | None = None, failing: str | None = None
    ) -> list[tuple[str, str]]:
        """Look once; what the pager has heard in all."""
        await self.alarms.look(missed=missed, failing=failing)
        return self.pager.states

    def rows(self) -> list[dict[str, Any]]:
        return registered.rows(self.db, tables.alarms)

    def pass_time(self, length: timedelta) -> None:
        """Let all that was written down have been written so much earlier."""
        table, us = tables.alarms, length // timedelta(microseconds=1)
        with self.db.write() as connection:
            connection.execute(
                sa.update(table).values(
                    opened_at=table.c.opened_at - us,
                    told_at=table.c.told_at - us,
                    try_at=table.c.try_at - us,
                    resolved_at=table.c.resolved_at - us,
                )
            )


def _policy(name: str) -> Policy:
    match = Match(labels={"app": frozenset({name})})
    return Policy(name=name, match=match, delete_after=DAY)


def _config(pager: Pager) -> Config:
    return Config(
        path=Path("sweeper.toml"),
        ledger_url="",
        guards=OPEN,
        max_clock_skew=timedelta(minutes=2),
        trust_local_clock=False,
        accounts=(),
        policies=(),
        alarm=(str(pager.program),),
        log=LogSettings(format=LogFormat.JSON, response_ids=True),
        warnings=(),
    )


@pytest.fixture
def site(database: Database, pager: Pager) -> Site:
    return Site(database, pager)


@pytest.fixture
def file_site(sqlite_url: str, pager: Pager) -> Iterator[Site]:
    """One with an SQLite ledger that can be taken away."""
    db = ledger_database.open_database(sqlite_url)
    yield Site(db, pager)
    db.close()


def refuse(site: Site) -> None:
    """From now on the ledger takes no word of alarms."""
    with site.db.write() as connection:
        if site.db.is_sqlite:
            for verb in ("INSERT", "UPDATE", "DELETE"):
                connection.exec_driver_sql(
                    f"CREATE TRIGGER refuse_{verb} BEFORE {verb} ON alarms"
                    " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
                )
        else:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON alarms FOR EACH ROW"
                " EXECUTE FUNCTION refuse()"
            )


def accept(site: Site) -> None:
    """The ledger takes everything again."""
    with site.db.write() as connection:
        if site.db.is_sqlite:
            for verb in ("INSERT", "UPDATE", "DELETE"):
                connection.exec_driver_sql(f"DROP TRIGGER refuse_{verb}")
        else:
            connection.exec_driver_sql("DROP TRIGGER refuse ON alarms")


async def test_what_is_wrong_is_told_once_then_hourly_then_that_it_is_over(site: Site) -> None:
    assert await site.look() == []
    site.make_late()
    assert await site.look() == [(LATE, "open")]
    assert await site.look() == [(LATE, "open")]
    site.pass_time(timedelta(minutes=59))
    assert len(await site.look()) == 1
    site.pass_time(timedelta(minutes=1))
    assert await site.look() == [(LATE, "open")] * 2
    site.make_good()
    assert await site.look() == [(LATE, "open")] * 2 + [(LATE, "resolved")]
    assert len(await site.look()) == 3
    assert site.rows() == []
    assert [type(one) for one in site.events] == [event.AlarmTold] * 3


async def test_the_command_reads_one_object_on_one_line(site: Site) -> None:
    site.make_late()
    await site.look()
    (text,) = site.pager.texts
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    (told,) = site.pager.told
    assert (told["type"], told["alarm"], told["policy"], told["responses"]) == (
        "alarm",
        "overdue",
        "late",
        1,
    )
    assert told["next"] == "sweeper status"
    (happened,) = site.events
    assert happened == event.AlarmTold(alarm=LATE, state="open", summary=told["summary"])


async def test_without_a_command_nothing_is_done_at_all(site: Site) -> None:
    site.make_late()
    site.alarms.config = replace(site.config, alarm=None)
    assert await site.look(missed=MISSED) == []
    assert (site.rows(), site.events) == ([], [])


async def test_a_quiet_look_writes_nothing_and_locks_nothing(site: Site) -> None:
    site.make_late()
    await site.look()
    before = site.rows()
    texts: list[str] = []
    sa.event.listen(
        site.db.engine, "before_cursor_execute", lambda _c, _k, text, *_: texts.append(text)
    )
    await site.look()
    assert texts
    writing = ("INSERT", "UPDATE", "DELETE", "BEGIN IMMEDIATE")
    assert not [text for text in texts if text.startswith(writing) or "FOR UPDATE" in text]
    assert site.rows() == before


async def test_a_command_that_fails_is_tried_again_later(site: Site) -> None:
    site.pager.write(code=3)
    site.make_late()
    await site.look()
    await site.look()
    assert len(site.events) == 1
    (untold,) = site.events
    assert isinstance(untold, event.AlarmUntold)
    assert (untold.alarm, untold.state) == (LATE, "open")
    assert untold.detail == "it ended with code 3"
    site.pass_time(timedelta(minutes=1))
    await site.look()
    assert len(site.events) == 2
    site.pass_time(timedelta(minutes=1))
    await site.look()
    assert len(site.events) == 2
    site.pager.write()
    site.pass_time(timedelta(minutes=1))
    await site.look()
    assert isinstance(site.events[2], event.AlarmTold)
    assert [row["tries"] for row in site.rows()] == [0]


async def test_a_command_that_is_not_there_is_told_in_the_log(site: Site) -> None:
    site.pager.program.unlink()
    site.make_late()
    await site.look()
    (untold,) = site.events
    assert isinstance(untold, event.AlarmUntold)
    assert untold.detail == "it could not be started: No such file or directory"


async def test_what_was_over_before_anybody_heard_is_told_as_over(site: Site) -> None:
    site.pager.write(code=1)
    await site.look(missed=MISSED)
    site.pager.write()
    site.pass_time(timedelta(minutes=1))
    await site.look()
    assert site.pager.states[-1] == (RUN, "resolved")
    assert site.pager.told[-1]["count"] == 2


async def test_missed_runs_are_told_and_end_when_all_ran(site: Site) -> None:
    assert await site.look(missed=MISSED) == [(RUN, "open")]
    assert await site.look() == [(RUN, "open"), (RUN, "resolved")]


async def test_a_single_sweep_neither_opens_nor_tells_nor_ends_what_is_said_of_runs(
    site: Site,
) -> None:
    await site.look(missed=MISSED)
    site.pass_time(timedelta(hours=2))
    await site.another().look_after_sweep()
    assert site.pager.states == [(RUN, "open")]
    site.make_late()
    single = site.another()
    await single.look_after_sweep()
    assert site.pager.states == [(RUN, "open"), (LATE, "open")]
    assert (await site.look())[2:] == [(RUN, "resolved")]


async def test_of_two_processes_one_tells(site: Site) -> None:
    site.make_late(*"abcdef")
    both = [site.another() for _ in range(4)]
    await asyncio.gather(*(one.look(missed=MISSED, failing=None) for one in both))
    expected = sorted([(f"overdue:{name}", "open") for name in "abcdef"] + [(RUN, "open")])
    assert sorted(site.pager.states) == expected


async def test_what_another_process_is_telling_is_left_to_it(site: Site) -> None:
    site.pager.write(f"while ! test -e {site.pager.folder}/go; do sleep 0.02; done")
    site.make_late()
    looking = asyncio.create_task(site.look())
    await asyncio.to_thread(
        patience.wait_for, lambda: list(site.pager.folder.glob("*.part")), "command at work"
    )
    await site.another().look(missed=None, failing=None)
    assert site.pager.states == []
    (site.pager.folder / "go").touch()
    assert await looking == [(LATE, "open")]


async def test_many_are_told_a_few_at_a_time(site: Site) -> None:
    count = f"ls {site.pager.folder}/*.part | wc -l >> {site.pager.folder}/counts; sleep 0.1"
    site.pager.write(count)
    site.make_late(*"abcdefghij")
    assert len(await site.look()) == 10
    counts = (site.pager.folder / "counts").read_text().split()
    assert 1 <= max(map(int, counts)) <= alarms.AT_ONCE


async def test_a_look_ends_though_all_is_due_again_before_it_is_over(site: Site) -> None:
    site.pager.write(code=1)
    site.make_late(*"abcdef")

    def pass_time(happened: Event) -> None:
        site.events.append(happened)
        assert len(site.events) < 20
        site.pass_time(timedelta(hours=1))

    looking = Alarms(site.config, site.db, pass_time)
    await looking.look(missed=None, failing=None)
    assert len(site.events) == 6


async def test_giving_up_a_look_ends_the_commands_and_the_alarm_is_told_later(
    site: Site,
) -> None:
    site.pager.write("exec sleep 60")
    site.make_late()
    looking = asyncio.create_task(site.look())
    await asyncio.to_thread(
        patience.wait_for, lambda: list(site.pager.folder.glob("*.part")), "command at work"
    )
    (part,) = site.pager.folder.glob("*.part")
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    patience.wait_for(lambda: _has_ended(int(part.stem)), "end of the command")
    site.pager.write()
    assert await site.look() == []
    site.pass_time(alarm.TELLING)
    assert await site.look() == [(LATE, "open")]


def _has_ended(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return fields[0] in "ZX"


async def test_a_ledger_that_takes_no_word_keeps_nobody_from_being_told(
    site: Site,
) -> None:
    refuse(site)
    site.make_late()
    assert set(await site.look(failing="disk full")) == {(LATE, "open"), (RUN, "open")}
    assert len(await site.look(failing="disk full")) == 2
    accept(site)
    assert len(await site.look()) == 3
    assert site.pager.states[-1] == (RUN, "resolved")
    (row,) = site.rows()
    assert (row["id"], row["tries"]) == (LATE, 0)
    assert row["told_at"] is not None
    assert len(await site.look()) == 3
    site.make_good()
    assert (await site.look())[-1] == (LATE, "resolved")
    assert site.rows() == []


async def test_what_was_written_before_the_ledger_failed_is_not_told_again(
    file_site: Site,
) -> None:
    site = file_site
    site.make_late()
    assert set(await site.look(failing="locked")) == {(LATE, "open"), (RUN, "open")}
    assert site.db.path is not None
    aside = site.db.path.with_suffix(".aside")
    site.db.path.rename(aside)
    assert len(await site.look(failing="the ledger file was removed")) == 2
    aside.rename(site.db.path)
    assert len(await site.look(failing="locked")) == 2
    assert (await site.look())[2:] == [(RUN, "resolved")]


async def test_what_another_process_has_told_is_not_told_again_when_the_ledger_fails(
    file_site: Site,
) -> None:
    site = file_site
    await site.look(failing="locked")
    second = site.another()
    await second.look(missed=None, failing="locked")
    assert site.db.path is not None
    aside = site.db.path.with_suffix(".aside")
    site.db.path.rename(aside)
    await second.look(missed=None, failing="the ledger file was removed")
    assert site.pager.states == [(RUN, "open")]
    aside.rename(site.db.path)


async def test_an_unreadable_ledger_is_told_for_as_long_and_no_longer(file_site: Site) -> None:
    site = file_site
    assert site.db.path is not None
    aside = site.db.path.with_suffix(".aside")
    site.db.path.rename(aside)
    assert await site.look() == []
    assert await site.look(failing="the ledger file was removed") == [(RUN, "open")]
    assert await site.look() == [(RUN, "open")]
    assert await site.look(failing="the ledger file was removed") == [(RUN, "open")]
    (told,) = site.pager.told
    assert told["summary"] == "no sweep can run: the ledger file was removed"
    aside.rename(site.db.path)
    assert await site.look() == [(RUN, "open"), (RUN, "resolved")]
    assert site.rows() == []


async def test_what_could_not_be_told_while_the_ledger_was_away_is_told_afterwards(
    file_site: Site,
) -> None:
    site = file_site
    site.pager.write(code=1)
    assert site.db.path is not None
    aside = site.db.path.with_suffix(".aside")
    site.db.path.rename(aside)
    await site.look(failing="removed")
    aside.rename(site.db.path)
    site.pager.write()
    await site.look(failing="removed")
    (row,) = site.rows()
    assert (row["id"], row["tries"], row["told_at"]) == (RUN, 1, None)
    site.pass_time(timedelta(minutes=1))
    assert (await site.look(failing="removed"))[-1] == (RUN, "open")
    (row,) = site.rows()
    assert row["tries"] == 0


async def test_the_loop_goes_on_while_a_command_hangs(site: Site) -> None:
    site.pager.write(f"while ! test -e {site.pager.folder}/go; do sleep 0.02; done")
    site.make_late()
    looking = asyncio.create_task(site.look())
    longest, last = 0.0, asyncio.get_running_loop().time()
    until = last + 0.5
    while last < until:
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        longest, last = max(longest, now - last), now
    (site.pager.folder / "go").touch()
    assert await looking == [(LATE, "open")]
    assert longest < 0.4


def test_after_a_single_sweep_a_signal_ends_the_telling_and_nothing_else(site: Site) -> None:
    here = site.pager.folder
    # What is ignored when a shell starts it cannot trap.
    site.pager.write(
        f"trap 'touch {here}/asked; exit 0' TERM; kill -TERM {os.getpid()};"
        " while :; do sleep 0.02; done"
    )
    site.make_late()
    began = time.monotonic()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        alarms.tell_after_sweep(site.config, site.db, site.events.append)
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (here / "asked").exists()
    assert time.monotonic() - began < alarms.AFTER_SWEEP / 2
    assert site.events == []


def test_after_a_single_sweep_telling_takes_its_time_and_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "AFTER_SWEEP", 0.5)
    site.pager.write("exec sleep 60")
    site.make_late()
    alarms.tell_after_sweep(site.config, site.db, site.events.append)
    assert site.events == []


def test_after_a_single_sweep_somebody_is_told(site: Site) -> None:
    site.make_late()
    alarms.tell_after_sweep(site.config, site.db, site.events.append)
    assert site.pager.states == [(LATE, "open")]


def test_what_is_a_fault_of_ours_is_not_hidden(site: Site) -> None:
    def fail(_happened: Event) -> None:
        raise RuntimeError("nobody listens")

    site.make_late()
    with pytest.raises(BaseExceptionGroup):
        alarms.tell_after_sweep(site.config, site.db, fail)
