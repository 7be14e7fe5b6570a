"""systemd itself accepts the units, finds them confined, and makes the spool as it should be."""

import grp
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy import unitfile

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]

EXPOSURE = 11
"""In tenths, measured with systemd 252: what is left is the network and the host's folders."""
SERVICES = [name for name in unitfile.UNITS if name.endswith(".service")]
GROUP, SWEEPER, ONE, OTHER, STRANGER = 70_000, 70_001, 70_002, 70_003, 70_004


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists here."""
    program = shutil.which("true")
    assert program is not None
    for name in unitfile.UNITS:
        text = (unitfile.FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace(unitfile.PROGRAM, program))
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_all_units_are_accepted_without_a_word(units: Path) -> None:
    done = analyze("verify", *(units / name for name in unitfile.UNITS))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name,right,wrong",
    [
        ("sweeper.service", "Restart=on-failure", "Restrat=on-failure"),
        ("sweeper.service", "WatchdogSec=60", "WatchdogSec=soon"),
        ("sweeper-sweep.timer", "OnCalendar=", "OnCalendar=never "),
    ],
)
def test_what_is_wrong_would_be_seen(units: Path, name: str, right: str, wrong: str) -> None:
    text = (units / name).read_text()
    assert right in text
    (units / name).write_text(text.replace(right, wrong))
    done = analyze("verify", units / name)
    assert done.returncode != 0 or done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_confined(units: Path, name: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", units / name)
    assert done.returncode == 0, done.stdout[-300:]
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) * 10 <= EXPOSURE


def test_without_its_confinement_a_service_would_be_seen_as_open(units: Path) -> None:
    path = units / "sweeper.service"
    bare = re.sub(r"(?m)^(Protect|Private|Restrict|System).*\n", "", path.read_text())
    path.write_text(bare)
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", path)
    assert done.returncode != 0


@pytest.fixture
def root(open_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which systemd makes the users and the folders."""
    top = open_folder / tmp_path_factory.mktemp("root").name
    for kind, source in (("sysusers", "sysusers.conf"), ("tmpfiles", "tmpfiles.conf")):
        folder = top / "usr" / "lib" / f"{kind}.d"
        folder.mkdir(parents=True)
        shutil.copy(unitfile.FOLDER / source, folder / "sweeper.conf")
    (top / "etc").mkdir()
    subprocess.run(["systemd-sysusers", f"--root={top}"], check=True, capture_output=True)
    subprocess.run(["systemd-tmpfiles", f"--root={top}", "--create"], check=True)
    return top


def _ids(path: Path) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split(":")[2]) for line in path.read_text().splitlines()}


def test_the_user_has_no_shell_and_belongs_to_the_group_of_the_spool(root: Path) -> None:
    passwd, group = ((root / "etc" / name).read_text() for name in ("passwd", "group"))
    assert re.search(r"^sweeper:.*:/var/lib/sweeper:\S*nologin$", passwd, re.MULTILINE)
    assert re.search(r"^sweeper-spool:x:\d+:sweeper$", group, re.MULTILINE)


def test_the_folders_are_closed_to_everybody_else(root: Path) -> None:
    users, groups = _ids(root / "etc" / "passwd"), _ids(root / "etc" / "group")
    for name, mode, user, group in (
        ("etc/sweeper/credentials", 0o700, 0, 0),
        ("var/spool/sweeper", 0o3770, users["sweeper"], groups["sweeper-spool"]),
        ("var/spool/sweeper/done", 0o700, users["sweeper"], groups["sweeper"]),
    ):
        status = (root / name).stat()
        assert status.st_mode & 0o7777 == mode, name
        assert (status.st_uid, status.st_gid) == (user, group), name


def _as(uid: int, groups: list[int], script: str, spool: Path) -> bool:
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=spool.parent,
        user=uid,
        group=uid,
        extra_groups=groups,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_applications_put_files_in_and_take_none_away_but_their_own(root: Path) -> None:
    assert all(not _is_taken(each) for each in (GROUP, SWEEPER, ONE, OTHER, STRANGER))
    spool = root / "var" / "spool" / "sweeper"
    os.chown(spool, SWEEPER, GROUP)
    spool.chmod(0o3770)
    os.chown(spool / "done", SWEEPER, SWEEPER)
    put = "umask 027; cd sweeper && echo {} >a.tmp && mv a.tmp a.jsonl"
    assert _as(ONE, [GROUP], put, spool)
    assert not _as(STRANGER, [], "ls sweeper", spool)
    assert not _as(STRANGER, [], "echo >sweeper/b.jsonl", spool)
    for theft in (
        "rm -f a.jsonl",
        "mv a.jsonl b.jsonl",
        "echo x >a.jsonl",
        "touch b; mv -f b a.jsonl",
    ):
        assert not _as(OTHER, [GROUP], f"cd sweeper && {theft}", spool), theft
    assert not _as(OTHER, [GROUP], "ls sweeper/done", spool)
    assert not _as(OTHER, [GROUP], "mv sweeper/done sweeper/gone", spool)
    assert _as(SWEEPER, [GROUP], "cd sweeper && cat a.jsonl && mv a.jsonl done/", spool)
    assert not _as(ONE, [GROUP], "cat sweeper/done/a.jsonl", spool)


def _is_taken(number: int) -> bool:
    users = {each.pw_uid for each in pwd.getpwall()} | {each.pw_gid for each in pwd.getpwall()}
    return number in users | {each.gr_gid for each in grp.getgrall()}
