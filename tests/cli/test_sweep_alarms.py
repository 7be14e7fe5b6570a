"""After a single sweep the alarm command is told what is wrong, and the sweep's result stands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sweeper.ledger import leases
from sweeper.sandbox.manners import Manner
from sweeper.service.alarm import alarms
from tests.support import command, pager, patience
from tests.support.command import Run
from tests.support.logged import logged, of_event
from tests.support.pager import Pager
from tests.support.rehearsal import KEY, Rehearsal

LATE = timedelta(days=16)


@pytest.fixture
def paged(rehearsal: Rehearsal, tmp_path: Path) -> Pager:
    made = pager.pager(tmp_path / "pager")
    rehearsal.write(made.section)
    return made


def test_somebody_is_told_of_a_stop_and_of_what_is_late_and_when_it_is_over(
    run: Run, rehearsal: Rehearsal, paged: Pager
) -> None:
    rehearsal.responses(3, age=LATE)
    rehearsal.fault(status=401, body=b'{"error": {}}')
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 12
    assert result.last["type"] == "summary"
    stopped, late = sorted(paged.told, key=lambda one: str(one["id"]))
    assert (stopped["id"], stopped["state"]) == ("account_stopped:main:credential", "open")
    assert (stopped["account"], stopped["responses"]) == ("main", 3)
    assert (late["id"], late["policy"], late["responses"]) == ("overdue:support", "support", 3)
    told = of_event(logged(result.err), "alarm_told")
    assert {line["alarm"] for line in told} == {stopped["id"], late["id"]}
    assert {line["level"] for line in told} == {"info"}
    rehearsal.mend()
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert sorted(paged.states[2:]) == [(stopped["id"], "resolved"), (late["id"], "resolved")]
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert len(paged.told) == 4


def test_somebody_is_told_that_a_guard_refused_the_sweep_until_one_is_let_through(
    run: Run, rehearsal: Rehearsal, paged: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(3)
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_DELETIONS_PER_SWEEP", "2")
    assert run("-c", rehearsal.config, "sweep").code == 14
    (told,) = (one for one in paged.told if one["alarm"] == "account_stopped")
    assert (told["id"], told["state"], told["responses"]) == ("account_stopped:guard", "open", 3)
    assert (told["account"], told["next"]) == (None, "sweeper plan")
    monkeypatch.delenv("SWEEPER__GUARDS__MAX_DELETIONS_PER_SWEEP")
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert paged.states.count(("account_stopped:guard", "resolved")) == 1


def test_somebody_is_told_that_the_clock_kept_the_sweep_from_deleting(
    run: Run, rehearsal: Rehearsal, paged: Pager
) -> None:
    rehearsal.responses(3)
    rehearsal.sandbox.call(lambda one: one.clock.advance(600))
    assert run("-c", rehearsal.config, "sweep").code == 3
    assert ("account_stopped:clock", "open") in paged.states


def test_somebody_is_told_that_what_was_deleted_can_still_be_read(
    run: Run, rehearsal: Rehearsal, paged: Pager
) -> None:
    rehearsal.responses(2)
    rehearsal.fault(method="DELETE", do=Manner.LIE)
    assert run("-c", rehearsal.config, "sweep").code == 3
    (told,) = (one for one in paged.told if one["alarm"] == "incident")
    assert (told["id"], told["account"], told["responses"]) == ("incident:main", "main", 2)
    assert "can still be read" in told["summary"]
    rehearsal.mend()
    rehearsal.pass_time()
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert ("incident:main", "resolved") in paged.states


def test_no_alarm_names_a_response_or_a_key(
    run: Run, rehearsal: Rehearsal, paged: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREWORKS_API_KEY", KEY)
    paged.write(f"cat /proc/$$/environ >> {paged.folder}/environ")
    ids = rehearsal.responses(6, age=LATE, stored=False)
    assert run("-c", rehearsal.config, "sweep").code == 12
    assert paged.told
    texts = "".join([*paged.texts, (paged.folder / "environ").read_text()])
    assert not [secret for secret in (*ids, KEY) if secret in texts]
    assert "SWEEPER" not in texts


@pytest.mark.parametrize("then, code", [("", 1), ("kill -9 $$", 0)])
def test_a_command_that_fails_changes_nothing_of_the_sweep(
    run: Run, rehearsal: Rehearsal, paged: Pager, then: str, code: int
) -> None:
    paged.write(then, code=code)
    rehearsal.responses(1, age=LATE)
    rehearsal.fault(method="DELETE", status=503)
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 3
    assert [line["type"] for line in result.lines] == ["summary"]
    (untold,) = of_event(logged(result.err), "alarm_untold")
    assert (untold["alarm"], untold["level"]) == ("overdue:support", "error")
    assert untold["detail"]


WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Begins a command that may do no more than its user's files allow, whoever the user is."""


