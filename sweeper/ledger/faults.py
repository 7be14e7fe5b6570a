"""Tell what a database's errors mean: what helps, whether they pass, whether a commit is known."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import exc

from sweeper import errors

NO_LEDGER: Final = (
    "is its disk mounted, and is ledger.url right? only for a new installation: sweeper db upgrade"
)
_REACH: Final = "is PostgreSQL running, and do the host and port in ledger.url lead to it?"
_PERMIT: Final = "let the user that runs sweeper read and write the ledger's file and its folder"
RESTORE: Final = (
    "see: sweeper db check; put a sound copy in its place (sweeper db backup makes them):"
    " nothing repairs a damaged ledger"
)
_DISK: Final = (
    "look at the disk: full, over quota, read-only or failing; see: sweeper doctor;"
    " nothing more is sent until then"
)
_HINTS: Final = (
    ("no such table", NO_LEDGER),
    ("permission denied", "grant the role in ledger.url its rights on the ledger's tables"),
    ("relation", NO_LEDGER),
    ("locked", "another process keeps the ledger busy; try again when it is done"),
    ("disk I/O error", _DISK),
    ("full", "free space on the ledger's disk; nothing more is sent until then"),
    ("No space left", "free space on the database's disk; nothing more is sent until then"),
    ("not a database", "ledger.url names a file that is no ledger: name the right one"),
    ("malformed", RESTORE),
    ("readonly database", _PERMIT),
    ("unable to open database file", _PERMIT),
    ("refused", _REACH),
    ("resolve host", _REACH),
    ("Name or service not known", _REACH),
    ("timeout expired", _REACH),
    ("did not answer", _REACH),
    ("No such file or directory", _REACH),
    ("password", "put the password that PostgreSQL expects into ~/.pgpass or $PGPASSWORD"),
    ("does not exist", "make the role and the database that ledger.url names, or name others"),
)
"""What helps by what the database's message says; the first that fits counts."""

# Primary result codes of SQLite (sqlite.org/rescode.html): each leaves the transaction rolled back.
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)

# SQLSTATE (PostgreSQL manual, appendix A): lost connections, deadlocks and serialization, lack of
# disk, memory or connections, locks and sessions that timed out, shutdowns, faults of the system,
# a standby that was promoted elsewhere, rights that were taken away.
_PASSING_STATES: Final = ("08", "40", "53", "55P03", "57", "58", "25006", "25P03", "42501")
_DAMAGED_STATES: Final = ("XX001", "XX002")
_LOST_STATES: Final = ("08", "40003", "57", "58", "25P03")
"""With which nobody knows of a commit whether it was carried out."""
_NONE: Final = object()


@dataclass(slots=True)
class Phase:
    """How far a transaction has come; until `committing`, a fault leaves nothing of it."""

    committing: bool = False


@contextmanager
def told() -> Iterator[Phase]:
    """Raise what the database raises as a LedgerError: LedgerAway, CommitUnknown, LedgerDamaged."""
    phase = Phase()
    try:
        yield phase
    except exc.SQLAlchemyError as fault:
        raise _kind(fault, phase)(plain(fault), hint=hint(fault)) from fault


def plain(fault: exc.SQLAlchemyError) -> str:
    """The first line of what the database says."""
    original = getattr(fault, "orig", None)
    text = str(original if original is not None else fault).strip().splitlines()
    return f"the ledger could not be used: {text[0] if text else type(fault).__name__}"


def hint(fault: exc.SQLAlchemyError) -> str:
    text = str(getattr(fault, "orig", fault))
    return next((hint for cause, hint in _HINTS if cause in text), "see: sweeper db check")


def _kind(fault: exc.SQLAlchemyError, phase: Phase) -> type[errors.LedgerError]:
    if isinstance(fault, exc.TimeoutError):
        return errors.LedgerAway  # every connection is in use
    original = getattr(fault, "orig", None)
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        return _by_code(code & 0xFF)
    state = getattr(original, "sqlstate", _NONE)
    if state is _NONE:
        return errors.LedgerError
    # A connection that breaks, or never comes about, mostly has no state.
    is_lost = isinstance(fault, exc.OperationalError | exc.InterfaceError) and (
        state is None or fault.connection_invalidated
    )
    return _by_state(str(state or ""), is_lost=is_lost, phase=phase)


def _by_code(code: int) -> type[errors.LedgerError]:
    if code == sqlite3.SQLITE_CORRUPT:
        return errors.LedgerDamaged
    return errors.LedgerAway if code in _PASSING else errors.LedgerError


def _by_state(state: str, *, is_lost: bool, phase: Phase) -> type[errors.LedgerError]:
    if state in _DAMAGED_STATES:
        return errors.LedgerDamaged
    if phase.committing and (is_lost or state.startswith(_LOST_STATES)):
        return errors.CommitUnknown
    if is_lost or state.startswith(_PASSING_STATES):
        return errors.LedgerAway
    return errors.LedgerError
