"""Look at the places on disk: room, permissions, the spool, and the alarm's program."""

import grp
import os
import pwd
import shlex
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sweeper.config.settings import Account, Config, KeyPlace
from sweeper.domain import display
from sweeper.service.alarm import command as alarm_command
from sweeper.service.doctor.findings import Check, Finding, fault, ok, warning
from sweeper.service.spool import folder as spool_folder
from sweeper.service.spool import spool

_MIB: Final = 1 << 20
TOO_LITTLE: Final = 64 * _MIB
"""Bytes below which the next sweep may find no room for its outcomes."""
LITTLE: Final = 512 * _MIB
_MOST_NAMED: Final = 5
_GROUP: Final = "sweeper-spool"
"""Whose members may put files into the spool, where deploy/systemd was installed."""
_STEPS: Final = {
    spool_folder.HALF_WRITTEN: "its writer did not rename it, or died: let it be written again"
    " elsewhere and renamed, and remove this one",
    spool_folder.EMPTY: "wait a minute, then it is moved",
    spool_folder.CHANGED: "let its writer write elsewhere, then rename; it is read again",
    spool_folder.NAME: "rename it",
    spool_folder.FOREIGN: "rename it to NAME.jsonl if it is meant for sweeper, else move it away",
    "the system says: ": "let the user that runs sweeper read it",
}
"""By how a reason begins: what to do about the file."""
_ALL: Final = os.R_OK | os.W_OK | os.X_OK


def room(folder: Path, *, holds: int = 0) -> Iterator[Finding]:
    """How much may still be written in a folder that `holds` a file of so many bytes."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    told = f"{_size(free)} free in {folder}"
    if free < TOO_LITTLE or (found.f_files and not found.f_favail):
        entries = "" if found.f_favail or not found.f_files else ", and no file can be made"
        yield fault(Check.DISK, told + entries, "free space there: a full disk stops everything")
    elif free < LITTLE:
        yield warning(Check.DISK, told, "free space there")
    elif free < holds:
        yield warning(
            Check.DISK,
            f"{told}, less than the ledger's own {_size(holds)}",
            f"free space there; until then let sweeper db backup write elsewhere than {folder}",
        )
    else:
        yield ok(Check.DISK, told)


def ledger(path: Path) -> Iterator[Finding]:
    """Whether we, and nobody else, may write to an SQLite ledger and beside it."""
    found = list(_ledger(path))
    yield from found or [ok(Check.PERMISSIONS, f"{path} and its folder are ours to write")]


def _ledger(path: Path) -> Iterator[Finding]:
    status = path.stat()
    if status.st_uid != os.geteuid():
        owner, we = _user(status.st_uid), _user(os.geteuid())
        yield warning(
            Check.PERMISSIONS,
            f"{path} belongs to {owner}; this was looked at as {we}",
            f"look as the user that runs sweeper: sudo -u {owner} sweeper doctor",
        )
    if not _may(path, os.R_OK | os.W_OK):
        told = f"{path} cannot be read and written"
        yield fault(Check.PERMISSIONS, told, _give_back(path, "u+rw"))
    if not _may(path.parent, _ALL):
        yield fault(
            Check.PERMISSIONS,
            f"nothing can be written in {path.parent}, where SQLite keeps its journal",
            _give_back(path.parent, "u+rwx"),
        )
    if status.st_mode & stat.S_IWOTH:
        told = f"everybody may write to {path}, and so decide what is deleted"
        yield fault(Check.PERMISSIONS, told, f"run: chmod o-rwx {path}")
    elif status.st_mode & stat.S_IROTH:
        told = f"everybody may read {path}, which names responses and subjects"
        yield warning(Check.PERMISSIONS, told, f"run: chmod o-rwx {path}")
    yield from _open_folder(path.parent, "the ledger")


def _give_back(path: Path, rights: str) -> str:
    """What lets us at a file or folder: its mode where it is ours, else its owner."""
    if path.stat().st_uid == os.geteuid():
        return f"run: chmod {rights} {path}"
    return f"run: chown {_user(os.geteuid())} {path}"


def configuration(path: Path) -> Iterator[Finding]:
    """Whether others may change the configuration, or put another in its place."""
    place = path.absolute()
    if place.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        told = f"others may write to {place}, and so decide what is deleted"
        yield fault(Check.PERMISSIONS, told, f"run: chmod go-w {shlex.quote(str(place))}")
    yield from _open_folder(path.absolute().parent, "the configuration")


def key(account: Account) -> Iterator[Finding]:
    """Whether others may put another key in the place of an account's."""
    if account.key_source.place is KeyPlace.FILE:
        yield from _open_folder(Path(account.key_source.name).parent, "the API key")


def _open_folder(folder: Path, what: str) -> Iterator[Finding]:
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        told = f"everybody may write in {folder}, and so replace {what}"
        yield fault(Check.PERMISSIONS, told, f"run: chmod o-w {folder}")


