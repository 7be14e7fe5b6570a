"""What the ledger knows of provider accounts: identity, breakers, controls and sightings."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import HMAC

import sqlalchemy as sa

from sweeper import errors
from sweeper.domain.notfound import NotFound
from sweeper.domain.outcome import Breaker
from sweeper.domain.secret import Secret
from sweeper.evidence.record import RecordType
from sweeper.ledger import database, records, sightings, tables
from sweeper.ledger.records import Entry

_A = tables.accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """One account as the ledger knows it; times in microseconds.

    `identity` is the account that this name was pinned to at first use. `get_seen_key` is the
    fingerprint of the key to which a GET by id has answered 200 here.
    """

    id: int
    name: str
    provider: str | None
    base_url: str | None
    pinned_account_id: str | None
    key_fingerprint: str | None
    identity: str | None
    get_seen_key: str | None
    not_found: NotFound
    last_yes_at: int | None
    control_at: int | None
    control: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """A breaker that stops an account, since when, and what was seen."""

    account: str
    breaker: Breaker
    opened_at: int
    detail: str


def ensure(connection: sa.Connection, names: Iterable[str]) -> Mapping[str, int]:
    """Give each name a row, and return their keys."""
    wanted = sorted(set(names))
    known = _ids(connection, wanted)
    missing = [name for name in wanted if name not in known]
    for name in missing:
        connection.execute(database.insert_missing(connection, _A).values(name=name))
    return _ids(connection, wanted) if missing else known


def _ids(connection: sa.Connection, names: list[str]) -> dict[str, int]:
    found = database.rows(connection, "names", "name:text")
    return {
        row.name: row.id
        for row in connection.execute(
            sa.select(_A.c.name, _A.c.id).where(_A.c.name.in_(sa.select(found.c.name))),
            {"names": json.dumps([[name] for name in names])},
        )
    }


def get(connection: sa.Connection, name: str) -> AccountRow | None:
    rows = [row for row in every(connection) if row.name == name]
    return rows[0] if rows else None


def every(connection: sa.Connection) -> list[AccountRow]:
    return [
        AccountRow(
            id=row.id,
            name=row.name,
            provider=row.provider,
            base_url=row.base_url,
            pinned_account_id=row.pinned_account_id,
            key_fingerprint=row.key_fingerprint,
            identity=row.identity,
            get_seen_key=row.get_seen_key,
            not_found=NotFound(recent=row.not_found_recent, expect_absent=row.expect_absent),
            last_yes_at=row.last_yes_at,
            control_at=row.control_at,
            control=row.control,
        )
        for row in connection.execute(sa.select(_A).order_by(_A.c.name))
    ]


def fingerprint(connection: sa.Connection, key: Secret) -> str:
    """Eight hex digits that tell this ledger's keys apart and mean nothing elsewhere."""
    salt = connection.execute(sa.select(tables.ledger.c.fingerprint_salt)).scalar_one()
    return HMAC(bytes.fromhex(salt), key.reveal().encode(), sha256).hexdigest()[:8]


def identity(
    *, provider: str, base_url: str, pinned_account_id: str | None, key_fingerprint: str
) -> str:
    """The account that a configuration reaches: the named one, or whoever the key stands for."""
    whose = f"key:{key_fingerprint}" if pinned_account_id is None else pinned_account_id
    return f"{provider}|{base_url}|{whose}"


def pin(
    connection: sa.Connection,
    account_id: int,
    *,
    provider: str,
    base_url: str,
    pinned_account_id: str | None,
    key_fingerprint: str,
    reason: str | None,
    actor: Mapping[str, object] | None = None,
    now: int,
) -> None:
    """Bind a name to the account it reaches, at first use or by a person's word.

    That word is `reason`, given by `actor`.

    At first use a name that was bound to the same account meanwhile stays as it is. A person's
    word drops what was seen, missed and expected before: it means nothing at another account.
    Raises ConfigurationError where another name is bound to that account already, or where this
    name was bound to another account meanwhile.
    """
    new = identity(
        provider=provider,
        base_url=base_url,
        pinned_account_id=pinned_account_id,
        key_fingerprint=key_fingerprint,
    )
    told = {"provider": provider, "key_fingerprint": key_fingerprint}
    values = {**told, "base_url": base_url, "pinned_account_id": pinned_account_id, "identity": new}
    _check_free(connection, account_id, new)
    name = _bind(connection, account_id, values, anew=reason is not None)
    if name is None:
        _check_bound(connection, account_id, new)
        return
    fields = {"account": name, **told, "named": pinned_account_id is not None}
    _written(connection, RecordType.ACCOUNT_PINNED, fields, (reason, actor), now)


def _check_free(connection: sa.Connection, account_id: int, new: str) -> None:
    other = connection.execute(
        sa.select(_A.c.name).where(_A.c.identity == new, _A.c.id != account_id)
    ).scalar_one_or_none()
    if other is not None:
        raise errors.ConfigurationError(
            f"this account is already known to the ledger as {other!r}",
            hint="configure each provider account once",
        )


