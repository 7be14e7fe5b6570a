"""What an API key has seen at an account, and which responses are best looked for."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from sweeper.ledger import database, tables

_A = tables.accounts
_R = tables.responses
_SETS = tables.label_sets
_SEEN = tables.sightings

_NEVER = 2**63 - 1

_LIVE: sa.ColumnElement[str] = sa.literal_column("'live'")
_ALREADY_ABSENT: sa.ColumnElement[str] = sa.literal_column("'already_absent'")


def save(
    connection: sa.Connection,
    account_id: int,
    *,
    key: str,
    label_sets: Iterable[int],
    get_seen: bool,
    yes_at: int | None,
    now: int,
) -> None:
    """Keep what a key has seen: label sets by a yes or a GET 200, and that a GET by id works."""
    values: dict[str, object] = {}
    if get_seen:
        values["get_seen_key"] = key
    if yes_at is not None:
        values["last_yes_at"] = yes_at
    if values:
        connection.execute(sa.update(_A).where(_A.c.id == account_id).values(values))
    for label_set_id in sorted(set(label_sets) - label_sets_seen(connection, account_id, key)):
        connection.execute(
            database.insert_missing(connection, _SEEN).values(
                label_set_id=label_set_id, key_fingerprint=key, seen_at=now
            )
        )


def label_sets_seen(connection: sa.Connection, account_id: int, key: str) -> set[int]:
    """The label sets of which this key has seen a response."""
    return set(
        connection.execute(
            sa.select(_SEEN.c.label_set_id)
            .join_from(_SEEN, _SETS, _SEEN.c.label_set_id == _SETS.c.id)
            .where(_SETS.c.account_id == account_id, _SEEN.c.key_fingerprint == key)
        ).scalars()
    )


def newest_live(connection: sa.Connection, account_id: int, most: int) -> Sequence[tuple[str, int]]:
    """Up to `most` live responses that a working key should see: the newest of the largest sets."""
    largest = connection.execute(
        sa.select(_SETS.c.id)
        .where(_SETS.c.account_id == account_id, _SETS.c.live_count > 0)
        .order_by(_SETS.c.live_count.desc(), _SETS.c.id)
        .limit(most)
    ).scalars()
    return newest(connection, [(key, _NEVER) for key in largest], most)


def newest_of(connection: sa.Connection, label_set_id: int, most: int) -> Sequence[tuple[str, int]]:
    """Up to `most` live responses of one label set, newest first."""
    return newest(connection, [(label_set_id, _NEVER)], most)


def newest(
    connection: sa.Connection, cuts: Iterable[tuple[int, int]], most: int
) -> Sequence[tuple[str, int]]:
    """Up to `most` live responses of these (label set, cut-off), newest first in each."""
    found: list[tuple[str, int]] = []
    for label_set_id, cutoff in cuts:
        if len(found) >= most:
            break
        rows = connection.execute(
            sa.select(_R.c.response_id, _R.c.label_set_id)
            .where(
                _R.c.label_set_id == label_set_id, _R.c.created_at <= cutoff, _R.c.state == _LIVE
            )
            .order_by(_R.c.created_at.desc(), _R.c.id.desc())
            .limit(most - len(found))
        )
        found += [(row.response_id, row.label_set_id) for row in rows]
    return found


def absent_since_yes(connection: sa.Connection, account_id: int, most: int) -> Sequence[str]:
    """Responses that settled as already absent since the provider's last yes, oldest first."""
    last_yes = sa.select(sa.func.coalesce(_A.c.last_yes_at, 0)).where(_A.c.id == account_id)
    return (
        connection.execute(
            sa.select(_R.c.response_id)
            .where(
                _R.c.account_id == account_id,
                _R.c.outcome == _ALREADY_ABSENT,
                _R.c.finished_at >= last_yes.scalar_subquery(),
            )
            .order_by(_R.c.finished_at, _R.c.id)
            .limit(most)
        )
        .scalars()
        .all()
    )


def forget(connection: sa.Connection, account_id: int) -> None:
    """Drop what keys have seen at an account: its name has been bound to another one."""
    connection.execute(sa.update(_A).where(_A.c.id == account_id).values(get_seen_key=None))
    sets = sa.select(_SETS.c.id).where(_SETS.c.account_id == account_id)
    connection.execute(sa.delete(_SEEN).where(_SEEN.c.label_set_id.in_(sets)))
