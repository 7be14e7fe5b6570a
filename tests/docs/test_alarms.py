"""docs/operations.md tells of every alarm, with each of its fields."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from sweeper.domain import alarm
from sweeper.domain.alarm import REPEAT, Alarm, Condition, Kind
from sweeper.domain.outcome import Breaker
from sweeper.domain.schedule import Missed
from sweeper.ledger.accounts import OpenBreaker
from sweeper.ledger.reports import Incident
from sweeper.ledger.sweeps import SweepRow
from sweeper.service.alarm import alarms, trouble
from sweeper.service.alarm import command as alarm_command
from sweeper.service.daemon import daemon
from sweeper.service.standing import Kept, Late, Stopped
from tests.docs import pages

PAGE = pages.section(pages.read("docs/operations.md"), "Alarms")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STOPPED = trouble._stopped(
    Stopped(
        by=OpenBreaker(
            account="main", breaker=Breaker.CREDENTIAL, opened_at=1, detail="401 to a GET"
        ),
        kept=Kept(count=3, oldest=timedelta(hours=18)),
    )
)
CONDITIONS = [
    STOPPED,
    trouble._withheld(
        SweepRow(
            id="s",
            started_at=1,
            finished_at=2,
            complete=False,
            stop_reason="guard",
            summary=None,
        ),
        "guard",
    ),
    trouble._late(Late(policy="p", count=1, oldest=timedelta(hours=1))),
    trouble._unknown(1, "d"),
    trouble._incident(Incident(account="main", count=1, readable=1)),
    *trouble.missed_run(Missed(count=1, first=NOW, last=NOW), None),
]
IDS = {
    "account_stopped:main:credential": "account_stopped:ACCOUNT:BREAKER",
    "account_stopped:guard": "account_stopped:guard",
    "overdue:p": "overdue:POLICY",
    "overdue": "overdue",
    "incident:main": "incident:ACCOUNT",
    "missed_run": "missed_run",
}


def _rows() -> list[tuple[str, str, str]]:
    """Of each row the kind, the id and what is said of the fields."""
    return re.findall(r"^\| `(\w+)` \|[^|]*\| `([\w:]+)` \|([^|]*)\|$", PAGE, re.MULTILINE)


def test_every_kind_of_alarm_is_told_and_no_other() -> None:
    assert {kind for kind, _, _ in _rows()} == {kind.value for kind in Kind}
    assert [(kind, name) for kind, name, _ in _rows()] == [
        (one.kind.value, IDS[one.id]) for one in CONDITIONS
    ]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: one.id)
def test_every_field_of_an_alarm_is_told(condition: Condition) -> None:
    (told,) = (fields for _, name, fields in _rows() if name == IDS[condition.id])

    assert pages.words(told) == set(condition.fields)


def test_the_example_is_what_the_code_makes() -> None:
    (text,) = re.findall(r"^```json\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
    made = Alarm(condition=STOPPED, opened_at=NOW, try_at=NOW)

    assert "\n" not in text
    assert text == json.dumps(alarm.document(made, NOW + timedelta(seconds=1)))


def test_the_variables_that_the_command_sees_are_told() -> None:
    (told,) = re.findall(r"of our environment only (.*?)\. What", PAGE, re.DOTALL)

    assert set(re.findall(r"`([A-Z]+)`", told)) == alarm_command._PASSED_ON
    assert "`LC_*`" in told


def test_the_times_that_are_told_are_those_of_the_code() -> None:
    assert (alarm_command.LONGEST, alarm_command.GRACE) == (30, 5)
    assert (alarms.AT_ONCE, alarms.AFTER_SWEEP) == (4, 60)
    assert timedelta(hours=1) == REPEAT
    # Nothing rings when a retry is due: somebody must look.
    assert "another try at the first look after 1, 2, 4 … minutes, an hour" in PAGE
    assert "The daemon looks every minute and after each sweep" in PAGE
    assert timedelta(minutes=1) == alarm._FIRST_RETRY
    assert daemon._ALARMS == 60
    # What is being told must be over before another process would tell it.
    longest = timedelta(seconds=alarm_command.LONGEST + alarm_command.GRACE)
    assert longest < alarm.TELLING
