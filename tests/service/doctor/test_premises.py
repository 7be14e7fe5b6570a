"""Places on disk: what keeps us out, what lets others in, and what lies in the spool."""

import grp
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeper.config.settings import Account, KeyPlace, KeySource
from sweeper.domain.response import AccountName
from sweeper.service.doctor import premises
from sweeper.service.doctor.findings import Check, Finding, Level
from sweeper.service.spool import folder as spool_folder
from tests.support.command import ROOT

NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def as_others() -> Iterator[None]:
    """As a user whom permissions bind: root is bound by none."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def levels(found: Iterator[Finding]) -> list[tuple[Level, str | None]]:
    return [(one.level, one.next) for one in found]


@pytest.fixture
def ledger(folder: Path) -> Path:
    path = folder / "ledger.db"
    path.touch(0o600)
    return path


def test_a_ledger_of_our_own_is_well(ledger: Path) -> None:
    (one,) = premises.ledger(ledger)
    assert (one.level, one.check) == (Level.OK, Check.PERMISSIONS)


@pytest.mark.parametrize(
    "mode,level",
    [(0o660, Level.OK), (0o604, Level.WARNING), (0o602, Level.FAULT), (0o666, Level.FAULT)],
)
def test_what_everybody_may_do_to_the_ledger_is_told(ledger: Path, mode: int, level: Level) -> None:
    """A group may be meant: applications register through the same file."""
    ledger.chmod(mode)
    then = None if level is Level.OK else f"run: chmod o-rwx {ledger}"
    assert levels(premises.ledger(ledger)) == [(level, then)]


def test_a_ledger_that_cannot_be_written_is_a_fault_and_so_is_its_folder(ledger: Path) -> None:
    ledger.chmod(0o400)
    ledger.parent.chmod(0o555)
    with as_others():
        found = list(premises.ledger(ledger))
    ledger.parent.chmod(0o755)
    faults = [one for one in found if one.level is Level.FAULT]
    assert [one.message.split(" ")[0] for one in faults] == [str(ledger), "nothing"]
    assert all(one.next is not None and one.next.startswith("run: chown ") for one in faults)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("owner", [NOBODY, 54_321])
def test_whose_eyes_looked_is_told_where_they_are_not_the_owners(ledger: Path, owner: int) -> None:
    os.chown(ledger, owner, -1)
    (one,) = premises.ledger(ledger)
    assert one.level is Level.WARNING
    assert one.message.endswith("this was looked at as root")
    assert one.next is not None
    assert one.next.endswith(" sweeper doctor")


def test_a_folder_in_which_everybody_may_replace_a_file_is_a_fault(ledger: Path) -> None:
    key = Account(
        name=AccountName("main"),
        provider="fireworks",
        base_url="http://127.0.0.1",
        account_id=None,
        rate_per_second=1,
        max_in_flight=1,
        verify=True,
        key_source=KeySource(place=KeyPlace.FILE, name=str(ledger.parent / "key")),
    )
    (ledger.parent / "config.toml").touch(0o600)
    for mode, level in ((0o777, Level.FAULT), (0o1777, None), (0o775, None)):
        ledger.parent.chmod(mode)
        for found in (
            list(premises.ledger(ledger)),
            list(premises.configuration(ledger.parent / "config.toml")),
            list(premises.key(key)),
        ):
            wrong = [one for one in found if one.level is not Level.OK]
            assert [one.level for one in wrong] == ([] if level is None else [level])
            assert all(one.next == f"run: chmod o-w {ledger.parent}" for one in wrong)


def test_a_key_in_a_variable_has_no_folder(ledger: Path) -> None:
    source = KeySource(place=KeyPlace.VARIABLE, name="KEY")
    account = Account(
        name=AccountName("main"), provider="fireworks", base_url="", account_id=None,
        rate_per_second=1, max_in_flight=1, verify=True, key_source=source,
    )  # fmt: skip
    assert list(premises.key(account)) == []


def test_room_is_told_by_how_much_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(premises.room(folder)) == [(Level.OK, None)]
    (one,) = premises.room(folder, holds=1 << 62)
    assert one.level is Level.WARNING
    assert "less than the ledger's own 4,294,967,296.0 GiB" in one.message
    monkeypatch.setattr(premises, "LITTLE", 1 << 62)
    assert levels(premises.room(folder)) == [(Level.WARNING, "free space there")]
    monkeypatch.setattr(premises, "TOO_LITTLE", 1 << 62)
    assert [level for level, _ in levels(premises.room(folder))] == [Level.FAULT]


@pytest.fixture
def spool(folder: Path) -> Path:
    path = folder / "spool"
    path.mkdir(0o770)
    return path


def test_a_spool_that_is_not_there_is_a_fault(folder: Path) -> None:
    for path in (folder / "spool", folder / "file"):
        (folder / "file").touch()
        (one,) = premises.intake(path)
        me = pwd.getpwuid(os.geteuid()).pw_name
        assert (one.level, one.next) == (Level.FAULT, f"run: install -d -m 3770 -o {me} {path}")


def test_a_spool_is_made_for_the_group_that_may_put_files_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is what deploy/systemd does, and a shell can do it."""
    monkeypatch.setattr(premises, "_GROUP", grp.getgrgid(os.getegid()).gr_name)
    (one,) = premises.intake(folder / "spool")
    assert one.next is not None
    assert f" -g {grp.getgrgid(os.getegid()).gr_name} " in one.next
    subprocess.run(["/bin/sh", "-c", one.next.removeprefix("run: ")], check=True, timeout=60)
    assert stat.S_IMODE((folder / "spool").stat().st_mode) == 0o3770
    assert levels(premises.intake(folder / "spool")) == [(Level.OK, None)]
    line = (ROOT / "deploy/systemd/tmpfiles.conf").read_text()
    assert "3770 sweeper sweeper-spool" in line


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_configuration_that_others_may_write_to_is_a_fault(folder: Path, mode: int) -> None:
    path = folder / "my config.toml"
    path.touch()
    path.chmod(mode)
    (one,) = premises.configuration(path)
    assert (one.level, one.next) == (Level.FAULT, f"run: chmod go-w '{path}'")
    assert one.next is not None
    subprocess.run(["/bin/sh", "-c", one.next.removeprefix("run: ")], check=True, timeout=60)
    assert list(premises.configuration(path)) == []


