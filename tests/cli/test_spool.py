"""A sweep takes the spool in before it plans, and nothing that stays unread there goes untold."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from tests.support import truth
from tests.support.command import Run
from tests.support.logged import logged, of_event
from tests.support.rehearsal import DUE, SUPPORT, YOUNG, Rehearsal


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def spooling(rehearsal: Rehearsal, database_url: str, spool: Path) -> Rehearsal:
    """A rehearsal over each kind of ledger, with a spool."""
    rehearsal.url = database_url
    rehearsal.write(f'\n[intake]\nspool = "{spool}"\n')
    return rehearsal


def put(rehearsal: Rehearsal, spool: Path, name: str, *, count: int = 3, end: str = "\n") -> None:
    """Store due responses at the sandbox, and tell of them through the spool alone."""
    first = datetime.now(UTC) - DUE
    ids = rehearsal.sandbox.call(
        lambda sandbox: sandbox.seed(count, created_at=first, metadata=dict(SUPPORT))
    )
    rehearsal.ids.update(ids)
    rehearsal.due.update(ids)
    told = [{"id": each, "created_at": first.timestamp(), "labels": SUPPORT} for each in ids]
    written = spool.parent / "written"
    written.write_text("\n".join(map(json.dumps, told)) + end)
    written.rename(spool / name)


def test_a_sweep_deletes_what_the_spool_has_just_told(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    put(spooling, spool, "a.jsonl")
    result = run("-c", spooling.config, "sweep", "--json")
    assert result.code == 0, result.err
    assert result.last["outcomes"] == {"deleted": 3}
    assert (result.last["unread_spool_files"], result.last["complete"]) == (0, True)
    (told,) = of_event(logged(result.err), "spool_file_registered")
    assert (told["file"], told["added"]) == ("a.jsonl", 3)
    assert (spool / "done" / "a.jsonl").exists()
    assert truth.violations(spooling) == truth.unsettled(spooling) == []


def test_a_file_that_is_not_wholly_kept_and_of_use_is_warned_of(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    put(spooling, spool, "good.jsonl", count=1)
    (spool / "bad.jsonl").write_text("no json\n")
    elsewhere = {"id": "resp_1", "created_at": 1_763_769_600, "account": "mian"}
    (spool / "mian.jsonl").write_text(json.dumps(elsewhere) + "\n")
    result = run("-c", spooling.config, "sweep", "--json")
    told = of_event(logged(result.err), "spool_file_registered")
    assert [(one["file"], one["level"], one["rejected"], one["no_account"]) for one in told] == [
        ("bad.jsonl", "warning", 1, 0),
        ("good.jsonl", "info", 0, 0),
        ("mian.jsonl", "warning", 0, 1),
    ]


def test_a_dry_run_plans_with_what_the_spool_tells(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    put(spooling, spool, "a.jsonl")
    result = run("-c", spooling.config, "sweep", "-n", "--json")
    assert (result.code, result.last["planned"]) == (0, 3)
    assert spooling.requests("DELETE") == 0


def test_what_is_unread_keeps_a_sweep_from_being_complete_and_fails_the_check(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    put(spooling, spool, "a.jsonl")
    put(spooling, spool, "half.jsonl", end="")
    (spool / "notes.txt").write_text("")
    result = run("-c", spooling.config, "sweep")
    assert result.code == 3
    assert result.out.splitlines()[-2:] == [
        "unread in the spool: 1; see: sweeper status",
        "not complete; see: sweeper status",
    ]
    (one, other) = of_event(logged(result.err), "spool_file_left")
    assert {one["file"], other["file"]} == {"half.jsonl", "notes.txt"}
    told = run("-c", spooling.config, "status", "--json")
    reason = "its last line is not whole: it does not end with a newline"
    assert (told.code, told.last["ok"]) == (3, False)
    assert told.last["spool"] == {
        "unread": 1,
        "left": [
            {"file": "half.jsonl", "reason": reason, "unread": True},
            {"file": "notes.txt", "reason": "its name does not end in .jsonl", "unread": False},
        ],
        "rejected": [],
    }
    lines = run("-c", spooling.config, "status").out.splitlines()
    assert lines[:2] == [
        f"UNREAD: 1 in the spool: {reason} (half.jsonl)",
        "  next: sweeper sweep takes in what it can; mend or remove what it leaves",
    ]
    assert "left in the spool: 1: its name does not end in .jsonl (notes.txt)" in lines
    assert "Nothing is late, stopped or set aside." not in lines


def test_lines_that_nobody_registered_fail_the_check_until_their_file_is_removed(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    (spool / "a.jsonl").write_text("no json\n")
    assert run("-c", spooling.config, "sweep").code == 0
    told = run("-c", spooling.config, "status", "--json")
    rejected = spool / "done" / "a.jsonl.rejected"
    assert (told.code, told.last["ok"]) == (3, False)
    assert told.last["spool"] == {"unread": 0, "left": [], "rejected": [str(rejected)]}
    words = run("-c", spooling.config, "status").out.splitlines()
    assert words[:2] == [
        f"REJECTED: 1 file in {spool}/done holds lines that nobody registered (a.jsonl.rejected)",
        "  next: mend the lines, put them into the spool again, and remove the .rejected file",
    ]
    assert "Nothing is late, stopped or set aside." not in words
    (spool / "b.jsonl").write_text("no json\n")
    run("-c", spooling.config, "sweep")
    assert run("-c", spooling.config, "status").out.startswith(
        f"REJECTED: 2 files in {spool}/done hold lines that nobody registered"
        " (a.jsonl.rejected, b.jsonl.rejected)\n"
    )
    for one in rejected.parent.glob("*.rejected"):
        one.unlink()
    assert run("-c", spooling.config, "status").code == 0


def test_where_done_cannot_be_looked_into_nobody_says_that_no_line_was_rejected(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    (spool / "done").symlink_to(spool.parent)
    result = run("-c", spooling.config, "status")
    assert (result.code, result.out.splitlines()[0]) == (
        3,
        "UNREAD: 1 in the spool: the system says: Not a directory (done)",
    )


def test_many_files_are_counted_and_only_some_are_named(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    for n in range(5):
        put(spooling, spool, f"{n}.jsonl", count=1)
    result = run("-c", spooling.config, "status")
    assert result.code == 0
    assert (
        "in the spool, for the next sweep: 5 (0.jsonl, 1.jsonl, 2.jsonl, ...)"
        in result.out.splitlines()
    )


def test_a_file_that_no_sweep_has_taken_in_for_an_hour_is_no_longer_all_right(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    put(spooling, spool, "a.jsonl", count=1)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=2), tick=False):
        result = run("-c", spooling.config, "status")
    assert (result.code, result.out.splitlines()[0]) == (
        3,
        "UNREAD: 1 in the spool: it is not taken in yet (a.jsonl)",
    )


def test_foreign_files_alone_fail_nothing(run: Run, spooling: Rehearsal, spool: Path) -> None:
    spooling.responses(1, age=YOUNG)
    (spool / "notes.txt").write_text("")
    assert run("-c", spooling.config, "sweep").code == 0
    assert run("-c", spooling.config, "status").code == 0


def test_a_spool_that_is_not_there_is_unknown_and_never_empty(
    run: Run, spooling: Rehearsal, spool: Path
) -> None:
    spool.rmdir()
    spooling.responses(1)
    result = run("-c", spooling.config, "sweep", "--json")
    assert (result.code, result.last["unread_spool_files"]) == (3, None)
    assert result.last["outcomes"] == {"deleted": 1}
    (told,) = of_event(logged(result.err), "spool_file_left")
    assert (told["file"], told["unread"]) == (str(spool), True)
    assert "what lies in the spool is not known" in run("-c", spooling.config, "sweep").out
    assert run("-c", spooling.config, "status").code == 3


def test_without_a_spool_there_is_nothing_to_be_unread(run: Run, rehearsal: Rehearsal) -> None:
    assert run("-c", rehearsal.config, "status", "--json").last["spool"] is None


def test_a_ledger_that_fails_while_the_spool_is_taken_in_ends_the_sweep(
    run: Run, rehearsal: Rehearsal, spool: Path
) -> None:
    rehearsal.write(f'\n[intake]\nspool = "{spool}"\n')
    put(rehearsal, spool, "a.jsonl")
    with rehearsal.database() as db, db.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON spool_files"
            " BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert (result.code, result.last["stop_reason"]) == (1, "ledger")
    assert (result.last["unread_spool_files"], rehearsal.rows()) == (None, [])
    with rehearsal.database() as db, db.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    assert run("-c", rehearsal.config, "sweep", "--json").last["outcomes"] == {"deleted": 3}
