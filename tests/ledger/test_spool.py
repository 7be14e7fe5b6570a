"""How far a file of the spool has come moves by one transaction after the other, or not at all."""

from dataclasses import replace

import pytest

from sweeper.ledger import spool, tables
from sweeper.ledger.database import Database
from sweeper.ledger.spool import File, Overtaken, Progress, Reject
from tests.support import registered

FILE = File("a.jsonl", 1, 2, 100, 3)
AT_20 = Progress(file=FILE, position=20, lines=2, tally={"read": 2})
AT_100 = Progress(file=FILE, position=100, lines=9, tally={"read": 9})


def advanced(
    db: Database, before: Progress, after: Progress, *rejected: Reject, name: str = "spool"
) -> Progress:
    with db.write() as connection:
        key = spool.advance(connection, name, before, after, rejected)
    return replace(after, id=key)


def known(db: Database, name: str = "spool") -> list[Progress]:
    with db.read() as connection:
        return list(spool.progress(connection, name))


def test_a_file_is_known_by_the_place_it_has_come_to(database: Database) -> None:
    first = advanced(database, Progress(file=FILE), AT_20)
    assert known(database) == [first]
    assert not first.is_whole
    second = advanced(database, first, AT_100)
    assert known(database) == [second]
    assert second.is_whole
    assert second.id == first.id


def test_nothing_is_whole_before_its_first_transaction() -> None:
    assert not Progress(file=FILE._replace(size=0)).is_whole


@pytest.mark.parametrize("part", range(1, 5))
def test_a_file_that_differs_in_anything_is_another(database: Database, part: int) -> None:
    numbers = [7 if n == part else each for n, each in enumerate(FILE)]
    other = Progress(file=File(*numbers))  # type: ignore[arg-type]  # a name and four numbers
    advanced(database, Progress(file=FILE), AT_20)
    advanced(database, other, replace(AT_20, file=other.file))
    assert len(known(database)) == 2


def test_each_spool_knows_its_own_files(database: Database) -> None:
    advanced(database, Progress(file=FILE), AT_20)
    advanced(database, Progress(file=FILE), AT_100, name="other")
    assert [one.position for one in known(database, "other")] == [100]


def test_who_begins_second_is_told_and_writes_nothing(database: Database) -> None:
    advanced(database, Progress(file=FILE), AT_20)
    with pytest.raises(Overtaken):
        advanced(database, Progress(file=FILE), AT_100, Reject(1, 0, "bad"))
    assert [one.position for one in known(database)] == [20]
    assert registered.rows(database, tables.spool_rejects) == []


def test_who_goes_on_from_where_the_file_no_longer_stands_writes_nothing(
    database: Database,
) -> None:
    first = advanced(database, Progress(file=FILE), AT_20)
    advanced(database, first, AT_100)
    with pytest.raises(Overtaken):
        advanced(database, first, AT_100, Reject(1, 0, "bad"))
    assert registered.rows(database, tables.spool_rejects) == []


def test_a_name_in_done_is_settled_once(database: Database) -> None:
    first = advanced(database, Progress(file=FILE), AT_100)
    assert first.id is not None
    with database.write() as connection:
        spool.aim(connection, first.id, "a.2.jsonl")
    assert known(database) == [replace(first, target="a.2.jsonl")]
    with pytest.raises(Overtaken), database.write() as connection:
        spool.aim(connection, first.id, "a.3.jsonl")
    assert known(database) == [replace(first, target="a.2.jsonl")]


def test_rejected_lines_are_read_page_by_page(database: Database) -> None:
    bad = [Reject(n, n * 10, f"bad {n}") for n in range(1, 8)]
    first = advanced(database, Progress(file=FILE), AT_100, *bad)
    other = FILE._replace(name="b.jsonl")
    advanced(database, Progress(file=other), replace(AT_100, file=other), Reject(3, 1, "other"))
    assert first.id is not None
    with database.read() as connection:
        assert spool.rejects(connection, first.id, after=0, limit=3) == bad[:3]
        assert spool.rejects(connection, first.id, after=3, limit=9) == bad[3:]
        assert spool.rejects(connection, first.id, after=7, limit=9) == []


def test_files_are_forgotten_in_short_transactions_their_lines_first(database: Database) -> None:
    bad = [Reject(n, 0, "bad") for n in range(1, 6)]
    kept = FILE._replace(name="b.jsonl")
    first = advanced(database, Progress(file=FILE), AT_100, *bad)
    second = advanced(database, Progress(file=kept), replace(AT_100, file=kept), *bad)
    assert first.id is not None
    left = []
    for _ in range(3):
        with database.write() as connection:
            more = spool.drop(connection, [first.id], limit=2)
        left.append((more, len(registered.rows(database, tables.spool_rejects)) - len(bad)))
    assert left == [(True, 3), (True, 1), (False, 0)]
    assert known(database) == [second]


def test_numbers_beyond_63_bits_are_kept_apart(database: Database) -> None:
    """Some file systems number their files so, and times may lie far ahead."""
    odd = File("a.jsonl", 2**64 - 1, 2**63, 5, 2**63 + 5)
    stored = spool.stored(odd)
    assert stored == File("a.jsonl", -1, -(2**63), 5, -(2**63) + 5)
    assert spool.stored(FILE) == FILE
    assert spool.stored(stored) == stored
    advanced(database, Progress(file=stored), replace(AT_20, file=stored))
    assert known(database)[0].file == stored
