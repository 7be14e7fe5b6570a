"""What a database's error means: whether it passes, and whether anything was written."""

import sqlite3
from typing import Any

import pytest
from sqlalchemy import exc

from sweeper import errors
from sweeper.ledger import faults


class FromSqlite(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("said SQLite")
        self.sqlite_errorcode = code


class FromPostgresql(Exception):
    def __init__(self, state: str | None) -> None:
        super().__init__("said PostgreSQL")
        self.sqlstate = state


def told(fault: exc.SQLAlchemyError, *, committing: bool = False) -> type[errors.LedgerError]:
    def fail() -> None:
        with faults.told() as phase:
            phase.committing = committing
            raise fault

    with pytest.raises(errors.LedgerError) as raised:
        fail()
    assert raised.value.__cause__ is fault
    return raised.type


@pytest.mark.parametrize("committing", [False, True])
@pytest.mark.parametrize(
    "code, kind",
    [
        (sqlite3.SQLITE_BUSY, errors.LedgerAway),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, errors.LedgerAway),
        (sqlite3.SQLITE_FULL, errors.LedgerAway),
        (sqlite3.SQLITE_IOERR_WRITE, errors.LedgerAway),
        (sqlite3.SQLITE_READONLY_DIRECTORY, errors.LedgerAway),
        (sqlite3.SQLITE_CANTOPEN, errors.LedgerAway),
        (sqlite3.SQLITE_CORRUPT_INDEX, errors.LedgerDamaged),
        (sqlite3.SQLITE_NOTADB, errors.LedgerError),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, errors.LedgerError),
        (sqlite3.SQLITE_ERROR, errors.LedgerError),
    ],
)
def test_sqlite_says_by_its_code_what_it_leaves_behind(
    code: int, kind: type[errors.LedgerError], committing: bool
) -> None:
    """A commit that fails there has certainly written nothing."""
    fault = exc.OperationalError("COMMIT", {}, FromSqlite(code))
    assert told(fault, committing=committing) is kind


AWAY, UNKNOWN, OTHER = errors.LedgerAway, errors.CommitUnknown, errors.LedgerError


@pytest.mark.parametrize(
    "state, before, at_commit",
    [
        (None, AWAY, UNKNOWN),
        ("08006", AWAY, UNKNOWN),
        ("57P01", AWAY, UNKNOWN),
        ("57014", AWAY, UNKNOWN),
        ("25P03", AWAY, UNKNOWN),
        ("58030", AWAY, UNKNOWN),
        ("40003", AWAY, UNKNOWN),
        ("40001", AWAY, AWAY),
        ("40P01", AWAY, AWAY),
        ("53100", AWAY, AWAY),
        ("55P03", AWAY, AWAY),
        ("25006", AWAY, AWAY),
        ("42501", AWAY, AWAY),
        ("42P01", OTHER, OTHER),
        ("23505", OTHER, OTHER),
        ("XX001", errors.LedgerDamaged, errors.LedgerDamaged),
    ],
)
def test_of_a_commit_that_postgresql_does_not_answer_nobody_knows(
    state: str | None, before: type[errors.LedgerError], at_commit: type[errors.LedgerError]
) -> None:
    fault = exc.OperationalError("COMMIT", {}, FromPostgresql(state))
    assert told(fault) is before
    assert told(fault, committing=True) is at_commit


@pytest.mark.parametrize("given", [{}, {"connection_invalidated": True}])
def test_what_the_driver_refuses_by_itself_is_no_outage(given: dict[str, Any]) -> None:
    fault = exc.ProgrammingError("SELECT", {}, FromPostgresql(None), **given)
    assert told(fault) is errors.LedgerError


def test_a_connection_that_breaks_at_any_word_is_an_outage() -> None:
    fault = exc.OperationalError("x", {}, FromPostgresql("XX000"), connection_invalidated=True)
    assert told(fault) is errors.LedgerAway
    assert told(fault, committing=True) is errors.CommitUnknown


def test_who_gets_no_connection_has_written_nothing() -> None:
    assert told(exc.TimeoutError("QueuePool limit")) is errors.LedgerAway


def test_an_error_without_a_code_is_no_outage() -> None:
    assert told(exc.OperationalError("x", {}, Exception("odd"))) is errors.LedgerError
    assert told(exc.ArgumentError("odd")) is errors.LedgerError
