"""A daemon that cannot use its ledger has somebody told, whether it waits for it or ends for it."""

import resource
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.daemon.conftest import Start
from tests.support import asking, figures, pager, truth
from tests.support.pager import Pager
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'
OFTEN = '[schedule]\nevery = "1s"\n'
LATE = timedelta(days=16)
OPEN = ("missed_run", "open")


@pytest.fixture
def paged(tmp_path: Path) -> Pager:
    return pager.pager(tmp_path / "pager")


def move_away(ledger: Path) -> None:
    ledger.rename(ledger.with_name("elsewhere.db"))


def damage(ledger: Path) -> None:
    with ledger.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (ledger.stat().st_size - 4096))


@pytest.mark.parametrize("harm", [move_away, damage])
def test_one_that_its_ledger_ends_has_somebody_told_and_so_has_each_that_cannot_begin(
    rehearsal: Rehearsal, paged: Pager, start: Start, harm: Callable[[Path], None]
) -> None:
    rehearsal.write(OFTEN + paged.section)
    first = start(rehearsal.config)
    first.wait("sweep_finished")
    harm(rehearsal.folder / "ledger.db")
    assert first.ended() == 1
    assert paged.states == [OPEN]
    assert "no sweep can run: the ledger" in paged.told[0]["summary"]
    assert first.of("alarm_told")[0]["alarm"] == "missed_run"
    second = start(rehearsal.config)
    assert second.ended() == 1
    assert paged.states == [OPEN, OPEN]
    assert paged.told[1]["next"] == "sweeper doctor"


def test_one_whose_ledger_goes_in_the_middle_of_a_sweep_hears_the_answers_and_has_it_told(
    rehearsal: Rehearsal, paged: Pager, start: Start
) -> None:
    """However long they take: the process is not cut off before somebody was told."""
    rehearsal.responses(4, age=LATE)
    rehearsal.fault(method="DELETE", delay=8)
    spool = rehearsal.folder / "spool"
    spool.mkdir(mode=0o700)
    rehearsal.write(f'{NEVER}[intake]\nspool = "{spool}"\n{paged.section}')
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(4)
    move_away(rehearsal.folder / "ledger.db")
    (spool / "meets-it-beside-the-sweep.jsonl").write_text("{}\n")
    assert daemon.ended() == 1
    assert OPEN in paged.states
    assert daemon.of("daemon_failed")[0]["code"] == "ledger_replaced"
    assert {line["answer"] for line in daemon.of("outcome_unwritten")} == {"yes"}
    assert len(daemon.of("outcome_unwritten")) == 4


def test_an_alarm_command_that_hangs_keeps_a_daemon_that_is_told_to_end_no_longer(
    rehearsal: Rehearsal, paged: Pager, start: Start
) -> None:
    paged.write(f"touch {paged.folder}/begun; exec sleep 600")
    rehearsal.write(NEVER + paged.section)
    move_away(rehearsal.folder / "ledger.db")
    daemon = start(rehearsal.config)
    wait_for((paged.folder / "begun").exists, "command at work")
    began = time.monotonic()
    assert daemon.end() == 1
    assert time.monotonic() - began < 10
    assert paged.told == []


def test_a_disk_that_is_full_in_a_sweep_is_told_at_once_and_once_and_so_is_its_end(
    rehearsal: Rehearsal, start: Start
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rehearsal.responses(30)
    rehearsal.fault(method="DELETE", delay=0.1)
    rehearsal.write(f'{NEVER}[http]\nlisten = "127.0.0.1:{port}"\n', in_flight=2)
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(4)
    pid, whole = daemon.child.pid, resource.prlimit(daemon.child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, whole[1]))
    told = daemon.wait("ledger_waited_for", within=10)
    assert told["level"] == "warning"
    assert told["hint"]
    wait_for(lambda: "ledger" in asking.ask_now(port, "/readyz").json["failing"], "bad health", 5)
    text = asking.ask_now(port, "/metrics").body
    assert (figures.figure(text, "sweeper_ledger_errors_total") or 0) >= 1
    assert daemon.of("outcome_unwritten") == []
    resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
    assert daemon.wait("ledger_back")["seconds"] > 0
    assert daemon.wait("sweep_finished")["complete"]
    assert "ledger" not in asking.ask_now(port, "/readyz").json["failing"]
    assert daemon.end() == 0
    assert len(daemon.of("ledger_waited_for")) == len(daemon.of("ledger_back")) == 1
    assert truth.violations(rehearsal) == []
