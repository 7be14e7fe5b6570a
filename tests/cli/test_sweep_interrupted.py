"""A signal ends a sweep in good order, at whatever moment it comes."""

import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sweeper.cli import sweep
from sweeper.config import load
from sweeper.domain.plan import Plan
from sweeper.domain.summary import Summary
from sweeper.engine.sweep import Ended
from sweeper.service import assembly
from tests.support import command, truth
from tests.support.logged import logged, of_event
from tests.support.rehearsal import Rehearsal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_in_flight_finish_and_says_what_is_left(
    rehearsal: Rehearsal, number: signal.Signals
) -> None:
    rehearsal.responses(40)
    rehearsal.fault(method="DELETE", delay=0.2)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(6)
    result = command.end(child, number)
    assert result.code == 3, result.err
    summary = result.last
    assert (summary["stop_reason"], summary["complete"]) == ("interrupted", False)
    settled = sum(summary["outcomes"].values())
    assert summary["remaining"] == 40 - settled > 0
    assert rehearsal.requests("DELETE") <= 6 + 4 + 4
    assert of_event(logged(result.err), "breaker_opened") == []
    states = Counter(row["state"] for row in rehearsal.rows())
    assert states["claimed"] == 0
    assert states["gone"] + states["verifying"] == rehearsal.requests("DELETE")
    assert truth.violations(rehearsal) == []
    rehearsal.mend()
    done = command.process("-c", rehearsal.config, "sweep", "--json")
    assert done.code == 0, done.err
    assert truth.violations(rehearsal) == []
    assert truth.unsettled(rehearsal) == []


def test_a_signal_before_the_first_deletion_leaves_all_as_it_was(rehearsal: Rehearsal) -> None:
    rehearsal.responses(5)
    rehearsal.fault(path="verifyApiKey", delay=0.5)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.sandbox.wait_until(lambda one: one.journal.entries, within=30)
    result = command.end(child, signal.SIGTERM)
    assert result.code == 3, result.err
    assert result.last["stop_reason"] == "interrupted"
    assert (result.last["outcomes"], result.last["remaining"]) == ({}, 5)
    assert of_event(logged(result.err), "breaker_opened") == []
    assert rehearsal.requests("DELETE") == 0
    assert {row["state"] for row in rehearsal.rows()} == {"live"}


def test_a_signal_while_the_plan_is_made_ends_the_sweep_before_any_request(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.responses(8000, stored=False)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    wait_for_lock(rehearsal.folder / "ledger.db.lock")
    result = command.end(child, signal.SIGINT)
    assert result.code == 3, result.err
    assert result.last["stop_reason"] == "interrupted"
    # How much is due is not known where the plan was not finished, and then it is not said.
    assert result.last["remaining"] == result.last["due"]
    assert result.last["due"] in {None, 8000}
    assert of_event(logged(result.err), "breaker_opened") == []
    assert rehearsal.requests() == 0


def test_what_is_due_is_not_said_to_be_nothing_where_it_is_unknown(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    summary = Summary(
        sweep_id="s",
        dry_run=False,
        due=None,
        planned=0,
        outcomes={},
        verified=0,
        held=0,
        remaining=None,
        remaining_by_reason=None,
        stop_reason="interrupted",
        started_at=now,
        finished_at=now,
    )
    bounds = assembly.scope(load.load(rehearsal.config, {}))
    sweep.tell(Ended(summary=summary, plan=Plan(made_at=now, accounts=())), bounds)
    assert capsys.readouterr().out.splitlines() == [
        "what is due could not be determined",
        "what is left could not be determined",
        "not complete: it was interrupted",
    ]


def wait_for_lock(path: Path) -> None:
    end = datetime.now(UTC) + timedelta(seconds=30)
    while not path.exists():
        assert datetime.now(UTC) < end, "the sweep did not begin"


def test_a_signal_before_the_sweep_has_begun_ends_it_with_3_and_no_summary(
    rehearsal: Rehearsal,
) -> None:
    os.mkfifo(fifo := rehearsal.folder / "fifo")
    child = command.start("-c", fifo, "sweep", "--json")
    writer = os.open(fifo, os.O_WRONLY)
    result = command.end(child, signal.SIGTERM)
    os.close(writer)
    assert (result.code, result.out, result.error["error"]) == (3, "", "interrupted")
