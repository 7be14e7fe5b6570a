"""Find a name, and a place aside, for registered rows that break the rules."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from sweeper.domain import creation, moment, response
from sweeper.domain.registration import Fault
from sweeper.ledger.registrations import Row

NO_ACCOUNT: Final = "(invalid)"
"""Holds the rows whose account is no name; the brackets keep it apart from every real one."""

_SHOWN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A row that cannot be a response, under a name that can be stored and shown.

    Where `is_named` it names an account and an id, so it may speak of a known response.
    """

    account: str
    response_id: str
    created_at: datetime | None
    fault: Fault
    is_named: bool


def place(row: Row, fault: Fault) -> Stray:
    account = row.account if response.is_account_name(row.account) else None
    own = row.response_id
    known = response.is_response_id(own, response.LONGEST_ID_ALLOWED)
    return Stray(
        account=account or NO_ACCOUNT,
        response_id=own if known and isinstance(own, str) else _name(row),
        created_at=_created_at(row.created_at),
        fault=fault,
        is_named=known and account is not None,
    )


def _name(row: Row) -> str:
    """The id, escaped and cut, and a digest of the row; `~` keeps it apart from every real id."""
    raw = row.response_id
    text = raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw
    shown = "" if text is None else ascii(text[:_SHOWN])[1:-1][:_SHOWN]
    return f"{shown}~{sha256(repr(row[1:]).encode()).hexdigest()[:32]}"


def _created_at(value: int | None) -> datetime | None:
    try:
        created_at = creation.read_us(value, None)
    except ValueError:
        return None
    return created_at if moment.to_us(created_at) == value else None
