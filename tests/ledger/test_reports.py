"""Reports: what is late in every state, what stands aside, what was tried."""

from collections.abc import Mapping
from datetime import timedelta

from sweeper.domain import moment
from sweeper.domain.outcome import Outcome
from sweeper.ledger import reports
from sweeper.ledger.database import Database
from sweeper.ledger.reports import Attempt, Overdue
from tests.support import explained, lent
from tests.support.lent import only, put, settle, settled, take
from tests.support.registered import DAY, NOW, NOW_US, admit, by_id, registration

CUTOFF = moment.to_us(NOW - DAY)
YOUNG = DAY - timedelta(microseconds=1)


def label_set(db: Database, name: str) -> int:
    found: int = by_id(db)[name]["label_set_id"]
    return found


def overdue(db: Database, *cuts: tuple[int, int]) -> Mapping[int, Overdue]:
    return reports.overdue(db, cuts)


def in_every_state(db: Database) -> None:
    admit(
        db,
        registration("resp_live", age=2 * DAY),
        registration("resp_claimed", age=5 * DAY),
        registration("resp_verifying", age=3 * DAY),
        registration("resp_aside", age=4 * DAY),
        registration("resp_gone", age=9 * DAY),
        registration("resp_young", age=YOUNG),
    )
    take(db, "resp_claimed")
    for name, settlement in (
        ("resp_verifying", lent.YES),
        ("resp_aside", lent.REJECTED),
        ("resp_gone", lent.DELETED),
    ):
        settle(db, [settled(only(take(db, name)), settlement)])


def test_everything_that_is_not_gone_can_be_late(database: Database) -> None:
    in_every_state(database)
    one = label_set(database, "resp_live")
    assert overdue(database, (one, CUTOFF)) == {
        one: Overdue(count=4, oldest_created_at=moment.to_us(NOW - 5 * DAY))
    }


def test_the_oldest_is_the_oldest_of_all_states(database: Database) -> None:
    admit(database, registration("resp_1", age=9 * DAY), registration("resp_2"))
    settle(database, [settled(only(take(database, "resp_2")), lent.YES)])
    one = label_set(database, "resp_1")
    assert overdue(database, (one, CUTOFF))[one].oldest_created_at == moment.to_us(NOW - 9 * DAY)


def test_lateness_is_told_by_label_set_and_cut_off(database: Database) -> None:
    admit(
        database,
        registration("resp_1"),
        registration("resp_2", labels={"a": "b"}),
        registration("resp_3", labels={"a": "c"}),
    )
    one, two = label_set(database, "resp_1"), label_set(database, "resp_2")
    found = overdue(database, (one, CUTOFF), (two, CUTOFF - 1))
    assert found == {one: Overdue(count=1, oldest_created_at=CUTOFF)}
    assert overdue(database) == {}


def test_what_is_not_simply_live_is_counted_by_account(database: Database) -> None:
    in_every_state(database)
    admit(database, registration("resp_o", account="other"))
    take(database, "resp_o", account="other")
    with database.read() as connection:
        assert reports.aside(connection) == {
            "main": {"claimed": 1, "verifying": 1, "quarantined": 1},
            "other": {"claimed": 1},
        }


def test_what_is_set_aside_is_counted_by_its_reason(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(3)))
    with database.read() as connection:
        assert reports.quarantine_reasons(connection) == {}
    settle(database, [settled(only(take(database, "resp_0")), lent.REJECTED)])
    admit(database, *(registration(f"resp_{n}", labels={"a": "b"}) for n in (1, 2)))
    with database.read() as connection:
        assert reports.quarantine_reasons(connection) == {"conflicting": 2, "rejected": 1}


