"""Beside its sweeps the daemon takes files in, answers questions, and calls for help."""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.conftest import Start
from tests.support import command, truth
from tests.support.daemon import Daemon
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'


def put(spool: Path, name: str, *lines: dict[str, Any]) -> None:
    written = spool / f"{name}.tmp"
    written.write_text("".join(json.dumps(line) + "\n" for line in lines))
    written.rename(spool / name)


def line(response_id: str, age: timedelta = timedelta(days=20)) -> dict[str, Any]:
    created_at = int((datetime.now(UTC) - age).timestamp())
    return {"id": response_id, "created_at": created_at, "labels": {"app": "support"}}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir()
    return made


def intake(spool: Path) -> str:
    return f'[intake]\nspool = "{spool}"\n'


def test_a_file_is_taken_in_between_sweeps(either: Rehearsal, start: Start, spool: Path) -> None:
    either.write(NEVER + intake(spool))
    daemon = start(either.config)
    daemon.wait("sweep_finished")
    put(spool, "a.jsonl", line("resp_a"), line("resp_b", timedelta(days=1)))
    assert daemon.wait("spool_file_registered")["added"] == 2
    assert [each.name for each in (spool / "done").glob("*.jsonl")] == ["a.jsonl"]
    assert daemon.end() == 0
    assert {row["response_id"] for row in either.rows()} == {"resp_a", "resp_b"}


def test_a_file_is_taken_in_beside_a_running_sweep(
    either: Rehearsal, start: Start, spool: Path
) -> None:
    either.write(NEVER + intake(spool), in_flight=1)
    either.responses(40)
    either.fault(method="DELETE", delay=0.5)
    daemon = start(either.config)
    either.wait_for_deletes(1)
    put(spool, "a.jsonl", line("resp_a", timedelta(days=1)))
    daemon.wait("spool_file_registered")
    assert daemon.of("sweep_finished") == []
    assert daemon.end() == 0
    assert truth.violations(either) == []


def test_a_file_that_cannot_be_read_keeps_sweeps_from_being_complete(
    rehearsal: Rehearsal, start: Start, spool: Path
) -> None:
    (spool / "half.jsonl").write_text(json.dumps(line("resp_a")))
    rehearsal.write(NEVER + intake(spool))
    daemon = start(rehearsal.config)
    assert daemon.wait("spool_file_left")["file"] == "half.jsonl"
    finished = daemon.wait("sweep_finished")
    assert (finished["complete"], finished["unread_spool_files"]) == (False, 1)
    with (spool / "half.jsonl").open("a") as file:
        file.write("\n")
    daemon.wait("spool_file_registered")
    assert daemon.end() == 0
    assert len(daemon.of("spool_file_left")) == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
    except OSError:
        return 0, ""


def test_the_daemon_says_how_it_is_and_counts_what_it_does(either: Rehearsal, start: Start) -> None:
    port = free_port()
    either.write(f'{NEVER}[http]\nlisten = "127.0.0.1:{port}"\n')
    either.responses(3)
    daemon = start(either.config)
    daemon.wait("sweep_finished")
    assert ask(port, "/healthz")[0] == 200
    status, text = wait_for(lambda: _ready(port), "readiness")
    assert (status, json.loads(text)["failing"]) == (200, [])
    _, metrics = ask(port, "/metrics")
    assert (
        'sweeper_deletions_total{account="main",outcome="deleted",policy="support"} 3.0'
        in metrics.splitlines()
    )
    assert 'sweeper_sweeps_total{result="complete"} 1.0' in metrics.splitlines()
    healthy = command.process("-c", either.config, "health")
    assert healthy.code == 0, healthy.err
    assert daemon.end() == 0
    assert command.process("-c", either.config, "health").code == 1


def _ready(port: int) -> tuple[int, str] | None:
    status, text = ask(port, "/readyz")
    return (status, text) if status == 200 else None


def test_a_stopped_account_makes_it_unready_and_the_loop_stays_healthy(
    rehearsal: Rehearsal, start: Start
) -> None:
    port = free_port()
    rehearsal.use_key("fw_wrong_key_000000000000")
    rehearsal.responses(1)
    rehearsal.write(f'{NEVER}[http]\nlisten = "127.0.0.1:{port}"\n')
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    text = wait_for(lambda: _named(port, "account_stopped:main:credential"), "reason")
    assert "overdue:support" in text
    assert ask(port, "/healthz")[0] == 200
    assert daemon.end() == 0


def _named(port: int, reason: str) -> str | None:
    status, text = ask(port, "/readyz")
    return text if status == 503 and reason in text else None


def script(folder: Path, body: str) -> Path:
    made = folder / "alarm"
    made.write_text(f"#!/bin/sh\n{body}\n")
    made.chmod(0o700)
    return made


def test_an_alarm_command_that_hangs_blocks_no_sweep_and_dies_with_the_daemon(
    rehearsal: Rehearsal, start: Start, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    hanging = script(tmp_path, f'echo $$ >> "{pids}"; trap "" TERM; sleep 600 & wait; sleep 600')
    rehearsal.responses(1, stored=False)
    rehearsal.write(f'[schedule]\nevery = "1s"\n[alarm]\ncommand = ["{hanging}"]\n')
    daemon = start(rehearsal.config)
    pid = int(wait_for(lambda: _words(pids), "an alarm")[0])
    seen = len(daemon.of("sweep_finished"))
    daemon.wait("sweep_finished", seen + 3)
    assert _lives(pid)
    began = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - began < 15
    wait_for(lambda: not _lives(pid), "end of the alarm command", within=10)


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]


def test_runs_that_were_missed_and_what_is_overdue_call_for_help_and_are_resolved(
    either: Rehearsal, start: Start, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.jsonl"
    calling = script(tmp_path, f'cat >> "{heard}"')
    either.responses(2)
    either.fault(method="DELETE", status=503)
    either.write(f'[schedule]\nevery = "1s"\n[alarm]\ncommand = ["{calling}"]\n')
    daemon = start(either.config)
    wait_for(lambda: _told(daemon, "overdue:support"), "alarm")
    assert _states(heard, "overdue") == ["open"]
    daemon.end(signal.SIGTERM)
    either.mend()
    either.pass_time()
    second = start(either.config)
    wait_for(lambda: _states(heard, "overdue") == ["open", "resolved"], "resolution", within=90)
    assert second.end() == 0


def _told(daemon: Daemon, alarm: str) -> list[dict[str, Any]]:
    return [one for one in daemon.of("alarm_told") if one["alarm"] == alarm]


def _states(heard: Path, kind: str) -> list[str]:
    if not heard.exists():
        return []
    found = [json.loads(text) for text in heard.read_text().splitlines()]
    return [one["state"] for one in found if one["alarm"] == kind]
