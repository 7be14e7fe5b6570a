"""Turn events into log lines: one static name each, flat fields, no key and no content."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sweeper.domain import event, remedy
from sweeper.domain.event import Event
from sweeper.domain.outcome import Outcome
from sweeper.domain.summary import rfc3339

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_Plain = (
    event.SweepStarted
    | event.AccountChecked
    | event.BreakerClosed
    | event.KeyReplaced
    | event.PoliciesChanged
    | event.LedgerWaitedFor
    | event.LedgerBack
    | event.GuardRefused
    | event.ClaimsFreed
    | event.RowsSetAside
    | event.ClockDoubted
    | event.Throttled
    | event.DaemonStarted
    | event.DaemonStandsBy
    | event.DaemonStopping
    | event.DaemonStopped
    | event.DaemonFailed
    | event.ConfigurationDoubted
    | event.ConfigurationReloaded
    | event.ConfigurationRefused
    | event.RunsMissed
    | event.SweepWaits
    | event.SweepFailed
    | event.SpoolFileRegistered
    | event.SpoolFileLeft
    | event.AlarmTold
    | event.AlarmUntold
)
"""Events that are logged as they are, field by field."""


class EventLog:
    """Writes each event as one line; `response_ids` says whether lines may name responses."""

    def __init__(self, logger: "FilteringBoundLogger", *, response_ids: bool) -> None:
        self._logger = logger
        self._response_ids = response_ids

    def __call__(self, happened: Event) -> None:
        match happened:
            case event.ResponseSettled():
                self._settled(happened)
            case event.OutcomeUnwritten():
                self._unwritten(happened)
            case event.BreakerOpened():
                if happened.anew:
                    self._breaker(happened)
            case event.SweepFinished():
                numbers = {key: value for key, value in happened.numbers.items() if key != "type"}
                log = self._logger.info if happened.complete else self._logger.warning
                log(happened.name, **numbers)
            case (
                event.ClockDoubted()
                | event.GuardRefused()
                | event.RowsSetAside()
                | event.ConfigurationRefused()
                | event.SweepFailed()
                | event.DaemonFailed()
                | event.AlarmUntold()
            ):
                self._logger.error(happened.name, **_fields(happened))
            case (
                event.ClaimsFreed()
                | event.LedgerWaitedFor()
                | event.Throttled()
                | event.RunsMissed()
                | event.SpoolFileLeft()
                | event.ConfigurationDoubted()
            ):
                self._logger.warning(happened.name, **_fields(happened))
            case event.SpoolFileRegistered():
                log = self._logger.info if happened.is_well else self._logger.warning
                log(happened.name, **_fields(happened))
            case _:
                self._logger.info(happened.name, **_fields(happened))

    def _settled(self, happened: event.ResponseSettled) -> None:
        fields: dict[str, object] = {
            "sweep_id": happened.sweep_id,
            "account": happened.account,
            "policy": happened.policy,
            "outcome": happened.outcome.value,
            "verified": happened.verified,
            "attempt": happened.attempt,
            "status": happened.status,
            "overdue_seconds": _seconds(happened.overdue),
        }
        if self._response_ids:
            fields["response_id"] = happened.response_id
        if happened.next_try_at is not None:
            fields["next_try_at"] = _instant(happened.next_try_at)
        if happened.late:
            fields["late"] = True
        match happened.outcome:
            case Outcome.STILL_PRESENT:
                self._logger.error(happened.name, **fields)
            case Outcome.REJECTED | Outcome.NOT_VISIBLE | Outcome.UNCONFIRMED | Outcome.FAILING:
                self._logger.warning(happened.name, **fields)
            case _:
                self._logger.info(happened.name, **fields)

    def _unwritten(self, happened: event.OutcomeUnwritten) -> None:
        fields: dict[str, object] = {
            "sweep_id": happened.sweep_id,
            "account": happened.account,
            "answer": happened.answer,
            "status": happened.status,
        }
        if self._response_ids:
            fields["response_id"] = happened.response_id
        self._logger.error(happened.name, **fields)

    def _breaker(self, happened: event.BreakerOpened) -> None:
        fields: dict[str, object] = {
            "account": happened.account,
            "breaker": happened.breaker.value,
            "detail": happened.detail,
            "kept_past_its_time": happened.kept,
            "oldest_due_at": _instant(happened.oldest_due_at),
            "hint": remedy.of_stop(happened.account, happened.breaker),
        }
        if happened.settled_absent and self._response_ids:
            fields["settled_absent_since_last_yes"] = list(happened.settled_absent)
        self._logger.error(happened.name, **fields)


def _fields(happened: _Plain) -> dict[str, object]:
    """The event's own fields, in the order in which it names them, and what to do next."""
    fields: dict[str, object] = {}
    for each in dataclasses.fields(happened):
        value = getattr(happened, each.name)
        match value:
            case Mapping():
                fields[each.name] = dict(value)
            case StrEnum():
                fields[each.name] = value.value
            case float():
                fields[each.name] = round(value, 3)
            case datetime():
                fields[each.name] = rfc3339(value)
            case tuple():
                fields[each.name] = list(value)
            case _:
                fields[each.name] = value
    match happened:
        case event.GuardRefused():
            fields["hint"] = remedy.OF_WITHHELD["guard"]
        case event.ClockDoubted():
            fields["hint"] = remedy.OF_WITHHELD["clock"]
        case _:
            pass
    return fields


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _instant(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
