"""`sweeper run` sweeps by itself, catches up, stands by, and ends in good order."""

import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sweeper.domain import moment
from sweeper.ledger import tables
from tests.daemon.conftest import Start
from tests.support import command, truth
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

HOURLY = '[schedule]\ncron = "0 0 1 1 *"\n'
OFTEN = '[schedule]\nevery = "1s"\n'


def test_the_first_sweep_runs_at_once_and_everything_due_is_deleted(
    either: Rehearsal, start: Start
) -> None:
    either.responses(12)
    either.responses(3, age=timedelta(days=1))
    either.write(HOURLY)
    daemon = start(either.config)
    finished = daemon.wait("sweep_finished")
    assert finished["complete"], daemon.lines
    assert daemon.end() == 0
    assert either.stored() == either.ids - either.due
    assert truth.violations(either) == []
    assert [line["event"] for line in daemon.lines[-2:]] == ["daemon_stopping", "daemon_stopped"]


def test_the_schedule_rings_again_and_again(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(OFTEN)
    daemon = start(rehearsal.config)
    for number in range(1, 4):
        daemon.wait("sweep_finished", number)
    rehearsal.responses(2)
    wait_for(lambda: not rehearsal.stored() & rehearsal.due, "deletion")
    assert daemon.end() == 0


def test_nothing_runs_before_its_time_after_a_finished_sweep(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(HOURLY)
    assert command.process("-c", rehearsal.config, "sweep").code == 0
    rehearsal.responses(2)
    daemon = start(rehearsal.config)
    daemon.wait("daemon_started")
    assert daemon.end() == 0
    assert daemon.of("sweep_started") == []
    assert rehearsal.requests("DELETE") == 0


def test_a_restart_catches_up_and_tells_what_was_missed(either: Rehearsal, start: Start) -> None:
    either.write('[schedule]\nevery = "1h"\n')
    first = start(either.config)
    first.wait("sweep_finished")
    assert first.end() == 0
    hours = 5
    either.age_sweeps(timedelta(hours=hours))
    either.responses(3)
    second = start(either.config)
    missed = second.wait("runs_missed")
    assert missed["level"] == "warning"
    assert missed["count"] in {hours - 1, hours}
    assert second.wait("sweep_finished")["complete"]
    assert second.end() == 0
    third = start(either.config)
    third.wait("daemon_started")
    assert third.end() == 0
    assert third.of("runs_missed") == []
    assert third.of("sweep_started") == []


def test_a_sweep_that_died_is_done_again_at_once(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(HOURLY)
    rehearsal.responses(8)
    rehearsal.fault(method="DELETE", delay=0.3)
    first = start(rehearsal.config)
    rehearsal.wait_for_deletes(3)
    first.end(signal.SIGKILL)
    rehearsal.mend()
    second = start(rehearsal.config)
    second.wait("sweep_finished")
    assert second.end() == 0
    assert truth.violations(rehearsal) == []
    assert truth.unsettled(rehearsal) == []


def test_a_bell_during_a_sweep_is_remembered_once(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(OFTEN, in_flight=1)
    rehearsal.responses(6)
    rehearsal.fault(method="DELETE", delay=0.7)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished", 2)
    assert daemon.end() == 0
    begun = [_moment(line["started_at"]) for line in daemon.of("sweep_finished")]
    ended = [_moment(line["finished_at"]) for line in daemon.of("sweep_finished")]
    assert ended[0] - begun[0] > timedelta(seconds=3)
    assert timedelta(0) <= begun[1] - ended[0] < timedelta(seconds=0.9)
    with rehearsal.database() as db, db.read() as connection:
        rows = connection.execute(
            sa.select(sa.func.count()).where(tables.sweeps.c.started_at < moment.to_us(ended[0]))
        ).scalar_one()
    assert rows == 1


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_what_is_to_be_tried_again_rings_the_bell_itself(either: Rehearsal, start: Start) -> None:
    either.write(HOURLY)
    either.responses(2)
    either.fault(method="DELETE", status=503, times=4)
    daemon = start(either.config)
    daemon.wait("sweep_finished")
    wait_for(lambda: not either.stored() & either.due, "second try")
    wait_for(lambda: truth.unsettled(either) == [], "settlement")
    assert daemon.end() == 0
    assert truth.violations(either) == []


def test_what_comes_due_again_while_a_sweep_sends_its_last_rings_the_bell_too(
    either: Rehearsal, start: Start
) -> None:
    either.write(HOURLY)
    [failing] = either.responses(1)
    either.fault(method="DELETE", status=503, times=1)
    assert command.process("-c", either.config, "sweep").code == 3
    either.change(tables.responses, next_try_at=_in(timedelta(days=1)))
    either.age_sweeps(timedelta(days=400))
    either.responses(1)
    either.fault(method="DELETE", delay=2.0, times=1)
    daemon = start(either.config)
    either.wait_for_deletes(2)
    # This sweep has looked for the last time, and its last answer is still to come.
    either.change(tables.responses, next_try_at=_in(timedelta(seconds=0.5)))
    wait_for(lambda: failing not in either.stored(), "second try")
    assert daemon.end() == 0
    assert len(daemon.of("sweep_finished")) == 2


def _in(wait: timedelta) -> int:
    return moment.to_us(datetime.now(UTC) + wait)


def test_a_stop_that_is_lifted_rings_the_bell(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(HOURLY)
    rehearsal.responses(2)
    rehearsal.use_key("fw_wrong_key_000000000000")
    daemon = start(rehearsal.config)
    assert daemon.wait("breaker_opened")["breaker"] == "credential"
    daemon.wait("sweep_finished")
    rehearsal.use_key(rehearsal.sandbox.key)
    checked = command.process("-c", rehearsal.config, "account", "check", "main")
    assert checked.code == 0, checked.err
    wait_for(lambda: not rehearsal.stored() & rehearsal.due, "deletion after the stop was lifted")
    assert daemon.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_what_is_in_flight_and_ends_with_0(
    either: Rehearsal, start: Start, number: signal.Signals
) -> None:
    either.write(HOURLY)
    either.responses(40)
    either.fault(method="DELETE", delay=0.3)
    daemon = start(either.config)
    either.wait_for_deletes(6)
    assert daemon.end(number) == 0
    (finished,) = daemon.of("sweep_finished")
    assert (finished["stop_reason"], finished["complete"]) == ("interrupted", False)
    (stopping,) = daemon.of("daemon_stopping")
    assert (stopping["signal"], stopping["sweeping"]) == (number.name, True)
    states = Counter(row["state"] for row in either.rows())
    assert states["claimed"] == 0
    assert states["gone"] + states["verifying"] == either.requests("DELETE")
    assert truth.violations(either) == []


def test_a_second_signal_waits_less_for_answers(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(HOURLY)
    rehearsal.responses(8)
    rehearsal.fault(method="DELETE", delay=20)
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(4)
    daemon.send(signal.SIGTERM)
    daemon.wait("daemon_stopping")
    began = datetime.now(UTC)
    assert daemon.end(signal.SIGTERM, within=15) == 0
    assert datetime.now(UTC) - began < timedelta(seconds=10)
    (finished,) = daemon.of("sweep_finished")
    assert finished["remaining"] is None
    assert finished["outcomes"] == {"failing": 4}
    # What was cut short may have been carried out, and counts so from now on.
    assert {row["ambiguous"] for row in rehearsal.rows() if row["attempts"]} == {1}
    assert truth.violations(rehearsal) == []


def test_a_signal_before_anything_was_begun_ends_it_with_0(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(HOURLY)
    daemon = start(rehearsal.config)
    daemon.wait("daemon_started")
    assert daemon.end() == 0