def test_each_file_that_is_left_is_told_the_step_that_fits(spool: Path) -> None:
    (spool / "1.txt").touch()
    (spool / "2.jsonl").write_text("{}")
    (spool / "3.jsonl").touch()
    (spool / "4.jsonl").symlink_to("/dev/null")
    (spool / f"{'5' * 220}.jsonl").write_text("{}\n")
    steps = [next_ for _, next_ in levels(premises.intake(spool))][:-1]
    assert [str(step).split()[:3] for step in steps] == [
        ["rename", "it", "to"],
        ["its", "writer", "did"],
        ["wait", "a", "minute,"],
        ["remove", "it:", "only"],
        ["rename", "it"],
    ]
    (spool / "6.txt").touch()
    (*_, more, last) = premises.intake(spool)
    assert more.message == f"1 more is left alone in {spool}"
    assert last.level is Level.OK


def test_every_reason_for_which_a_file_is_left_has_a_step() -> None:
    """The reasons are those of the manual, which says what to do about each."""
    reasons = (
        spool_folder.HALF_WRITTEN, spool_folder.EMPTY, spool_folder.CHANGED, spool_folder.NAME,
        spool_folder.FOREIGN, "the system says: Permission denied",
    )  # fmt: skip
    assert "remove it: only" not in {premises._step(one)[:15] for one in reasons}
    assert len({premises._step(one) for one in reasons}) == len(reasons)


def test_files_that_wait_are_no_fault(spool: Path) -> None:
    (one,) = premises.intake(spool)
    assert (one.level, one.message) == (Level.OK, f"0 files wait in {spool} for the next sweep")
    (spool / "one.jsonl").write_text("{}\n")
    (one,) = premises.intake(spool)
    assert (one.level, one.message) == (Level.OK, f"1 file waits in {spool} for the next sweep")
    assert sorted(path.name for path in spool.iterdir()) == ["one.jsonl"]


