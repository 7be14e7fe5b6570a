"""Keep the alarms that are open or not yet told to be over, for every process at this ledger."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.domain.alarm import Alarm, Condition, Kind
from sweeper.ledger import database, tables

_T = tables.alarms


def every(connection: sa.Connection, *, locked: bool = False) -> dict[str, Alarm]:
    """All alarms by their ids; `locked` in a writing transaction that goes on to change them."""
    statement = sa.select(_T).order_by(_T.c.id)
    if locked:
        statement = statement.with_for_update()
    return {row.id: _alarm(row) for row in connection.execute(statement)}


def add(connection: sa.Connection, alarm: Alarm) -> bool:
    """Write down a new alarm; says whether it is one, as another process may be quicker."""
    added = connection.execute(
        database.insert_missing(connection, _T).values(_values(alarm)).returning(_T.c.id)
    )
    return added.one_or_none() is not None


def keep(connection: sa.Connection, alarm: Alarm) -> None:
    """Write an alarm over the one of the same id."""
    connection.execute(sa.update(_T).where(_T.c.id == alarm.id).values(_values(alarm)))


def drop(connection: sa.Connection, alarm_id: str) -> None:
    connection.execute(sa.delete(_T).where(_T.c.id == alarm_id))


def _alarm(row: Any) -> Alarm:
    told = json.loads(row.body)
    return Alarm(
        condition=Condition(
            id=row.id,
            kind=Kind(row.kind),
            summary=told["summary"],
            next=told["next"],
            fields=told["fields"],
        ),
        opened_at=moment.from_us(row.opened_at),
        told_at=_moment(row.told_at),
        try_at=moment.from_us(row.try_at),
        tries=row.tries,
        resolved_at=_moment(row.resolved_at),
    )


def _values(alarm: Alarm) -> dict[str, object]:
    told = alarm.condition
    return {
        "id": told.id,
        "kind": told.kind.value,
        "opened_at": moment.to_us(alarm.opened_at),
        "body": json.dumps(
            {"summary": told.summary, "next": told.next, "fields": dict(told.fields)}
        ),
        "told_at": _us(alarm.told_at),
        "try_at": moment.to_us(alarm.try_at),
        "tries": alarm.tries,
        "resolved_at": _us(alarm.resolved_at),
    }


def _moment(us: int | None) -> datetime | None:
    return None if us is None else moment.from_us(us)


def _us(at: datetime | None) -> int | None:
    return None if at is None else moment.to_us(at)
