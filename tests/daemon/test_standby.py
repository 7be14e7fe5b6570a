"""One daemon sweeps a ledger; a second one stands by, and takes over from one that ends or dies."""

import signal

import pytest

from tests.daemon.conftest import Start
from tests.support import command, daemon, truth
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_daemon_stands_by_and_takes_over(
    either: Rehearsal, start: Start, number: signal.Signals
) -> None:
    either.write(NEVER)
    first = start(either.config)
    first.wait("sweep_finished")
    second = start(either.config)
    second.wait("daemon_stands_by")
    either.responses(3)
    assert second.of("daemon_started") == []
    first.end(number)
    # A killed one's lease in PostgreSQL holds for fifteen seconds more.
    second.wait("daemon_started", within=40)
    assert second.of("sweep_started") == []
    either.responses(2)
    swept = command.process("-c", either.config, "sweep")
    assert swept.code == 0, swept.err
    assert second.end() == 0
    assert truth.violations(either) == []
    assert not either.stored() & either.due


def test_one_that_stands_by_ends_at_once_when_told(either: Rehearsal, start: Start) -> None:
    either.write(NEVER)
    first = start(either.config)
    first.wait("daemon_started")
    second = start(either.config)
    second.wait("daemon_stands_by")
    assert second.end(within=10) == 0
    assert first.child.poll() is None
    assert first.end() == 0


def test_a_frozen_daemon_loses_its_post_and_stands_by_when_it_wakes(
    postgresql_url: str, rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.url = postgresql_url
    rehearsal.write(NEVER)
    first = start(rehearsal.config)
    first.wait("sweep_finished")
    second = start(rehearsal.config)
    second.wait("daemon_stands_by")
    first.send(signal.SIGSTOP)
    second.wait("daemon_started", within=40)
    first.send(signal.SIGCONT)
    first.wait("daemon_stands_by")
    assert second.end() == 0
    first.wait("daemon_started", 2)
    assert first.end() == 0


def test_a_sweep_by_hand_and_the_daemon_never_run_at_one_time(
    either: Rehearsal, start: Start
) -> None:
    either.write(NEVER)
    either.responses(6)
    either.fault(method="DELETE", delay=2)
    running = start(either.config)
    either.wait_for_deletes(1)
    swept = command.process("-c", either.config, "sweep", "--json")
    assert swept.code == 11
    assert swept.error["error"] == "ledger_busy"
    running.wait("sweep_finished")
    assert running.end() == 0
    assert truth.violations(either) == []


def test_a_daemon_waits_for_a_sweep_by_hand_and_then_does_its_own(
    either: Rehearsal, start: Start
) -> None:
    either.write(NEVER, in_flight=1)
    either.responses(6)
    either.fault(method="DELETE", delay=0.5)
    child = command.start("-c", either.config, "sweep", "--json")
    either.wait_for_deletes(1)
    running = start(either.config)
    waits = running.wait("sweep_waits")
    assert (waits["level"], waits["retry_seconds"]) == ("info", 5.0)
    out, _ = child.communicate(timeout=60)
    assert b'"complete":true' in out
    assert running.wait("sweep_finished")["due"] == 0
    assert running.end() == 0
    assert truth.violations(either) == []


def test_a_daemon_with_many_bells_tells_of_the_same_busy_ledger_once(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write('[schedule]\nevery = "1s"\n', in_flight=1)
    rehearsal.responses(8)
    rehearsal.fault(method="DELETE", delay=0.5)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(1)
    running = start(rehearsal.config)
    running.wait("sweep_waits")
    child.communicate(timeout=60)
    running.wait("sweep_finished")
    assert len(running.of("sweep_waits")) == 1
    assert running.of("sweep_failed") == []
    assert running.end() == 0


def test_the_manager_hears_that_one_stands_by(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(NEVER)
    first = start(rehearsal.config)
    first.wait("daemon_started")
    with daemon.manager(rehearsal.folder) as manager:
        second = start(rehearsal.config, NOTIFY_SOCKET=manager.address)
        wait_for(lambda: manager.count("READY=1"), "readiness")
        assert any("standing by" in message for message in manager.heard)
        assert second.end() == 0
    assert first.end() == 0
