"""Files renamed into the spool are registered once and moved; all else is left alone and named."""

import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger import spool as ledger_spool
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.service import lines
from sweeper.service.spool import folder as spool_folder
from sweeper.service.spool import spool as spools
from tests.support import registered, spooled
from tests.support.spooled import NAMELESS, Spooled, line

WRONG_CLOCK = 4_000_000_000_000_000


@pytest.fixture
def here(tmp_path: Path, database: Database, database_url: str) -> Spooled:
    """An empty spool over a ledger of each kind."""
    return made(tmp_path, database, database_url)


@pytest.fixture
def simple(tmp_path: Path, sqlite_database: Database, sqlite_url: str) -> Spooled:
    """An empty spool, where it does not matter what is behind it."""
    return made(tmp_path, sqlite_database, sqlite_url)


def made(tmp_path: Path, db: Database, url: str) -> Spooled:
    folder = tmp_path / "spool"
    folder.mkdir()
    return Spooled(folder=folder, config=spooled.configured(tmp_path, url, folder), db=db)


def good(count: int, first: int = 0) -> list[bytes]:
    return [line(f"resp_{n}") for n in range(first, first + count)]


class Ended(Exception):
    """Raised by a test in the middle of the work."""


def after(steps: int, then: Callable[[], object]) -> Callable[[], None]:
    """Do something once, when so many steps are done."""
    left = [steps]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            then()

    return step


def end() -> None:
    raise Ended


def doubt(here: Spooled, last_good_at: int | None = WRONG_CLOCK) -> None:
    """Let the clock have been right at a time that is yet to come."""
    with here.db.write() as connection:
        connection.execute(sa.update(tables.ledger).values(last_good_at=last_good_at))


# What is taken in


def test_a_file_is_registered_moved_and_forgotten(here: Spooled) -> None:
    here.put("a.jsonl", *good(7))
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=7, added=7)}
    assert (here.unread, here.names(), here.finished()) == (0, [], ["a.jsonl"])
    assert here.ids() == {f"resp_{n}" for n in range(7)}
    assert here.counted() == 7
    assert here.remembered() == 0


def test_rejected_lines_lie_beside_the_file_with_their_number_reason_and_text(
    here: Spooled,
) -> None:
    here.put("a.jsonl", line("resp_1"), b"\n", NAMELESS, b"no json\xff\r\n", line("r"), b"\n\n")
    told = spooled.tallies(here.take())
    assert told == {"a.jsonl": spooled.tally(read=4, added=2, rejected=2)}
    assert here.finished() == ["a.jsonl", "a.jsonl.rejected"]
    assert here.rejected("a.jsonl") == [
        {"line": 3, "reason": "bad_id: id is missing", "text": NAMELESS.decode().strip()},
        {"line": 4, "reason": "not_json: it is not UTF-8 text", "text": "no json\\xff"},
    ]
    assert here.remembered() == 0


def test_what_contradicts_the_known_is_rejected_with_its_own_line(here: Spooled) -> None:
    here.put("a.jsonl", *good(2), NAMELESS, line("resp_1", labels={"app": "x"}), *good(1, 5))
    told = spooled.tallies(here.take())
    assert told == {"a.jsonl": spooled.tally(read=5, added=3, rejected=2)}
    assert [(one["line"], one["reason"]) for one in here.rejected("a.jsonl")] == [
        (3, "bad_id: id is missing"),
        (4, "conflicting: labels differ"),
    ]
    assert '"labels"' in here.rejected("a.jsonl")[1]["text"]


def test_more_rejected_lines_than_fit_into_one_page_are_all_written(here: Spooled) -> None:
    here.put("a.jsonl", *[NAMELESS] * 2_500)
    told = spooled.tallies(here.take(here.spool(batch=900)))
    assert told == {"a.jsonl": spooled.tally(read=2_500, rejected=2_500)}
    assert [one["line"] for one in here.rejected("a.jsonl")] == list(range(1, 2_501))
    assert here.remembered() == 0


def test_a_line_that_is_too_long_is_rejected_with_its_beginning(simple: Spooled) -> None:
    simple.put("a.jsonl", b'{"id":"' + b"x" * 200_000 + b'"}\n', *good(1))
    told = spooled.tallies(simple.take())
    assert told == {"a.jsonl": spooled.tally(read=2, added=1, rejected=1)}
    (one,) = simple.rejected("a.jsonl")
    assert one["reason"].startswith("too_long")
    assert len(one["text"]) == lines.LONGEST


