"""An account's work from claim to record: what ends it and what is written when."""

import asyncio
import time
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event
from sweeper.ledger import admission, sightings, tables
from sweeper.ledger.database import Database
from tests.support import lent, registered, sweeping
from tests.support.sweeping import DAY, Site


def commits(site: Site) -> list[int]:
    """A list that grows by one with every transaction."""
    seen: list[int] = []
    sa.event.listen(site.db.engine, "commit", lambda _: seen.append(1))
    return seen


class TestWhenItEnds:
    async def test_what_is_to_be_tried_again_at_once_is(
        self, either: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 0.0)
        either.store(5)
        either.fault(method="DELETE", times=5, status=503)
        ended = await either.sweep()
        assert set(either.states().values()) == {("gone", "deleted")}
        assert ended.summary.outcomes == {"deleted": 5}
        assert {row["attempts"] for row in either.rows.values()} == {2}

    async def test_it_does_not_wait_for_a_later_try(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 0.999)
        site.store(2)
        site.fault(method="DELETE", times=1, status=503)
        ended = await site.sweep()
        assert ended.summary.outcomes == {"failing": 1, "deleted": 1}

    async def test_a_slow_answer_is_waited_for_without_turning_round(self, site: Site) -> None:
        site.store(1)
        site.fault(method="DELETE", delay=1.0)
        seen = commits(site)
        assert (await site.sweep()).summary.complete
        assert len(seen) < 50

    async def test_a_pause_is_waited_for_without_turning_round_or_keeping_claims(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.exchange.CLAIM_SECONDS", 2.0)
        monkeypatch.setattr("sweeper.engine.drain._SLOTS_WITHIN", 1.0)
        site.store(6)
        site.fault(method="DELETE", after=1, times=1, status=429, retry_after=4)
        seen = commits(site)
        ended = await site.sweep(site.account("main", max_in_flight=1, verify=False))
        assert ended.summary.complete
        assert len(seen) < 60
        unsent = [one for one in registered.rows(site.db, tables.attempts) if one["unsent"]]
        assert unsent
        assert all(one["answered_at"] - one["claimed_at"] < 1_000_000 for one in unsent)

    async def test_a_slow_rate_ends_when_its_work_is_done(self, site: Site) -> None:
        """Two requests a second: no slot is near when the last answer is in."""
        site.store(1)
        ended = await asyncio.wait_for(
            site.sweep(site.account("main", rate_per_second=2, verify=False)), 20
        )
        assert ended.summary.complete

    async def test_nothing_that_is_left_is_left_claimed(self, either: Site) -> None:
        either.store(30)
        either.fault(method="DELETE", after=5, status=401, body={"error": "no"})
        await either.sweep()
        assert {row["token"] for row in either.rows.values()} == {None}
        unsent = [row for row in registered.rows(either.db, tables.attempts) if row["unsent"]]
        assert all(row["answer"] is None for row in unsent)


class TestWhatIsRegisteredMeanwhile:
    async def test_it_is_admitted_and_not_deleted_by_a_plan_that_did_not_know_it(
        self, either: Site
    ) -> None:
        either.store(3)
        late = either.sandbox.seed(1, age=20 * DAY)[0]

        def register(happened: event.Event) -> None:
            if isinstance(happened, event.SweepStarted):
                _append(either, late)

        either.events = sweeping.Listening(register)
        ended = await either.sweep()
        assert late not in either.deleted()
        assert either.states()[late] == ("live", None)
        assert ended.summary.complete
        assert (await either.sweep()).summary.outcomes == {"deleted": 1}

    async def test_a_parent_that_gets_a_child_meanwhile_stays(self, either: Site) -> None:
        (parent,) = either.store()
        child = either.sandbox.seed(1, age=DAY)[0]

        def register(happened: event.Event) -> None:
            if isinstance(happened, event.SweepStarted):
                _append(either, child, previous=parent)

        either.events = sweeping.Listening(register)
        ended = await either.sweep()
        assert either.deleted() == []
        assert ended.summary.remaining_by_reason == {"waiting": 1}

    async def test_nothing_is_claimed_while_more_waits_to_be_admitted(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = site.store(2)
        calls: list[int] = []

        def register(happened: event.Event) -> None:
            if isinstance(happened, event.SweepStarted):
                calls.append(1)
                for n in range(12):
                    _append(site, f"resp_new_{n}")
                _append(site, "resp_child", previous=names[0])

        whole = admission.drain
        monkeypatch.setattr(admission, "drain", lambda c, **given: whole(c, **given, limit=5))
        site.events = sweeping.Listening(register)
        ended = await site.sweep()
        assert site.deleted() == names[1:]
        assert len(site.rows) == 15
        assert ended.summary.remaining_by_reason == {"waiting": 1}


class TestWhatComesTooLate:
    async def test_an_outcome_of_a_claim_that_was_lost_is_recorded_and_changes_nothing(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.fault(method="DELETE", delay=0.3)
        mine = either.account("main", verify=False)
        async with either.opened(mine) as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(either.deleted)
            lent.put(either.db, name, token="another sweeper's")
            ended = await task
        assert either.row(name)["state"] == "claimed"
        assert ended.summary.outcomes == {}
        assert ended.summary.remaining_by_reason == {"stopped": 1}
        assert [one["outcome"] for one in either.records("deletion.late_outcome")] == ["deleted"]
        (told,) = either.told(event.ResponseSettled)
        assert told.late

    async def test_what_conflicts_meanwhile_is_set_aside_when_it_comes_back(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.fault(method="DELETE", delay=0.3, status=503, times=1)
        async with either.opened() as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(either.deleted)
            either.know(name, labels={"app": "other"})
            ended = await task
        assert either.states()[name] == ("quarantined", "failing")
        assert ended.summary.remaining_by_reason == {"quarantined": 1}
        assert len(either.deleted()) == 1


class TestEvents:
    async def test_an_outcome_is_told_when_it_is_written_and_not_before(self, either: Site) -> None:
        either.store(5)
        unwritten: list[str] = []

        def look(happened: event.Event) -> None:
            if isinstance(happened, event.ResponseSettled):
                row = either.row(happened.response_id)
                if row["outcome"] != happened.outcome:
                    unwritten.append(happened.response_id)

        either.events = sweeping.Listening(look)
        await either.sweep()
        assert len(either.told(event.ResponseSettled)) == 5
        assert unwritten == []


class TestFaults:
    async def test_a_ledger_that_fails_while_controls_are_made_cuts_no_request_short(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> Sequence[tuple[str, int]]:
            raise errors.LedgerError("the disk is gone")

        monkeypatch.setattr(sightings, "newest_live", fail)
        monkeypatch.setattr("sweeper.engine.lookback._AT_ONCE", 1)
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.know("resp_gone", age=21 * DAY)
            (slow,) = site.store(1)
            site.fault(method="DELETE", id=slow, delay=0.8)
            ended = await site.sweep(site.account("main", provider="openai"))
            assert ended.summary.stop_reason == "ledger"
            assert ended.summary.remaining is None
            # The one in flight came to its end and is written, and so is what was not found.
            assert site.states() == {
                slow: ("verifying", None),
                "resp_gone": ("live", "not_visible"),
            }
            assert site.deleted() == ["resp_gone", slow]

    async def test_what_was_seen_before_a_fault_is_seen_after_it(self, site: Site) -> None:
        """A label set that was sighted in a batch that failed is kept with the next one."""
        site.store(3, labels={"app": "a"})
        site.store(1, labels={"app": "b"})
        failed: list[int] = []

        def fail(connection: sa.Connection) -> None:
            verifying = connection.exec_driver_sql(
                "SELECT count(*) FROM responses WHERE state = 'verifying'"
            ).scalar_one()
            if verifying and not failed:
                failed.append(verifying)
                raise sa.exc.OperationalError("COMMIT", {}, Exception("disk is full"))

        sa.event.listen(site.db.engine, "commit", fail)
        await site.sweep(checked=False)
        assert failed
        assert len(registered.rows(site.db, tables.sightings)) == 2


def _append(site: Site, response_id: str, previous: str | None = None) -> None:
    """Append a registration as an application does, beside everything else."""
    with site.db.write() as connection:
        connection.execute(
            tables.registrations.insert().values(
                account="main",
                response_id=response_id,
                created_at=int((time.time() - 20 * 86400) * 1e6),
                labels="{}",
                previous_response_id=previous,
            )
        )
