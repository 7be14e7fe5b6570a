"""Status tells what is late, stopped, open or set aside, and its exit code is a check."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sweeper.cli import status
from sweeper.config import load
from sweeper.domain.outcome import Breaker
from sweeper.ledger import database as ledger_database
from sweeper.ledger import leases, tables
from sweeper.ledger.leases import Duty
from sweeper.service import standing
from tests.support import command
from tests.support.command import Run
from tests.support.rehearsal import OTHER_KEY, YOUNG, Rehearsal

STATUS = {
    "type", "ok", "now", "due", "late", "stopped", "open", "quarantined", "live", "not_live",
    "unmatched", "no_account", "waiting_for_admission", "not_admitted_because", "spool",
    "daemon", "sweeping", "last_sweep", "last_finished_sweep", "withheld", "ledger",
}  # fmt: skip
SWEEP = {"sweep_id", "started_at", "finished_at", "complete", "stop_reason"}


def test_an_empty_ledger_is_well(run: Run, rehearsal: Rehearsal) -> None:
    result = run("-c", rehearsal.config, "status")
    assert (result.code, result.out.splitlines()) == (
        0,
        [
            "Nothing is late, stopped or set aside.",
            "due now: 0; live: 0",
            "No sweep has run yet.",
            "no sweeper run is at work",
        ],
    )
    (told,) = run("-c", rehearsal.config, "status", "--json").lines
    assert set(told) == STATUS
    assert (told["ok"], told["late"], told["last_sweep"]) == (True, [], None)


def test_after_a_complete_sweep_all_is_well(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2)
    run("-c", rehearsal.config, "sweep")
    result = run("-c", rehearsal.config, "status", "--json")
    assert (result.code, result.last["ok"]) == (0, True)
    assert set(result.last["last_sweep"]) == SWEEP
    assert result.last["last_sweep"] == result.last["last_finished_sweep"]
    assert result.last["last_sweep"]["complete"] is True
    assert "and was complete.\n" in run("-c", rehearsal.config, "status").out


def test_what_is_past_its_deadline_is_late_and_fails_the_check(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    """What was registered and never admitted is late too."""
    rehearsal.write(url=database_url)
    rehearsal.url = database_url
    rehearsal.responses(2)
    rehearsal.responses(3, age=timedelta(days=14, hours=3))
    result = run("-c", rehearsal.config, "status", "--json")
    assert (result.code, result.last["ok"], result.last["due"]) == (3, False, 5)
    (late,) = result.last["late"]
    assert (late["policy"], late["responses"]) == ("support", 2)
    assert late["oldest_seconds"] == pytest.approx(5 * 86400, abs=120)
    first = run("-c", rehearsal.config, "status").out.splitlines()[0]
    assert first.startswith("LATE: 2 of 'support' are past their deadline, the oldest by 5 d")


def test_what_a_wrong_clock_keeps_from_being_admitted_fails_the_check(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.write(url=database_url)
    rehearsal.url = database_url
    rehearsal.responses(2)
    rehearsal.change(tables.ledger, last_good_at=4_000_000_000_000_000)
    result = run("-c", rehearsal.config, "status", "--json")
    assert (result.code, result.last["ok"], result.last["due"]) == (3, False, 0)
    assert result.last["waiting_for_admission"] == 2
    why = result.last["not_admitted_because"]
    assert why.endswith("behind the last time at which it was right.")
    lines = run("-c", rehearsal.config, "status").out.splitlines()
    # How many seconds it is behind counts on from one call to the next.
    told, _, said = lines[0].partition("wrong: ")
    assert told == "NOT ADMITTED: 2 registered, which may be late, because the clock may be "
    assert said.split()[:4] == why.split()[:4]
    assert said.endswith("behind the last time at which it was right.")
    assert "Nothing is late, stopped or set aside." not in lines


WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Begins a command that may do no more than its user's files allow, whoever the user is."""