def test_what_is_left_alone_is_named_with_why_and_not_without_end(spool: Path) -> None:
    (spool / "half.jsonl").write_text("{}")
    for n in range(7):
        (spool / f"notes{n}.txt").touch()
    *named, more, last = premises.intake(spool)
    assert [one.level for one in (*named, more)] == [Level.WARNING] * 6
    assert named[0].message.startswith(f"{spool}/half.jsonl is left alone: its last line")
    assert more.message == f"3 more are left alone in {spool}"
    assert last.level is Level.OK


def test_lines_that_nobody_registered_are_warned_of(spool: Path) -> None:
    done = spool / "done"
    done.mkdir()
    (done / "a.jsonl").touch()
    (done / "a.jsonl.rejected").touch()
    told, last = premises.intake(spool)
    assert (told.level, last.level) == (Level.WARNING, Level.OK)
    assert told.message == (
        f"1 file holds lines that nobody registered in {done} (a.jsonl.rejected)"
    )
    assert told.next is not None
    assert told.next.startswith("mend the lines")
    for n in range(6):
        (done / f"b{n}.jsonl.rejected").touch()
    told, _ = premises.intake(spool)
    assert told.message.startswith("7 files hold lines that nobody registered in ")
    assert told.message.endswith(" b3.jsonl.rejected, ...)")


def test_a_name_that_others_chose_cannot_move_the_terminal(spool: Path) -> None:
    (spool / "\x1b[2J.txt").touch()
    first, _ = premises.intake(spool)
    assert "\x1b" not in first.message


def test_a_spool_or_done_that_is_closed_to_us_is_a_fault(spool: Path) -> None:
    done = spool / "done"
    steps: list[Callable[[], None]] = [
        lambda: spool.chmod(0o500),
        lambda: done.mkdir(0o500),
        done.touch,
        lambda: done.symlink_to("/tmp"),
    ]
    for prepare in steps:
        prepare()
        with as_others():
            (one,) = premises.intake(spool)
        assert one.level is Level.FAULT
        assert one.message.endswith("so nothing is taken in")
        spool.chmod(0o755 if os.geteuid() else 0o777)
        if done.is_dir() and not done.is_symlink():
            done.rmdir()
        else:
            done.unlink(missing_ok=True)


def test_who_may_write_into_the_spool_may_have_things_deleted(spool: Path) -> None:
    spool.chmod(0o1777)
    first, last = premises.intake(spool)
    assert (first.level, first.next) == (Level.WARNING, f"run: chmod o-w {spool}")
    assert last.level is Level.OK


def test_without_an_alarm_nobody_is_called(folder: Path) -> None:
    (one,) = premises.alarm(None, {})
    assert one.level is Level.WARNING


def test_an_alarm_that_cannot_be_run_is_a_fault(folder: Path) -> None:
    program = folder / "page"
    for mode, level in (
        (None, Level.FAULT), (0o644, Level.FAULT), (0o755, Level.OK), (0o757, Level.FAULT),
    ):  # fmt: skip
        if mode is not None:
            program.touch()
            program.chmod(mode)
        (one,) = premises.alarm((str(program), "--now"), {})
        assert one.level is level, one.message
        assert "--now" not in one.message


def test_an_alarm_is_found_as_it_will_be_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the search path, or from the root folder; never from where the doctor is called."""
    program = folder / "page"
    program.touch(0o755)
    monkeypatch.chdir(folder)
    path = {"PATH": str(folder)}
    assert [one.level for one in premises.alarm(("page",), path)] == [Level.OK]
    assert [one.level for one in premises.alarm(("page",), {"PATH": "/"})] == [Level.FAULT]
    assert [one.level for one in premises.alarm(("./page",), path)] == [Level.FAULT]
    assert [one.level for one in premises.alarm((f".{program}",), path)] == [Level.OK]
