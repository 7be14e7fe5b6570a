"""A daemon of which a part has died ends soon, whatever else hangs, and nothing is lost by it."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.daemon.conftest import Start
from tests.support import command, truth
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'

# No socket and no file can make any chosen task fail at a chosen moment, so one is put beside.
DYING = """
import asyncio, sys, time
from pathlib import Path
from sweeper.cli import main, run

mark, how = sys.argv[1:3]

async def dying():
    while not Path(mark).exists():
        await asyncio.sleep(0.02)
    loop = asyncio.get_running_loop()
    if how == "hangs":
        loop.run_in_executor(None, time.sleep, 60)
    if how == "blocks":
        loop.call_later(0.1, time.sleep, 60)
    if how != "returns":
        raise ZeroDivisionError("resp_secret_content")

run._beside = lambda config, health: {"dying": dying()}
sys.exit(main.run(sys.argv[3:]))
"""


def dying(rehearsal: Rehearsal, how: str) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-c", DYING, str(_mark(rehearsal)), how]
    return subprocess.Popen(
        [*call, "-c", str(rehearsal.config), "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=command.environment(),
    )


def _mark(rehearsal: Rehearsal) -> Path:
    return rehearsal.folder / "die"


@pytest.mark.parametrize("how", ["raises", "returns", "hangs", "blocks"])
def test_any_task_that_dies_ends_the_process_within_5_seconds(
    rehearsal: Rehearsal, how: str
) -> None:
    rehearsal.write(NEVER)
    rehearsal.responses(6)
    rehearsal.fault(method="DELETE", delay=25)
    child = dying(rehearsal, how)
    try:
        rehearsal.wait_for_deletes(4)
        _mark(rehearsal).touch()
        began = time.monotonic()
        code = child.wait(20)
        took = time.monotonic() - began
        assert child.stderr is not None
        err = child.stderr.read().decode()
    finally:
        child.kill()
        child.wait(10)
        assert child.stderr is not None
        child.stderr.close()
    assert code == 1, err
    assert took < 6, err  # five, and what a busy machine adds
    assert "resp_secret_content" not in err
    if how in {"raises", "returns"}:
        last = err.splitlines()[-2:]
        assert any("fault of sweeper's" in line for line in last), err
    assert truth.violations(rehearsal) == []
    rehearsal.mend()
    rehearsal.pass_time()
    done = command.process("-c", rehearsal.config, "sweep", "--json")
    assert truth.violations(rehearsal) == [], done


def test_a_ledger_that_was_exchanged_ends_the_daemon(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(NEVER)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    ledger = rehearsal.folder / "ledger.db"
    copy = rehearsal.folder / "copy.db"
    copy.write_bytes(ledger.read_bytes())
    copy.replace(ledger)
    assert daemon.ended(within=20) == 1
    assert "was removed or replaced" in "".join(daemon.other)


def test_a_port_that_is_taken_ends_the_daemon_with_what_to_do(
    rehearsal: Rehearsal, start: Start
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rehearsal.write(f'{NEVER}[http]\nlisten = "127.0.0.1:{port}"\n')
        daemon = start(rehearsal.config)
        assert daemon.ended() == 1
    told = "".join(daemon.other)
    assert f"nothing can listen at 127.0.0.1:{port}" in told
    assert "hint: " in told


def test_a_disk_that_is_full_is_waited_for_and_the_sweep_done_later(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER)
    rehearsal.responses(2)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    thief = sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None)
    rehearsal.responses(1)
    thief.execute(
        "CREATE TRIGGER full BEFORE INSERT ON sweeps BEGIN"
        " SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    rehearsal.config.write_text(
        rehearsal.config.read_text().replace('cron = "0 0 1 1 *"', 'every = "1s"')
    )
    daemon.send(signal.SIGHUP)
    failed = daemon.wait("sweep_failed")
    assert "disk is full" in failed["detail"]
    assert "free space" in failed["hint"]
    assert daemon.child.poll() is None
    thief.execute("DROP TRIGGER full")
    thief.close()
    before = len(daemon.of("sweep_finished"))
    assert daemon.wait("sweep_finished", before + 1)["complete"]
    assert daemon.end() == 0
    assert not rehearsal.stored() & rehearsal.due


def test_a_configuration_without_any_readable_key_is_refused_at_the_start(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.key_file.unlink()
    daemon = start(rehearsal.config)
    assert daemon.ended() == 10
    assert "API key" in "".join(daemon.other)


def test_a_ledger_of_another_schema_is_refused_at_the_start(
    rehearsal: Rehearsal, start: Start
) -> None:
    with sqlite3.connect(rehearsal.folder / "ledger.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '0001'")
    raw.close()
    daemon = start(rehearsal.config)
    assert daemon.ended() == 13
    assert json.dumps("sweeper db upgrade")[1:-1] in "".join(daemon.other)
