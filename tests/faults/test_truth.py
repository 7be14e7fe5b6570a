"""The function that asks all eight invariants must notice when any one of them is broken."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper.ledger import tables
from sweeper.sandbox.server import Sandbox
from tests.support import forked, truth
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import KEY, YOUNG, Rehearsal


@pytest.fixture
def swept(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """Three responses were due and are gone, one is young; nobody looks at it afterwards."""
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        made.responses(3)
        made.responses(1, age=YOUNG)
        done = forked.run(tmp_path, "-c", made.config, "sweep", "--json")
        assert done.code == 0, done
        truth.check(made, settled=True)
        yield made


def _was_not_due(rehearsal: Rehearsal) -> None:
    rehearsal.due.clear()


def _lost_its_attempts(rehearsal: Rehearsal) -> None:
    _execute(rehearsal, sa.delete(tables.attempts))


def _lost_its_end(rehearsal: Rehearsal) -> None:
    last = sa.select(sa.func.max(tables.responses.c.record_seq)).scalar_subquery()
    _execute(rehearsal, sa.delete(tables.records).where(tables.records.c.seq == last))


def _was_never_carried_out(rehearsal: Rehearsal) -> None:
    def deny(sandbox: Sandbox) -> None:
        for entry in sandbox.journal.deletes():
            entry.carried_out = False

    rehearsal.sandbox.call(deny)


def _was_lied_to(rehearsal: Rehearsal) -> None:
    """A provider that says yes, hides what it has, and deletes nothing."""
    (one,) = rehearsal.responses(1)
    yes = b'{"message":"Response deleted successfully"}'
    rehearsal.fault(method="DELETE", id=one, status=200, body=yes, carry_out=False)
    rehearsal.fault(method="GET", id=one, status=404, body=b'{"detail":"Response not found"}')
    done = forked.run(rehearsal.folder, "-c", rehearsal.config, "sweep", "--json")
    assert done.code == 0, done


def _was_written_over(rehearsal: Rehearsal) -> None:
    body = tables.records.c.body
    where = tables.records.c.type == "deletion.outcome"
    _execute(
        rehearsal,
        sa.update(tables.records)
        .where(where)
        .values(body=sa.func.replace(body, '"deleted"', '"closed"')),
    )


def _was_too_fast(rehearsal: Rehearsal) -> None:
    rehearsal.fastest = 1.0


def _wrote_a_key(rehearsal: Rehearsal) -> None:
    (rehearsal.folder / "trace.txt").write_text(f"GET /?k={KEY}")


def _has_left_one(rehearsal: Rehearsal) -> None:
    rehearsal.responses(1)


@pytest.mark.parametrize(
    "breach, told",
    [
        (_was_not_due, "was not due, and a DELETE was sent"),
        (_lost_its_attempts, "more DELETEs arrived than attempts are written"),
        (_lost_its_end, "records: "),
        (_was_lied_to, "the sandbox still has it"),
        (_was_never_carried_out, "is recorded as deleted without the provider's yes"),
        (_was_written_over, "the last record says closed"),
        (_was_too_fast, "requests about acme came within"),
        (_wrote_a_key, "a key of acme stands in trace.txt"),
        (_has_left_one, "is not admitted yet"),
    ],
)
def test_whatever_is_untrue_is_found(
    swept: Rehearsal, breach: Callable[[Rehearsal], None], told: str
) -> None:
    breach(swept)
    with pytest.raises(AssertionError, match=told):
        truth.check(swept, settled=True)
    if (trace := swept.folder / "trace.txt").exists():
        trace.unlink()  # what looks after every test would find it as well


def _execute(rehearsal: Rehearsal, statement: sa.Executable) -> None:
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(statement)
