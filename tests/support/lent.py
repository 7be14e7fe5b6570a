"""Claim and settle responses in a test's ledger, with everything else given."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.outcome import Outcome, Settlement
from sweeper.domain.response import State
from sweeper.evidence.record import RecordType
from sweeper.ledger import claims, outcomes, tables
from sweeper.ledger.claims import Claim, Terms, Wanted
from sweeper.ledger.database import Database
from sweeper.ledger.outcomes import Settled, Written
from sweeper.ledger.records import Entry
from tests.support.registered import NOW, NOW_US, by_id

EVERY = 2**62
"""A newest key, or a cut-off, that everything lies below."""
SECOND = 1_000_000

YES = Settlement(state=State.VERIFYING, yes=True, touched=True, verify_at=NOW)
DELETED = Settlement(state=State.GONE, outcome=Outcome.DELETED, yes=True, touched=True)
VERIFIED = Settlement(state=State.GONE, outcome=Outcome.DELETED, verified=True)
UNDECIDED = Settlement(state=State.VERIFYING, counted=True, verify_at=NOW + timedelta(seconds=2))
GIVEN_BACK = Settlement(state=State.LIVE)
REJECTED = Settlement(state=State.QUARANTINED, outcome=Outcome.REJECTED, counted=True)


def absent(outcome: Outcome) -> Settlement:
    return Settlement(state=State.GONE, outcome=outcome)


def again(
    outcome: Outcome, *, touched: bool = False, after: timedelta = timedelta(0)
) -> Settlement:
    return Settlement(
        state=State.LIVE, outcome=outcome, counted=True, touched=touched, next_try_at=NOW + after
    )


def put(db: Database, response_id: str, **values: object) -> None:
    """Change a response behind everybody's back."""
    with db.write() as connection:
        changed = connection.execute(
            sa.update(tables.responses)
            .where(tables.responses.c.response_id == response_id)
            .values(**values)
        )
    assert changed.rowcount == 1


def account_id(db: Database, name: str = "main") -> int:
    with db.read() as connection:
        found: int = connection.execute(
            sa.select(tables.accounts.c.id).where(tables.accounts.c.name == name)
        ).scalar_one()
    return found


def terms(account: int, **given: Any) -> Terms:
    values: dict[str, Any] = {
        "account_id": account,
        "sweep_id": "sweep-1",
        "token": secrets.token_hex(16),
        "newest_pk": EVERY,
        "now": NOW_US,
        "deadline": NOW_US + 15 * SECOND,
    }
    return Terms(**(values | given))


def wanted(db: Database, *names: str, cutoff: int = EVERY) -> list[Wanted]:
    known = by_id(db)
    return [Wanted(known[name]["id"], known[name]["label_set_id"], cutoff) for name in names]


def take(
    db: Database, *names: str, cutoff: int = EVERY, account: str = "main", **given: Any
) -> list[Claim]:
    """Claim responses by name in a transaction of its own."""
    rows, agreed = wanted(db, *names, cutoff=cutoff), terms(account_id(db, account), **given)
    with db.write() as connection:
        return claims.take(connection, rows, agreed)


def only(taken: Sequence[Claim]) -> Claim:
    """The one claim that was taken."""
    (claim,) = taken
    return claim


def verifications(
    db: Database, limit: int = 100, *, account: str = "main", **given: Any
) -> list[Claim]:
    agreed = terms(account_id(db, account), **given)
    with db.write() as connection:
        return claims.take_verifications(connection, limit, agreed)


def settled(claim: Claim, settlement: Settlement, **given: Any) -> Settled:
    """A claim with what becomes of it; an outcome comes with its record, as it always must."""

    def entry(outcome: Outcome) -> Entry:
        evidence = {"status": 200, "body": "ok", "verify_get": 404}
        fields = {
            "item": claim.item,
            "outcome": outcome.value,
            "verified": settlement.verified,
            "evidence": evidence if outcome is Outcome.DELETED else None,
            "supersedes": claim.record_seq,
        }
        return Entry(type=RecordType.DELETION_OUTCOME, fields=fields)

    values: dict[str, Any] = {"at": NOW_US, "key": "key-1"}
    if settlement.yes:
        values |= {"answer": "yes", "status": 200}
    if settlement.outcome is not None:
        values["entry"] = entry(settlement.outcome)
    elif settlement.yes:
        values["late_entry"] = partial(entry, Outcome.DELETED)
    return Settled(claim=claim, settlement=settlement, **(values | given))


def settle(
    db: Database, batch: Sequence[Settled], *, sweep_id: str = "sweep-1", now: int = NOW_US
) -> Written:
    with db.write() as connection:
        return outcomes.settle(connection, batch, sweep_id=sweep_id, now=now)


def free(db: Database, account: str = "main") -> int:
    key = account_id(db, account)
    with db.write() as connection:
        return claims.free(connection, key)


def us(after: timedelta) -> int:
    return moment.to_us(NOW + after)


def wait_for_a_lock(db: Database) -> None:
    """Return once some connection of PostgreSQL waits for what another has locked."""
    waiting = 0
    while not waiting:
        with db.read() as connection:
            waiting = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_locks WHERE NOT granted"
            ).scalar_one()
