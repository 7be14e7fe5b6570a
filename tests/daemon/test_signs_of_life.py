"""The service manager hears when the daemon is ready, that it gets on, and when it ends."""

import os
import signal
import sqlite3
import time

import pytest

from tests.daemon.conftest import Start
from tests.support import daemon as daemons
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'


@pytest.mark.parametrize("abstract", [False, True])
def test_ready_alive_and_stopping_are_told_in_this_order(
    rehearsal: Rehearsal, start: Start, abstract: bool
) -> None:
    rehearsal.write(NEVER)
    with daemons.manager(rehearsal.folder, abstract=abstract) as manager:
        daemon = start(rehearsal.config, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="600000")
        wait_for(lambda: manager.count("WATCHDOG=1") >= 3, "three signs of life")
        assert daemon.end() == 0
        wait_for(lambda: manager.count("STOPPING=1"), "STOPPING=1")
        told = [one for one in manager.heard if not one.startswith("WATCHDOG")]
    assert told[0].startswith("READY=1\nSTATUS=started; next sweep: 20")
    assert told[-1].startswith("STOPPING=1")


def test_a_sweep_that_hangs_gives_no_sign_of_life(rehearsal: Rehearsal, start: Start) -> None:
    """The process lives and its loop turns; the sweep waits for a lock that nobody lets go."""
    rehearsal.write(NEVER)
    rehearsal.responses(30)
    rehearsal.fault(method="DELETE", delay=0.1)
    with daemons.manager(rehearsal.folder) as manager:
        daemon = start(
            rehearsal.config,
            NOTIFY_SOCKET=manager.address,
            WATCHDOG_USEC="300000",
        )
        rehearsal.wait_for_deletes(2)
        thief = sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None)
        thief.execute("BEGIN EXCLUSIVE")
        silent = wait_for(lambda: _silent_for(manager, 2.0), "silence")
        assert silent
        assert daemon.child.poll() is None
        thief.execute("ROLLBACK")
        thief.close()
        before = manager.count("WATCHDOG=1")
        wait_for(lambda: manager.count("WATCHDOG=1") > before + 2, "signs of life again")
        assert daemon.wait("sweep_finished")["complete"]
        assert daemon.end() == 0


def _silent_for(manager: daemons.Manager, seconds: float) -> bool:
    before = manager.count("WATCHDOG=1")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if manager.count("WATCHDOG=1") != before:
            return False
        time.sleep(0.02)
    return True


def test_a_frozen_process_gives_none_and_goes_on_when_it_wakes(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER)
    with daemons.manager(rehearsal.folder) as manager:
        daemon = start(rehearsal.config, NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="300000")
        wait_for(lambda: manager.count("WATCHDOG=1") >= 2, "signs of life")
        os.kill(daemon.child.pid, signal.SIGSTOP)
        wait_for(lambda: _silent_for(manager, 0.5), "silence")
        os.kill(daemon.child.pid, signal.SIGCONT)
        before = manager.count("WATCHDOG=1")
        wait_for(lambda: manager.count("WATCHDOG=1") > before, "signs of life again")
        assert daemon.end() == 0