def intake(path: Path) -> Iterator[Finding]:
    """Whether files can be taken in from the spool, and what lies there."""
    if not path.is_dir():
        told = f"the spool {path} is not there, or no folder"
        yield fault(Check.SPOOL, told, f"run: install -d -m 3770 {_owner()} {path}")
        return
    done = path / spool_folder.DONE
    if not _may(path, _ALL) or done.is_symlink() or (
        done.exists() and not (done.is_dir() and _may(done, _ALL))
    ):  # fmt: skip
        bad = done if _may(path, _ALL) else path
        told = f"{bad} is no folder that can be read and written, so nothing is taken in"
        yield fault(Check.SPOOL, told, f"let {_user(os.geteuid())} own the folder {bad}")
        return
    if path.stat().st_mode & stat.S_IWOTH:
        told = f"everybody may write in {path}, and so register what is to be deleted"
        yield warning(Check.SPOOL, told, f"run: chmod o-w {path}")
    yield from _contents(path)


def _contents(path: Path) -> Iterator[Finding]:
    left = spool.look(path)
    waiting = [one for one in left if one.unread and one.reason == spool.NOT_YET]
    others = [one for one in left if one not in waiting]
    for one in others[:_MOST_NAMED]:
        told = f"{path}/{one.file} is left alone: {one.reason}"
        yield warning(Check.SPOOL, told, _step(one.reason))
    if len(others) > _MOST_NAMED:
        more = len(others) - _MOST_NAMED
        told = f"{more:,} more {'is' if more == 1 else 'are'} left alone in {path}"
        yield warning(Check.SPOOL, told, "sweeper status --json")
    yield from _rejected(spool.rejected(path))
    files = "1 file waits" if len(waiting) == 1 else f"{len(waiting):,} files wait"
    yield ok(Check.SPOOL, f"{files} in {path} for the next sweep")


def _rejected(files: Sequence[Path]) -> Iterator[Finding]:
    if files:
        hold = "1 file holds" if len(files) == 1 else f"{len(files):,} files hold"
        named = ", ".join(one.name for one in files[:_MOST_NAMED])
        more = ", ..." if len(files) > _MOST_NAMED else ""
        told = f"{hold} lines that nobody registered in {files[0].parent} ({named}{more})"
        then = "mend the lines, put them into the spool again, and remove the .rejected file"
        yield warning(Check.SPOOL, told, then)


def _step(reason: str) -> str:
    """What to do about a file that is left in the spool for this."""
    for known, then in _STEPS.items():
        if reason.startswith(known):
            return then
    return "remove it: only files are taken in"  # a link, a folder, a pipe, a socket, a device


def _owner() -> str:
    """Whose a spool is to be, as words of install: ours, and of those who may put files in."""
    try:
        group = f" -g {grp.getgrnam(_GROUP).gr_name}"
    except KeyError:
        group = ""
    return f"-o {_user(os.geteuid())}{group}"


def alarm(command: tuple[str, ...] | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the program can be run that is to call somebody."""
    if command is None:
        told = "nobody is called when an account stops or something is late"
        yield warning(Check.ALARM, told, 'name a program: [alarm] command = ["/path/to/program"]')
        return
    name = display.escape(command[0])
    # As the command is run: from the root folder, and found by the PATH that is passed on.
    found = shutil.which(Path("/", name) if "/" in name else name, path=_path(environ))
    if found is None:
        told = f"{name} is no program that {_user(os.geteuid())} can run, so nobody is called"
        then = "name another in [alarm] command"
        yield fault(Check.ALARM, told, f"run: chmod a+x {name}, or {then}" if "/" in name else then)
    elif Path(found).stat().st_mode & stat.S_IWOTH:
        told = f"everybody may write to {found}, which sweeper runs"
        yield fault(Check.ALARM, told, f"run: chmod o-w {found}")
    else:
        yield ok(Check.ALARM, f"{found} is run when somebody must know")


def _path(environ: Mapping[str, str]) -> str:
    return alarm_command.scrubbed(environ).get("PATH", os.defpath)


def places(config: Config, ledger: Path | None) -> Iterator[tuple[Path, int]]:
    """The folders that must have room, each disk once, with the size of the ledger in it."""
    if ledger is not None:
        yield ledger.parent, ledger.stat().st_size
    spool = config.spool
    if spool is not None and spool.is_dir():
        device = None if ledger is None else ledger.stat().st_dev
        if spool.stat().st_dev != device:
            yield spool, 0


def _may(path: Path, how: int) -> bool:
    return os.access(path, how, effective_ids=True)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _size(count: int) -> str:
    return f"{count / (1 << 30):,.1f} GiB" if count >= 1 << 30 else f"{count / _MIB:,.1f} MiB"
