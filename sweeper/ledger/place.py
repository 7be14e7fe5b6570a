"""Judge where an SQLite ledger stands: who may change or replace it, and whether locks hold."""

import os
import shlex
from pathlib import Path
from typing import Final

from sweeper import errors
from sweeper.domain import permission
from sweeper.ledger import faults

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)


def check(path: Path, *, create: bool) -> None:
    """Refuse a ledger that is not there, is not safe, or where SQLite's locks do not hold.

    A missing file is made where `create` says so. The file belongs to the owner of its folder,
    which is root, we, or a service that we look after as root or share a group with. Raises
    LedgerError where it does not, where everybody may write to it, or where any other user may
    put another in its place.
    """
    folder = path.parent
    if not folder.is_dir():
        raise errors.LedgerError(f"the ledger's folder {folder} does not exist", hint="create it")
    if not path.exists():
        _check_room(path, create=create)
        _make(path)
    _check_modes(path)
    _check_owners(path)
    kind = file_system(folder)
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse."):
        raise errors.LedgerError(
            f"the ledger's folder {folder} is on a network file system ({kind}), where SQLite's"
            " locks do not hold",
            hint="put the ledger on a local disk, or use PostgreSQL",
        )


def _check_room(path: Path, *, create: bool) -> None:
    """Refuse to make a ledger where it is not asked for, cannot be made, or would not be ours."""
    if not create:
        raise errors.LedgerError(f"there is no ledger at {path}", hint=faults.NO_LEDGER)
    folder = path.parent
    if not os.access(folder, os.W_OK):
        raise errors.LedgerError(
            f"the ledger's folder {folder} cannot be written to",
            hint="give it to the user that runs sweeper: chown, or chmod u+w",
        )
    owner = folder.stat().st_uid
    if owner not in _ours():
        raise errors.LedgerError(
            f"the ledger's folder {folder} belongs to another user (uid {owner}), who could not"
            " use a ledger that we make there",
            hint=f"run sweeper as that user: sudo -u '#{owner}' sweeper db upgrade",
        )


def _make(path: Path) -> None:
    """Make the file for its owner only; a link that leads nowhere is not followed."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
    try:
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        if path.is_symlink():
            raise errors.LedgerError(
                f"the ledger {path} is a link to a file that does not exist",
                hint="name the file itself in ledger.url, or remove the link",
            ) from None


def _check_modes(path: Path) -> None:
    """Whoever may write to the ledger, or replace it, decides what is deleted."""
    place = path.resolve()
    open_ones = [place] if permission.all_may_write(place.stat().st_mode) else []
    open_ones += [one for one in _above(path) if permission.all_may_replace(one.stat().st_mode)]
    for one in open_ones:
        raise errors.LedgerError(
            f"everybody may write to {one}, and so decide what is deleted",
            hint=f"run: chmod o-w {shlex.quote(str(one))}",
        )


def _check_owners(path: Path) -> None:
    """So does whoever owns it, or a folder on the way to it, and that is to be one user."""
    place = path.resolve()
    holder, owner = place.parent.stat().st_uid, place.stat().st_uid
    if owner != holder and not {owner, holder} <= _ours():
        raise _of_strangers(place, owner, holder)
    for one in (path, *_above(path)):  # the first may be a link
        # In a folder like /tmp anybody may have made what others then take for the service's.
        is_shared = permission.all_may_write(one.parent.stat().st_mode)
        believed = _ours() if is_shared else {*_ours(), holder}
        found = one.lstat().st_uid
        if found not in believed:
            raise errors.LedgerError(
                f"{one} belongs to another user (uid {found}), who may so put another file in the"
                f" place of the ledger {path}",
                hint="keep the ledger in a folder of its own, as /var/lib/sweeper; or run: chown"
                f" -h root {shlex.quote(str(one))}",
            )


def _of_strangers(place: Path, owner: int, holder: int) -> errors.LedgerError:
    us = os.geteuid()
    wanted = holder if us == permission.ROOT else us
    wrong = place.parent if owner in _ours() and us != permission.ROOT else place
    return errors.LedgerError(
        f"the ledger {place} belongs to one user (uid {owner}) and its folder to another (uid"
        f" {holder}), and one of them is a stranger who so decides what is deleted",
        hint=f"find out who put it there, then run: chown {wanted} {shlex.quote(str(wrong))}",
    )


def _above(path: Path) -> list[Path]:
    """The folders on the way to the file, by the name that was given and where it really is."""
    return sorted({*path.parents, *path.resolve().parents})


def _ours() -> set[int]:
    return {permission.ROOT, os.geteuid()}


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the type of the file system that holds `folder`; empty where it cannot be known."""
    wanted = folder.resolve()
    best, kind = -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        place = Path(left.split(" ")[4].replace("\\040", " "))
        if wanted.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), right.split(" ")[0]
    return kind
