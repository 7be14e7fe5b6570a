"""A disk that is full just when a sweep would write its claims, or what it has seen."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.support import command
from tests.support.patience import wait_for

_SIZE: Final = "4m"

# The product has no hooks, so that the exchange with the ledger is wrapped from outside.
RUNNER: Final = """
import resource, sys
from pathlib import Path
import sqlalchemy as sa
from sweeper.cli import main
from sweeper.engine import recorder
from sweeper.engine.exchange import Exchange

point, marks, filler, patience = sys.argv[1:5]
recorder.PATIENCE, recorder.LATE, recorder._LONGEST_PAUSE = float(patience), 0.2, 0.2
make, is_full = Exchange.make, []

def fill():
    is_full.append(True)
    if not filler:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        return
    with open(filler, "wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass

def made(exchange, connection, given):
    answers = [one for one in given.settled if one.answer is not None]
    if not is_full and (answers if point == "outcome" else given.room):
        fill()
    return make(exchange, connection, given)

def failed(context):
    if is_full:
        Path(marks, str(len(list(Path(marks).iterdir())))).touch()

Exchange.make = made
sa.event.listen(sa.Engine, "handle_error", failed)
sys.exit(main.run(sys.argv[5:]))
"""


class Disk(Protocol):
    """Where a ledger lies that its process can write to no more, until it is given room."""

    @property
    def ledger(self) -> Path: ...

    def filling(self, point: str, *call: object, patience: float = 60) -> "Filling":
        """Run a command whose disk will be full; it is over when the block is."""

    def free(self, filled: "Filled") -> None: ...

    def copy(self, to: Path) -> None:
        """Take the ledger to where a test can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A command whose disk is full once it has come to its point."""

    child: "subprocess.Popen[bytes]"
    marks: Path

    @property
    def failures(self) -> int:
        """In how many statements it has found out."""
        return len(list(self.marks.iterdir()))

    def wait_for_failures(self, more: int) -> None:
        enough = self.failures + more
        wait_for(lambda: self.failures >= enough, f"{more} further failures")

    def end(self, number: int | None = None) -> command.Result:
        if number is not None:
            self.child.send_signal(number)
        out, err = self.child.communicate(timeout=60)
        return command.Result(code=self.child.returncode, out=out.decode(), err=err.decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedFiles:
    """No file of the process may grow beyond a byte: what a disk that fails says, to SQLite."""

    folder: Path
    ledger: Path

    def filling(self, point: str, *call: object, patience: float = 60) -> "Filling":
        return _filling(self.folder, call, point, filler="", patience=patience)

    def free(self, filled: Filled) -> None:
        most = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(filled.child.pid, resource.RLIMIT_FSIZE, most)

    def copy(self, to: Path) -> None:
        shutil.copy(self.ledger, to)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A file system of a few megabytes, in a mount namespace of its own."""

    folder: Path
    ledger: Path
    keeper: int

    @property
    def _within(self) -> list[str]:
        return ["nsenter", "-t", str(self.keeper), "-m"]

    @property
    def seen_from_here(self) -> Path:
        """The folder of the ledger, by a path that leads there from outside."""
        return Path(f"/proc/{self.keeper}/root{self.ledger.parent}")

    def filling(self, point: str, *call: object, patience: float = 60) -> "Filling":
        filler = str(self.ledger.parent / "filler")
        return _filling(
            self.folder, call, point, filler=filler, patience=patience, within=self._within
        )

    def free(self, filled: Filled) -> None:
        (self.seen_from_here / "filler").unlink()

    def run(self, *call: object) -> command.Result:
        """Run a command to its end, for which nothing is full."""
        done = subprocess.run(
            [*self._within, sys.executable, "-m", "sweeper", *map(str, call)],
            capture_output=True,
            env=command.environment(),
            check=False,
            timeout=60,
        )
        return command.Result(
            code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode()
        )

    def remount(self, how: str) -> None:
        place = str(self.ledger.parent)
        subprocess.run([*self._within, "mount", "-o", f"remount,{how}", place], check=True)

    def copy(self, to: Path) -> None:
        for file in self.seen_from_here.glob(f"{self.ledger.name}*"):
            shutil.copy(file, to.with_name(to.name + file.name.removeprefix(self.ledger.name)))


Filling = AbstractContextManager[Filled]


def _unmeasured() -> dict[str, str]:
    """What measures coverage would write its own files on a disk that is full."""
    environ = command.environment()
    return {name: value for name, value in environ.items() if not name.startswith("COVERAGE")}


@contextmanager
def _filling(
    folder: Path,
    call: Sequence[object],
    point: str,
    *,
    filler: str,
    patience: float,
    within: Sequence[str] = (),
) -> Iterator[Filled]:
    marks = folder / "marks"
    shutil.rmtree(marks, ignore_errors=True)
    marks.mkdir()
    own = [point, str(marks), filler, str(patience)]
    child = subprocess.Popen(
        [*within, sys.executable, "-c", RUNNER, *own, *map(str, call)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_unmeasured(),
    )
    with child:
        try:
            yield Filled(child=child, marks=marks)
        finally:
            child.kill()


@contextmanager
def small(folder: Path, ledger: Path) -> Iterator[SmallDisk]:
    """Put a ledger on a disk of four megabytes. OSError where nothing may be mounted."""
    place = folder / "disk"
    place.mkdir()
    mount = f"mount -t tmpfs -o size={_SIZE},mode=0700 tmpfs {place} && echo mounted && cat"
    keeper = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", mount],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline() != b"mounted\n":
            raise OSError("nothing may be mounted here")
        made = SmallDisk(folder=folder, ledger=place / "ledger.db", keeper=keeper.pid)
        shutil.copy(ledger, made.seen_from_here / "ledger.db")
        yield made
    finally:
        keeper.stdin.close()
        keeper.wait(10)
        keeper.stdout.close()
