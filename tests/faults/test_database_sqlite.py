"""SQLite fails: busy, full, exchanged, damaged, slowly read; nothing that was seen is lost."""

import asyncio
import fcntl
import json
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event
from sweeper.engine import drain
from sweeper.engine import recorder as recorders
from sweeper.engine.recorder import Recorder
from sweeper.evidence.record import RecordType
from sweeper.ledger import database as ledger_database
from sweeper.ledger import probe, records, tables
from sweeper.ledger.database import Database
from sweeper.ledger.records import Entry
from tests.support import asking, command, disk, figures, registered, sweeping, truth
from tests.support import rehearsal as rehearsals
from tests.support.disk import Disk, LimitedFiles, SmallDisk
from tests.support.outage import Failures, all_deleted_once, nothing_in_flight, until
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal
from tests.support.sweeping import Site

BUSY = 0.2


@pytest.fixture
async def impatient(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A ledger whose writers wait for one another for a fifth of a second at a time."""
    monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT", BUSY)
    monkeypatch.setattr(recorders, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(recorders, "LATE", 0.1)
    db = ledger_database.open_database(sqlite_url)
    try:
        async with sweeping.serving(db) as made:
            yield made
    finally:
        db.close()


@contextmanager
def _kept_busy(db: Database) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    assert db.path is not None
    with closing(sqlite3.connect(db.path, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_ledger_that_is_busy_for_long_is_waited_for_and_nothing_sent(
    impatient: Site,
) -> None:
    """Nor is what waited for its turn already: the rate is low, so that some always do."""
    names = impatient.store(20)
    slow = impatient.account("main", max_in_flight=4, rate_per_second=10.0, verify=False)
    async with impatient.opened(slow) as running:
        sweep = asyncio.create_task(running.sweep.run())
        await impatient.sandbox.wait_until(lambda: len(impatient.deleted()) >= 4)
        gate = running.accounts["main"].gate
        failed = Failures(impatient.db)
        with _kept_busy(impatient.db):
            await until(lambda: not gate.is_open, "shut gate")
            sent = await nothing_in_flight(impatient)
            await failed.more(4)
            assert len(impatient.deleted()) == sent < len(names)
        ended = await sweep
    assert ended.summary.complete
    all_deleted_once(impatient, names)


async def test_what_was_seen_is_kept_however_long_the_ledger_is_busy(
    impatient: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "PATIENCE", 0.5)
    monkeypatch.setattr(drain, "_AGAIN", 0.1)
    names = impatient.store(40)
    impatient.fault(method="DELETE", delay=0.05)
    sweep = asyncio.create_task(
        impatient.sweep(impatient.account("main", max_in_flight=2, verify=False), checked=False)
    )
    await impatient.sandbox.wait_until(lambda: len(impatient.deleted()) >= 5)
    failed = Failures(impatient.db)
    with _kept_busy(impatient.db):
        await until(lambda: impatient.told(event.OutcomeUnwritten), "an outcome that is kept")
        sent = await nothing_in_flight(impatient)
        await failed.more(6)
        assert len(impatient.deleted()) == sent < len(names)
        assert not sweep.done()
    ended = await sweep
    assert isinstance(ended.fault, errors.LedgerAway)
    assert (ended.summary.stop_reason, ended.summary.remaining) == ("ledger", None)
    assert {one.response_id for one in impatient.told(event.ResponseSettled)} == set(
        impatient.deleted()
    )
    assert (await impatient.sweep()).summary.complete
    all_deleted_once(impatient, names)


async def test_whoever_writes_says_so_when_he_begins(site: Site) -> None:
    """A reader who turned writer would be refused at once, however long he is willing to wait."""
    traced: dict[int, list[str]] = {}
    db = site.db

    def trace(raw: sqlite3.Connection, _record: object) -> None:
        raw.set_trace_callback(traced.setdefault(id(raw), []).append)

    db.engine.dispose()
    sa.event.listen(db.engine, "connect", trace)
    site.store(5)
    site.fault(method="DELETE", times=1, status=500)
    await site.sweep()
    await site.sweep()
    assert probe.writable(db)
    written = 0
    for statements in traced.values():
        begun = ""
        for statement in statements:
            verb = statement.split()[0].upper()
            if verb in {"BEGIN", "COMMIT", "ROLLBACK"}:
                begun = statement if verb == "BEGIN" else ""
            elif verb in {"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"}:
                written += 1
                assert begun == "BEGIN IMMEDIATE", statement
    assert written > 20


PUT_BACK = """
import sqlite3, sys
older, ledger = sys.argv[1:]
lock = sqlite3.connect(ledger, isolation_level=None, timeout=30)
lock.execute("BEGIN EXCLUSIVE")
content = open(older, "rb").read()
with open(ledger, "r+b") as file:
    file.write(content)
    file.truncate()
"""
"""Writes an older state over a ledger's file while nobody is in the middle of something."""


@pytest.mark.parametrize("how", ["removed", "replaced", "put back"])
async def test_a_file_that_is_exchanged_in_a_sweep_ends_it_within_one_batch(
    impatient: Site, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LAST_PAUSES", (0.05,))
    names = impatient.store(300)
    path, older = impatient.db.path, tmp_path / "older.db"
    assert path is not None
    shutil.copy(path, older)
    before = older.read_bytes()
    impatient.fault(method="DELETE", delay=0.05)
    sweep = asyncio.create_task(
        impatient.sweep(impatient.account("main", max_in_flight=2, verify=False), checked=False)
    )
    await until(lambda: len(impatient.told(event.ResponseSettled)) >= 10, "outcome")
    match how:
        case "removed":
            path.unlink()
        case "replaced":
            older.replace(path)
        case "put back":
            call = [sys.executable, "-c", PUT_BACK, str(older), str(path)]
            await asyncio.to_thread(subprocess.run, call, check=True)
    sent = len(impatient.deleted())
    ended = await sweep
    assert isinstance(ended.fault, errors.LedgerReplaced)
    assert (ended.summary.stop_reason, ended.summary.remaining) == ("ledger", None)
    assert len(impatient.deleted()) - sent < 30 < len(names) - sent
    # What was seen and stands nowhere else stands in the log.
    told = {one.response_id for one in impatient.told(event.ResponseSettled)}
    told |= {one.response_id for one in impatient.told(event.OutcomeUnwritten)}
    assert told == set(impatient.deleted())
    if how != "removed":
        assert path.read_bytes() == before


async def test_the_log_never_goes_back_unnoticed(database: Database) -> None:
    """As it does when a standby takes over that had not heard of the last commits."""
    recorder = Recorder(database)
    entries = [Entry(type=RecordType.CLOCK_ANOMALY, fields={"account": "main"})] * 3
    await recorder.write(lambda c: records.append(c, entries, now=1))
    before = registered.rows(database, tables.records)
    with database.write() as connection:
        connection.execute(sa.delete(tables.records).where(tables.records.c.seq == 3))
        connection.execute(sa.update(tables.ledger).values(log_size=3))
    with pytest.raises(errors.LedgerReplaced, match="gone back from 4 records to 3"):
        await recorder.write(lambda c: records.append(c, entries[:0], now=1))
    recorder.close()
    assert registered.rows(database, tables.records) == before[:3]


DAMAGE = """
import sqlite3, sys
ledger, name = sys.argv[1:]
lock = sqlite3.connect(ledger, isolation_level=None, timeout=30)
lock.execute("BEGIN EXCLUSIVE")
(page,) = lock.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [name]).fetchone()
(size,) = lock.execute("PRAGMA page_size").fetchone()
with open(ledger, "r+b") as file:
    file.seek(24)  # the counter that tells others that the file has changed
    changes = int.from_bytes(file.read(4), "big") + 1
    file.seek(24)
    file.write(changes.to_bytes(4, "big"))
    file.seek((page - 1) * size)
    file.write(bytes(range(256)) * (size // 256))
"""


def _damage(path: Path, name: str) -> None:
    subprocess.run([sys.executable, "-c", DAMAGE, str(path), name], check=True)


@pytest.mark.parametrize("table", ["responses", "attempts", "ledger"])
async def test_a_page_that_is_damaged_in_a_sweep_ends_it_and_is_not_repaired(
    impatient: Site, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LAST_PAUSES", (0.05,))
    names = impatient.store(300)
    path = impatient.db.path
    assert path is not None
    impatient.fault(method="DELETE", delay=0.05)
    sweep = asyncio.create_task(
        impatient.sweep(impatient.account("main", max_in_flight=2, verify=False), checked=False)
    )
    await until(lambda: len(impatient.told(event.ResponseSettled)) >= 10, "outcome")
    await asyncio.to_thread(_damage, path, table)
    sent, after = len(impatient.deleted()), path.read_bytes()
    ended = await sweep
    assert isinstance(ended.fault, errors.LedgerDamaged)
    assert "db check" in (ended.fault.hint or "")
    assert ended.summary.stop_reason == "ledger"
    assert len(impatient.deleted()) - sent < 30 < len(names) - sent
    assert path.read_bytes() == after


@pytest.mark.parametrize("verb", ["sweep", "run"])
def test_a_damaged_ledger_is_found_at_the_start_and_nothing_is_sent(
    sqlite: Rehearsal, verb: str
) -> None:
    sqlite.responses(5)
    path = sqlite.folder / "ledger.db"
    # An index that a sweep hardly touches: it would go on for long.
    _damage(path, "ix_responses_quarantined")
    before = path.read_bytes()
    done = command.process("-c", sqlite.config, verb, "--json")
    assert done.code == 1
    told = _logged(done)[-1]
    assert told["error"] == "ledger_damaged"
    assert "is damaged" in told["message"]
    assert "db check" in told["hint"]
    assert sqlite.requests() == 0
    assert path.read_bytes() == before


def test_a_slow_reader_never_stops_the_writer(sqlite: Rehearsal) -> None:
    """Whoever pages through a list reads one page of the ledger at a time."""
    young = sqlite.responses(600, age=timedelta(days=2))
    assert command.process("-c", sqlite.config, "sweep").code == 0
    sqlite.responses(20)
    reader = command.start("-c", sqlite.config, "responses", "list", "--json")
    with reader:
        try:
            assert reader.stdout is not None
            wait_for(partial(_is_full, reader.stdout.fileno()), "full pipe")
            done = command.process("-c", sqlite.config, "sweep", "--json")
            assert done.code == 0, done
            assert reader.poll() is None
            listing = command.ended(reader)
        finally:
            reader.kill()
    listed = {json.loads(line).get("response_id") for line in listing.out.splitlines()}
    assert listed >= set(young)
    assert truth.violations(sqlite) == []
    assert truth.unsettled(sqlite) == []


def _is_full(pipe: int) -> bool:
    """Whether nothing more fits into a pipe that nobody reads."""
    waiting: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
    return waiting > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) * 3 / 4


# A disk without room


@pytest.fixture
def sqlite(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def filled(sqlite: Rehearsal) -> Rehearsal:
    """What is due, what is not, and a provider that takes its time."""
    sqlite.responses(30)
    sqlite.responses(5, age=timedelta(days=2))
    sqlite.fault(method="DELETE", delay=0.05)
    sqlite.write(in_flight=2)
    return sqlite


@pytest.fixture
def small(filled: Rehearsal) -> Iterator[SmallDisk]:
    """A small disk; the configuration names the ledger on it."""
    try:
        with disk.small(filled.folder, filled.folder / "ledger.db") as made:
            filled.write(url=f"sqlite:///{made.ledger}")
            yield made
    except OSError as fault:
        pytest.skip(str(fault))


@pytest.fixture
def limited(filled: Rehearsal) -> LimitedFiles:
    return LimitedFiles(folder=filled.folder, ledger=filled.folder / "ledger.db")


@pytest.fixture(params=["small", "limited"])
def full(request: pytest.FixtureRequest) -> Disk:
    """A disk that will be full."""
    return cast("Disk", request.getfixturevalue(request.param))


def _look_at(filled: Rehearsal, full: Disk) -> None:
    """Let the rehearsal look at a copy of what lies on the disk."""
    copy = filled.folder / "copy.db"
    full.copy(copy)
    filled.url = f"sqlite:///{copy}"


@pytest.mark.parametrize("point", ["claim", "outcome"])
def test_a_full_disk_is_waited_for_and_nothing_sent_meanwhile(
    filled: Rehearsal, full: Disk, point: str
) -> None:
    with full.filling(point, "-c", filled.config, "sweep", "--json") as sweep:
        sweep.wait_for_failures(2)
        sent = _nothing_in_flight(filled)
        assert (sent == 0) == (point == "claim")
        sweep.wait_for_failures(4)
        assert filled.requests("DELETE") == sent < 30
        full.free(sweep)
        done = sweep.end()
    assert done.code == 0, done
    assert done.last["outcomes"] == {"deleted": 30}
    _look_at(filled, full)
    _everything_is_deleted_once(filled)


def test_a_disk_that_is_read_only_is_told_at_the_start(filled: Rehearsal, small: SmallDisk) -> None:
    small.remount("ro")
    told = small.run("-c", filled.config, "sweep", "--json")
    assert told.code == 1
    assert "read and write" in _logged(told)[-1]["hint"]
    assert filled.requests() == 0
    small.remount("rw")
    assert small.run("-c", filled.config, "sweep", "--json").code == 0
    _look_at(filled, small)
    _everything_is_deleted_once(filled)


def test_what_a_killed_process_had_kept_stands_in_its_log_and_is_in_doubt(
    filled: Rehearsal, limited: LimitedFiles
) -> None:
    with limited.filling("outcome", "-c", filled.config, "sweep", patience=0.3) as sweep:
        sweep.wait_for_failures(6)
        _nothing_in_flight(filled)
        killed = sweep.end(signal.SIGKILL)
    kept = _unwritten(killed)
    assert kept
    assert truth.violations(filled) == []
    filled.mend()
    assert command.process("-c", filled.config, "sweep", "--json").code == 0
    assert truth.violations(filled) == []
    assert truth.unsettled(filled) == []
    outcomes = {row["response_id"]: row["outcome"] for row in filled.rows()}
    assert {outcomes[each] for each in kept} == {"absent_after_attempt"}


def test_who_is_told_twice_to_end_says_what_the_ledger_does_not_know(
    filled: Rehearsal, limited: LimitedFiles
) -> None:
    with limited.filling("outcome", "-c", filled.config, "sweep", "--json", patience=0.3) as sweep:
        sweep.wait_for_failures(2)
        sent = _nothing_in_flight(filled)
        sweep.child.send_signal(signal.SIGINT)
        sweep.wait_for_failures(6)
        assert sweep.child.poll() is None
        ended = sweep.end(signal.SIGINT)
    assert ended.code == 1
    assert ended.last["stop_reason"] == "ledger"
    assert len(_unwritten(ended)) == sent


def test_a_daemon_whose_disk_is_full_is_red_until_it_is_not(
    filled: Rehearsal, limited: LimitedFiles
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    filled.write(f'[schedule]\ncron = "0 0 1 1 *"\n[http]\nlisten = "127.0.0.1:{port}"\n')
    with limited.filling("outcome", "-c", filled.config, "run", patience=0.3) as daemon:
        wait_for(lambda: _failing(port) >= {"ledger", "sweep_failing"}, "bad health")
        sent = _nothing_in_flight(filled)
        daemon.wait_for_failures(4)
        assert filled.requests("DELETE") == sent < 30
        limited.free(daemon)
        wait_for(lambda: truth.unsettled(filled) == [], "settlement", within=60)
        wait_for(lambda: _failing(port) == set(), "good health")
        done = daemon.end(signal.SIGTERM)
    assert done.code == 0, done
    _everything_is_deleted_once(filled)


def test_a_daemon_whose_disk_has_room_again_is_well_before_its_sweep_has_ended(
    filled: Rehearsal, limited: LimitedFiles
) -> None:
    """And what the full disk ended is counted once: as a sweep that was not complete."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    filled.write(f'[schedule]\ncron = "0 0 1 1 *"\n[http]\nlisten = "127.0.0.1:{port}"\n')
    with limited.filling("outcome", "-c", filled.config, "run", patience=0.3) as daemon:
        wait_for(lambda: "sweep_failing" in _failing(port), "bad health")
        _nothing_in_flight(filled)
        filled.fault(method="DELETE", delay=1)
        limited.free(daemon)
        wait_for(lambda: not _failing(port) & {"ledger", "sweep_failing"}, "good health", 60)
        assert filled.requests("DELETE") < 30
        text = asking.ask_now(port, "/metrics").body
        ended = figures.series(text, "sweeper_sweeps_total")
        assert {dict(one)["result"]: int(count) for one, count in ended.items()} == {
            "complete": 0,
            "incomplete": 1,
            "failed": 0,
        }
        filled.mend()
        wait_for(lambda: filled.requests("DELETE") == 30, "all deletions", 60)
        assert daemon.end(signal.SIGTERM).code == 0
    assert truth.violations(filled) == []


def _everything_is_deleted_once(filled: Rehearsal) -> None:
    assert truth.violations(filled) == []
    assert truth.unsettled(filled) == []
    assert filled.requests("DELETE") == len(filled.due) == 30
    outcomes = [row["outcome"] for row in filled.rows() if row["response_id"] in filled.due]
    assert set(outcomes) == {"deleted"}


def _failing(port: int) -> set[str]:
    try:
        return set(asking.ask_now(port, "/readyz").json["failing"])
    except OSError:
        return {"nobody listens"}


def _nothing_in_flight(filled: Rehearsal) -> int:
    """Wait until every request was answered; how many of them were DELETEs."""
    filled.sandbox.wait_until(lambda one: all(each.done for each in one.journal.entries), within=30)
    return filled.requests("DELETE")


def _unwritten(ended: command.Result) -> list[str]:
    """The responses of which the log says that the ledger has not taken the answer."""
    lines = [line for line in _logged(ended) if line.get("event") == "outcome_unwritten"]
    return [line["response_id"] for line in lines]


def _logged(ended: command.Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