def test_attempts_are_told_in_their_order(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2"))
    take(database, "resp_2")
    batch = take(database, "resp_1")
    settle(database, [settled(only(batch), lent.GIVEN_BACK, unsent=True, at=NOW_US + 1)])
    batch = take(database, "resp_1", now=NOW_US + 2, sweep_id="sweep-2")
    again = lent.again(Outcome.FAILING)
    settle(database, [settled(only(batch), again, at=NOW_US + 3, answer="unavailable", status=503)])
    take(database, "resp_1", now=NOW_US + 4)
    with database.read() as connection:
        found = reports.attempts(connection, by_id(database)["resp_1"]["id"])
    assert found == [
        Attempt(
            number=1,
            sweep_id="sweep-1",
            claimed_at=NOW_US,
            unsent=True,
            answered_at=NOW_US + 1,
            answer=None,
            status=None,
        ),
        Attempt(
            number=2,
            sweep_id="sweep-2",
            claimed_at=NOW_US + 2,
            unsent=False,
            answered_at=NOW_US + 3,
            answer="unavailable",
            status=503,
        ),
        Attempt(
            number=3,
            sweep_id="sweep-1",
            claimed_at=NOW_US + 4,
            unsent=False,
            answered_at=None,
            answer=None,
            status=None,
        ),
    ]


def test_open_outcomes_are_those_of_live_responses_that_are_due(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(6)))
    for number, outcome in enumerate(
        (Outcome.FAILING, Outcome.FAILING, Outcome.NOT_VISIBLE, Outcome.STILL_PRESENT)
    ):
        name = f"resp_{number}"
        settle(database, [settled(only(take(database, name)), lent.again(outcome))])
    settle(database, [settled(only(take(database, "resp_4")), lent.REJECTED)])
    take(database, "resp_3")
    put(database, "resp_1", created_at=CUTOFF + 1)
    one = label_set(database, "resp_0")
    with database.read() as connection:
        assert reports.open_outcomes(connection, [(one, CUTOFF)]) == {
            "failing": 1,
            "not_visible": 1,
        }
        assert reports.open_outcomes(connection, []) == {}


def test_what_is_late_or_open_is_found_by_small_indexes(sqlite_database: Database) -> None:
    in_every_state(sqlite_database)
    one = label_set(sqlite_database, "resp_live")
    with explained.statements(sqlite_database) as steps:
        overdue(sqlite_database, (one, CUTOFF))
    for name in ("live", "claimed", "verifying", "quarantined"):
        assert [step for step in steps if f"ix_responses_{name}" in step]
    assert not explained.walks(steps)
    with (
        explained.statements(sqlite_database) as steps,
        sqlite_database.read() as connection,
    ):
        reports.open_outcomes(connection, [(one, CUTOFF)])
    assert [step for step in steps if "ix_responses_open" in step]
    assert not [step for step in steps if "ix_responses_live" in step]
    assert not explained.walks(steps)


def incidents(db: Database) -> list[tuple[str, int, int]]:
    with db.read() as connection:
        return [(one.account, one.count, one.readable) for one in reports.incidents(connection)]


def said_yes(db: Database, *names: str, found: Outcome = Outcome.STILL_PRESENT) -> None:
    """Let the provider say yes to these and show them all the same."""
    for name in names:
        claim = only(take(db, name))
        settle(db, [settled(claim, lent.YES)])
        (asked,) = lent.verifications(db, account="main")
        settle(db, [settled(asked, lent.again(found))])


def test_what_is_readable_after_a_yes_is_an_incident_until_it_is_gone(database: Database) -> None:
    admit(database, *(registration(f"resp_{n}") for n in range(4)))
    assert incidents(database) == []
    said_yes(database, "resp_1", "resp_2")
    assert incidents(database) == [("main", 2, 2)]
    claim = only(take(database, "resp_1"))
    assert incidents(database) == [("main", 2, 2)]
    settle(database, [settled(claim, lent.again(Outcome.FAILING))])
    assert incidents(database) == [("main", 2, 1)]
    settle(database, [settled(only(take(database, "resp_1")), lent.YES)])
    assert incidents(database) == [("main", 2, 1)]
    settle(database, [settled(only(lent.verifications(database)), lent.VERIFIED)])
    assert incidents(database) == [("main", 1, 1)]


def test_a_yes_that_is_being_verified_is_no_incident(database: Database) -> None:
    in_every_state(database)
    assert incidents(database) == []


def test_an_incident_of_what_is_set_aside_is_still_one(database: Database) -> None:
    admit(database, registration("resp_1"))
    said_yes(database, "resp_1")
    put(database, "resp_1", state="quarantined", quarantine_reason="conflicting")
    assert incidents(database) == [("main", 1, 1)]


def test_incidents_are_told_by_account(database: Database) -> None:
    admit(database, registration("resp_1"), registration("resp_2", account="other"))
    admit(database, registration("resp_3", account="third"))
    for name, account in (("resp_1", "main"), ("resp_2", "other")):
        settle(database, [settled(only(take(database, name, account=account)), lent.YES)])
        asked = only(lent.verifications(database, account=account))
        settle(database, [settled(asked, lent.again(Outcome.STILL_PRESENT))])
    assert incidents(database) == [("main", 1, 1), ("other", 1, 1)]


def test_incidents_are_found_without_reading_what_is_none(sqlite_database: Database) -> None:
    in_every_state(sqlite_database)
    with explained.statements(sqlite_database) as steps:
        incidents(sqlite_database)
    assert any("ix_responses_kept_after_yes" in step for step in steps), steps
    assert not [step for step in explained.walks(steps) if "responses" in step]
