"""Take in the files that applications rename into the spool: each line once, whatever happens."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sweeper.domain import display
from sweeper.domain.event import Event, SpoolFileLeft, SpoolFileRegistered
from sweeper.ledger import spool
from sweeper.ledger.spool import Overtaken, Progress
from sweeper.service.intake import Desk, Tally
from sweeper.service.spool import folder as spool_folder
from sweeper.service.spool.folder import ENDING, Folder, Unfit
from sweeper.service.spool.work import Doubted, Work

BATCH: Final = 5_000
"""Lines in one transaction: a sweep that is at work meanwhile waits for it."""
PATIENCE: Final = 10.0
"""Seconds to wait for another process that takes files from the same spool."""

CLOCK: Final = "the clock may be wrong"
NOT_YET: Final = "it is not taken in yet"
FRESH: Final = 3600.0
"""Seconds for which a file may wait for the next sweep before somebody should look."""
BUSY: Final = "another process takes its files in"
_ELSEWHERE: Final = "another process takes it in"
REMOVED: Final = "it was removed before it was read to its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that lies in the spool; `unread` where it may hold what nobody knows of.

    What `is_fresh` has only just come, and waits for the next sweep. What `is_spool` is the folder
    itself, into which nobody could look.
    """

    file: str
    reason: str
    unread: bool
    is_fresh: bool = False
    is_spool: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of one look into the spool; `unread` is None where nobody can know."""

    unread: int | None
    happened: Sequence[Event]


class Spool:
    """One spool, as long as a process goes by one configuration.

    A file is first registered, each transaction also writing how far it has come; then its
    rejected lines are written beside where it will lie; then it is moved; then it is forgotten.
    Each step looks whether it was done before, so that a crash costs nothing but time. Forgotten
    is what no longer lies in the spool, and only then told, so that this too is told once.
    """

    def __init__(
        self, path: Path, desk: Desk, *, batch: int = BATCH, patience: float = PATIENCE
    ) -> None:
        self._path = path
        self._desk = desk
        self._batch = batch
        self._patience = patience
        self._told: dict[str, str] = {}
        self._left: dict[str, str] = {}
        self._happened: list[Event] = []
        self._is_tidy = False

    def take(self, got_on: Callable[[], None]) -> Taken:
        """Take in whatever can be; `got_on` is called after each step, and may raise to end it.

        Blocks. Raises LedgerError; what happened until then is told the next time.
        """
        self._left = {}
        unread = self._take(got_on)
        self._told = self._left
        happened, self._happened = self._happened, []
        return Taken(unread=unread, happened=happened)

    def _take(self, got_on: Callable[[], None]) -> int | None:
        try:
            with spool_folder.opened(self._path) as folder:
                names = self._candidates(folder)
                if self._is_tidy and not names:
                    return 0
                if not folder.lock(self._patience, got_on):
                    self._leave(str(self._path), BUSY)
                    return len(names)
                return self._take_locked(folder, self._candidates(folder), got_on)
        except OSError as fault:
            self._leave(str(self._path), _strerror(fault))
            return None

    def _candidates(self, folder: Folder) -> Sequence[str]:
        """The names of files to take in; what is called otherwise is left."""
        names = folder.names()
        for name in names:
            if not name.endswith(ENDING):
                self._leave(name, spool_folder.FOREIGN, unread=False)
        return [name for name in names if name.endswith(ENDING)]

    def _take_locked(self, folder: Folder, names: Sequence[str], got_on: Callable[[], None]) -> int:
        try:
            with folder.done() as spool_id:
                unread = self._take_each(folder, spool_id, names, got_on)
                self._forget(folder, spool_id, got_on)
        except OSError as fault:
            self._leave(spool_folder.DONE, _strerror(fault))
            return len(names)
        return unread

    def _take_each(
        self, folder: Folder, spool_id: str, names: Sequence[str], got_on: Callable[[], None]
    ) -> int:
        with self._desk.db.read() as connection:
            begun = {one.file: one for one in spool.progress(connection, spool_id)}
        unread = 0
        for index, name in enumerate(names):
            got_on()
            try:
                with folder.reading(name) as (stream, file):
                    work = Work(
                        desk=self._desk,
                        folder=folder,
                        spool_id=spool_id,
                        stream=stream,
                        batch=self._batch,
                        got_on=got_on,
                    )
                    self._note(work.run(begun.get(file, Progress(file=file))))
            except Doubted:
                # What is true of one file's times is true of them all.
                self._leave(name, CLOCK)
                return unread + len(names) - index
            except (Unfit, Overtaken, OSError) as why:
                if not isinstance(why, FileNotFoundError) or folder.has(name):
                    self._leave(name, _reason(why))
                    unread += 1
        return unread

    def _note(self, done: Progress) -> None:
        """Tell of a file that had nothing to remember; of others tells what is forgotten."""
        if done.id is None:
            self._happened.append(_registered(done))

    def _forget(self, folder: Folder, spool_id: str, got_on: Callable[[], None]) -> None:
        """Forget what no longer lies in the spool, also what a process that died had moved."""
        db = self._desk.db
        with db.read() as connection:
            known = spool.progress(connection, spool_id)
        gone = [one for one in known if not folder.holds(one.file)]
        ids = [one.id for one in gone if one.id is not None]
        while gone:
            got_on()
            with db.write() as connection:
                if not spool.drop(connection, ids, limit=self._batch):
                    break
        for one in gone:
            if one.is_whole:
                self._happened.append(_registered(one))
            elif not folder.has(one.file.name):
                self._happened.append(_left(one.file.name, REMOVED, unread=False))
        self._is_tidy = len(gone) == len(known)

    def _leave(self, name: str, reason: str, *, unread: bool = True) -> None:
        self._left[name] = reason
        if self._told.get(name) != reason:
            self._told[name] = reason
            self._happened.append(_left(name, reason, unread=unread))


def look(path: Path) -> Sequence[Left]:
    """Tell what lies in the spool, without taking anything in."""
    try:
        with spool_folder.opened(path) as folder:
            return [*(_seen(folder, name) for name in folder.names()), *_hidden(folder)]
    except OSError as fault:
        return [Left(file=str(path), reason=_strerror(fault), unread=True, is_spool=True)]


def rejected(path: Path) -> Sequence[Path]:
    """The files in the spool's `done` that hold lines which nobody registered.

    Where it cannot be looked into there is nothing to name, which `look` tells.
    """
    with suppress(OSError), spool_folder.opened(path) as folder:
        return [path / spool_folder.DONE / display.escape(name) for name in folder.rejected()]
    return []


def _hidden(folder: Folder) -> Iterator[Left]:
    """What keeps us from knowing whether lines were rejected."""
    try:
        folder.rejected()
    except OSError as fault:
        yield Left(file=spool_folder.DONE, reason=_strerror(fault), unread=True)


def _seen(folder: Folder, name: str) -> Left:
    shown = display.escape(name)
    if not name.endswith(ENDING):
        return Left(file=shown, reason=spool_folder.FOREIGN, unread=False)
    try:
        with folder.reading(name) as (stream, _):
            # Renaming a file into the spool sets this time, whatever its content's is.
            age = time.time() - os.fstat(stream.fileno()).st_ctime
            return Left(file=shown, reason=NOT_YET, unread=True, is_fresh=age < FRESH)
    except (Unfit, OSError) as why:
        return Left(file=shown, reason=_reason(why), unread=True)


def _registered(done: Progress) -> SpoolFileRegistered:
    tally = Tally(**done.tally)
    return SpoolFileRegistered(file=done.file.name, **asdict(tally))


def _left(name: str, reason: str, *, unread: bool) -> SpoolFileLeft:
    return SpoolFileLeft(file=display.escape(name), reason=reason, unread=unread)


def _reason(why: Exception) -> str:
    match why:
        case OSError():
            return _strerror(why)
        case Overtaken():
            return _ELSEWHERE
        case _:
            return str(why)


def _strerror(fault: OSError) -> str:
    return f"the system says: {fault.strerror or fault}"
