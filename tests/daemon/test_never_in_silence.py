"""Nothing that comes between leaves a run undone or a change unheeded without saying so."""

import fcntl
import os
import signal
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.ledger import tables
from tests.daemon.conftest import Start
from tests.support import command, truth
from tests.support.patience import wait_for
from tests.support.rehearsal import OTHER_KEY, Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'


def test_a_reload_binds_a_sweep_that_is_only_being_opened(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write('[schedule]\nevery = "1s"\n')
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    rehearsal.responses(10)
    locked = sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None, timeout=30)
    locked.execute("BEGIN IMMEDIATE")
    seen = len(daemon.of("sweep_finished"))
    # Every second a bell rings, and the sweep that it calls for waits for the ledger.
    rung = datetime.now(UTC) + timedelta(seconds=1.5)
    wait_for(lambda: datetime.now(UTC) > rung, "bell")
    text = rehearsal.config.read_text()
    rehearsal.config.write_text(text.replace('delete_after = "14d"', 'delete_after = "forever"'))
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_reloaded")
    locked.execute("ROLLBACK")
    locked.close()
    daemon.wait("sweep_finished", seen + 3)
    assert daemon.end() == 0
    assert rehearsal.requests("DELETE") == 0
    assert truth.violations(rehearsal) == []


def test_what_an_interrupted_sweep_left_is_done_at_once_by_the_next_daemon(
    either: Rehearsal, start: Start
) -> None:
    either.write(NEVER, verify="none")
    first = start(either.config)
    first.wait("sweep_finished")
    either.responses(30)
    either.fault(method="DELETE", delay=0.3)
    either.write(NEVER, in_flight=3)
    first.send(signal.SIGHUP)
    either.wait_for_deletes(5)
    assert first.end() == 0
    _, cut = first.of("sweep_finished")
    assert cut["remaining"] > 0
    either.mend()
    second = start(either.config)
    assert second.wait("sweep_finished")["complete"]
    assert second.end() == 0
    assert not either.stored() & either.due
    assert truth.violations(either) == []


def test_an_interrupted_sweep_is_no_run_that_happened(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write('[schedule]\nevery = "1h"\n')
    first = start(rehearsal.config)
    first.wait("sweep_finished")
    assert first.end() == 0
    rehearsal.age_sweeps(timedelta(hours=2, minutes=30))
    with rehearsal.database() as db, db.write() as connection:
        now = moment.to_us(datetime.now(UTC))
        cut = {"id": "cut", "started_at": now, "finished_at": now, "complete": 0}
        connection.execute(sa.insert(tables.sweeps).values(stop_reason="interrupted", **cut))
    second = start(rehearsal.config)
    assert second.wait("runs_missed")["count"] in {2, 3}
    second.wait("sweep_finished")
    assert second.end() == 0


def test_a_retry_that_comes_due_while_another_account_is_swept_is_rung_for(
    rehearsal: Rehearsal, start: Start
) -> None:
    key = rehearsal.folder / "other-key"
    key.touch(mode=0o600)
    key.write_text(OTHER_KEY + "\n")
    rehearsal.write(
        f'[accounts.slow]\nprovider = "fireworks"\nbase_url = "{rehearsal.sandbox.base_url}"\n'
        f'api_key_file = "{key}"\nrate = "1000/second"\nmax_in_flight = 1\n{NEVER}',
        verify="none",
    )
    (quick,) = rehearsal.responses(1)
    long_ago = datetime.now(UTC) - timedelta(days=20)
    slow = rehearsal.sandbox.call(
        lambda one: one.seed(4, created_at=long_ago, metadata={"app": "support"}, account="other")
    )
    rehearsal.register(dict.fromkeys(slow, long_ago), account="slow")
    rehearsal.fault(method="DELETE", id=quick, status=500, times=2)
    rehearsal.fault(method="DELETE", account="other", delay=2.0)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    wait_for(lambda: quick not in rehearsal.stored(), "another try")
    assert daemon.end() == 0


def test_a_reload_cuts_off_no_answer_although_the_end_comes_after_it(
    rehearsal: Rehearsal, start: Start
) -> None:
    """A first SIGTERM is a first one, whatever stopped the sweep before."""
    rehearsal.write(NEVER, verify="none", in_flight=2)
    rehearsal.responses(6)
    rehearsal.fault(method="DELETE", delay=4)
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(2)
    text = rehearsal.config.read_text()
    rehearsal.config.write_text(text.replace('delete_after = "14d"', 'delete_after = "15d"'))
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_reloaded")
    assert daemon.end() == 0
    assert daemon.of("sweep_finished")[0]["outcomes"] == {"deleted": 2}
    assert {row["ambiguous"] for row in rehearsal.rows()} == {0}


def test_a_reload_at_any_moment_ends_nothing(rehearsal: Rehearsal, start: Start) -> None:
    """Before the rounds have begun, and when they have ended, there is no bell to be set."""
    rehearsal.write(NEVER)
    first = start(rehearsal.config)
    first.wait("sweep_finished")
    daemon = start(rehearsal.config)
    daemon.wait("daemon_stands_by")
    locked = sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None, timeout=30)
    locked.execute("BEGIN IMMEDIATE")
    first.end(signal.SIGKILL)
    wait_for(lambda: _has_post(rehearsal), "the second daemon's post")
    rehearsal.write('[schedule]\nevery = "1h"\n')
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_reloaded")
    locked.execute("ROLLBACK")
    locked.close()
    daemon.wait("daemon_started")
    rehearsal.write('[schedule]\nevery = "2h"\n')
    daemon.send(signal.SIGTERM)
    daemon.send(signal.SIGHUP)
    assert daemon.ended() == 0


