"""Append canonical records to the log, in the transaction of the change that they record."""

import importlib.metadata
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Final

import sqlalchemy as sa

from sweeper import errors
from sweeper.evidence import record
from sweeper.evidence.record import RecordType
from sweeper.ledger import database, tables

_STEP: Final = 600_000_000
"""Microseconds by which a clock may be set back without a word about it in the records."""
_WRITER: Final = f"w-{secrets.token_hex(8)}"
"""Names this process in its records: random, so that no host is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record to be: its type and the fields of its own."""

    type: RecordType
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """By whom a decision was recorded, as the record names them, and the reason they gave."""

    user: str
    sudo_user: str | None
    reason: str


@cache
def version() -> str:
    return importlib.metadata.version("sweeper")


def open_log(connection: sa.Connection, now: int) -> None:
    """Give a new ledger its identity and its first record; `now` is in microseconds."""
    ledger_id = secrets.token_hex(16)
    connection.execute(
        sa.insert(tables.ledger).values(
            id=1,
            ledger_id=ledger_id,
            fingerprint_salt=secrets.token_hex(32),
            log_origin=f"sweeper/{ledger_id}/1",
        )
    )
    opened = Entry(type=RecordType.LOG_OPENED, fields={"previous": None, "reason": "initial"})
    append(connection, [opened], now=now)


def append(connection: sa.Connection, entries: Sequence[Entry], *, now: int) -> range:
    """Write the records and return their sequence numbers.

    `now` is in microseconds; no record is dated before the one before it. Where a clock that was
    far ahead has dated that one, a record says that its own time is not to be trusted. The log's
    head is locked here, always after the rows of the change itself, so that writers never wait in
    a circle.
    """
    if not entries:
        return range(0)
    head = connection.execute(
        sa.select(
            tables.ledger.c.log_origin, tables.ledger.c.log_size, tables.ledger.c.log_last_at
        ).with_for_update()
    ).one()
    first, at = head.log_size, max(now, head.log_last_at)
    bodies = [
        [entry.type.value, _body(entry, log=head.log_origin, seq=first + index, at=at, now=now)]
        for index, entry in enumerate(entries)
    ]
    new = database.rows(connection, "new", "type:text", "body:text")
    connection.execute(
        sa.insert(tables.records).from_select(
            ["seq", "type", "body"],
            sa.select(
                new.c.ord + sa.bindparam("first", type_=sa.BigInteger), new.c.type, new.c.body
            ),
        ),
        {"new": json.dumps(bodies), "first": first},
    )
    connection.execute(
        sa.update(tables.ledger).values(log_size=first + len(bodies), log_last_at=at)
    )
    return range(first, first + len(bodies))


def _body(entry: Entry, *, log: str, seq: int, at: int, now: int) -> str:
    doubted = {"clock": "doubted"} if at - now > _STEP else {}
    return record.compose(
        type=entry.type,
        log=log,
        seq=seq,
        at_us=at,
        writer=_WRITER,
        sw=version(),
        fields={**doubted, **entry.fields},
    )


def append_with_reason(
    connection: sa.Connection,
    type: RecordType,  # noqa: A002 - the field's name in every record
    fields: Mapping[str, object],
    *,
    reason: str,
    now: int,
) -> int:
    """Write one record that a person gave a reason for.

    The record holds the reason's salted hash; the text itself stands in a table beside it.
    Raises UsageError for a text that no database keeps: bytes of another encoding, or NUL.
    """
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in reason):
        raise errors.UsageError("the reason is no plain text", hint="write it in UTF-8")
    salt = secrets.token_hex(32)
    hashed = sha256(f"{salt}\n{reason}".encode()).hexdigest()
    entry = Entry(type=type, fields={**fields, "reason_sha256": hashed})
    (seq,) = append(connection, [entry], now=now)
    connection.execute(sa.insert(tables.reasons).values(seq=seq, salt=salt, text=reason))
    return seq


def said(connection: sa.Connection, seqs: Iterable[int]) -> Mapping[int, Said]:
    """Read the reasons that stand beside these records of people's decisions, and whose they are.

    Records without a reason are left out.
    """
    wanted = database.rows(connection, "wanted", "seq")
    found = connection.execute(
        sa.select(tables.records.c.seq, tables.records.c.body, tables.reasons.c.text).where(
            tables.records.c.seq == wanted.c.seq, tables.reasons.c.seq == wanted.c.seq
        ),
        {"wanted": json.dumps([[seq] for seq in sorted(set(seqs))])},
    )
    told = {}
    for seq, body, reason in found:
        actor = json.loads(body)["actor"]
        told[seq] = Said(user=actor["user"], sudo_user=actor["sudo_user"], reason=reason)
    return told
