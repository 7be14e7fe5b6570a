"""What an application says of a response it stored, checked, and merged with what is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sweeper.domain import creation, response
from sweeper.domain import labels as label_texts
from sweeper.domain.response import AccountName, ResponseId

SAME_TIME: Final = timedelta(minutes=10)
"""How far a repeated registration may stand from the time first given."""

_KEYS: Final = frozenset(
    {"id", "created_at", "account", "labels", "subject", "previous_response_id", "store"}
)
_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One stored response as it was registered; `labels` is their canonical text."""

    account: AccountName
    response_id: ResponseId
    created_at: datetime
    labels: str
    subject: str | None = None
    previous_response_id: ResponseId | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The line says `"store": false`: nothing was stored, so there is nothing to delete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a line or a row cannot be registered.

    `reason` is one of not_an_object, unknown_key, bad_store, bad_account, bad_id,
    bad_created_at, bad_labels, bad_subject and bad_previous. `detail` is for people: at most
    80 ASCII characters, in which foreign text stands escaped.
    """

    reason: str
    detail: str = ""


class Verdict(StrEnum):
    """What a registration of a known response means."""

    KNOWN = "known"
    COMPLETED = "completed"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the ledger holds of a response; `created_at` is what stands now."""

    first_created_at: datetime
    created_at: datetime
    labels: str
    subject: str | None = None
    previous_response_id: ResponseId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What stands after the merge; of conflicting ones, what stood before."""

    verdict: Verdict
    created_at: datetime
    subject: str | None
    previous_response_id: ResponseId | None
    detail: str = ""


class _Refused(Exception):
    """Carries a fault from the value it was found in to the reader of the whole line."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.fault = Fault(reason=reason, detail=detail[:_MOST_SHOWN])


def read_line(
    raw: object,
    *,
    now: datetime,
    default_account: str | None = None,
    longest: Callable[[str], int] | None = None,
) -> Registration | Skipped | Fault:
    """Read one registered line, already taken apart from JSON or CSV.

    `longest` gives the longest id that an account's profile allows, in characters.
    """
    try:
        return _line(raw, now, default_account, longest)
    except _Refused as refused:
        return refused.fault


def read_row(
    *,
    account: object,
    response_id: object,
    created_at: object,
    labels: object,
    subject: object,
    previous_response_id: object,
    now: datetime | None,
    longest: Callable[[str], int] | None = None,
) -> Registration | Fault:
    """Read one row of the table of registrations, into which anybody may have written anything.

    `created_at` is in microseconds since 1970, `labels` a JSON text. Without `now` a time is
    not judged for lying ahead.
    """
    try:
        return _registration(
            account=_account(account),
            response_id=response_id,
            created_at=_created_at_us(created_at, now),
            labels=_labels_of_text(labels),
            subject=subject,
            previous=previous_response_id,
            longest=longest,
        )
    except _Refused as refused:
        return refused.fault


def merge(known: Known, new: Registration) -> Merged:
    """Merge what is now said of a response with what is known of it.

    A time at most ten minutes from the one first registered is the same, and the later one
    stands; what was missing may be given later. Whatever else differs is a conflict, which
    changes nothing: a person decides.
    """
    faults = _conflicts(known, new)
    if faults:
        return Merged(
            verdict=Verdict.CONFLICTING,
            created_at=known.created_at,
            subject=known.subject,
            previous_response_id=known.previous_response_id,
            detail="; ".join(faults),
        )
    subject = new.subject if known.subject is None else known.subject
    previous = known.previous_response_id
    if previous is None:
        previous = new.previous_response_id
    completed = (subject, previous) != (known.subject, known.previous_response_id)
    return Merged(
        verdict=Verdict.COMPLETED if completed else Verdict.KNOWN,
        created_at=max(known.created_at, new.created_at),
        subject=subject,
        previous_response_id=previous,
    )


