"""The folder of a spool: what lies in it, and what is done to its files, each step repeatable."""

import fcntl
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sweeper.domain import response
from sweeper.ledger import spool
from sweeper.ledger.spool import File

ENDING: Final = ".jsonl"
DONE: Final = "done"
REJECTED: Final = ".rejected"
LONGEST_NAME: Final = 200
"""Bytes in a file's name; `.2` and `.rejected` must still find room behind it."""
YOUNG: Final = 60.0
"""Seconds for which an empty file counts as one that is being written."""

CHANGED: Final = "it changed while it was read"
HALF_WRITTEN: Final = "its last line is not whole: it does not end with a newline"
EMPTY: Final = "it is empty, so it may just be being written"
NAME: Final = "its name is no plain text"
FOREIGN: Final = f"its name does not end in {ENDING}"

_ID: Final = ".spool"
_SPOOL_ID: Final = re.compile(rb"[0-9a-f]{32}\n")
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_POLL: Final = 0.05
_KINDS: Final = {
    stat.S_IFLNK: "it is a symbolic link",
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFSOCK: "it is a socket",
}


class Unfit(Exception):
    """A file that stays where it is; the text says why, in the same words each time."""


class Folder:
    """An open spool. Whatever follows a symbolic link, or is not there, raises OSError."""

    def __init__(self, descriptor: int) -> None:
        self._here = descriptor
        self._done = -1

    def names(self) -> Sequence[str]:
        """Whatever lies in it, in order, but `done` and what begins with a dot."""
        with os.scandir(self._here) as found:
            names = [one.name for one in found]
        return sorted(name for name in names if name != DONE and not name.startswith("."))

    def lock(self, patience: float, waiting: Callable[[], None]) -> bool:
        """Keep other processes from taking files; whether that was granted within the seconds."""
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._here, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                waiting()
                time.sleep(_POLL)
            else:
                return True

    @contextmanager
    def done(self) -> Iterator[str]:
        """Open `done`, made where it is missing; gives the id by which this spool is known.

        The id lies there in a file: no path and no number of a device tells two machines' spools
        apart, which may share one ledger.
        """
        with suppress(FileExistsError):
            os.mkdir(DONE, 0o700, dir_fd=self._here)
            os.fsync(self._here)
        self._done = os.open(DONE, _FOLDER | os.O_NOFOLLOW, dir_fd=self._here)
        try:
            yield self._spool_id()
        finally:
            os.close(self._done)
            self._done = -1

    @contextmanager
    def reading(self, name: str) -> Iterator[tuple[BinaryIO, File]]:
        """Open a file that can be taken in; raises Unfit, or OSError, for any other."""
        if len(os.fsencode(name)) > LONGEST_NAME or not response.is_plain_text(name):
            raise Unfit(f"{NAME}, or longer than {LONGEST_NAME} bytes")
        # To open a pipe would already be heard at its other end.
        _check_kind(os.stat(name, dir_fd=self._here, follow_symlinks=False))
        with os.fdopen(os.open(name, _READ, dir_fd=self._here), "rb") as stream:
            status = os.fstat(stream.fileno())
            _check_kind(status)
            _check_end(stream, status)
            yield stream, _file(name, status)

    def holds(self, file: File) -> bool:
        """Whether exactly this file lies in the spool."""
        try:
            status = os.stat(file.name, dir_fd=self._here, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return _file(file.name, status) == file

    def has(self, name: str) -> bool:
        """Whether anything of that name lies in the spool."""
        return _is_there(name, self._here)

    def target(self, name: str) -> str:
        """A name under which nothing lies in `done`: the file's own, or with .2, .3 … in it."""
        stem, number, free = name.removesuffix(ENDING), 1, name
        while self._is_taken(free):
            number += 1
            free = f"{stem}.{number}{ENDING}"
        return free

    def write_rejected(self, target: str, entries: Iterable[dict[str, object]]) -> None:
        """Write what was rejected beside where the file will lie, as a whole or not at all.

        The name was settled while nothing lay there, so what lies there now is an earlier try.
        """
        written = f".{target}{REJECTED}"
        try:
            descriptor = os.open(written, _WRITE, 0o600, dir_fd=self._done)
            with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as stream:
                stream.writelines(json.dumps(entry) + "\n" for entry in entries)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(written, written[1:], src_dir_fd=self._done, dst_dir_fd=self._done)
        except BaseException:
            with suppress(OSError):
                os.unlink(written, dir_fd=self._done)
            raise
        os.fsync(self._done)

    def rejected(self) -> Sequence[str]:
        """The names in `done` of what holds rejected lines; none where nothing was ever moved."""
        try:
            done = os.open(DONE, _FOLDER | os.O_NOFOLLOW, dir_fd=self._here)
        except FileNotFoundError:
            return []
        try:
            with os.scandir(done) as found:
                names = [one.name for one in found if one.name.endswith(REJECTED)]
        finally:
            os.close(done)
        return sorted(name for name in names if not name.startswith("."))

    def move(self, file: File, target: str) -> None:
        """Move the file to `done`, if it still lies in the spool, and never over another.

        Raises Unfit where something else has come in its place, or had been written to it.
        """
        if self.holds(file):
            if _is_there(target, self._done):
                raise Unfit(f"{DONE}/{target} is there already")
            os.rename(file.name, target, src_dir_fd=self._here, dst_dir_fd=self._done)
            moved = os.stat(target, dir_fd=self._done, follow_symlinks=False)
            if _file(file.name, moved) != file:
                self._put_back(target)
                raise Unfit(CHANGED)
        os.fsync(self._done)
        os.fsync(self._here)

    def _put_back(self, target: str) -> None:
        """Give back what was moved unread; under a new name, for a newcomer may have the old."""
        again = f"{secrets.token_hex(8)}{ENDING}"
        os.rename(target, again, src_dir_fd=self._done, dst_dir_fd=self._here)
        os.fsync(self._here)

    def _is_taken(self, name: str) -> bool:
        return any(_is_there(each, self._done) for each in (name, f"{name}{REJECTED}"))

    def _spool_id(self) -> str:
        with suppress(FileNotFoundError), os.fdopen(self._open_done(_ID, _READ), "rb") as stream:
            if _SPOOL_ID.fullmatch(known := stream.read(64)):
                return known.decode().strip()
        made = secrets.token_hex(16)
        with os.fdopen(self._open_done(f"{_ID}.new", _WRITE), "w", encoding="ascii") as stream:
            stream.write(made + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(f"{_ID}.new", _ID, src_dir_fd=self._done, dst_dir_fd=self._done)
        os.fsync(self._done)
        return made

    def _open_done(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o600, dir_fd=self._done)


@contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """Open the spool; raises OSError where it is missing, no folder or out of reach."""
    descriptor = os.open(path, _FOLDER)
    try:
        yield Folder(descriptor)
    finally:
        os.close(descriptor)


def is_unchanged(stream: BinaryIO, file: File) -> bool:
    """Whether the open file is as it was when it was opened."""
    return _file(file.name, os.fstat(stream.fileno())) == file


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unfit(_KINDS.get(stat.S_IFMT(status.st_mode), "it is a device"))


def _check_end(stream: BinaryIO, status: os.stat_result) -> None:
    if status.st_size == 0:
        # Who copies a file into the spool makes an empty one first.
        if time.time() - status.st_mtime < YOUNG:
            raise Unfit(EMPTY)
    elif os.pread(stream.fileno(), 1, status.st_size - 1) != b"\n":
        raise Unfit(HALF_WRITTEN)


def _file(name: str, status: os.stat_result) -> File:
    return spool.stored(
        File(name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    )


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