def test_large_lines_make_small_batches(simple: Spooled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by bytes too, and not only by lines."""
    simple.put("a.jsonl", *(line(f"resp_{n}", subject="s" * 200) for n in range(40)))
    from sweeper.service.spool import work as spool_file  # noqa: PLC0415 - to make its bound small

    monkeypatch.setattr(spool_file, "_BATCH_BYTES", 1_000)
    steps: list[int] = []
    simple.take(simple.spool(batch=100), got_on=lambda: steps.append(1))
    assert len(steps) > 10
    assert len(simple.ids()) == 40


def test_files_are_taken_in_the_order_of_their_names(here: Spooled) -> None:
    here.put("b.jsonl", line("resp_1", subject="later"))
    here.put("a.jsonl", line("resp_1", subject="first"))
    here.put("c.jsonl", line("resp_2"))
    assert list(spooled.tallies(here.take())) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert here.rejected("b.jsonl")[0]["reason"] == "conflicting: subject differs"


def test_skipped_and_known_lines_are_counted_apart(here: Spooled) -> None:
    here.put("a.jsonl", *good(2), line("resp_9", store=False))
    here.put("b.jsonl", *good(3))
    assert spooled.tallies(here.take()) == {
        "a.jsonl": spooled.tally(read=3, added=2, skipped=1),
        "b.jsonl": spooled.tally(read=3, added=1, known=2),
    }


def test_the_files_that_hold_rejected_lines_are_found_and_no_half_written_one(
    simple: Spooled,
) -> None:
    assert spools.rejected(simple.folder) == []
    simple.put("a.jsonl", *good(1), NAMELESS)
    simple.put("b.jsonl", *good(1, 1))
    simple.take()
    (simple.done / ".c.jsonl.rejected").write_text("")
    assert spools.rejected(simple.folder) == [simple.done / "a.jsonl.rejected"]
    assert spools.look(simple.folder) == []


def test_nothing_in_done_is_ever_overwritten(here: Spooled) -> None:
    for n in range(3):
        here.put("a.jsonl", line(f"resp_{n}"), *[NAMELESS] * n)
        here.take()
    assert here.finished() == [
        *("a.2.jsonl", "a.2.jsonl.rejected", "a.3.jsonl", "a.3.jsonl.rejected", "a.jsonl"),
    ]
    assert (here.done / "a.jsonl").read_bytes() == line("resp_0")
    assert len(here.rejected("a.3.jsonl")) == 2


def test_a_rejected_file_that_was_kept_alone_is_not_overwritten(simple: Spooled) -> None:
    simple.put("a.jsonl", NAMELESS)
    simple.take()
    (simple.done / "a.jsonl").unlink()
    simple.put("a.jsonl", NAMELESS, NAMELESS)
    simple.take()
    assert simple.finished() == ["a.2.jsonl", "a.2.jsonl.rejected", "a.jsonl.rejected"]
    assert len(simple.rejected("a.jsonl")) == 1


def test_done_and_what_it_holds_is_for_nobody_else(simple: Spooled) -> None:
    simple.put("a.jsonl", NAMELESS)
    simple.take()
    assert simple.done.stat().st_mode & 0o777 == 0o700
    assert (simple.done / "a.jsonl.rejected").stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_moved_once_nobody_can_be_writing_it_any_more(simple: Spooled) -> None:
    empty = simple.put("a.jsonl")
    spool = simple.spool()
    assert spooled.left(simple.take(spool)) == {
        "a.jsonl": ("it is empty, so it may just be being written", True)
    }
    assert (simple.unread, simple.names()) == (1, ["a.jsonl"])
    os.utime(empty, (0, 0))
    assert spooled.tallies(simple.take(spool)) == {"a.jsonl": spooled.tally()}
    assert (simple.unread, simple.finished()) == (0, ["a.jsonl"])


def test_a_file_of_empty_lines_is_taken_to_its_end(here: Spooled) -> None:
    here.put("a.jsonl", b"\n" * 10, *good(1), b" \n" * 10)
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=1, added=1)}
    assert (here.names(), here.remembered()) == ([], 0)


def test_without_anything_to_take_the_ledger_is_left_in_peace(here: Spooled) -> None:
    """The daemon looks every few seconds."""
    spool = here.spool()
    here.take(spool)
    asked: list[str] = []
    sa.event.listen(here.db.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert (here.take(spool), here.unread, asked) == ([], 0, [])
    here.put("a.jsonl", *good(1))
    here.take(spool)
    assert asked


def test_each_line_is_registered_by_one_transaction_with_the_place_behind_it(
    here: Spooled,
) -> None:
    """Whoever ends it in the middle finds the next try going on right there."""
    here.put("a.jsonl", *good(4), NAMELESS, *good(4, 4), NAMELESS)
    for steps in (2, 2, 2):
        with pytest.raises(Ended):
            here.take(got_on=after(steps, end))
    (row,) = registered.rows(here.db, tables.spool_files)
    assert (row["lines"], here.counted()) == (9, 8)
    told = spooled.tallies(here.take())
    assert told == {"a.jsonl": spooled.tally(read=10, added=8, rejected=2)}
    assert [one["line"] for one in here.rejected("a.jsonl")] == [5, 10]


def test_what_happened_before_the_end_is_told_the_next_time(simple: Spooled) -> None:
    simple.put("a.jsonl", *good(1))
    simple.put("b.txt")
    spool = simple.spool()
    with pytest.raises(Ended):
        simple.take(spool, got_on=after(3, end))
    assert simple.finished() == ["a.jsonl"]
    happened = simple.take(spool)
    assert list(spooled.tallies(happened)) == ["a.jsonl"]
    assert list(spooled.left(happened)) == ["b.txt"]


def test_what_is_added_at_an_account_that_is_not_configured_is_counted_apart(
    here: Spooled,
) -> None:
    """Nothing is deleted there, which whoever gave the file cannot know."""
    here.put(
        "a.jsonl",
        line("resp_0"),
        *(line(f"resp_{n}", account="mian") for n in range(3)),
        line("resp_3", account="main"),
        line("resp_0", account="mian"),
    )
    told = spooled.tallies(here.take(here.spool(batch=2)))
    assert told == {"a.jsonl": spooled.tally(read=6, added=5, known=1, no_account=3)}


def test_a_process_that_dies_in_the_middle_still_tells_of_accounts_not_configured(
    here: Spooled,
) -> None:
    here.put("a.jsonl", *(line(f"resp_{n}", account="mian") for n in range(4)), *good(4, 4))
    with pytest.raises(Ended):
        here.take(here.spool(batch=2), got_on=after(2, end))
    told = spooled.tallies(here.take())
    assert told == {"a.jsonl": spooled.tally(read=8, added=8, no_account=4)}


# What is left alone


def test_what_is_no_whole_regular_file_is_left_and_named_once(simple: Spooled) -> None:
    elsewhere = simple.folder.parent / "elsewhere"
    elsewhere.write_bytes(line("resp_link"))
    (simple.folder / "link.jsonl").symlink_to(elsewhere)
    (simple.folder / "folder.jsonl").mkdir()
    (simple.folder / "folder").mkdir()
    os.mkfifo(simple.folder / "pipe.jsonl")
    simple.put("half.jsonl", line("resp_half")[:-1])
    simple.put("notes.txt", line("resp_notes"))
    simple.put("A.JSONL", line("resp_capital"))
    simple.put(".hidden.jsonl", line("resp_hidden"))
    simple.put("ready.jsonl", line("resp_ready"))
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(simple.folder)  # the path of a socket must be short
        listener.bind("socket.jsonl")
        os.chdir(before)
        spool = simple.spool()
        told = spooled.left(simple.take(spool))
    assert told == {
        "A.JSONL": (spool_folder.FOREIGN, False),
        "folder": (spool_folder.FOREIGN, False),
        "folder.jsonl": ("it is a folder", True),
        "half.jsonl": (spool_folder.HALF_WRITTEN, True),
        "link.jsonl": ("it is a symbolic link", True),
        "notes.txt": (spool_folder.FOREIGN, False),
        "pipe.jsonl": ("it is a pipe", True),
        "socket.jsonl": ("it is a socket", True),
    }
    assert (simple.unread, simple.ids()) == (5, {"resp_ready"})
    assert (simple.take(spool), simple.unread) == ([], 5)
    assert set(simple.names()) == told.keys() | {".hidden.jsonl"}


def test_a_pipe_is_not_even_opened(simple: Spooled) -> None:
    """Whoever waits at its other end would be let in, and then fail."""
    pipe = simple.folder / "pipe.jsonl"
    os.mkfifo(pipe)
    simple.take()
    with pytest.raises(OSError, match="No such device or address"):
        os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


def test_a_half_written_file_is_taken_once_it_is_whole(here: Spooled) -> None:
    spool = here.spool()
    path = here.put("a.jsonl", *good(4), line("resp_4")[:-5])
    here.take(spool)
    assert (here.unread, here.ids()) == (1, set())
    with path.open("ab") as stream:
        stream.write(line("resp_4")[-5:])
    assert spooled.tallies(here.take(spool)) == {"a.jsonl": spooled.tally(read=5, added=5)}
    assert here.unread == 0


def test_what_is_left_is_named_again_when_it_comes_back(simple: Spooled) -> None:
    spool = simple.spool()
    path = simple.put("a.txt")
    simple.take(spool)
    path.unlink()
    assert simple.take(spool) == []
    simple.put("a.txt")
    assert len(spooled.left(simple.take(spool))) == 1


def test_an_unreadable_file_keeps_no_other_from_being_taken(simple: Spooled) -> None:
    """Whoever runs the tests may be root, who reads everything: the name is what cannot be."""
    bad = os.fsencode(simple.folder) + b"/bad\xff.jsonl"
    Path(os.fsdecode(bad)).write_bytes(line("resp_bad"))
    simple.put("x" * 195 + ".jsonl", line("resp_long"))
    simple.put("z.jsonl", line("resp_good"))
    told = spooled.left(simple.take())
    assert {name[:6] for name in told} == {"bad\\ud", "xxxxxx"}
    assert {reason for reason, _ in told.values()} == {
        "its name is no plain text, or longer than 200 bytes"
    }
    assert (simple.unread, simple.ids()) == (2, {"resp_good"})


def test_the_longest_name_leaves_room_for_what_is_added(simple: Spooled) -> None:
    name = "x" * 194 + ".jsonl"
    for _ in range(2):
        simple.put(name, NAMELESS)
        simple.take()
    assert len(simple.finished()) == 4


def test_a_missing_spool_is_told_and_nobody_knows_what_is_unread(simple: Spooled) -> None:
    simple.folder.rmdir()
    spool = simple.spool()
    told = spooled.left(simple.take(spool))
    assert told == {str(simple.folder): ("the system says: No such file or directory", True)}
    assert simple.unread is None
    assert (simple.take(spool), simple.unread) == ([], None)
    simple.folder.mkdir()
    simple.take(spool)
    assert simple.unread == 0


@pytest.mark.parametrize("what", ["file", "link"])
def test_nothing_is_registered_where_done_is_no_folder(simple: Spooled, what: str) -> None:
    elsewhere = simple.folder.parent / "elsewhere"
    elsewhere.mkdir()
    if what == "file":
        simple.done.write_text("")
    else:
        simple.done.symlink_to(elsewhere)
    simple.put("a.jsonl", *good(1))
    simple.put("b.jsonl", *good(1))
    assert list(spooled.left(simple.take())) == ["done"]
    assert (simple.unread, simple.ids(), list(elsewhere.iterdir())) == (2, set(), [])


def test_while_the_clock_is_in_doubt_files_stay_unread(here: Spooled) -> None:
    here.put("a.jsonl", *good(2))
    here.put("b.jsonl", *good(2, 2))
    here.put("c.txt")
    doubt(here)
    spool = here.spool()
    told = spooled.left(here.take(spool))
    assert told == {"a.jsonl": (spools.CLOCK, True), "c.txt": (spool_folder.FOREIGN, False)}
    assert (here.unread, here.ids()) == (2, set())
    assert here.take(spool) == []
    doubt(here, None)
    assert list(spooled.tallies(here.take(spool))) == ["a.jsonl", "b.jsonl"]
    assert here.unread == 0


def test_a_clock_that_is_doubted_in_the_middle_of_a_file_loses_nothing(here: Spooled) -> None:
    here.put("a.jsonl", *good(7))
    here.take(got_on=after(2, lambda: doubt(here)))
    assert (here.unread, len(here.ids())) == (1, 3)
    doubt(here, None)
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=7, added=7)}
    assert here.counted() == 7


# What changes under our hands


def test_a_file_that_grows_while_it_is_read_stays_and_is_read_again(here: Spooled) -> None:
    path = here.put("a.jsonl", *good(7))

    def grow() -> None:
        with path.open("ab") as stream:
            stream.write(line("resp_7"))

    spool = here.spool()
    told = spooled.left(here.take(spool, got_on=after(2, grow)))
    assert told == {"a.jsonl": (spool_folder.CHANGED, True)}
    assert (here.unread, here.names()) == (1, ["a.jsonl"])
    assert spooled.tallies(here.take(spool)) == {"a.jsonl": spooled.tally(read=8, added=5, known=3)}
    assert here.counted() == 8
    assert (here.remembered(), here.finished()) == (0, ["a.jsonl"])


def test_a_file_that_is_cut_short_while_it_is_read_stays(here: Spooled) -> None:
    path = here.put("a.jsonl", *good(7))
    told = spooled.left(here.take(got_on=after(2, lambda: os.truncate(path, 10))))
    assert told == {"a.jsonl": (spool_folder.CHANGED, True)}
    assert here.unread == 1


def test_a_file_that_grows_after_its_last_line_is_not_moved(here: Spooled) -> None:
    path = here.put("a.jsonl", *good(3))

    def grow() -> None:
        with path.open("ab") as stream:
            stream.write(line("resp_3"))

    spool = here.spool()
    here.take(spool, got_on=after(2, grow))
    assert here.names() == ["a.jsonl"]
    here.take(spool)
    assert (here.ids(), here.names()) == ({f"resp_{n}" for n in range(4)}, [])


def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end_and_so_is_the_other(
    here: Spooled,
) -> None:
    here.put("a.jsonl", *good(7), NAMELESS)
    spool = here.spool()
    told = here.take(spool, got_on=after(2, lambda: here.put("a.jsonl", *good(2, 7))))
    assert spooled.tallies(told) == {"a.jsonl": spooled.tally(read=8, added=7, rejected=1)}
    assert here.names() == ["a.jsonl"]
    assert spooled.tallies(here.take(spool)) == {"a.jsonl": spooled.tally(read=2, added=2)}
    assert here.ids() == {f"resp_{n}" for n in range(9)}
    assert here.remembered() == 0


def test_a_newcomer_that_is_moved_in_place_of_the_file_is_given_back(
    simple: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the last look and the move."""
    simple.put("a.jsonl", *good(1))
    holds = spool_folder.Folder.holds

    def then_newcomer(folder: spool_folder.Folder, file: ledger_spool.File) -> bool:
        found = holds(folder, file)
        monkeypatch.undo()
        simple.put("a.jsonl", *good(1, 1))
        return found

    monkeypatch.setattr(spool_folder.Folder, "holds", then_newcomer)
    spool = simple.spool()
    simple.take(spool)
    assert (simple.unread, len(simple.names()), simple.finished()) == (1, 1, [])
    simple.take(spool)
    assert (simple.ids(), simple.names()) == ({"resp_0", "resp_1"}, [])


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_what_is_exchanged_between_the_look_and_the_opening_is_not_read(
    simple: Spooled, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A link would lead to any file that only we may read."""
    path = simple.put("a.jsonl", *good(1))
    secret = simple.folder.parent / "secret"
    secret.write_bytes(line("resp_secret"))
    check = spool_folder._check_kind

    def then_exchange(status: os.stat_result) -> None:
        check(status)
        monkeypatch.undo()
        path.unlink()
        if what == "link":
            path.symlink_to(secret)
        else:
            os.mkfifo(path)

    monkeypatch.setattr(spool_folder, "_check_kind", then_exchange)
    (told,) = spooled.left(simple.take()).values()
    assert told[0] in {"the system says: Too many levels of symbolic links", "it is a pipe"}
    assert (simple.unread, simple.ids()) == (1, set())


def test_a_file_that_is_removed_half_read_is_told(here: Spooled) -> None:
    path = here.put("a.jsonl", *good(7))
    with pytest.raises(Ended):
        here.take(got_on=after(2, end))
    path.unlink()
    told = spooled.left(here.take())
    assert told == {"a.jsonl": ("it was removed before it was read to its end", False)}
    assert (here.unread, here.remembered()) == (0, 0)


def test_what_was_half_read_and_removed_is_told_also_where_nothing_else_lies(
    here: Spooled,
) -> None:
    path = here.put("a.jsonl", *good(7))
    spool = here.spool()
    here.take(spool, got_on=after(2, lambda: doubt(here)))
    path.unlink()
    assert list(spooled.left(here.take(spool))) == ["a.jsonl"]
    assert here.remembered() == 0


def test_a_file_that_its_writer_takes_away_is_no_matter(simple: Spooled) -> None:
    simple.put("a.jsonl", *good(1))
    path = simple.put("b.jsonl", *good(1, 1))
    happened = simple.take(got_on=after(2, path.unlink))
    assert (list(spooled.tallies(happened)), spooled.left(happened)) == (["a.jsonl"], {})
    assert simple.unread == 0


def test_a_name_in_done_that_was_settled_is_never_written_over(here: Spooled) -> None:
    here.put("a.jsonl", NAMELESS)
    with pytest.raises(Ended):
        here.take(got_on=after(3, end))
    (here.done / "a.jsonl").write_text("somebody's")
    told = spooled.left(here.take())
    assert told == {"a.jsonl": ("done/a.jsonl is there already", True)}
    assert (here.unread, (here.done / "a.jsonl").read_text()) == (1, "somebody's")


# Several processes, several machines


def test_two_processes_never_take_files_at_one_time(here: Spooled) -> None:
    here.put("a.jsonl", *good(2))
    here.put("b.txt")
    descriptor = os.open(here.folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    spool = here.spool()
    told = spooled.left(here.take(spool))
    assert told == {
        "b.txt": (spool_folder.FOREIGN, False),
        str(here.folder): ("another process takes its files in", True),
    }
    assert (here.unread, here.ids()) == (1, set())
    waited = here.spool(patience=60)
    here.take(waited, got_on=after(2, lambda: os.close(descriptor)))
    assert (here.unread, here.finished()) == (0, ["a.jsonl"])


def test_what_another_process_took_meanwhile_is_not_missed(simple: Spooled) -> None:
    path = simple.put("a.jsonl", *good(2))
    descriptor = os.open(simple.folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def take_it() -> None:
        path.unlink()
        simple.put("b.jsonl", *good(1))
        os.close(descriptor)

    happened = simple.take(simple.spool(patience=60), got_on=after(1, take_it))
    assert (spooled.left(happened), list(spooled.tallies(happened))) == ({}, ["b.jsonl"])


def test_spools_of_two_machines_at_one_path_do_not_disturb_each_other(here: Spooled) -> None:
    """They share a ledger; each would forget what the other has begun, if it knew no better."""
    here.put("a.jsonl", *good(7), NAMELESS)
    with pytest.raises(Ended):
        here.take(got_on=after(3, end))
    ours = here.folder.rename(here.folder.parent / "ours")
    here.folder.mkdir()
    here.put("a.jsonl", *good(1, 20))
    here.take()
    assert here.remembered() == 1
    here.folder.rename(here.folder.parent / "theirs")
    ours.rename(here.folder)
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=8, added=7, rejected=1)}
    assert here.counted() == 8


def test_a_spool_keeps_its_name_under_another_path(here: Spooled) -> None:
    here.put("a.jsonl", *good(7))
    with pytest.raises(Ended):
        here.take(got_on=after(2, end))
    here.folder = here.folder.rename(here.folder.parent / "elsewhere")
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=7, added=7)}


def test_a_damaged_name_of_the_spool_is_replaced(here: Spooled) -> None:
    """The file is then read again, and what is known is only counted."""
    here.put("a.jsonl", *good(7))
    with pytest.raises(Ended):
        here.take(got_on=after(2, end))
    (here.done / ".spool").write_text("x")
    assert spooled.tallies(here.take()) == {"a.jsonl": spooled.tally(read=7, added=4, known=3)}
    assert here.counted() == 7


def test_what_somebody_else_has_taken_on_is_left_to_him(here: Spooled) -> None:
    """A lock that does not hold, as on some network file systems: the ledger itself decides."""
    here.put("a.jsonl", *good(7), NAMELESS)

    def overtake() -> None:
        with here.db.write() as connection:
            connection.execute(sa.update(tables.spool_files).values(position=1))

    told = spooled.left(here.take(got_on=after(2, overtake)))
    assert told == {"a.jsonl": ("another process takes it in", True)}
    assert (here.unread, here.counted()) == (1, 3)


def test_rejected_lines_that_somebody_else_forgot_are_not_lost(here: Spooled) -> None:
    here.put("a.jsonl", *[NAMELESS] * 3)

    def forget() -> None:
        with here.db.write() as connection:
            connection.execute(sa.delete(tables.spool_rejects))

    told = spooled.left(here.take(got_on=after(2, forget)))
    assert told == {"a.jsonl": ("another process takes it in", True)}
    assert (here.names(), here.finished()) == (["a.jsonl"], [])


# What fails


def test_a_ledger_that_fails_is_told_to_the_caller_and_nothing_is_lost(simple: Spooled) -> None:
    simple.put("a.jsonl", *good(7))
    with simple.db.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON responses WHEN NEW.response_id = 'resp_5'"
            " BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    with pytest.raises(errors.LedgerError, match="disk is full"):
        simple.take()
    assert (simple.names(), simple.counted()) == (["a.jsonl"], 3)
    with simple.db.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    assert spooled.tallies(simple.take()) == {"a.jsonl": spooled.tally(read=7, added=7)}


def test_a_rejected_file_that_cannot_be_written_keeps_the_file_in_the_spool(
    simple: Spooled,
) -> None:
    """A folder in its place fails as a full disk does: after the registration."""
    simple.put("a.jsonl", *good(1), NAMELESS)
    simple.put("b.jsonl", *good(1, 1))
    simple.take(simple.spool())
    blocked = simple.done / ".c.jsonl.rejected"
    blocked.mkdir()
    simple.put("c.jsonl", *good(1, 2), NAMELESS)
    spool = simple.spool()
    told = spooled.left(simple.take(spool))
    assert told == {"c.jsonl": ("the system says: Is a directory", True)}
    assert (simple.unread, simple.names()) == (1, ["c.jsonl"])
    assert "resp_2" in simple.ids()
    blocked.rmdir()
    done = spooled.tallies(simple.take(spool))
    assert done == {"c.jsonl": spooled.tally(read=2, added=1, rejected=1)}
    assert len(simple.rejected("c.jsonl")) == 1


def test_after_a_backup_is_restored_the_files_of_done_bring_everything_back(
    simple: Spooled,
) -> None:
    """The backup was made in the middle of a file: where that stood, it stands in the backup."""
    assert simple.db.path is not None
    simple.put("a.jsonl", *good(7), NAMELESS)
    with pytest.raises(Ended):
        simple.take(got_on=after(2, end))
    backup = simple.db.path.read_bytes()
    simple.take()
    simple.put("b.jsonl", *good(2, 7))
    simple.take()
    simple.db.path.write_bytes(backup)
    assert len(simple.ids()) == 3
    for name in ("a.jsonl", "b.jsonl"):
        (simple.done / name).rename(simple.folder / name)
    assert spooled.tallies(simple.take()) == {
        "a.jsonl": spooled.tally(read=8, added=7, rejected=1),
        "b.jsonl": spooled.tally(read=2, added=2),
    }
    assert (simple.counted(), len(simple.ids())) == (9, 9)


# Looking without taking


def test_a_look_tells_what_lies_there_and_takes_nothing(simple: Spooled) -> None:
    simple.put("a.jsonl", *good(1))
    simple.put("b.jsonl", b"half")
    simple.put("c\n.txt")
    found = [(one.file, one.reason, one.unread) for one in spools.look(simple.folder)]
    assert found == [
        ("a.jsonl", spools.NOT_YET, True),
        ("b.jsonl", spool_folder.HALF_WRITTEN, True),
        ("c\\n.txt", spool_folder.FOREIGN, False),
    ]
    assert (simple.ids(), simple.done.exists()) == (set(), False)


def test_a_look_at_a_missing_spool_says_so(simple: Spooled) -> None:
    simple.folder.rmdir()
    (found,) = spools.look(simple.folder)
    assert found.file == str(simple.folder)
    assert (found.reason, found.unread) == ("the system says: No such file or directory", True)
