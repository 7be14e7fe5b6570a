"""What a record says of a settlement, and what it says when the clock was in doubt."""

from sweeper.domain.outcome import Outcome, Settlement
from sweeper.domain.response import State
from sweeper.engine import testimony
from sweeper.engine.deletion import Finished
from sweeper.engine.testimony import Witness
from sweeper.ledger.database import Database
from tests.support import lent, registered
from tests.support.registered import NOW

WITNESS = Witness(
    provider="fireworks", account="main", key="key-1", policies_sha256="00", rulings={}
)


def finished(db: Database, settlement: Settlement, *, unsent: bool = False) -> Finished:
    registered.admit(db, registered.registration("resp_1"))
    (claim,) = lent.take(db, "resp_1")
    return Finished(claim=claim, settlement=settlement, at=NOW, unsent=unsent)


def test_what_has_no_outcome_has_no_record(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.GIVEN_BACK, unsent=True))
    assert settled.entry is None
    assert testimony.doubted(settled) is settled


def test_an_attempt_that_was_not_sent_is_not_counted(sqlite_database: Database) -> None:
    aside = Settlement(state=State.QUARANTINED, outcome=Outcome.REJECTED)
    settled = WITNESS.settled(finished(sqlite_database, aside, unsent=True))
    assert settled.entry is not None
    assert settled.entry.fields["attempts"] == 0
    assert settled.entry.fields["policy"] is None
    assert settled.entry.fields["due_at"] is None


def test_a_record_in_doubt_says_so_and_keeps_the_rest(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.again(Outcome.FAILING)))
    doubted = testimony.doubted(settled)
    assert settled.entry is not None
    assert doubted.entry is not None
    assert doubted.entry.fields == {**settled.entry.fields, "clock": "doubted"}


def test_no_record_names_the_response(sqlite_database: Database) -> None:
    settled = WITNESS.settled(finished(sqlite_database, lent.again(Outcome.FAILING)))
    assert "resp_1" not in repr(settled.entry)
