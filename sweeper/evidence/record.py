"""The canonical text of the log's records, and the commitments that stand in it for ids."""

import hmac
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from sweeper.domain.answer import Answer

VERSION = 1
LONGEST_RECORD = 16 * 1024
"""Bytes of UTF-8 that one record may have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGERS = 2**53
_DEEPEST = 8
_KEY = re.compile(r"[a-z0-9_]{1,32}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=/+-]{1,128}")
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


class RecordType(StrEnum):
    """What a record tells."""

    LOG_OPENED = "log.opened"
    ITEM_REGISTERED = "item.registered"
    ITEM_QUARANTINED = "item.quarantined"
    ITEM_RETRIED = "item.retried"
    ITEM_CORRECTED = "item.corrected"
    LINK_DROPPED = "link.dropped"
    DELETION_OUTCOME = "deletion.outcome"
    DELETION_LATE_OUTCOME = "deletion.late_outcome"
    POLICY_EFFECTIVE = "policy.effective"
    ACCOUNT_PINNED = "account.pinned"
    CREDENTIAL_CHANGED = "credential.changed"
    BREAKER_OPENED = "breaker.opened"
    BREAKER_CLOSED = "breaker.closed"
    CLOCK_ANOMALY = "clock.anomaly"
    RUN_SUMMARY = "run.summary"


def compose(
    *,
    type: RecordType,  # noqa: A002 - the record's own word for it
    log: str,
    seq: int,
    at_us: int,
    writer: str,
    sw: str,
    fields: Mapping[str, object],
) -> str:
    """Put a record together: its own fields and those that every record has.

    `at_us` is in microseconds since 1970 UTC. ValueError for a field that every record has
    already, and for all that `canonical` refuses.
    """
    shared: dict[str, object] = {
        "v": VERSION,
        "type": type,
        "log": log,
        "seq": seq,
        "at": instant(at_us),
        "writer": writer,
        "sw": sw,
    }
    whole = {**shared, **fields}
    if len(whole) < len(shared) + len(fields):
        taken = shared.keys() & fields.keys()
        raise ValueError(f"a record has its own {', '.join(sorted(taken))}")
    return canonical(whole)


def canonical(record: Mapping[str, object]) -> str:
    """Write a record as the one JSON text that RFC 8785 gives it.

    Keys are ASCII words of lower-case letters, digits and `_`, at most 32 long; values are
    strings, booleans, null, integers below 2^53 either way, lists and objects of these, eight
    deep at most. ValueError for anything else (floats, lone surrogates) and above 16 KiB.
    """
    plain = dict(record)
    _check(plain, _DEEPEST)
    text = _ENCODER.encode(plain)
    if len(text.encode()) > LONGEST_RECORD:
        raise ValueError(f"a record has at most {LONGEST_RECORD} bytes")
    return text


def commitment(salt: bytes, provider: str, account: str, response_id: str) -> str:
    """Commit to a response id so that only who knows the salt can tell which one it was.

    HMAC-SHA-256 keyed with the response's own 32 random bytes, in base64url without padding.
    """
    message = _keeper(provider, account) + _sized(response_id)
    return urlsafe_b64encode(hmac.digest(salt, message, "sha256")).rstrip(b"=").decode()


@lru_cache(maxsize=1024)
def instant(us: int) -> str:
    """Write microseconds since 1970 as RFC 3339 in UTC, always with six digits and `Z`."""
    hours, rest = divmod(us, 3_600_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    seconds, rest = divmod(rest, 1_000_000)
    return f"{_hour(hours)}:{minutes:02}:{seconds:02}.{rest:06}Z"


def evidence(answer: Answer, *, control: bool, verify_status: int | None) -> dict[str, object]:
    """Tell what an outcome rests on: classes, numbers and times, never text of the answer.

    `control`: controls stood around a 404. `verify_status` is the status of the GET, if any. A
    request id that is no plain word of at most 128 characters is left out.
    """
    request_id = answer.request_id
    if request_id is not None and _REQUEST_ID.fullmatch(request_id) is None:
        request_id = None
    return {
        "status": answer.status,
        "body": answer.body,
        "date": None if answer.date is None else instant((answer.date - _EPOCH) // _MICROSECOND),
        "request_id": request_id,
        "control": "pass" if control else "none",
        "verify_get": verify_status,
    }


# The records of a batch share most of their hours, their keys and their account.
@lru_cache(maxsize=4096)
def _hour(hours: int) -> str:
    moment = _EPOCH + timedelta(hours=hours)
    return moment.replace(tzinfo=None).isoformat(timespec="hours")


@lru_cache(maxsize=64)
def _keeper(provider: str, account: str) -> bytes:
    return b"sweeper/subject/v1\n" + _sized(provider) + _sized(account)


def _sized(text: str) -> bytes:
    told = text.encode()
    return len(told).to_bytes(4, "big") + told


def _check(value: object, depth: int) -> None:
    if isinstance(value, str) or value is None:
        return
    if isinstance(value, int):
        if not -_INTEGERS < value < _INTEGERS:
            raise ValueError("an integer in a record lies below 2^53 either way")
    elif depth == 0:
        raise ValueError(f"a record is at most {_DEEPEST} deep")
    elif isinstance(value, dict):
        _check_fields(value, depth - 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, depth - 1)
    else:
        raise ValueError(f"a record holds no {type(value).__name__}")


def _check_fields(fields: dict[object, object], depth: int) -> None:
    if not _are_keys(tuple(fields)):
        wrong = next(key for key in fields if not _is_key(key))
        raise ValueError(f"no key of a record: {wrong!r:.80}")
    for value in fields.values():
        if value is not None and not isinstance(value, str):
            _check(value, depth)


@lru_cache(maxsize=1024)
def _are_keys(keys: tuple[object, ...]) -> bool:
    return all(_is_key(key) for key in keys)


def _is_key(key: object) -> bool:
    return isinstance(key, str) and _KEY.fullmatch(key) is not None