def _bind(
    connection: sa.Connection, account_id: int, values: Mapping[str, object], *, anew: bool
) -> str | None:
    """Write what a name is bound to, and return the name; None where it was, and is not `anew`."""
    bound = sa.update(_A).where(_A.c.id == account_id).values(**values).returning(_A.c.name)
    if not anew:
        bound = bound.where(_A.c.identity.is_(None))
    name: str | None = connection.execute(bound).scalar_one_or_none()
    if name is not None and anew:
        sightings.forget(connection, account_id)
        save_not_found(connection, account_id, NotFound())
    return name


def _check_bound(connection: sa.Connection, account_id: int, new: str) -> None:
    row = connection.execute(sa.select(_A.c.name, _A.c.identity).where(_A.c.id == account_id)).one()
    if row.identity != new:
        raise errors.ConfigurationError(
            f"account {row.name} was bound to another provider account meanwhile",
            hint=f"if this one is meant: sweeper account accept {row.name} --reason ...",
        )


def change_key(connection: sa.Connection, row: AccountRow, new: str, *, now: int) -> None:
    """Note that the same account is now reached by another key."""
    connection.execute(sa.update(_A).where(_A.c.id == row.id).values(key_fingerprint=new))
    fields = {"account": row.name, "from": row.key_fingerprint, "to": new}
    entry = Entry(type=RecordType.CREDENTIAL_CHANGED, fields=fields)
    records.append(connection, [entry], now=now)


def open_breaker(
    connection: sa.Connection, row: AccountRow, breaker: Breaker, detail: str, *, now: int
) -> bool:
    """Stop an account; returns whether it was not stopped by this breaker before."""
    table = tables.breakers
    opened = connection.execute(
        database.insert_missing(connection, table)
        .values(account_id=row.id, breaker=breaker.value, opened_at=now, detail=detail)
        .returning(table.c.opened_at)
    ).one_or_none()
    if opened is None:
        return False
    fields = {"account": row.name, "breaker": breaker.value}
    entry = Entry(type=RecordType.BREAKER_OPENED, fields=fields)
    records.append(connection, [entry], now=now)
    return True


def close_breakers(
    connection: sa.Connection,
    row: AccountRow,
    breakers: Iterable[Breaker],
    *,
    reason: str | None,
    actor: Mapping[str, object] | None = None,
    now: int,
) -> list[Breaker]:
    """Let an account go on; returns the breakers that were open.

    Like all that writes records it comes last in its transaction, after what else it changes of
    the account: the log's head is locked after every other row.
    """
    table = tables.breakers
    closed = []
    for breaker in breakers:
        gone = connection.execute(
            sa.delete(table).where(table.c.account_id == row.id, table.c.breaker == breaker.value)
        )
        if gone.rowcount:
            closed.append(breaker)
    for breaker in closed:
        fields = {"account": row.name, "breaker": breaker.value}
        _written(connection, RecordType.BREAKER_CLOSED, fields, (reason, actor), now)
    return closed


def open_breakers(connection: sa.Connection, name: str | None = None) -> list[OpenBreaker]:
    table = tables.breakers
    statement = (
        sa.select(_A.c.name, table.c.breaker, table.c.opened_at, table.c.detail)
        .join_from(table, _A, table.c.account_id == _A.c.id)
        .order_by(_A.c.name, table.c.opened_at, table.c.breaker)
    )
    if name is not None:
        statement = statement.where(_A.c.name == name)
    return [
        OpenBreaker(
            account=row.name,
            breaker=_known(row.breaker),
            opened_at=row.opened_at,
            detail=row.detail,
        )
        for row in connection.execute(statement)
    ]


def _known(breaker: str) -> Breaker:
    """A stop for a reason that is not known here is still a stop: it is never passed over."""
    try:
        return Breaker(breaker)
    except ValueError:
        raise errors.LedgerError(
            f"the ledger has an account stopped for a reason nobody knows: {breaker!r:.80}",
            hint="a newer version wrote it, or a person did: use that version, or ask that person",
        ) from None


def save_not_found(connection: sa.Connection, account_id: int, seen: NotFound) -> None:
    connection.execute(
        sa.update(_A)
        .where(_A.c.id == account_id)
        .values(not_found_recent=seen.recent, expect_absent=seen.expect_absent)
    )


def save_control(connection: sa.Connection, account_id: int, outcome: str, *, now: int) -> None:
    """Keep when the account was last checked and with what result, for people to see."""
    connection.execute(
        sa.update(_A).where(_A.c.id == account_id).values(control_at=now, control=outcome)
    )


def _written(
    connection: sa.Connection,
    type: RecordType,  # noqa: A002 - the field's name in every record
    fields: Mapping[str, object],
    word: tuple[str | None, Mapping[str, object] | None],
    now: int,
) -> None:
    reason, actor = word
    if actor is not None:
        fields = {**fields, "actor": actor}
    if reason is None:
        records.append(connection, [Entry(type=type, fields=fields)], now=now)
    else:
        records.append_with_reason(connection, type, fields, reason=reason, now=now)
