"""Which alarms are open: in the ledger, and in memory for as long as the ledger cannot be used."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper import errors
from sweeper.domain import alarm
from sweeper.domain.alarm import Alarm, Condition, Kind, Step
from sweeper.ledger import alarms
from sweeper.ledger.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look has found, of the kinds that it judged, and what it has told already."""

    found: Sequence[Condition]
    judged: Collection[Kind]
    told: Collection[str]
    most: int

    def step(self, known: Mapping[str, Alarm], now: datetime) -> Step:
        return alarm.step(known, self.found, self.judged, now, most=self.most, besides=self.told)


class Book:
    """The alarms at a ledger as this process knows them; every call blocks."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._known: dict[str, Alarm] = {}
        self._unwritten: dict[str, Alarm | None] = {}

    def take(self, look: Look, now: datetime) -> Sequence[Alarm]:
        """Note what is wrong and what is over, and take what is to be told now.

        What is taken here no other process takes.
        """
        with self._lock:
            try:
                return self._take(look, now)
            except errors.LedgerError:
                taken = look.step(self._known, now)
                self._note(taken.changed)
                return taken.to_tell

    def settle(self, taken: Alarm, now: datetime, *, heard: bool) -> None:
        """Note whether an alarm that was taken was heard."""
        with self._lock:
            try:
                with self._db.write() as connection:
                    self._catch_up(connection)
                    known = alarms.every(connection, locked=True)
                    follows = _settled(known, taken, now, heard=heard)
                    _write(connection, taken.id, known, follows)
                self._written(known, {taken.id: follows})
            except errors.LedgerError:
                self._note({taken.id: _settled(self._known, taken, now, heard=heard)})

    def _take(self, look: Look, now: datetime) -> Sequence[Alarm]:
        with self._db.read() as connection:
            known = alarms.every(connection)
        if not self._unwritten and not look.step(known, now).changed:
            self._known = known
            return ()
        with self._db.write() as connection:
            self._catch_up(connection)
            known = alarms.every(connection, locked=True)
            taken = look.step(known, now)
            # In one order, so that of two processes that open several none locks the other out.
            lost = {
                key
                for key in sorted(taken.changed)
                if not _write(connection, key, known, taken.changed[key])
            }
        self._written(known, {key: one for key, one in taken.changed.items() if key not in lost})
        return [one for one in taken.to_tell if one.id not in lost]

    def _catch_up(self, connection: "Connection") -> None:
        """Write down what could not be written before."""
        if self._unwritten:
            known = alarms.every(connection, locked=True)
            for key in sorted(self._unwritten):
                _write(connection, key, known, self._unwritten[key])

    def _written(self, known: Mapping[str, Alarm], changed: Mapping[str, Alarm | None]) -> None:
        self._known = _merged(known, changed)
        self._unwritten.clear()

    def _note(self, changed: Mapping[str, Alarm | None]) -> None:
        self._known = _merged(self._known, changed)
        self._unwritten.update(changed)


def _settled(
    known: Mapping[str, Alarm], taken: Alarm, now: datetime, *, heard: bool
) -> Alarm | None:
    current = known.get(taken.id)
    return None if current is None else alarm.settled(current, taken, heard=heard, now=now)


def _write(
    connection: "Connection", key: str, known: Mapping[str, Alarm], one: Alarm | None
) -> bool:
    """Make the ledger's alarm of this id this one; False where another process was quicker."""
    if one is None:
        alarms.drop(connection, key)
        return True
    if key not in known:
        return alarms.add(connection, one)
    alarms.keep(connection, one)
    return True


def _merged(known: Mapping[str, Alarm], changed: Mapping[str, Alarm | None]) -> dict[str, Alarm]:
    both = {**known, **changed}
    return {key: one for key, one in both.items() if one is not None}
