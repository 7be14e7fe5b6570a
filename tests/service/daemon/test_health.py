"""The daemon tells what keeps it from its duty, and no question slows a sweep or hangs."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.config import load
from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.domain.outcome import Breaker
from sweeper.ledger import accounts, admission, sweeps, tables
from sweeper.ledger import database as ledger_database
from sweeper.ledger.database import Database
from sweeper.service import assembly, sweeping
from sweeper.service.daemon import reading
from sweeper.service.daemon.health import Health
from sweeper.service.daemon.vitals import STALLED_AFTER, Role, Vitals
from sweeper.telemetry.metrics import Metrics
from tests.support import figures
from tests.support import rehearsal as rehearsals
from tests.support.patience import wait_for
from tests.support.registered import registration
from tests.support.rehearsal import Rehearsal

CONFIG = """
[ledger]
url = "{url}"

[accounts.main]
provider = "fireworks"
api_key_env = "NO_SUCH_KEY"

[accounts.other]
provider = "openai"
base_url = "https://other.example"
api_key_env = "NO_OTHER_KEY"

[[policies]]
name = "support"
match = {{ labels = {{ app = "support" }} }}
delete_after = "14d"
deadline = "{deadline}"

[[policies]]
name = "chats"
match = {{ account = "main", labels = {{ app = "chats" }} }}
delete_after = "1d"
"""


def configured(folder: Path, url: str, deadline: str = "1d") -> Config:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(url=url, deadline=deadline))
    path.chmod(0o600)
    return load.load(path, {})


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Config:
    return configured(tmp_path, database_url)


@pytest.fixture
def vitals() -> Vitals:
    return Vitals(role=Role.ACTIVE)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


@pytest.fixture(autouse=True)
def read_to_the_end() -> Iterator[None]:
    """No thread of one test may still use a ledger that is closed, or into the next test."""
    yield
    wait_for(lambda: not _reading(), "end of what is being read")


def _reading() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "reading"]


@pytest.fixture
def health(
    database: Database, config: Config, vitals: Vitals, metrics: Metrics
) -> Iterator[Health]:
    yield Health(config, database, vitals, metrics)
    wait_for(lambda: not _reading(), "end of what is being read")


def register(
    db: Database, *ids: str, age: timedelta, app: str = "support", account: str = "main"
) -> None:
    now = datetime.now(UTC)
    batch = [
        replace(registration(each, account=account, labels={"app": app}), created_at=now - age)
        for each in ids
    ]
    with db.write() as connection:
        admission.admit(connection, batch, moment.to_us(now))


def stop(db: Database, account: str, breaker: Breaker) -> None:
    now = moment.to_us(datetime.now(UTC))
    with db.write() as connection:
        accounts.ensure(connection, [account])
        row = accounts.get(connection, account)
        assert row is not None
        accounts.open_breaker(connection, row, breaker, "d", now=now)


def ended(db: Database, name: str, at: datetime, *, complete: bool = True, **given: Any) -> None:
    """A sweep that has come to its end."""
    us = moment.to_us(at)
    with db.write() as connection:
        sweeps.begin(connection, name, now=us)
        sweeps.finish(
            connection,
            name,
            complete=complete,
            stop_reason=given.get("stop_reason"),
            summary=given.get("summary", {}),
            finished_at=us,
            now=us,
        )


@contextmanager
def kept_busy(db: Database, table: str = "ledger") -> Iterator[None]:
    """Somebody else keeps the ledger to himself."""
    with db.engine.begin() as connection:  # on SQLite this is the lock of whoever writes
        if not db.is_sqlite:
            connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


class TestReady:
    async def test_a_daemon_that_can_do_its_duty_is(self, health: Health) -> None:
        assert await health.ready() == []

    async def test_not_before_it_has_begun_nor_when_it_ends(
        self, health: Health, vitals: Vitals
    ) -> None:
        vitals.role = Role.STARTING
        assert await health.ready() == ["starting"]
        vitals.role = Role.STOPPING
        assert await health.ready() == ["stopping"]

    async def test_not_with_a_sweep_that_does_not_get_on(
        self, health: Health, vitals: Vitals
    ) -> None:
        vitals.sweeping = True
        vitals.pulse.beat()
        assert await health.ready() == []
        assert not health.is_stalled

        vitals.pulse._last = time.monotonic() - STALLED_AFTER - 1

        assert await health.ready() == ["sweep_stalled"]
        assert health.is_stalled

    async def test_not_when_no_sweep_can_run(self, health: Health, vitals: Vitals) -> None:
        vitals.failing = "the API key cannot be read"

        assert await health.ready() == ["sweep_failing"]

    @pytest.mark.parametrize("unread", [1, None])
    async def test_not_with_a_spool_that_is_not_read(
        self, health: Health, vitals: Vitals, unread: int | None
    ) -> None:
        vitals.unread_spool_files = unread

        assert await health.ready() == ["spool"]

    async def test_not_with_an_account_that_is_stopped(
        self, health: Health, database: Database
    ) -> None:
        stop(database, "main", Breaker.PAYMENT)
        stop(database, "other", Breaker.NOT_FOUND)

        assert await health.ready() == [
            "account_stopped:main:payment",
            "account_stopped:other:not_found",
        ]

    async def test_though_an_account_is_stopped_that_is_no_longer_configured(
        self, health: Health, database: Database
    ) -> None:
        """Nobody could lift that; what is late there is named all the same."""
        stop(database, "old", Breaker.PAYMENT)
        assert await health.ready() == []

        register(database, "resp_1", age=timedelta(days=20), account="old")
        health.follow(health._config)

        assert await health.ready() == ["overdue:support"]

    async def test_a_guards_refusal_is_named_beside_what_stops_an_account(
        self, health: Health, database: Database
    ) -> None:
        stop(database, "main", Breaker.UNREACHABLE)
        reasons = ["account:main:unreachable", "guard"]
        stops = {"stops": [{"reason": one} for one in reasons]}
        now = datetime.now(UTC)
        ended(database, "s", now, complete=False, stop_reason=reasons[0], summary=stops)

        assert await health.ready() == ["account_stopped:main:unreachable", "guard"]

    async def test_what_stops_accounts_is_told_with_what_is_kept_there(
        self, health: Health, database: Database
    ) -> None:
        register(database, "resp_1", "resp_2", age=timedelta(days=14, hours=6))
        register(database, "resp_3", age=timedelta(hours=6))
        register(database, "resp_4", age=timedelta(days=14, hours=9), account="elsewhere")
        for name in ("main", "other", "elsewhere"):
            stop(database, name, Breaker.PAYMENT)

        assert health.stopped == []
        await health.ready()

        main, other = health.stopped
        assert (main["account"], main["breaker"], main["kept"]) == ("main", "payment", 2)
        assert main["oldest_seconds"] == pytest.approx(6 * 3600, abs=60)
        nothing = {"kept": 0, "oldest_seconds": None}
        assert other == {"account": "other", "breaker": "payment", **nothing}

    @pytest.mark.parametrize("stop_reason", ["clock", "guard"])
    async def test_not_with_a_clock_or_a_guard_that_kept_the_last_sweep_from_deleting(
        self, health: Health, database: Database, stop_reason: str
    ) -> None:
        now = datetime.now(UTC)
        ended(database, "s1", now - timedelta(hours=1), complete=False, stop_reason=stop_reason)
        assert await health.ready() == [stop_reason]

        ended(database, "s2", now)
        health.follow(health._config)

        assert await health.ready() == []

    async def test_though_the_last_sweep_was_interrupted(
        self, health: Health, database: Database
    ) -> None:
        now = datetime.now(UTC)
        ended(database, "s", now, complete=False, stop_reason="interrupted")

        assert await health.ready() == []

    async def test_not_with_anything_later_than_its_deadline(
        self, health: Health, database: Database
    ) -> None:
        register(database, "resp_1", "resp_2", age=timedelta(days=15, minutes=1))
        register(database, "resp_3", age=timedelta(days=9), app="chats")

        assert await health.ready() == ["overdue:chats", "overdue:support"]

    async def test_though_something_is_due_within_its_deadline(
        self, health: Health, database: Database
    ) -> None:
        register(database, "resp_1", age=timedelta(days=14, hours=23))
        register(database, "resp_2", age=timedelta(days=900), app="unmatched")

        assert await health.ready() == []

    async def test_not_with_something_set_aside_past_its_deadline(
        self, health: Health, database: Database
    ) -> None:
        register(database, "resp_1", age=timedelta(days=15, minutes=1))
        with database.write() as connection:
            connection.execute(
                sa.update(tables.responses).values(
                    state="quarantined", quarantine_reason="rejected"
                )
            )

        assert await health.ready() == ["overdue:support"]

    async def test_by_the_policies_that_are_in_force_now(
        self, health: Health, database: Database, tmp_path: Path, database_url: str
    ) -> None:
        register(database, "resp_1", age=timedelta(days=15, minutes=1))
        assert await health.ready() == ["overdue:support"]

        health.follow(configured(tmp_path, database_url, deadline="30d"))

        assert await health.ready() == []

    async def test_not_with_another_schema(self, health: Health, database: Database) -> None:
        with database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999_later'"))

        assert await health.ready() == ["schema"]

    async def test_not_with_a_ledger_that_was_replaced(
        self, tmp_path: Path, sqlite_url: str, vitals: Vitals, metrics: Metrics
    ) -> None:
        db = ledger_database.open_database(sqlite_url)
        assert db.path is not None
        health = Health(configured(tmp_path, sqlite_url), db, vitals, metrics)
        db.path.rename(tmp_path / "away.db")

        assert await health.ready() == ["ledger"]
        name = "sweeper_ledger_errors_total"
        assert figures.figure(await health.metrics(), name) == 1
        db.close()

    async def test_not_with_a_ledger_that_keeps_everybody_waiting(
        self, health: Health, database: Database
    ) -> None:
        with kept_busy(database):
            for _ in range(2):
                began = time.monotonic()
                assert await health.ready() == ["ledger"]
                assert time.monotonic() - began < 5
        await _until(health.ready, [])

    async def test_not_with_a_ledger_that_can_be_read_and_not_written(
        self, tmp_path: Path, sqlite_url: str, vitals: Vitals, metrics: Metrics
    ) -> None:
        db = ledger_database.open_database(sqlite_url)
        with db.write() as connection:
            connection.execute(
                sa.text(
                    "CREATE TRIGGER no BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
            )
        health = Health(configured(tmp_path, sqlite_url), db, vitals, metrics)

        assert await health.ready() == ["ledger"]
        assert figures.figure(metrics.text(), "sweeper_ledger_errors_total") == 1
        db.close()

    async def test_though_others_write_so_much_that_nobody_else_can(
        self, tmp_path: Path, sqlite_url: str, vitals: Vitals, metrics: Metrics
    ) -> None:
        db = ledger_database.open_database(sqlite_url)
        health = Health(configured(tmp_path, sqlite_url), db, vitals, metrics)
        over = threading.Event()
        writer = threading.Thread(target=_write_without_rest, args=(db, over))
        writer.start()
        try:
            await _until(_is_held(health), expected=True)
            for _ in range(3):
                assert await health.ready() == []
        finally:
            over.set()
            writer.join()
        wait_for(lambda: not _reading(), "end of what is being read")
        db.close()

    async def test_not_when_what_is_late_cannot_be_known(
        self, tmp_path: Path, postgresql_url: str, vitals: Vitals, metrics: Metrics
    ) -> None:
        db = ledger_database.open_database(postgresql_url)
        health = Health(configured(tmp_path, postgresql_url), db, vitals, metrics)
        register(db, "resp_1", age=timedelta(days=15, minutes=1))
        with kept_busy(db, "responses"):
            began = time.monotonic()
            assert await health.ready() == ["overdue_unknown"]
            assert time.monotonic() - began < 5
        await _until(health.ready, ["overdue:support"])
        db.close()

    async def test_a_standby_is_whatever_keeps_the_other_one(
        self, health: Health, database: Database, vitals: Vitals
    ) -> None:
        stop(database, "main", Breaker.PAYMENT)
        register(database, "resp_1", age=timedelta(days=20))
        vitals.role, vitals.unread_spool_files, vitals.failing = Role.STANDBY, None, "why"

        assert await health.ready() == []

    async def test_a_standby_is_not_without_its_ledger(
        self, health: Health, database: Database, vitals: Vitals
    ) -> None:
        vitals.role = Role.STANDBY
        with kept_busy(database):
            assert await health.ready() == ["ledger"]
        await _until(health.ready, [])

    async def test_all_reasons_are_named_at_once(
        self, health: Health, database: Database, vitals: Vitals
    ) -> None:
        vitals.unread_spool_files = 1
        vitals.failing = "why"
        stop(database, "main", Breaker.CREDENTIAL)
        register(database, "resp_1", age=timedelta(days=20))

        assert await health.ready() == [
            "sweep_failing",
            "spool",
            "account_stopped:main:credential",
            "overdue:support",
        ]

    async def test_a_fault_of_ours_is_not_taken_for_the_ledgers(
        self, health: Health, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health._probed, "_read", lambda: 1 / 0)

        with pytest.raises(ZeroDivisionError):
            await health.ready()


def _write_without_rest(db: Database, over: threading.Event) -> None:
    """As a large import does: the next transaction begins before anybody else's can."""
    number = 0
    while not over.is_set():
        with db.write() as connection:
            number += 1
            one = replace(registration(f"resp_{number}"), created_at=datetime.now(UTC))
            admission.admit(connection, [one], moment.to_us(datetime.now(UTC)))
            over.wait(0.3)


