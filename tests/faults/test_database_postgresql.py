"""PostgreSQL fails: struck down, cut off, silent, out of connections; nothing seen is lost."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event
from sweeper.engine import drain
from sweeper.engine import recorder as recorders
from sweeper.engine.recorder import Recorder
from sweeper.evidence.record import RecordType
from sweeper.ledger import admission, connections, records, schema, tables
from sweeper.ledger import database as ledger_database
from sweeper.ledger.database import Database
from sweeper.ledger.records import Entry
from tests.support import blackhole, canary, invariants, postgres, sweeping
from tests.support.blackhole import Fate, Wire
from tests.support.outage import Failures, all_deleted_once, nothing_in_flight, until
from tests.support.postgres import Machine
from tests.support.sweeping import Site

_DEAD = "primary_that_died"
_MOST = 12
"""Sweeps that may be needed, when a sweep may end with the ledger."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A server of this module's own."""
    with postgres.machine() as made:
        made.server.create("migrated")
        db = ledger_database.open_database(made.server.url("migrated"))
        try:
            schema.upgrade(db)
        finally:
            db.close()
        yield made


@pytest.fixture
def name(machine: Machine) -> Iterator[str]:
    """A database with the newest schema."""
    machine.server.create("ledger", template="migrated")
    yield "ledger"
    for each in ("ledger", _DEAD):
        machine.server.drop(each)


@pytest.fixture
async def here(machine: Machine, name: str) -> AsyncIterator[Site]:
    """A ledger at the server, and a provider."""
    async with _site(machine.server.url(name)) as made:
        yield made


@pytest.fixture
def wire(machine: Machine) -> Iterator[Wire]:
    with blackhole.wire(machine.server.folder) as made:
        yield made


@asynccontextmanager
async def _site(url: str) -> AsyncIterator[Site]:
    db = ledger_database.open_database(url)
    try:
        async with sweeping.serving(db) as made:
            yield made
    finally:
        db.close()


async def _swept_to_the_end(site: Site) -> list[str]:
    """Sweep until a sweep is complete; the reasons for which those before were not."""
    reasons = []
    for _ in range(_MOST):
        try:
            ended = await site.sweep(checked=False)
        except errors.LedgerError as fault:
            reasons.append(fault.code)
        else:
            if ended.summary.complete:
                await site.sweep()
                return reasons
            reasons.append(ended.summary.stop_reason or "")
        _end_leases(site)
    raise AssertionError(f"never complete: {reasons}")


def _end_leases(site: Site) -> None:
    with site.db.write() as connection:
        connection.execute(sa.update(tables.leases).values(expires_at=0))


@asynccontextmanager
async def _struck_down(machine: Machine) -> AsyncIterator[None]:
    await asyncio.to_thread(machine.crash)
    try:
        yield
    finally:
        machine.start()  # it dies with the thread that starts it, so not with one of the loop's


async def test_a_server_that_is_struck_down_in_a_sweep_is_waited_for(
    machine: Machine, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "_LONGEST_PAUSE", 0.3)
    names = here.store(60)
    here.fault(method="DELETE", delay=0.05)
    sweep = asyncio.create_task(here.sweep(here.account("main", max_in_flight=2), checked=False))
    await here.sandbox.wait_until(lambda: len(here.deleted()) >= 10)
    tries = Failures(here.db)
    async with _struck_down(machine):
        await tries.more(3)
        sent = await nothing_in_flight(here)
        await tries.more(3)
        assert len(here.deleted()) == sent < len(names)
    await sweep
    await _swept_to_the_end(here)
    all_deleted_once(here, names)


async def test_what_was_seen_is_kept_until_the_server_is_back_however_long_that_takes(
    machine: Machine, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "PATIENCE", 0.3)
    monkeypatch.setattr(drain, "_AGAIN", 0.1)
    names = here.store(30)
    here.fault(method="DELETE", delay=0.05)
    sweep = asyncio.create_task(
        here.sweep(here.account("main", max_in_flight=2, verify=False), checked=False)
    )
    await here.sandbox.wait_until(lambda: len(here.deleted()) >= 5)
    tries = Failures(here.db)
    async with _struck_down(machine):
        await until(lambda: here.told(event.OutcomeUnwritten), "an outcome that is kept")
        sent = await nothing_in_flight(here)
        await tries.more(9)
        assert len(here.deleted()) == sent < len(names)
        assert not sweep.done()
    ended = await sweep
    assert (ended.summary.stop_reason, ended.summary.remaining) == ("ledger", None)
    kept = {one.response_id for one in here.told(event.OutcomeUnwritten)}
    written = {one.response_id for one in here.told(event.ResponseSettled)}
    assert kept <= written == set(here.deleted())
    _end_leases(here)
    await _swept_to_the_end(here)
    all_deleted_once(here, names)