def _has_post(rehearsal: Rehearsal) -> bool:
    for lock in rehearsal.folder.glob("*.daemon.lock"):
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def test_a_standby_whose_ledger_was_away_for_a_moment_is_well_when_it_takes_over(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER)
    first = start(rehearsal.config)
    first.wait("sweep_finished")
    second = start(rehearsal.config)
    second.wait("daemon_stands_by")
    # A ledger of two names is refused: nobody knows which lock would be the right one.
    twin = rehearsal.folder / "twin.db"
    os.link(rehearsal.folder / "ledger.db", twin)
    failed = second.wait("sweep_failed")
    assert "2 names" in failed["detail"]
    twin.unlink()
    assert first.end() == 0
    second.wait("daemon_started")
    assert second.of("runs_missed") == []
    assert second.end() == 0


def test_a_sweep_by_a_clock_that_was_ahead_hides_nothing_of_what_comes_after(
    either: Rehearsal, start: Start
) -> None:
    either.write('[schedule]\nevery = "1h"\n')
    ahead = moment.to_us(datetime.now(UTC) + timedelta(days=1800))
    with either.database() as db, db.write() as connection:
        connection.execute(
            sa.insert(tables.sweeps).values(
                id="ahead", started_at=ahead, finished_at=ahead, complete=0, stop_reason="clock"
            )
        )
        connection.execute(sa.insert(tables.schedules).values(since=ahead, cron="0 0 1 1 *"))
    swept = command.process("-c", either.config, "sweep")
    assert swept.code == 0, swept.err
    first = start(either.config)
    first.wait("daemon_started")
    assert first.end() == 0
    with either.database() as db, db.read() as connection:
        latest = connection.execute(sa.select(sa.func.max(tables.sweeps.c.started_at))).scalar_one()
        since = connection.execute(sa.select(sa.func.max(tables.schedules.c.since))).scalar_one()
    now = moment.to_us(datetime.now(UTC))
    assert latest <= now
    assert since <= now


def test_a_ledger_that_is_gone_is_not_begun_anew(rehearsal: Rehearsal, start: Start) -> None:
    (rehearsal.folder / "ledger.db").unlink()
    rehearsal.write(NEVER)
    daemon = start(rehearsal.config)
    assert daemon.ended() == 1
    assert "sweeper db upgrade" in "".join(daemon.other)
    assert not (rehearsal.folder / "ledger.db").exists()


def test_a_second_signal_however_late_changes_nothing_about_a_good_end(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER)
    for pause in (0.0, 0.01, 0.05, 0.1):
        daemon = start(rehearsal.config)
        daemon.wait("daemon_started")
        daemon.send(signal.SIGINT)
        time.sleep(pause)
        assert daemon.end(signal.SIGTERM) == 0


def test_a_breaker_that_stays_open_is_told_once(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.use_key("fw_wrong_key_000000000000")
    rehearsal.responses(1)
    rehearsal.write('[schedule]\nevery = "1s"\n')
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished", 3)
    assert daemon.end() == 0
    assert len(daemon.of("breaker_opened")) == 1


def test_what_the_configuration_hardly_means_is_told_at_the_start(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER, share="0")
    daemon = start(rehearsal.config)
    doubted = daemon.wait("configuration_doubted")
    assert doubted["level"] == "warning"
    assert any("max_share_per_sweep" in each for each in doubted["warnings"])
    assert daemon.end() == 0


def test_a_ledger_that_fails_as_the_daemon_begins_is_tried_again(
    rehearsal: Rehearsal, start: Start
) -> None:
    with sqlite3.connect(rehearsal.folder / "ledger.db") as raw:
        raw.execute(
            "CREATE TRIGGER full BEFORE INSERT ON schedules BEGIN"
            " SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    raw.close()
    rehearsal.responses(1)
    rehearsal.write(NEVER)
    daemon = start(rehearsal.config)
    failed = daemon.wait("sweep_failed")
    assert (failed["code"], failed["retry_seconds"]) == ("ledger", 5.0)
    with sqlite3.connect(rehearsal.folder / "ledger.db") as raw:
        raw.execute("DROP TRIGGER full")
    raw.close()
    assert daemon.wait("sweep_finished")["complete"]
    assert daemon.end() == 0


def test_a_commit_that_fails_in_the_middle_is_made_good_by_a_sweep_soon_after(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.responses(6)
    rehearsal.fault(method="DELETE", delay=0.2)
    rehearsal.write(NEVER, verify="none")
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(1)
    with sqlite3.connect(rehearsal.folder / "ledger.db", timeout=30) as raw:
        raw.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON responses WHEN NEW.state = 'gone' BEGIN"
            " SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    raw.close()
    assert daemon.wait("sweep_failed")["code"] == "ledger"
    with sqlite3.connect(rehearsal.folder / "ledger.db", timeout=30) as raw:
        raw.execute("DROP TRIGGER full")
    raw.close()
    wait_for(lambda: truth.unsettled(rehearsal) == [], "settlement", within=60)
    assert daemon.end() == 0
    assert truth.violations(rehearsal) == []
