"""Set claimed responses aside whose rows break the rules: nothing is sent by what they say."""

import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from sweeper.domain import creation, response
from sweeper.evidence.record import RecordType
from sweeper.ledger import claims, records, tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.records import Entry
from sweeper.ledger.standings import MALFORMED

_R = tables.responses
_ATTEMPTS = tables.attempts

_LATEST: Final = 2**53
"""Microseconds, in the year 2255; no number in a record is as large."""
_MOST: Final = 2**30
"""More than anything is ever counted to, and far from where a column overflows."""
_LONGEST: Final = 1024
_ITEM: Final = re.compile("[0-9a-f]{32}")
_SALT: Final = re.compile("[0-9a-f]{64}")


class Misfit(NamedTuple):
    """A claim that must not be used, and the reason for which its response is set aside."""

    claim: Claim
    reason: str


def find(taken: Sequence[Claim]) -> list[Misfit]:
    """Those of the claims whose rows admission would never have let in or settling left so.

    Somebody wrote them straight into the database.
    """
    judged = ((claim, _fault(claim)) for claim in taken)
    return [Misfit(claim, f"{MALFORMED}:{fault}") for claim, fault in judged if fault is not None]


def set_aside(connection: sa.Connection, misfits: Sequence[Misfit], *, now: int) -> None:
    """Keep them for a person, without what nobody could read; `now` is in microseconds.

    Like rows that admission sets aside they lose their `first_created_at`: nothing is merged into
    them.
    """
    if not misfits:
        return
    entries = []
    for claim, reason in misfits:
        item = claim.item if _is_item(claim.item) else secrets.token_hex(16)
        if not claim.is_verification:
            connection.execute(_returned(claim, now))
        connection.execute(_kept(claim, reason, now).values(item=item))
        fields = {"item": item, "reason": reason}
        entries.append(Entry(type=RecordType.ITEM_QUARANTINED, fields=fields))
    claims.uncount(connection, Counter(one.claim.label_set_id for one in misfits))
    records.append(connection, entries, now=now)


def _fault(claim: Claim) -> str | None:
    if not response.is_response_id(claim.response_id, response.LONGEST_ID_ALLOWED):
        return "bad_id"
    if not _is_creation(claim.created_at):
        return "bad_created_at"
    return None if all(is_right(getattr(claim, name)) for name, is_right in _RULES) else "bad_row"


def _is_creation(us: int) -> bool:
    try:
        creation.read_us(us, None)
    except ValueError:
        return False
    return True


def _is_item(text: str) -> bool:
    return _ITEM.fullmatch(text) is not None


def _is_salt(text: str | None) -> bool:
    return text is not None and _SALT.fullmatch(text) is not None


def _is_number(number: int | None) -> bool:
    return number is None or 0 <= number < _LATEST


def _is_count(number: int) -> bool:
    return 0 <= number < _MOST


def _is_short(text: str | None) -> bool:
    return text is None or len(text) <= _LONGEST


_COUNTS: Final = ("attempts", "ambiguous", "failures")
_RULES: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("item", _is_item),
    ("salt", _is_salt),
    ("registered_at", _is_number),
    *((name, _is_count) for name in _COUNTS),
    *((name, _is_number) for name in ("first_attempt_at", "last_attempt_at", "record_seq")),
    *((name, _is_number) for name in ("yes_at", "yes_date", "due_at", "deadline_at")),
    *((name, _is_short) for name in ("policy", "policies_sha256", "yes_key", "yes_request_id")),
)
"""What of a row goes into records, or is counted on."""


def _returned(claim: Claim, now: int) -> sa.Update:
    """Say of the attempt that was written with the claim that it never was one."""
    return (
        sa.update(_ATTEMPTS)
        .where(
            _ATTEMPTS.c.response_pk == claim.pk,
            _ATTEMPTS.c.number == claim.number,
            _ATTEMPTS.c.token == claim.token,
        )
        .values(unsent=1, answered_at=now)
    )


def _sent(pick: Callable[[sa.ColumnElement[int]], sa.ColumnElement[int]]) -> Any:
    """When the first or the last attempt was made that was really sent; None where none was."""
    sent = sa.select(pick(_ATTEMPTS.c.claimed_at)).where(
        _ATTEMPTS.c.response_pk == _R.c.id, _ATTEMPTS.c.unsent == 0
    )
    return sent.correlate(_R).scalar_subquery()


def _kept(claim: Claim, reason: str, now: int) -> sa.Update:
    instead = {"registered_at": now, **dict.fromkeys(_COUNTS, 0)}
    values: dict[str, Any] = {
        name: instead.get(name) for name, is_right in _RULES if not is_right(getattr(claim, name))
    }
    if not claim.is_verification:
        values.setdefault("attempts", claim.attempts - 1)
        values |= {"first_attempt_at": _sent(sa.func.min), "last_attempt_at": _sent(sa.func.max)}
    if not _is_creation(claim.created_at):
        values["created_at"] = None
    return (
        sa.update(_R)
        .where(_R.c.id == claim.pk)
        .values(
            **values,
            state="quarantined",
            quarantine_reason=sa.func.coalesce(_R.c.quarantine_reason, reason),
            first_created_at=None,
            token=None,
            claim_deadline=None,
            next_try_at=None,
            verify_at=None,
        )
    )
