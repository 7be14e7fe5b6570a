"""Where an SQLite ledger stands: whose it is, who may replace it, and on what file system."""

import os
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.ledger import faults, place
from tests.support import strangers
from tests.support.strangers import STRANGER, as_root

SERVICE = 65_532


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.LedgerError, match="does not exist"):
        place.check(tmp_path / "nowhere" / "ledger.db", create=True)


def test_a_folder_that_may_not_be_written_to_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(errors.LedgerError, match="cannot be written to") as told:
        place.check(tmp_path / "ledger.db", create=True)
    assert "chown" in (told.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_made_only_by_those_who_may(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.raises(errors.LedgerError, match="there is no ledger at") as refused:
        place.check(path, create=False)
    assert refused.value.hint == faults.NO_LEDGER
    assert not path.exists()


MOUNTS = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:40 / {share} rw,noatime shared:1 - {kind} server:/x rw
3 1 0:41 / {share}/local\\040disk rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_network_file_system_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "file_system", lambda _: kind)
    with pytest.raises(errors.LedgerError, match=rf"network file system \({kind}\)"):
        place.check(tmp_path / "ledger.db", create=True)


def test_the_file_system_is_the_innermost_mount(tmp_path: Path) -> None:
    share = tmp_path / "share"
    (share / "local disk").mkdir(parents=True)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(share=share, kind="nfs4"))
    assert place.file_system(tmp_path, mounts) == "ext4"
    assert place.file_system(share, mounts) == "nfs4"
    assert place.file_system(share / "local disk", mounts) == "xfs"
    assert place.file_system(share, tmp_path / "none") == ""


# Whose it is


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(0o700)
    path = tmp_path / "state" / "ledger.db"
    path.touch(0o600)
    return path


def refusal(path: Path, *, create: bool = False) -> errors.LedgerError:
    with pytest.raises(errors.LedgerError) as refused:
        place.check(path, create=create)
    return refused.value


def test_one_of_our_own_is_believed(ledger: Path) -> None:
    place.check(ledger, create=False)


@as_root
@pytest.mark.parametrize(
    "us, folder, file",
    [
        (0, 0, 0),
        (0, SERVICE, SERVICE),  # sudo sweeper status
        (SERVICE, SERVICE, SERVICE),
        (SERVICE, 0, SERVICE),
        (SERVICE, 0, 0),
        (SERVICE, SERVICE, 0),
        (STRANGER, SERVICE, SERVICE),  # an application, which shares a group with the service
    ],
)
def test_it_may_belong_to_root_to_us_or_with_its_folder_to_a_service(
    ledger: Path, us: int, folder: int, file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(ledger, file, -1)
    os.chown(ledger.parent, folder, -1)
    monkeypatch.setattr(os, "geteuid", strangers.being(us))
    place.check(ledger, create=False)


@as_root
@pytest.mark.parametrize(
    "us, owners, mend",
    [
        (0, (0, STRANGER), "chown 0 {file}"),
        (0, (SERVICE, STRANGER), f"chown {SERVICE} {{file}}"),
        (0, (STRANGER, 0), f"chown {STRANGER} {{file}}"),  # what root made in a service's folder
        (SERVICE, (SERVICE, STRANGER), f"chown {SERVICE} {{file}}"),
        (SERVICE, (0, STRANGER), f"chown {SERVICE} {{file}}"),
        (SERVICE, (STRANGER, SERVICE), f"chown {SERVICE} {{folder}}"),
        (SERVICE, (STRANGER, 0), f"chown {SERVICE} {{folder}}"),
    ],
)
def test_one_in_a_folder_that_is_not_its_owners_is_refused(
    ledger: Path, us: int, owners: tuple[int, int], mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owners are those of the folder and of the file."""
    folder, file = owners
    os.chown(ledger, file, -1)
    os.chown(ledger.parent, folder, -1)
    monkeypatch.setattr(os, "geteuid", strangers.being(us))
    refused = refusal(ledger)
    assert f"{ledger} belongs to one user (uid {file}) and its folder to another" in refused.message
    wanted = mend.format(file=ledger, folder=ledger.parent)
    assert (refused.hint or "").endswith(f"run: {wanted}")


def test_one_that_somebody_made_in_a_folder_for_all_is_refused(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp anybody may make a folder, and a ledger in it, before the service does."""
    tmp_path.chmod(0o1777)
    place.check(ledger, create=False)
    whose = strangers.give_away(monkeypatch, ledger, ledger.parent)
    assert f"belongs to another user (uid {whose}), who may so put" in refusal(ledger).message


def test_none_is_made_in_the_folder_of_another_user(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.unlink()
    whose = strangers.give_away(monkeypatch, ledger.parent)
    refused = refusal(ledger, create=True)
    assert f"the ledger's folder {ledger.parent} belongs to another user" in refused.message
    assert refused.hint == f"run sweeper as that user: sudo -u '#{whose}' sweeper db upgrade"
    assert not ledger.exists()


@as_root
@pytest.mark.parametrize("us", [0, SERVICE])
def test_a_folder_above_may_be_its_owners_but_nobody_elses(
    ledger: Path, tmp_path: Path, us: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, ledger.parent, ledger):
        os.chown(path, SERVICE, -1)
    monkeypatch.setattr(os, "geteuid", strangers.being(us))
    place.check(ledger, create=False)
    os.chown(tmp_path, STRANGER, -1)
    refused = refusal(ledger)
    assert refused.message.startswith(f"{tmp_path} belongs to another user (uid {STRANGER})")
    assert f"run: chown -h root {tmp_path}" in (refused.hint or "")


@as_root
def test_a_link_of_another_user_is_refused(ledger: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(ledger)
    place.check(link, create=False)
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert refusal(link).message.startswith(f"{link} belongs to another user")


def test_a_folder_above_in_which_everybody_may_write_is_refused(
    ledger: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    refused = refusal(ledger)
    assert refused.message.startswith(f"everybody may write to {tmp_path}")
    assert refused.hint == f"run: chmod o-w {tmp_path}"
