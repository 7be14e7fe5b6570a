"""A process killed at any step loses no line of the spool, doubles none, and moves files once."""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sweeper.ledger import database as ledger_database
from sweeper.ledger import tables
from tests.support import registered, spooled
from tests.support.spooled import NAMELESS, Spooled, line

STEPS = frozenset({"fsync", "rename", "mkdir", "flush"})
"""What is done to files: a process dies right before each of these, so right behind the last."""
COMMIT = "do_commit"
NEVER = 10**9

TALLIES = {
    "a.jsonl": spooled.tally(read=8, added=6, rejected=2, no_account=1),
    "b.jsonl": spooled.tally(read=1, added=1),
    "c.jsonl": spooled.tally(),
}
GOOD = 7


class Killer:
    """Kills this process at its nth step; without that it only counts them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def __call__(self, frame: FrameType, kind: str, what: Any) -> None:
        is_file = kind == "c_call" and what.__name__ in STEPS
        if is_file or (kind == "call" and frame.f_code.co_name == COMMIT):
            self.steps += 1
            if self.steps == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def opened(folder: Path, url: str) -> Iterator[Spooled]:
    db = ledger_database.open_database(url)
    try:
        config = spooled.configured(folder.parent, url, folder)
        yield Spooled(folder=folder, config=config, db=db)
    finally:
        db.close()


def taken(folder: Path, url: str, *, killed_at: int = NEVER) -> int | None:
    """Take the spool in, in a process of its own; how many steps that took, None if it died."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            killer = Killer(killed_at)
            with opened(folder, url) as here:
                spool = here.spool(patience=10)
                sys.setprofile(killer)
                spool.take(spooled.nothing)
                sys.setprofile(None)
            os.write(write, str(killer.steps).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent sees the code
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        steps = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.waitstatus_to_exitcode(status) == 0
    return int(steps)


def filled(folder: Path, run: str) -> set[str]:
    """A spool with three files; the ids that must be registered."""
    folder.mkdir()
    here = Spooled(folder=folder, config=None, db=None)  # type: ignore[arg-type]  # files only
    ids = [f"{run}_{n}" for n in range(GOOD)]
    good = [line(each) for each in ids]
    good[5] = line(ids[5], account="elsewhere")
    here.put("a.jsonl", *good[:2], NAMELESS, b"\n", *good[2:5], NAMELESS, *good[5:6], b"\n\n")
    here.put("b.jsonl", good[6])
    os.utime(here.put("c.jsonl"), (0, 0))
    return set(ids)


def check_nothing_is_lost(here: Spooled, run: str) -> None:
    """At the moment of death: what is no longer in the spool is registered."""
    known = here.ids()
    if "a.jsonl.rejected" in here.finished():
        assert len(here.rejected("a.jsonl")) == 2, "a part can be seen"
    if "a.jsonl" not in here.names():
        assert {f"{run}_{n}" for n in range(6)} <= known
        assert "a.jsonl.rejected" in here.finished()
    if "b.jsonl" not in here.names():
        assert f"{run}_6" in known


def check_all_is_done(here: Spooled, ids: set[str], before: int) -> None:
    assert ids <= here.ids()
    assert here.counted() - before == GOOD, "a line was registered twice"
    assert (here.unread, here.names()) == (0, [])
    assert here.finished() == ["a.jsonl", "a.jsonl.rejected", "b.jsonl", "c.jsonl"]
    assert [one["line"] for one in here.rejected("a.jsonl")] == [3, 8]
    assert here.remembered() == 0


def check_told(told: Mapping[str, Mapping[str, int]], at_death: set[str]) -> None:
    """What was not told before the death is told now, and adds up as if nobody had died."""
    assert at_death <= told.keys()
    assert told == {name: TALLIES[name] for name in told}


def open_files(here: Spooled) -> set[str]:
    """The files of which nothing was told yet."""
    rows = registered.rows(here.db, tables.spool_files)
    return {row["name"] for row in rows} | set(here.names())


def test_every_step_may_be_the_last(tmp_path: Path, database_url: str) -> None:
    ids = filled(tmp_path / "whole", "whole")
    steps = taken(tmp_path / "whole", database_url)
    assert steps is not None
    assert steps > 25
    with opened(tmp_path / "whole", database_url) as here:
        here.unread = 0
        check_all_is_done(here, ids, 0)
    for step in range(1, steps + 1):
        run = f"s{step}"
        folder = tmp_path / run
        ids = filled(folder, run)
        with opened(folder, database_url) as here:
            before = here.counted()
        assert taken(folder, database_url, killed_at=step) is None
        with opened(folder, database_url) as here:
            check_nothing_is_lost(here, run)
            at_death = open_files(here)
            told = spooled.tallies(here.take(here.spool(patience=10)))
            check_all_is_done(here, ids, before)
            check_told(told, at_death)


def test_who_dies_again_and_again_still_comes_to_the_end(tmp_path: Path, database_url: str) -> None:
    """Each try dies one step later in its own work than the one before."""
    folder = tmp_path / "spool"
    ids = filled(folder, "again")
    for tries in itertools.count(3):
        if taken(folder, database_url, killed_at=tries) is not None:
            break
        with opened(folder, database_url) as here:
            check_nothing_is_lost(here, "again")
    assert tries > 10
    with opened(folder, database_url) as here:
        here.unread = 0
        check_all_is_done(here, ids, 0)
