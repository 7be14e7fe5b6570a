"""The daemon has somebody told, and an alarm command that hangs keeps it from nothing."""

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.daemon.conftest import Start
from tests.support import pager, truth
from tests.support.pager import Pager
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

LATE = timedelta(days=16)
OFTEN = '[schedule]\nevery = "1s"\n'


@pytest.fixture
def paged(tmp_path: Path) -> Pager:
    return pager.pager(tmp_path / "pager")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # What has ended and was left behind waits for whoever fetches it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"


def heard(paged: Pager, *expected: tuple[str, str]) -> Callable[[], bool]:
    return lambda: set(expected) <= set(paged.states)


def test_a_stop_is_told_and_so_is_its_end(either: Rehearsal, paged: Pager, start: Start) -> None:
    either.responses(2, age=LATE)
    either.fault(status=401, body=b'{"error": {}}')
    either.write(OFTEN + paged.section)
    daemon = start(either.config)
    stopped, late = "account_stopped:main:credential", "overdue:support"
    wait_for(heard(paged, (stopped, "open"), (late, "open")), "alarm")
    either.mend()
    wait_for(heard(paged, (stopped, "resolved"), (late, "resolved")), "end of the alarms", 90)
    assert daemon.end() == 0
    assert len(paged.states) == 4
    assert {line["alarm"] for line in daemon.of("alarm_told")} == {stopped, late}


def test_a_command_that_hangs_keeps_no_sweep_waiting_and_ends_with_the_daemon(
    either: Rehearsal, paged: Pager, start: Start
) -> None:
    paged.write(
        f"trap '' TERM; echo $$ > {paged.folder}/pid.new; mv {paged.folder}/pid.new"
        f" {paged.folder}/pid; while :; do sleep 0.1; done"
    )
    either.responses(1, age=LATE, stored=False)
    either.write(OFTEN + paged.section)
    daemon = start(either.config)
    wait_for((paged.folder / "pid").exists, "command at work")
    pid = int((paged.folder / "pid").read_text())
    before = len(daemon.of("sweep_finished"))
    either.responses(5)
    wait_for(lambda: not either.stored() & either.due, "deletion")
    daemon.wait("sweep_finished", before + 2)
    assert not is_gone(pid)
    assert daemon.end(signal.SIGTERM) == 0
    wait_for(lambda: is_gone(pid), "end of the command")
    assert paged.told == []
    assert truth.violations(either) == []


def test_runs_that_were_missed_are_told_though_they_are_caught_up_at_once(
    either: Rehearsal, paged: Pager, start: Start
) -> None:
    either.write('[schedule]\nevery = "1h"\n' + paged.section)
    first = start(either.config)
    first.wait("sweep_finished")
    assert first.end() == 0
    assert paged.states == []
    either.age_sweeps(timedelta(hours=5))
    second = start(either.config)
    second.wait("sweep_finished")
    wait_for(heard(paged, ("missed_run", "open"), ("missed_run", "resolved")), "alarm", 90)
    assert second.end() == 0
    opened, ended = paged.told
    assert opened["count"] in {4, 5}
    assert opened["first"] < opened["last"]
    assert ended["count"] == opened["count"]
