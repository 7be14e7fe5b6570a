"""What is wrong is found, with its numbers and what to do; what is not wrong is not."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.config.settings import Account, Config, KeyPlace, KeySource, LogFormat, LogSettings
from sweeper.domain import moment
from sweeper.domain.alarm import Condition, Kind
from sweeper.domain.outcome import Breaker, Outcome
from sweeper.domain.policy import Match, Policy
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.domain.schedule import Missed
from sweeper.ledger import accounts, registrations, sweeps, tables
from sweeper.ledger.database import Database
from sweeper.service.alarm import trouble
from tests.support import lent, registered
from tests.support.lent import only, settle, settled, take
from tests.support.sweeping import OPEN

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
POLICIES = (
    Policy(
        name="chats",
        match=Match(labels={"app": frozenset({"chat"})}),
        delete_after=10 * DAY,
        deadline=DAY,
    ),
    Policy(name="rest", delete_after=20 * DAY, deadline=DAY),
)
CHAT = '{"app":"chat"}'


def config(*names: str) -> Config:
    def account(name: str) -> Account:
        return Account(
            name=AccountName(name),
            provider="fireworks",
            base_url=f"http://127.0.0.1:1/{name}",
            account_id=None,
            rate_per_second=1,
            max_in_flight=1,
            verify=True,
            key_source=KeySource(place=KeyPlace.VARIABLE, name="KEY"),
        )

    return Config(
        path=Path("sweeper.toml"),
        ledger_url="",
        guards=OPEN,
        max_clock_skew=timedelta(minutes=2),
        trust_local_clock=False,
        accounts=tuple(map(account, names or ("main",))),
        policies=POLICIES,
        log=LogSettings(format=LogFormat.JSON, response_ids=True),
        warnings=(),
    )


def registration(name: str, age: timedelta, labels: str, account: str) -> Registration:
    return Registration(
        account=AccountName(account),
        response_id=ResponseId(name),
        created_at=datetime.now(UTC) - age,
        labels=labels,
        subject=None,
        previous_response_id=None,
    )


def know(
    db: Database, *ages: timedelta, labels: str = "{}", account: str = "main", name: str = "resp"
) -> None:
    batch = [
        registration(f"{name}_{index}", age, labels, account) for index, age in enumerate(ages)
    ]
    registered.admit(db, *batch, now=moment.to_us(datetime.now(UTC)))


def found(db: Database, *names: str) -> Mapping[str, Condition]:
    conditions = trouble.found(config(*names), db)
    assert len({one.id for one in conditions}) == len(conditions)
    return {one.id: one for one in conditions}


def stop(db: Database, name: str, breaker: Breaker, detail: str = "401 to a GET") -> None:
    with db.write() as connection:
        accounts.ensure(connection, [name])
        row = accounts.get(connection, name)
        assert row is not None
        accounts.open_breaker(connection, row, breaker, detail, now=1)


def finish(db: Database, stop_reason: str | None, **summary: object) -> None:
    now = moment.to_us(datetime.now(UTC))
    with db.write() as connection:
        sweeps.begin(connection, f"s{now}", now=now)
        sweeps.finish(
            connection,
            f"s{now}",
            complete=stop_reason is None,
            stop_reason=stop_reason,
            summary=summary,
            finished_at=now,
            now=now,
        )


def wait_for_admission(db: Database) -> None:
    with db.write() as connection:
        new = registration("resp_waiting", DAY, "{}", "main")
        registrations.append(connection, [new], 1)


def test_nothing_is_wrong_with_what_is_young_or_only_due(database: Database) -> None:
    know(database, HOUR, 20.5 * DAY)
    finish(database, None)
    assert found(database) == {}


def test_what_is_past_its_deadline_is_told_by_policy(database: Database) -> None:
    know(database, 22 * DAY, 23 * DAY, 20.5 * DAY)
    know(database, 12 * DAY, 10.5 * DAY, labels=CHAT, name="chat")
    late = found(database)
    assert set(late) == {"overdue:chats", "overdue:rest"}
    rest = late["overdue:rest"]
    assert rest.kind is Kind.OVERDUE
    assert rest.summary == ('2 responses are past the deadline of policy "rest", the oldest by 2 d')
    assert rest.fields["policy"] == "rest"
    assert rest.fields["responses"] == 2
    assert rest.fields["oldest_seconds"] == pytest.approx(2 * 86400, abs=60)
    assert late["overdue:chats"].summary.startswith("1 response is past the deadline of")


def test_a_stopped_account_is_told_with_what_is_kept_there(database: Database) -> None:
    know(database, 20.5 * DAY, 20.25 * DAY, HOUR)
    know(database, 10.75 * DAY, labels=CHAT, name="chat")
    know(database, 20.1 * DAY, account="other", name="other")
    stop(database, "main", Breaker.CREDENTIAL)
    (told,) = found(database, "main", "other").values()
    assert (told.id, told.kind) == ("account_stopped:main:credential", Kind.ACCOUNT_STOPPED)
    assert told.summary == (
        "account main is stopped (credential): 401 to a GET;"
        " 3 responses kept past their time there, the oldest by 18 h"
    )
    assert "sweeper account check main" in told.next
    assert told.fields == {
        "account": "main",
        "breaker": "credential",
        "detail": "401 to a GET",
        "responses": 3,
        "oldest_seconds": pytest.approx(0.75 * 86400, abs=60),
    }


def test_what_others_wrote_turns_no_terminal_around(database: Database) -> None:
    stop(database, "main", Breaker.IDENTITY, detail="account '\x1b[2J\u202e'")
    (told,) = found(database).values()
    assert told.fields["detail"] == "account '\\x1b[2J\\u202e'"
    assert told.summary.isprintable()


def test_each_breaker_of_an_account_is_an_alarm_of_its_own(database: Database) -> None:
    stop(database, "main", Breaker.CREDENTIAL)
    stop(database, "main", Breaker.NOT_FOUND)
    told = found(database)
    assert set(told) == {"account_stopped:main:credential", "account_stopped:main:not_found"}
    fields = told["account_stopped:main:not_found"].fields
    assert (fields["responses"], fields["oldest_seconds"]) == (0, None)


def test_a_guards_refusal_is_told_beside_what_stops_an_account(database: Database) -> None:
    stop(database, "main", Breaker.PAYMENT)
    stops = [
        {"reason": "account:main:payment", "account": "main", "kept": 7},
        {"reason": "guard", "account": "other", "kept": 5},
        {"reason": "guard", "account": "third", "kept": 1},
    ]
    finish(database, "account:main:payment", remaining=13, held=0, stops=stops)
    told = found(database, "main", "other", "third")
    assert set(told) == {"account_stopped:main:payment", "account_stopped:guard"}
    assert told["account_stopped:guard"].fields["responses"] == 6


@pytest.mark.parametrize("stops", [None, 7, [7], [{}], [{"reason": 7, "kept": "x"}]])
def test_a_summary_that_somebody_else_wrote_is_no_obstacle(
    database: Database, stops: object
) -> None:
    finish(database, "guard", remaining=7, held=2, stops=stops)
    (told,) = found(database).values()
    assert told.fields["responses"] == 5


def test_of_an_account_that_is_no_longer_configured_only_what_is_late_is_told(
    database: Database,
) -> None:
    know(database, 22 * DAY, account="former")
    stop(database, "former", Breaker.IDENTITY)
    assert set(found(database)) == {"overdue:rest"}


def test_when_the_clock_keeps_responses_from_being_admitted_lateness_is_unknown(
    database: Database,
) -> None:
    with database.write() as connection:
        ahead = moment.to_us(datetime.now(UTC) + DAY)
        connection.execute(sa.update(tables.ledger).values(last_good_at=ahead))
    assert found(database) == {}
    wait_for_admission(database)
    (told,) = found(database).values()
    assert (told.id, told.kind) == ("overdue", Kind.OVERDUE)
    assert told.summary.startswith(
        "1 response registered and not admitted, so that nobody knows what is late,"
        " because the clock may be wrong: The wall clock is "
    )
    assert told.fields == {"policy": None, "responses": 1, "oldest_seconds": None}


def test_when_the_last_sweep_doubted_the_clock_lateness_is_unknown_too(
    database: Database,
) -> None:
    wait_for_admission(database)
    assert found(database) == {}
    finish(database, "clock")
    assert set(found(database)) == {"overdue", "account_stopped:clock"}
    finish(database, "interrupted")
    assert found(database) == {}


def test_a_sweep_that_a_guard_refused_is_told_until_one_ends_that_none_did(
    database: Database,
) -> None:
    finish(database, "guard", remaining=7, held=2)
    (told,) = found(database).values()
    assert (told.id, told.kind, told.opens) == (
        "account_stopped:guard",
        Kind.ACCOUNT_STOPPED,
        True,
    )
    assert re.fullmatch(
        "a guard refused the last sweep, begun at 20[0-9T:-]+Z: nothing was deleted where it"
        " refused; 5 responses left",
        told.summary,
    )
    assert told.next == "sweeper plan"
    assert told.fields == {
        "account": None,
        "breaker": None,
        "detail": "guard",
        "responses": 5,
        "oldest_seconds": None,
    }
    finish(database, None)
    assert found(database) == {}


def test_a_sweep_that_did_not_trust_the_clock_is_told_until_one_does(database: Database) -> None:
    finish(database, "clock")
    (told,) = found(database).values()
    assert (told.id, told.kind) == ("account_stopped:clock", Kind.ACCOUNT_STOPPED)
    assert re.fullmatch(
        "the last sweep, begun at 20[0-9T:-]+Z, did not trust the clock, and stopped deleting",
        told.summary,
    )
    assert told.next.startswith("mend the time service")
    assert (told.fields["detail"], told.fields["responses"]) == ("clock", None)
    finish(database, None)
    assert found(database) == {}


def test_a_sweep_that_is_still_running_or_died_resolves_no_refusal(database: Database) -> None:
    finish(database, "guard")
    now = moment.to_us(datetime.now(UTC))
    with database.write() as connection:
        sweeps.begin(connection, "running", now=now)
    assert set(found(database)) == {"account_stopped:guard"}


@pytest.mark.parametrize("stop_reason", [None, "interrupted", "ledger"])
def test_a_sweep_that_ended_otherwise_is_no_refusal(
    database: Database, stop_reason: str | None
) -> None:
    finish(database, stop_reason)
    assert found(database) == {}


def test_an_incident_is_told_and_kept_open_until_nothing_of_it_is_left(
    database: Database,
) -> None:
    know(database, HOUR, HOUR)
    for name in ("resp_0", "resp_1"):
        settle(database, [settled(only(take(database, name)), lent.YES)])
        asked = only(lent.verifications(database))
        settle(database, [settled(asked, lent.again(Outcome.STILL_PRESENT))])
    (told,) = found(database).values()
    assert (told.id, told.kind, told.opens) == ("incident:main", Kind.INCIDENT, True)
    assert told.summary == (
        "2 responses at account main can still be read, although the provider said that it"
        " deleted them"
    )
    assert told.fields == {"account": "main", "responses": 2}
    for name in ("resp_0", "resp_1"):
        settle(database, [settled(only(take(database, name)), lent.again(Outcome.FAILING))])
    (kept,) = found(database).values()
    assert not kept.opens
    assert kept.fields == {"account": "main", "responses": 2}
    assert "nothing shows yet that they are gone" in kept.summary


FIRST = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_runs_that_did_not_happen_are_told_with_when() -> None:
    (told,) = trouble.missed_run(Missed(count=3, first=FIRST, last=FIRST + HOUR), None)
    assert (told.id, told.kind) == ("missed_run", Kind.MISSED_RUN)
    assert told.summary == (
        "3 scheduled sweeps did not run or did not come to an end,"
        " from 2026-06-01T12:00:00Z to 2026-06-01T13:00:00Z"
    )
    assert told.fields == {
        "count": 3,
        "first": "2026-06-01T12:00:00.000000Z",
        "last": "2026-06-01T13:00:00.000000Z",
        "detail": None,
    }


def test_one_run_is_told_as_one() -> None:
    (told,) = trouble.missed_run(Missed(count=1, first=FIRST, last=FIRST), None)
    assert told.summary.startswith("1 scheduled sweep did not run")
    assert told.summary.endswith(", at 2026-06-01T12:00:00Z")


def test_that_no_sweep_can_run_is_a_missed_run_with_the_reason() -> None:
    (told,) = trouble.missed_run(None, "the ledger could not be used\x1b[2J")
    assert told.summary == "no sweep can run: the ledger could not be used\\x1b[2J"
    assert told.fields["count"] is None
    assert told.fields["detail"] == "the ledger could not be used\\x1b[2J"
    (both,) = trouble.missed_run(Missed(count=1, first=FIRST, last=FIRST), "disk full")
    assert both.summary.startswith("1 scheduled sweep did not")
    assert both.summary.endswith("; no sweep can run: disk full")


def test_when_all_ran_there_is_nothing_to_tell() -> None:
    assert list(trouble.missed_run(None, None)) == []


@pytest.mark.parametrize("kind", Kind)
def test_no_alarm_names_a_response(kind: Kind, database: Database) -> None:
    know(database, 22 * DAY)
    stop(database, "main", Breaker.NOT_FOUND)
    settle(database, [settled(only(take(database, "resp_0")), lent.YES)])
    asked = only(lent.verifications(database))
    settle(database, [settled(asked, lent.again(Outcome.STILL_PRESENT))])
    conditions: list[Any] = [*found(database).values(), *trouble.missed_run(None, "full")]
    told = [one for one in conditions if one.kind is kind]
    assert told
    assert "resp_0" not in repr(told)
