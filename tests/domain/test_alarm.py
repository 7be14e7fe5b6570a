"""Somebody is told at once, every hour while it lasts, and when it is over; never twice."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import alarm
from sweeper.domain.alarm import REPEAT, TELLING, Alarm, Condition, Kind, State, Step

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERY = frozenset(Kind)


def condition(name: str = "p", *, kind: Kind = Kind.OVERDUE, **given: Any) -> Condition:
    values: dict[str, Any] = {"summary": f"{name} is late", "next": "sweeper status"}
    return Condition(id=f"{kind}:{name}", kind=kind, **(values | given))


def step(
    known: Mapping[str, Alarm],
    *found: Condition,
    at: datetime = NOW,
    judged: Collection[Kind] = EVERY,
    most: int = 100,
    besides: Collection[str] = (),
) -> Step:
    return alarm.step(known, found, judged, at, most=most, besides=besides)


def one(found: Step) -> Alarm:
    (told,) = found.to_tell
    assert found.changed[told.id] == told
    return told


def heard(told: Alarm, *, at: datetime = NOW, current: Alarm | None = None) -> Alarm:
    follows = alarm.settled(current or told, told, heard=True, now=at)
    assert follows is not None
    return follows


def known(*alarms: Alarm) -> dict[str, Alarm]:
    return {each.id: each for each in alarms}


def an_open(name: str = "p", *, at: datetime = NOW) -> Alarm:
    """One that was opened, and told, at this moment."""
    return heard(one(step({}, condition(name), at=at)), at=at)


def test_what_is_wrong_is_told_at_once() -> None:
    told = one(step({}, condition()))
    assert (told.state, told.opened_at, told.tries) == (State.OPEN, NOW, 1)
    assert told.sentence == "p is late"


def test_nothing_wrong_is_nothing_told() -> None:
    assert step({}) == Step(changed={}, to_tell=[])


def test_what_is_being_told_is_not_taken_again_until_that_must_have_ended() -> None:
    told = one(step({}, condition()))
    early = step(known(told), condition(), at=NOW + TELLING - MINUTE)
    assert early == Step(changed={}, to_tell=[])
    again = one(step(known(told), condition(), at=NOW + TELLING))
    assert (again.opened_at, again.tries) == (NOW, 2)


def test_what_stays_wrong_is_told_every_hour_with_the_numbers_of_then() -> None:
    told = an_open()
    assert step(known(told), condition(), at=NOW + REPEAT - MINUTE).changed == {}
    worse = condition(fields={"responses": 9})
    again = one(step(known(told), worse, at=NOW + REPEAT))
    assert again.condition == worse
    assert again.opened_at == NOW
    after = heard(again, at=NOW + REPEAT)
    assert after.try_at == NOW + 2 * REPEAT


def test_what_is_over_is_told_once_and_then_forgotten() -> None:
    told = one(step(known(an_open()), at=NOW + MINUTE))
    assert (told.state, told.resolved_at) == (State.RESOLVED, NOW + MINUTE)
    assert told.sentence == "Over: p is late"
    assert alarm.settled(told, told, heard=True, now=NOW + MINUTE) is None


def test_what_was_not_judged_is_neither_opened_nor_ended_nor_told() -> None:
    before = an_open()
    missed = Condition(id="missed_run", kind=Kind.MISSED_RUN, summary="s", next="n")
    judged = EVERY - {Kind.OVERDUE}
    later = step(known(before), missed, condition("q"), at=NOW + REPEAT, judged=judged)
    assert list(later.changed) == ["missed_run"]


def test_a_command_that_fails_is_tried_again_after_longer_and_longer_up_to_an_hour() -> None:
    at, told, waits = NOW, one(step({}, condition())), []
    for _ in range(12):
        after = alarm.settled(told, told, heard=False, now=at)
        assert after is not None
        waits.append((after.try_at - at) // MINUTE)
        at = after.try_at
        assert step(known(after), condition(), at=at - MINUTE).to_tell == []
        told = one(step(known(after), condition(), at=at))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]
    assert heard(told, at=at).tries == 0


def test_what_ends_while_it_is_told_is_told_to_be_over_right_after() -> None:
    told = one(step({}, condition()))
    ended = step(known(told), at=NOW + MINUTE)
    assert ended.to_tell == []
    now = heard(told, current=ended.changed[told.id], at=NOW + MINUTE)
    assert (now.state, now.told_at) == (State.RESOLVED, NOW + MINUTE)
    assert one(step(known(now), at=NOW + MINUTE)).state is State.RESOLVED


def test_what_nobody_heard_of_is_still_told_when_it_is_over() -> None:
    told = one(step({}, condition()))
    failed = alarm.settled(told, told, heard=False, now=NOW)
    assert failed is not None
    ended = step(known(failed), at=NOW + timedelta(seconds=30))
    assert ended.to_tell == []
    last = one(step(ended.changed, at=failed.try_at))
    assert (last.state, last.told_at) == (State.RESOLVED, None)


def test_what_comes_back_before_its_end_was_heard_has_gone_on() -> None:
    told = an_open()
    ended = step(known(told), at=NOW + MINUTE, most=0).changed
    back = step(ended, condition(summary="again"), at=NOW + 2 * MINUTE)
    assert back.to_tell == []
    (now,) = back.changed.values()
    assert (now.state, now.opened_at, now.try_at) == (State.OPEN, NOW, NOW + REPEAT)
    assert now.sentence == "again"


def test_what_comes_back_and_was_never_heard_of_is_told_at_once() -> None:
    never = Alarm(condition=condition(), opened_at=NOW, try_at=NOW, resolved_at=NOW)
    assert one(step(known(never), condition(), at=NOW + MINUTE)).state is State.OPEN


def test_what_comes_back_while_its_end_is_told_is_told_as_new() -> None:
    ending = one(step(known(an_open()), at=NOW + MINUTE))
    back = step(known(ending), condition(), at=NOW + 2 * MINUTE)
    assert back.to_tell == []
    (current,) = back.changed.values()
    now = heard(ending, current=current, at=NOW + 2 * MINUTE)
    assert (now.state, now.opened_at, now.told_at) == (State.OPEN, NOW + 2 * MINUTE, None)
    assert one(step(known(now), condition(), at=NOW + 2 * MINUTE)).state is State.OPEN


def test_what_somebody_else_tells_by_now_stays_as_it_is() -> None:
    mine = one(step({}, condition()))
    theirs = one(step(known(mine), condition(), at=NOW + TELLING))
    for ok in (True, False):
        assert alarm.settled(theirs, mine, heard=ok, now=NOW + REPEAT) == theirs


def test_a_clock_that_was_set_back_keeps_nobody_from_being_told() -> None:
    told = an_open()
    before = NOW - timedelta(days=1)
    assert one(step(known(told), condition(), at=before)).state is State.OPEN


def test_one_whose_clock_is_a_little_behind_leaves_what_another_has_told() -> None:
    told = an_open()
    for behind in (timedelta(microseconds=1), MINUTE, 10 * MINUTE):
        assert step(known(told), condition(), at=NOW - behind).changed == {}


def test_what_only_keeps_an_alarm_open_opens_none() -> None:
    rest = condition(summary="not proved gone", opens=False)
    assert step({}, rest).changed == {}
    assert step(known(an_open()), rest, at=NOW + MINUTE).changed == {}
    again = one(step(known(an_open()), rest, at=NOW + REPEAT))
    assert again.sentence == "not proved gone"
    ended = replace(an_open(), resolved_at=NOW, try_at=NOW)
    assert one(step(known(ended), rest)).state is State.RESOLVED


def test_the_longest_due_are_taken_first_and_no_more_than_are_wanted() -> None:
    alarms = [an_open(name, at=NOW + index * MINUTE) for index, name in enumerate("cab")]
    conditions = [condition(name) for name in "abcd"]
    later = NOW + 2 * REPEAT
    first = step(known(*alarms), *conditions, at=later, most=2)
    assert [each.id for each in first.to_tell] == ["overdue:c", "overdue:a"]
    rest = step(known(*alarms), *conditions, at=later, besides={"overdue:c", "overdue:a"})
    assert [each.id for each in rest.to_tell] == ["overdue:b", "overdue:d"]


def test_the_document_tells_what_is_wrong_since_when_and_what_to_do() -> None:
    told = one(step({}, condition(fields={"policy": "p", "responses": 3})))
    assert alarm.document(told, NOW + MINUTE) == {
        "type": "alarm",
        "alarm": "overdue",
        "id": "overdue:p",
        "state": "open",
        "opened_at": "2026-06-01T12:00:00.000000Z",
        "at": "2026-06-01T12:01:00.000000Z",
        "summary": "p is late",
        "next": "sweeper status",
        "policy": "p",
        "responses": 3,
    }


def test_the_document_of_what_is_over_asks_for_nothing() -> None:
    told = one(step(known(an_open()), at=NOW + MINUTE))
    document = alarm.document(told, NOW + MINUTE)
    assert (document["state"], document["next"]) == ("resolved", None)
    assert document["summary"] == "Over: p is late"


LIFE = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 200)), max_size=60)


@given(LIFE)
def test_whatever_happens_somebody_is_told_the_truth_and_never_an_hour_too_late(
    life: list[tuple[bool, bool, int]],
) -> None:
    """`life` says at each look: is it wrong, does the command work, how long until the next."""
    at = tried = NOW
    alarms: dict[str, Alarm] = {}
    last_heard = State.RESOLVED
    for wrong, works, minutes in life:
        found = step(alarms, *([condition()] if wrong else []), at=at)
        alarms |= found.changed
        for told in found.to_tell:
            assert (told.state is State.OPEN) == wrong
            tried = at
            follows = alarm.settled(alarms[told.id], told, heard=works, now=at)
            alarms = known(*([] if follows is None else [follows]))
            last_heard = told.state if works else last_heard
        assert not (wrong and at - tried > REPEAT)
        assert alarms or (last_heard is State.RESOLVED and not wrong)
        at += minutes * MINUTE
