"""What somebody must be told, and when: at once, every hour while it lasts, and when it is over."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sweeper.domain.summary import rfc3339

REPEAT: Final = timedelta(hours=1)
"""After how long an alarm that is still open is told again."""
TELLING: Final = timedelta(minutes=5)
"""For how long an alarm is left to the process that tells it.

Longer than a command may run, by more than the clocks of two machines may differ.
"""
_FIRST_RETRY: Final = timedelta(minutes=1)


class Kind(StrEnum):
    ACCOUNT_STOPPED = "account_stopped"
    OVERDUE = "overdue"
    INCIDENT = "incident"
    MISSED_RUN = "missed_run"


class State(StrEnum):
    OPEN = "open"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that is wrong now.

    `id` is the kind, or the kind and what it concerns: `overdue:support chats`. `next` says what
    to do. `fields` are plain values for the program that is told. One that does not open keeps an
    alarm that is open from being over, and is no reason for a new one.
    """

    id: str
    kind: Kind
    summary: str
    next: str
    fields: Mapping[str, object] = field(default_factory=dict)
    opens: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A condition as somebody was told of it, or is to be told of it.

    `told_at` is when it was last told as open. It is to be told again at `try_at`; `tries` counts
    since it was last heard, the one that is under way included.
    """

    condition: Condition
    opened_at: datetime
    told_at: datetime | None = None
    try_at: datetime
    tries: int = 0
    resolved_at: datetime | None = None

    @property
    def id(self) -> str:
        return self.condition.id

    @property
    def state(self) -> State:
        return State.OPEN if self.resolved_at is None else State.RESOLVED

    def is_due(self, now: datetime) -> bool:
        """Whether to tell it now: also where the clock was set back behind what was written.

        Another process, or one that has waited for the ledger, may be a little behind as well.
        """
        return self.try_at <= now or self.try_at - now > 2 * REPEAT

    @property
    def sentence(self) -> str:
        told = self.condition.summary
        return told if self.state is State.OPEN else f"Over: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a look changes: alarms to be written down, and those of them to be told now."""

    changed: Mapping[str, Alarm]
    to_tell: Sequence[Alarm]


def step(
    known: Mapping[str, Alarm],
    found: Sequence[Condition],
    judged: Collection[Kind],
    now: datetime,
    *,
    most: int,
    besides: Collection[str] = (),
) -> Step:
    """Open, end and take up alarms by what was found to be wrong.

    Only alarms of a kind that was `judged` are touched: of the others nothing is known now. Of
    those that are due, but for the ids `besides`, at most so many are taken, the longest due
    first.
    """
    wrong = {one.id: one for one in found if one.kind in judged}
    changed: dict[str, Alarm] = {}
    for condition in wrong.values():
        follows = _wrong(known.get(condition.id), condition, now)
        if follows is not None:
            changed[condition.id] = follows
    for one in known.values():
        if one.condition.kind in judged and one.id not in wrong and one.state is State.OPEN:
            changed[one.id] = replace(one, resolved_at=now, try_at=_at_once(one, now))
    due = [
        one
        for one in {**known, **changed}.values()
        if one.condition.kind in judged and one.is_due(now) and one.id not in besides
    ]
    due.sort(key=lambda one: (one.try_at, one.id))
    to_tell = [_taken(one, wrong.get(one.id), now) for one in due[:most]]
    return Step(changed={**changed, **{one.id: one for one in to_tell}}, to_tell=to_tell)


def settled(current: Alarm, taken: Alarm, *, heard: bool, now: datetime) -> Alarm | None:
    """What becomes of an alarm after it was told; None when there is nothing more to tell.

    `current` is the alarm as it stands now, `taken` as it was told: it may have ended or come
    back meanwhile, or be told by somebody else by now, and then it stays as it is.
    """
    if (current.tries, current.try_at) != (taken.tries, taken.try_at):
        return current
    if not heard:
        wait = min(_FIRST_RETRY * 2 ** (taken.tries - 1), REPEAT)
        return replace(current, try_at=now + wait)
    if taken.state is State.OPEN:
        again = now + REPEAT if current.state is State.OPEN else now
        return replace(current, told_at=now, tries=0, try_at=again)
    if current.state is State.OPEN:
        return replace(current, opened_at=now, told_at=None, tries=0, try_at=now)
    return None


def document(alarm: Alarm, now: datetime) -> dict[str, object]:
    """What the alarm command reads; times are RFC 3339, lengths in seconds."""
    is_open = alarm.state is State.OPEN
    return {
        "type": "alarm",
        "alarm": alarm.condition.kind.value,
        "id": alarm.id,
        "state": alarm.state.value,
        "opened_at": rfc3339(alarm.opened_at),
        "at": rfc3339(now),
        "summary": alarm.sentence,
        "next": alarm.condition.next if is_open else None,
        **alarm.condition.fields,
    }


def _wrong(known: Alarm | None, condition: Condition, now: datetime) -> Alarm | None:
    """The alarm that a condition opens or brings back; None where it changes nothing."""
    if not condition.opens:
        return None
    if known is None:
        return Alarm(condition=condition, opened_at=now, try_at=now)
    if known.state is State.OPEN:
        return None
    # Nobody has heard that it was over, so that for whoever was told it has gone on.
    again = now if known.told_at is None else known.told_at + REPEAT
    return replace(
        known,
        condition=condition,
        resolved_at=None,
        try_at=again if known.tries == 0 else known.try_at,
    )


def _at_once(known: Alarm, now: datetime) -> datetime:
    """When to tell that it is over: now, unless it is being told, or could not be told."""
    return now if known.tries == 0 else known.try_at


def _taken(one: Alarm, condition: Condition | None, now: datetime) -> Alarm:
    """Leave an alarm to this process for a while, with the numbers of now."""
    latest = condition or one.condition
    # Tries are counted as far as they lengthen the wait.
    return replace(one, condition=latest, tries=min(one.tries + 1, 8), try_at=now + TELLING)
