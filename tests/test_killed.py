"""A sweep that is killed at any moment leaves a ledger that is true, and the next one ends it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.ledger import tables
from sweeper.sandbox.manners import Manner
from tests.support import command, truth
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import YOUNG, Rehearsal

DUE = 40
KILLED_AT = (1, 9, 21)
MOST_SWEEPS = 6


@pytest.fixture
def rehearsal(tmp_path: Path, database_url: str) -> Iterator[Rehearsal]:
    """A sandbox with forty due responses and some that must stay, once for each database."""
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        made.responses(DUE)
        made.responses(5, age=YOUNG)
        made.responses(5, labels={"app": "contracts"})
        made.responses(5, labels={"app": "nobody's"})
        yield made


def kill_in_the_middle(rehearsal: Rehearsal, arrived: int) -> None:
    """Sweep, and kill the sweep when so many DELETEs have arrived since it began."""
    before = rehearsal.requests("DELETE")
    child = command.start("-c", rehearsal.config, "-q", "sweep", "--json")
    rehearsal.wait_for_deletes(before + arrived)
    child.kill()
    child.communicate(timeout=60)
    assert child.returncode == -9, "the sweep ended before it could be killed"
    rehearsal.sandbox.wait_until(
        lambda one: all(entry.done for entry in one.journal.entries), within=30
    )
    assert truth.violations(rehearsal) == []
    rehearsal.pass_time()


def sweep_to_the_end(rehearsal: Rehearsal) -> None:
    """Sweep as often as the scheduler would, until a sweep says that it is complete."""
    for _ in range(MOST_SWEEPS):
        result = command.process("-c", rehearsal.config, "-q", "sweep", "--json")
        assert result.last["type"] == "summary"
        assert truth.violations(rehearsal) == []
        if result.code == 0:
            return
        assert result.code == 3, result.err
        rehearsal.pass_time()
    raise AssertionError(f"not complete after {MOST_SWEEPS} sweeps: {result.out}")


def outcomes(rehearsal: Rehearsal) -> set[str]:
    return {row["outcome"] for row in rehearsal.rows() if row["state"] == "gone"}


@pytest.mark.parametrize("verify", ["all", "none"])
def test_the_next_sweep_settles_what_killed_ones_left(rehearsal: Rehearsal, verify: str) -> None:
    rehearsal.write(verify=verify)
    rehearsal.fault(method="DELETE", delay=0.05)
    for arrived in KILLED_AT if verify == "all" else KILLED_AT[1:2]:
        kill_in_the_middle(rehearsal, arrived)
    assert any(row["state"] != "gone" for row in rehearsal.rows())
    rehearsal.mend()
    sweep_to_the_end(rehearsal)
    assert truth.unsettled(rehearsal) == []
    assert outcomes(rehearsal) <= {"deleted", "absent_after_attempt"}
    assert "deleted" in outcomes(rehearsal)


def test_a_provider_that_deletes_and_says_nothing_makes_no_deletion_of_it(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.fault(method="DELETE", do=Manner.RESET, carry_out=True, after=2, times=4)
    rehearsal.fault(method="DELETE", do=Manner.RESET, carry_out=False, after=9, times=3)
    rehearsal.fault(method="DELETE", do=Manner.RESET, carry_out=True, after=16, times=4)
    rehearsal.fault(method="DELETE", delay=0.05)
    kill_in_the_middle(rehearsal, 11)
    sweep_to_the_end(rehearsal)
    assert truth.unsettled(rehearsal) == []
    assert outcomes(rehearsal) == {"deleted", "absent_after_attempt"}


def test_a_sweep_that_was_killed_is_told_by_status_and_freed_by_the_next(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.fault(method="DELETE", delay=0.3)
    kill_in_the_middle(rehearsal, 4)
    assert any(row["state"] == "claimed" for row in rehearsal.rows())
    told = command.process("-c", rehearsal.config, "status", "--json").last
    assert told["not_live"]["main"]["claimed"] > 0
    assert (told["last_sweep"]["finished_at"], told["last_finished_sweep"]) == (None, None)
    rehearsal.mend()
    again = command.process("-c", rehearsal.config, "sweep")
    assert again.code == 0, again.err
    assert '"event":"claims_freed"' in again.err
    assert truth.violations(rehearsal) == truth.unsettled(rehearsal) == []
    assert len(rehearsal.rows(tables.sweeps)) == 2
