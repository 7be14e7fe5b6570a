"""After a single sweep the alarm command is told what is wrong, and the sweep's result stands."""

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

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