async def test_a_connection_that_is_killed_at_any_statement_costs_nothing(
    machine: Machine, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement that a sweep makes ends its connection once, when it first comes."""
    monkeypatch.setattr(recorders, "_LONGEST_PAUSE", 0.02)
    names: list[str] = []
    killer, seen = Killer(machine), set[str]()

    def kill(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if killer.armed and statement not in seen:
            seen.add(statement)
            killer.kill(connection)

    sa.event.listen(here.db.engine, "before_cursor_execute", kill)
    known = -1
    while known < len(seen):
        known = len(seen)
        names += here.store(3)
        await _swept_once(here, killer)
    await _swept_to_the_end(here)
    all_deleted_once(here, names)
    assert known > 30


async def test_a_connection_that_is_killed_at_any_commit_costs_nothing(
    machine: Machine, here: Site
) -> None:
    names: list[str] = []
    killer, commits, last = Killer(machine), 0, 0

    def kill(connection: sa.Connection) -> None:
        nonlocal commits
        commits += killer.armed
        if killer.armed and commits == last:
            killer.kill(connection)

    sa.event.listen(here.db.engine, "commit", kill)
    while commits >= last:
        commits, last = 0, last + 1
        names += here.store(2)
        await _swept_once(here, killer)
    await _swept_to_the_end(here)
    all_deleted_once(here, names)
    assert last > 5


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_a_commit_of_which_nobody_hears_is_settled_by_its_tokens(
    machine: Machine, wire: Wire, name: str, fate: Fate
) -> None:
    """Whichever commit of a sweep it is, and whether it was carried out or not."""
    names: list[str] = []
    commits, last = 0, 0

    def watch(data: bytes) -> Fate:
        nonlocal commits
        commits += data.endswith(blackhole.COMMIT)
        return fate if data.endswith(blackhole.COMMIT) and commits == last else Fate.ARRIVES

    async with _site(wire.url(name)) as site:
        while commits >= last:
            names += site.store(2)
            commits, last = 0, last + 1
            wire.watch = watch
            with suppress(errors.LedgerError):
                await site.sweep(checked=False)
            wire.watch = lambda _: Fate.ARRIVES
            await until(partial(_is_at_rest, machine, name), "end of what nobody heard of")
            invariants.check(site.db)
            _end_leases(site)
        await _swept_to_the_end(site)
        all_deleted_once(site, names)
    assert last > 5


def _is_at_rest(machine: Machine, name: str) -> bool:
    """Whether no transaction is open at a database, nor one that was told to commit."""
    with machine.server.admin() as other:
        found = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND xact_start IS NOT NULL",
            [name],
        ).fetchone()
    return found == (0,)


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED])
async def test_what_may_have_been_committed_is_not_simply_done_again(
    wire: Wire, name: str, fate: Fate
) -> None:
    """Not every record has a token by which it would be known."""
    entry = Entry(type=RecordType.CLOCK_ANOMALY, fields={"account": "main"})
    async with _site(wire.url(name)) as site:
        recorder, before = Recorder(site.db), len(site.records())
        wire.watch = lambda data: fate if data.endswith(blackhole.COMMIT) else Fate.ARRIVES
        with pytest.raises(errors.CommitUnknown):
            await recorder.write(lambda c: records.append(c, [entry], now=1))
        recorder.close()
        wire.watch = lambda _: Fate.ARRIVES
        if fate is Fate.UNANSWERED:
            await until(lambda: len(site.records()) > before, "record")
        assert len(site.records()) == before + (fate is Fate.UNANSWERED)


async def test_a_server_that_falls_silent_keeps_nobody_waiting_for_ever(
    wire: Wire, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing breaks: what is sent is acknowledged by somebody, and never answered."""
    monkeypatch.setattr(connections, "ANSWER_WITHIN", 0.5)
    monkeypatch.setattr(ledger_database, "CONNECT_WITHIN", 2)
    monkeypatch.setattr(recorders, "LATE", 0.2)
    monkeypatch.setattr(recorders, "_LONGEST_PAUSE", 0.3)
    async with _site(wire.url(name)) as site:
        names = site.store(40)
        site.fault(method="DELETE", delay=0.05)
        sweep = asyncio.create_task(
            site.sweep(site.account("main", max_in_flight=2), checked=False)
        )
        await site.sandbox.wait_until(lambda: len(site.deleted()) >= 5)
        tries = Failures(site.db)
        wire.silence()
        await tries.more(1)
        sent = await nothing_in_flight(site)
        await tries.more(1)
        assert len(site.deleted()) == sent < len(names)
        wire.heal()
        await sweep
        _end_leases(site)
        await _swept_to_the_end(site)
        all_deleted_once(site, names)


def test_a_connection_finds_out_by_itself_that_its_server_is_gone(wire: Wire, name: str) -> None:
    db = ledger_database.open_database(wire.url(name))
    with db.read() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        with socket.socket(fileno=os.dup(raw.fileno())) as own:
            found = [own.getsockopt(level, option) for level, option in _OPTIONS]
    db.close()
    assert found == [1, 30, 10, 3, 30_000]


_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
)