def _conflicts(known: Known, new: Registration) -> list[str]:
    faults = []
    if abs(new.created_at - known.first_created_at) > SAME_TIME:
        faults.append("created_at differs by more than ten minutes")
    if new.labels != known.labels:
        faults.append("labels differ")
    if None not in (known.subject, new.subject) and new.subject != known.subject:
        faults.append("subject differs")
    before, after = known.previous_response_id, new.previous_response_id
    if None not in (before, after) and before != after:
        faults.append("previous_response_id differs")
    return faults


def _line(
    raw: object,
    now: datetime,
    default_account: str | None,
    longest: Callable[[str], int] | None,
) -> Registration | Skipped:
    if not isinstance(raw, (dict, Mapping)):
        raise _Refused("not_an_object", "a line must be a JSON object")
    if not raw.keys() <= _KEYS:
        key = next(key for key in raw if key not in _KEYS)
        raise _Refused("unknown_key", f"{_shown(key)} is no key of a registration")
    store = raw.get("store")
    if store is False:
        return Skipped()
    if store is not None and store is not True:
        raise _Refused("bad_store", "store must be true or false")
    account, labels = raw.get("account"), raw.get("labels")
    return _registration(
        account=_account(default_account if account is None else account),
        response_id=raw.get("id"),
        created_at=_created_at(raw.get("created_at"), now),
        labels=_labels({} if labels is None else labels),
        subject=raw.get("subject"),
        previous=raw.get("previous_response_id"),
        longest=longest,
    )


def _registration(
    *,
    account: AccountName,
    response_id: object,
    created_at: datetime,
    labels: str,
    subject: object,
    previous: object,
    longest: Callable[[str], int] | None,
) -> Registration:
    limit = response.LONGEST_ID if longest is None else longest(account)
    if subject is not None and not response.is_subject(subject):
        raise _Refused("bad_subject", "subject must be 1 to 256 plain characters")
    own = _id(response_id, limit, "bad_id", "id")
    other = None
    if previous is not None:
        other = _id(previous, limit, "bad_previous", "previous_response_id")
    if other == own:
        raise _Refused("bad_previous", "previous_response_id is the response itself")
    return Registration(
        account=account,
        response_id=own,
        created_at=created_at,
        labels=labels,
        subject=subject,
        previous_response_id=other,
    )


def _account(value: object) -> AccountName:
    if value is None:
        raise _Refused("bad_account", "account is missing")
    if not response.is_account_name(value):
        raise _Refused("bad_account", f"account must be 1 to 64 of A-Za-z0-9_-: {_shown(value)}")
    return value


def _id(value: object, longest: int, reason: str, key: str) -> ResponseId:
    if value is None:
        raise _Refused(reason, f"{key} is missing")
    if not response.is_response_id(value, longest):
        raise _Refused(reason, f"{key} must be 1 to {longest} of A-Za-z0-9_-: {_shown(value)}")
    return value


def _created_at(value: object, now: datetime) -> datetime:
    try:
        return creation.read(value, now)
    except ValueError as error:
        raise _Refused("bad_created_at", str(error)) from None


def _created_at_us(value: object, now: datetime | None) -> datetime:
    try:
        return creation.read_us(value, now)
    except ValueError as error:
        raise _Refused("bad_created_at", str(error)) from None


def _labels(value: object) -> str:
    if not isinstance(value, (dict, Mapping)):
        raise _Refused("bad_labels", "labels must be a JSON object")
    try:
        return label_texts.checked_text(value)
    except ValueError as error:
        raise _Refused("bad_labels", str(error)) from None


def _labels_of_text(value: object) -> str:
    if not isinstance(value, str):
        raise _Refused("bad_labels", "labels are missing: {} stands for none")
    try:
        return label_texts.canonical(label_texts.read(value))
    except ValueError as error:
        raise _Refused("bad_labels", str(error)) from None


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return ascii(value[:24])