def read_only(ledger: Path) -> None:
    ledger.chmod(0o400)


def missing(ledger: Path) -> None:
    ledger.rename(ledger.with_name("elsewhere.db"))


def damaged(ledger: Path) -> None:
    with ledger.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (ledger.stat().st_size - 4096))


@pytest.mark.parametrize("harm", [read_only, missing, damaged])
def test_a_sweep_that_its_ledger_lets_not_begin_has_somebody_told_each_time(
    rehearsal: Rehearsal, paged: Pager, harm: Callable[[Path], None]
) -> None:
    rehearsal.responses(2, age=LATE)
    harm(rehearsal.folder / "ledger.db")
    for count in (1, 2):
        done = _without_rights(rehearsal, "sweep", "--json")
        assert done.code == 1, done
        assert paged.states == [("missed_run", "open")] * count
        told, error = logged(done.err)[-2:]
        assert (told["event"], told["alarm"]) == ("alarm_told", "missed_run")
        assert paged.told[-1]["detail"] == error["message"]
    assert rehearsal.requests("DELETE") == 0
    _without_rights(rehearsal, "sweep", "--dry-run")
    assert len(paged.told) == 2


def _without_rights(rehearsal: Rehearsal, *verb: str) -> command.Result:
    """Run it so that a read-only ledger is waited for no longer than a second."""
    impatient = "from sweeper.engine import recorder; recorder.PATIENCE = 1"
    run = f"{impatient}; import sys; from sweeper.cli import main; sys.exit(main.run(sys.argv[1:]))"
    child = subprocess.Popen(
        [*WITHOUT_RIGHTS, sys.executable, "-c", run, "-c", str(rehearsal.config), *verb],
        env=command.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return _result_of(child)


def test_a_sweep_that_its_ledger_ends_has_somebody_told(rehearsal: Rehearsal, paged: Pager) -> None:
    rehearsal.responses(20)
    rehearsal.fault(method="DELETE", delay=0.2)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(4)
    missing(rehearsal.folder / "ledger.db")
    result = _result_of(child)
    assert result.code == 1, result.err
    assert result.last["stop_reason"] == "ledger"
    assert ("missed_run", "open") in paged.states
    assert "was removed or replaced" in paged.told[0]["summary"]


def _result_of(child: "subprocess.Popen[bytes]") -> command.Result:
    out, err = child.communicate(timeout=60)
    return command.Result(code=child.returncode, out=out.decode(), err=err.decode())


def test_that_another_sweep_is_at_work_is_no_alarm(
    run: Run, rehearsal: Rehearsal, paged: Pager
) -> None:
    with rehearsal.database() as db, leases.file_lock(db):
        assert run("-c", rehearsal.config, "sweep").code == 11
    assert paged.states == []


def test_a_dry_run_tells_nobody(run: Run, rehearsal: Rehearsal, paged: Pager) -> None:
    rehearsal.responses(1, age=LATE)
    assert run("-c", rehearsal.config, "sweep", "--dry-run").code == 0
    assert paged.told == []


def test_an_interrupted_sweep_ends_at_once_and_tells_nobody(
    rehearsal: Rehearsal, paged: Pager
) -> None:
    rehearsal.responses(30, age=LATE)
    rehearsal.fault(method="DELETE", delay=0.2)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(4)
    result = command.end(child, signal.SIGTERM)
    assert result.code == 3, result.err
    assert paged.told == []


def test_a_command_that_hangs_is_ended_by_a_signal_and_the_sweep_keeps_its_code(
    rehearsal: Rehearsal, paged: Pager
) -> None:
    paged.write(f"echo $$ > {paged.folder}/pid; exec sleep 600")
    rehearsal.responses(1, age=LATE)
    rehearsal.fault(status=401, body=b'{"error": {}}')
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    pid_file = paged.folder / "pid"
    patience.wait_for(lambda: pid_file.exists() and pid_file.read_text().strip(), "command")
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["type"] == "summary"
    began = time.monotonic()
    result = command.end(child, signal.SIGINT)
    assert result.code == 12, result.err
    assert time.monotonic() - began < alarms.AFTER_SWEEP / 2
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert paged.told == []