def _is_held(health: Health) -> Callable[[], Awaitable[bool]]:
    """Whether somebody else has kept the ledger from being written to by a probe."""

    async def ask() -> bool:
        with suppress(errors.LedgerError):
            await health._written.value()
        return health._written.is_running

    return ask


async def _until(ask: Callable[[], Any], expected: object) -> None:
    async with asyncio.timeout(20):
        while await ask() != expected:  # noqa: ASYNC110 - it is another process's lock
            await asyncio.sleep(0.05)


class TestFigures:
    async def test_how_things_stand_is_shown(
        self, health: Health, database: Database, vitals: Vitals
    ) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        register(database, "resp_1", "resp_2", age=timedelta(days=16))
        register(database, "resp_3", age=timedelta(days=1))
        stop(database, "main", Breaker.PAYMENT)
        ended(database, "s1", now - timedelta(hours=2))
        ended(database, "s2", now, complete=False, summary={"held": 5})
        vitals.next_sweep_at = now + timedelta(minutes=15)

        text = await health.metrics()

        late = figures.figure(text, "sweeper_oldest_overdue_seconds", policy="support")
        assert late == pytest.approx(86400, abs=60)
        told = {
            "sweeper_last_finished_sweep_timestamp_seconds": now.timestamp(),
            "sweeper_last_complete_sweep_timestamp_seconds": now.timestamp() - 7200,
            "sweeper_next_sweep_timestamp_seconds": now.timestamp() + 900,
            "sweeper_held_responses": 5,
        }
        assert {name: figures.figure(text, name) for name in told} == told
        assert figures.figure(text, "sweeper_overdue_responses", policy="support") == 2
        assert figures.figure(text, "sweeper_overdue_responses", policy="chats") == 0
        assert figures.figure(text, "sweeper_responses", account="main", state="live") == 3
        assert figures.figure(text, "sweeper_responses", account="other", state="live") == 0
        assert figures.figure(text, "sweeper_breaker_open", account="main", breaker="payment") == 1
        with database.read() as connection:
            records = connection.execute(sa.text("SELECT count(*) FROM records")).scalar_one()
        assert figures.figure(text, "sweeper_records") == records

    async def test_what_moves_is_not_counted_as_simply_live(
        self, health: Health, database: Database
    ) -> None:
        register(database, *(f"resp_{n}" for n in range(6)), age=timedelta(days=1))
        with database.write() as connection:
            for name, values in {
                "resp_0": {"state": "claimed", "token": "t", "claim_deadline": 1},
                "resp_1": {"state": "verifying", "verify_at": 1, "yes_at": 1},
            }.items():
                connection.execute(
                    sa.update(tables.responses)
                    .where(tables.responses.c.response_id == name)
                    .values(**values)
                )

        text = await health.metrics()

        counted = {
            state: figures.figure(text, "sweeper_responses", account="main", state=state)
            for state in ("live", "claimed", "verifying", "quarantined")
        }
        assert counted == {"live": 4, "claimed": 1, "verifying": 1, "quarantined": 0}

    async def test_only_policies_that_can_decide_about_an_account_start_at_nothing(
        self, health: Health
    ) -> None:
        found = figures.series(await health.metrics(), "sweeper_deletions_total")

        pairs = {(dict(labels)["account"], dict(labels)["policy"]) for labels in found}
        assert pairs == {("main", "support"), ("main", "chats"), ("other", "support")}

    async def test_what_is_late_grows_later_between_two_looks(
        self, health: Health, database: Database
    ) -> None:
        register(database, "resp_1", age=timedelta(days=16))
        first = await health.snapshot()
        assert first is not None
        value = health._surveyed._value
        assert value is not None
        health._surveyed._value = replace(value, at=value.at - 10)

        later = await health.snapshot()

        assert later is not None
        grown = later.overdue["support"].oldest_seconds - first.overdue["support"].oldest_seconds
        assert grown == pytest.approx(10, abs=1)

    async def test_a_ledger_that_does_not_answer_leaves_no_figure_of_its_own(
        self, tmp_path: Path, postgresql_url: str, vitals: Vitals, metrics: Metrics
    ) -> None:
        db = ledger_database.open_database(postgresql_url)
        health = Health(configured(tmp_path, postgresql_url), db, vitals, metrics)
        with kept_busy(db, "responses"):
            began = time.monotonic()
            text = await health.metrics()
            assert time.monotonic() - began < 5
        wait_for(lambda: not _reading(), "end of what is being read")
        db.close()

        assert figures.series(text, "sweeper_overdue_responses") == {}
        assert isnan(figures.figure(text, "sweeper_records") or 0)
        assert figures.figure(text, "sweeper_build_info", version="1.2.3") == 1

    async def test_whoever_asks_all_the_time_costs_the_ledger_no_more(
        self, health: Health, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both probes and figures, two hundred times at once and one after the other."""
        monkeypatch.setattr(reading, "_REST", 0.0)
        begun: list[object] = []
        sa.event.listen(database.engine, "begin", begun.append)
        await health.ready()
        await health.metrics()
        once = len(begun)

        began = time.monotonic()
        await asyncio.gather(*(health.ready() for _ in range(200)))
        for _ in range(200):
            await health.metrics()
            await health.ready()

        looks = 1 + (time.monotonic() - began)
        assert len(begun) <= once * looks

    async def test_health_is_alive_without_its_ledger(
        self, health: Health, database: Database
    ) -> None:
        database.close()

        assert (health.is_stalled, health.role) == (False, "active")


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


async def test_the_figures_of_a_sweep_are_those_of_its_summary(
    rehearsal: Rehearsal, metrics: Metrics, vitals: Vitals
) -> None:
    rehearsal.responses(12)
    rehearsal.responses(3, stored=False)
    rehearsal.fault(method="DELETE", times=2, status=503)
    config = load.load(rehearsal.config, {})
    keys = assembly.read_keys(config, {})
    with rehearsal.database() as db:
        health = Health(config, db, vitals, metrics)
        shop = sweeping.workshop(config, db, metrics.hear, measure=metrics.measure)
        done = await sweeping.run(shop, config, keys, assembly.scope(config))
        text = await health.metrics()

    found = figures.series(text, "sweeper_deletions_total")
    told = {dict(labels)["outcome"]: value for labels, value in found.items() if value}
    assert told["deleted"] == done.summary.outcomes["deleted"]
    requests = figures.series(text, "sweeper_provider_requests_total")
    assert sum(requests.values()) == rehearsal.requests()
    assert figures.figure(text, "sweeper_provider_request_duration_seconds_count") == sum(
        requests.values()
    )
    deletes = {k: v for k, v in requests.items() if ("method", "DELETE") in k}
    assert sum(deletes.values()) == rehearsal.requests("DELETE")
    result = "complete" if done.summary.complete else "incomplete"
    assert figures.figure(text, "sweeper_sweeps_total", result=result) == 1