async def test_who_is_chosen_to_end_a_deadlock_does_his_work_again(here: Site) -> None:
    """Somebody has responses and wants to admit; a sweep takes these the other way round."""
    names = here.store(3)
    here.fault(method="DELETE", delay=0.5)
    sweep = asyncio.create_task(here.sweep(here.account("main", verify=False)))
    await here.sandbox.wait_until(lambda: len(here.deleted()) == 3)
    tries = Failures(here.db)
    with here.db.engine.connect() as other, other.begin():
        other.exec_driver_sql("SET LOCAL deadlock_timeout = '60s'")  # the sweep finds it first
        other.execute(sa.select(tables.responses.c.id).with_for_update())
        await until(lambda: _admits_and_waits(here.db), "sweep that waits for responses")
        await asyncio.to_thread(admission.lock, other)
        await tries.more(1 - tries.count)
    assert (await sweep).summary.complete
    all_deleted_once(here, names)


def _admits_and_waits(db: Database) -> bool:
    """Whether somebody waits for a lock who has the one of admission."""
    with db.read() as connection:
        waiting: int = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_locks wanted JOIN pg_locks held USING (pid)"
            " WHERE NOT wanted.granted AND held.granted AND held.locktype = 'advisory'"
        ).scalar_one()
    return waiting > 0


async def test_a_server_whose_clock_is_another_stops_everything_until_it_is_set(
    machine: Machine, name: str, here: Site
) -> None:
    names = here.store(2)
    with machine.server.admin(name) as other:
        other.execute("CREATE SCHEMA wrong")
        other.execute(
            "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            " AS $$ SELECT pg_catalog.clock_timestamp() + interval '10 minutes' $$"
        )
        path = "wrong, pg_catalog, public"
        other.execute(f"ALTER DATABASE {name} SET search_path = {path}".encode())
    here.db.engine.dispose()
    ended = await here.sweep(checked=False)
    assert ended.summary.stop_reason == "clock"
    assert here.deleted() == []
    with machine.server.admin(name) as other:
        other.execute(f"ALTER DATABASE {name} RESET search_path".encode())
    here.db.engine.dispose()
    _end_leases(here)
    assert (await here.sweep()).summary.complete
    all_deleted_once(here, names)


async def test_a_standby_that_lacks_the_last_commits_is_not_gone_on_with(
    machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LAST_PAUSES", (0.05,))
    async with _site(machine.server.url(name)) as site:
        names = site.store(300)
        site.db.engine.dispose()
        machine.server.create("standby", template=name)
        site.fault(method="DELETE", delay=0.05)
        async with site.opened(site.account("main", max_in_flight=2, verify=False)) as running:
            sweep = asyncio.create_task(running.sweep.run())
            await until(lambda: len(site.told(event.ResponseSettled)) >= 10, "outcome")
            with machine.server.admin() as other:
                other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
                other.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                    " WHERE datname = %s",
                    [name],
                )
                other.execute(f"ALTER DATABASE {name} RENAME TO {_DEAD}".encode())
                other.execute(f"ALTER DATABASE standby RENAME TO {name}".encode())
            sent = len(site.deleted())
            ended = await sweep
            assert isinstance(ended.fault, errors.LedgerBusy | errors.LedgerReplaced)
            assert len(site.deleted()) - sent < 30 < len(names) - sent
            assert site.records("deletion.outcome") == []
            with pytest.raises(errors.LedgerReplaced, match="gone back"):
                await running.sweep._recorder.write(lambda _: None)
    with machine.server.admin() as other:
        other.execute(f"ALTER DATABASE {_DEAD} ALLOW_CONNECTIONS true".encode())
    canary.watch_ledger(machine.server.url(_DEAD))


async def test_without_a_free_connection_nothing_is_sent_and_nobody_waits_for_ever(
    machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_database, "POOL_TIMEOUT", 0.1)
    monkeypatch.setattr(recorders, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(recorders, "LATE", 0.05)
    async with _site(machine.server.url(name)) as site:
        names = site.store(40)
        site.fault(method="DELETE", delay=0.05)
        async with site.opened(site.account("main", max_in_flight=2)) as running:
            sweep = asyncio.create_task(running.sweep.run())
            await site.sandbox.wait_until(lambda: len(site.deleted()) >= 5)
            with ExitStack() as all_of_them:
                for _ in range(8):
                    all_of_them.enter_context(site.db.engine.connect())
                gate = running.accounts["main"].gate
                await until(lambda: not gate.is_open, "shut gate")
                sent = await nothing_in_flight(site)
                with pytest.raises(errors.LedgerAway, match="QueuePool limit"):
                    await asyncio.to_thread(_end_leases, site)
                assert len(site.deleted()) == sent < len(names)
            assert (await sweep).summary.complete
        all_deleted_once(site, names)


class Killer:
    """Ends connections while it is armed: those of sweeps, not those of the test."""

    def __init__(self, machine: Machine) -> None:
        self.armed = False
        self._machine = machine

    def kill(self, connection: sa.Connection) -> None:
        """Have the server end this connection, and wait until it has."""
        raw = connection.connection.driver_connection
        assert raw is not None
        with self._machine.server.admin() as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [raw.info.backend_pid])


async def _swept_once(site: Site, killer: Killer) -> None:
    """Sweep, whatever comes of it."""
    killer.armed = True
    try:
        with suppress(errors.LedgerError):
            await site.sweep(checked=False)
    finally:
        killer.armed = False
    invariants.check(site.db)
    _end_leases(site)