def _status(rehearsal: Rehearsal, *options: str) -> "subprocess.CompletedProcess[str]":
    verb = ("-m", "sweeper", "-c", str(rehearsal.config), "status", *options)
    return subprocess.run(
        [*WITHOUT_RIGHTS, sys.executable, *verb],
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_ledger_in_which_no_sweep_can_run_fails_the_check_though_nothing_is_late(
    rehearsal: Rehearsal,
) -> None:
    """Also where registrations wait that nobody can take in."""
    rehearsal.responses(1)
    ledger = rehearsal.folder / "ledger.db"
    before = ledger.read_bytes()
    ledger.chmod(0o400)
    done = _status(rehearsal)
    lines = done.stdout.splitlines()
    assert done.returncode == 3, done
    assert lines[0].startswith("LEDGER: no sweep can run: the ledger could not be used: ")
    assert lines[1].startswith("  next: let the user that runs sweeper read and write")
    told = json.loads(_status(rehearsal, "--json").stdout)
    assert (told["ok"], told["late"], set(told["ledger"])) == (False, [], {"detail", "next"})
    ledger.chmod(0o600)
    assert ledger.read_bytes() == before
    assert json.loads(_status(rehearsal, "--json").stdout)["ledger"] is None


def test_a_ledger_that_is_only_busy_is_no_failure(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_database, "BUSY_TIMEOUT", 0.2)
    config = load.load(rehearsal.config, {})
    with (
        rehearsal.database() as db,
        closing(sqlite3.connect(rehearsal.folder / "ledger.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        found = standing.status(config, db)
        other.execute("ROLLBACK")
    assert (found.unwritable, found.ok) == (None, True)


def test_what_is_only_due_is_no_failure(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3, age=timedelta(days=14, hours=3))
    run("-c", rehearsal.config, "plan")
    result = run("-c", rehearsal.config, "status", "--json")
    assert (result.code, result.last["due"], result.last["late"]) == (0, 3, [])


def test_a_stopped_account_fails_the_check_and_names_the_next_step(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(1, age=timedelta(days=14, hours=3))
    rehearsal.use_key("fw_wrong_one")
    run("-c", rehearsal.config, "sweep")
    result = run("-c", rehearsal.config, "status")
    assert result.code == 3
    lines = result.out.splitlines()
    assert lines[0].startswith("STOPPED: account main since 20")
    assert "(credential): the provider answered 40" in lines[0]
    assert lines[1] == (
        "  next: put a key that is valid where accounts.main says that it is kept; then sweeper"
        " account check main, or simply sweep"
    )
    assert lines[-2].endswith("was not complete: account main was stopped (credential).")
    (stop,) = run("-c", rehearsal.config, "status", "--json").last["stopped"]
    assert set(stop) == {"account", "breaker", "since", "detail", "kept", "oldest_seconds"}
    assert (stop["account"], stop["breaker"]) == ("main", "credential")


def test_what_is_set_aside_open_or_nobodys_is_counted(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.url = database_url
    rehearsal.write()
    ids = rehearsal.responses(3, age=timedelta(days=14, hours=3))
    rehearsal.responses(2, labels={"app": "nobody's"})
    rehearsal.responses(1, account="elsewhere", age=timedelta(days=14, hours=3), stored=False)
    rehearsal.register({ids[0]: datetime.now(UTC) - YOUNG})
    rehearsal.fault(method="DELETE", id=ids[1], status=500)
    run("-c", rehearsal.config, "sweep")
    result = run("-c", rehearsal.config, "status")
    assert result.code == 3
    for line in (
        "SET ASIDE: 1 (conflicting)",
        (
            "  next: sweeper responses list --state quarantined; then for each:"
            " sweeper responses correct ID --reason ..."
        ),
        "due now: 2; live: 4",
        "open: 1 failing",
        "not simply live at main: 1 quarantined",
        "due at account elsewhere, which is not configured: 1",
        "match no policy, so never deleted: 2",
    ):
        assert line in result.out.splitlines()
    told = run("-c", rehearsal.config, "status", "--json").last
    assert told["quarantined"] == {"conflicting": 1}
    assert (told["open"], told["not_live"]) == ({"failing": 1}, {"main": {"quarantined": 1}})
    assert (told["live"], told["no_account"]) == ({"elsewhere": 1, "main": 3}, {"elsewhere": 1})
    assert told["last_sweep"]["complete"] is False


def test_a_sweep_that_never_ended_and_one_that_left_something_are_told_apart(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    run("-c", rehearsal.config, "sweep", "--max", "1")
    last = run("-c", rehearsal.config, "status").out.splitlines()[-2]
    assert last.endswith("was not complete: something is left.")
    rehearsal.change(tables.sweeps, finished_at=None)
    last = run("-c", rehearsal.config, "status").out.splitlines()[-2]
    assert last.endswith("Z died.")
    assert run("-c", rehearsal.config, "status", "--json").last["sweeping"] is False


def test_a_sweep_at_work_and_one_that_was_killed_are_told_apart(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.url = database_url
    rehearsal.write()
    rehearsal.responses(1)
    rehearsal.fault(method="DELETE", delay=60)
    child = command.start("-c", rehearsal.config, "-q", "sweep")
    try:
        rehearsal.wait_for_deletes(1)
        out = run("-c", rehearsal.config, "status").out
        assert out.splitlines()[-2].endswith("Z is running.")
        assert run("-c", rehearsal.config, "status", "--json").last["sweeping"] is True
    finally:
        child.kill()
        child.communicate(timeout=60)
    # A lease outlasts who held it by its term, which is over here.
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(sa.update(tables.leases).values(expires_at=1))
    out = run("-c", rehearsal.config, "status").out
    assert out.splitlines()[-2].endswith("Z died.")


def test_a_lock_that_is_hidden_leaves_it_open_who_is_at_work(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(1)
    run("-c", rehearsal.config, "sweep")
    rehearsal.change(tables.sweeps, finished_at=None)
    for name in ("lock", "daemon.lock"):
        lock = rehearsal.folder / f"ledger.db.{name}"
        lock.unlink(missing_ok=True)
        lock.symlink_to(os.devnull)
    told = run("-c", rehearsal.config, "status", "--json").last
    assert (told["daemon"], told["sweeping"], told["ok"]) == (None, None, True)
    assert run("-c", rehearsal.config, "status").out.endswith("Z is running, or died.\n")


def test_a_daemon_at_work_is_told_and_judges_nothing(run: Run, rehearsal: Rehearsal) -> None:
    with rehearsal.database() as db, leases.file_lock(db, Duty.DAEMON):
        result = run("-c", rehearsal.config, "status")
        assert (result.code, result.out.splitlines()[-1]) == (0, "sweeper run is at work")
        assert run("-c", rehearsal.config, "status", "--json").last["daemon"] is True
    assert run("-c", rehearsal.config, "status", "--json").last["daemon"] is False


def test_a_sweep_that_a_guard_refused_is_told_until_one_is_not(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    """Nothing is late yet, and nothing will be deleted either: that must not look well."""
    rehearsal.url = database_url
    rehearsal.write(share="0.1")
    rehearsal.responses(200, age=timedelta(days=14, hours=3))
    assert run("-c", rehearsal.config, "sweep").code == 14
    result = run("-c", rehearsal.config, "status")
    lines = result.out.splitlines()
    assert result.code == 3
    assert lines[0].startswith("REFUSED: a guard refused the last sweep, begun at 20")
    assert lines[0].endswith("Z: nothing was deleted where it refused")
    assert lines[1] == "  next: sweeper plan"
    assert "Nothing is late, stopped or set aside." not in lines
    told = run("-c", rehearsal.config, "status", "--json").last
    assert (told["ok"], told["last_finished_sweep"]["stop_reason"]) == (False, "guard")
    # One that has only begun since says nothing else.
    later = {"id": "x", "started_at": 4_000_000_000_000_000}
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(sa.insert(tables.sweeps).values(**later))
    assert run("-c", rehearsal.config, "status").code == 3
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(sa.delete(tables.sweeps).where(tables.sweeps.c.id == "x"))
    rehearsal.write(share="1.0")
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert run("-c", rehearsal.config, "status").code == 0


def test_a_sweep_that_did_not_trust_the_clock_is_told(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(1, age=timedelta(days=14, hours=3))
    run("-c", rehearsal.config, "sweep")
    rehearsal.change(tables.sweeps, complete=0, stop_reason="clock")
    result = run("-c", rehearsal.config, "status")
    lines = result.out.splitlines()
    assert result.code == 3
    assert lines[0].startswith("CLOCK: the last sweep, begun at 20")
    assert lines[0].endswith("Z, did not trust the clock: nothing was deleted while it did not")
    assert lines[1] == "  next: mend the time service; sweeper doctor"


def test_a_spool_that_cannot_be_looked_into_is_told(run: Run, rehearsal: Rehearsal) -> None:
    spool = rehearsal.folder / "spool"
    rehearsal.write(f'\n[intake]\nspool = "{spool}"\n')
    result = run("-c", rehearsal.config, "status")
    lines = result.out.splitlines()
    assert result.code == 3
    assert lines[0].startswith(f"UNREAD: the spool {spool} cannot be looked into: ")
    assert lines[0].endswith("No such file or directory")
    assert lines[1] == "  next: sweeper doctor"
    spool.mkdir()
    assert run("-c", rehearsal.config, "status").code == 0


def test_a_missing_or_unusable_ledger_is_an_error_and_no_verdict(
    run: Run, rehearsal: Rehearsal
) -> None:
    (rehearsal.folder / "ledger.db").write_bytes(b"junk" * 2000)
    result = run("-c", rehearsal.config, "status", "--json")
    assert (result.code, result.out, result.error["error"]) == (1, "", "ledger")
    rehearsal.write(url="sqlite:////none/such/ledger.db")
    result = run("-c", rehearsal.config, "status")
    assert (result.code, result.err) == (
        1,
        "error: the ledger's folder /none/such does not exist\nhint: create it\n",
    )


def test_every_breaker_has_its_own_next_step() -> None:
    steps = {breaker: status.remedy("main", breaker) for breaker in Breaker}
    assert "account reset main --expect-absent N" in steps[Breaker.NOT_FOUND]
    assert "account accept main --reason" in steps[Breaker.IDENTITY]
    assert "every sweep asks once" in steps[Breaker.UNREACHABLE]
    assert "certificate" in steps[Breaker.TLS]
    assert "account check main" in steps[Breaker.CREDENTIAL]


@pytest.mark.parametrize("reason", ["interrupted", "guard", "clock", "ledger", "evidence"])
def test_every_stop_reason_has_words(reason: str) -> None:
    assert status.reason(reason)


def test_another_accounts_key_is_told_as_such(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2, age=timedelta(days=14, hours=3))
    run("-c", rehearsal.config, "sweep", "--max", "1")
    rehearsal.use_key(OTHER_KEY)
    assert run("-c", rehearsal.config, "sweep").code == 12
    lines = run("-c", rehearsal.config, "status").out.splitlines()
    assert "(identity): the key belongs to account 'other', not 'acme'" in lines[0]
    assert "sweeper account accept main --reason" in lines[1]
