"""When in doubt, nothing is sent: clocks, connections, claims and keys that change at the worst."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.config.settings import Account as AccountConfig
from sweeper.domain import event
from sweeper.domain.secret import Secret
from sweeper.engine import opening, tenure
from sweeper.engine.clock import Clock
from sweeper.engine.deletion import Deletion, Finished
from sweeper.engine.planning import Planner
from sweeper.engine.recorder import Recorder
from sweeper.engine.testimony import Witness
from sweeper.ledger import claims, leases, outcomes, records, tables
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from sweeper.ledger.outcomes import Settled, Written
from sweeper.sandbox.server import Sandbox
from tests.support import registered, sweeping
from tests.support.sweeping import DAY, Running, Site


class Ahead(Clock):
    """A wall clock that is ahead until somebody sets it right."""

    def __init__(self) -> None:
        self.by = 30 * DAY

    def wall(self) -> datetime:
        return datetime.now(UTC) + self.by


def living_by(clock: Clock) -> sweeping.Early:
    def early(running: Running) -> None:
        running.watch.clock = clock

    return early


async def test_a_clock_that_is_set_right_after_the_plan_deletes_nothing_that_is_not_due(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan was made thirty days ahead; every answer agrees with the clock from then on."""
    site.store(3, age=2 * DAY)
    clock = Ahead()
    enter = opening.enter

    async def set_then_enter(*given: object, **named: object) -> bool:
        clock.by = timedelta(0)
        return await enter(*given, **named)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(opening, "enter", set_then_enter)
    ended = await site.sweep(early=living_by(clock), checked=False)
    assert site.deleted() == []
    assert ended.summary.stop_reason == "clock"


async def test_a_provider_that_shares_a_wrong_clock_vouches_for_no_other_account(
    site: Site,
) -> None:
    async with Sandbox(keys={"k2": "near"}) as near:
        young = site.store(3, age=2 * DAY)
        near.clock.set(datetime.now(UTC) + 30 * DAY)
        site.know(*near.seed(60, age=20 * DAY), age=20 * DAY, account="near", labels={"x": "y"})
        second = site.account("near", base_url=near.base_url, key="k2")
        ended = await site.sweep(site.main, second, early=living_by(Ahead()), checked=False)
        assert site.deleted() == []
        assert ended.summary.stop_reason == "clock"
        assert site.sandbox.kept() == frozenset(young)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new connection takes more than half a second to make."""
    look_up = socket.getaddrinfo

    def slowly(_host: str, *given: object, **named: object) -> object:
        time.sleep(0.6)
        return look_up("127.0.0.1", *given, **named)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(socket, "getaddrinfo", slowly)


def afar(site: Site) -> tuple[AccountConfig, Secret]:
    base = site.sandbox.base_url.replace("127.0.0.1", "localhost")
    return site.account("main", base_url=base, verify=False)


@pytest.mark.usefixtures("far")
async def test_a_claim_that_ends_on_the_way_to_the_provider_is_given_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(1)
    monkeypatch.setattr("sweeper.engine.exchange.CLAIM_SECONDS", 0.3)
    ended = await site.sweep(afar(site))
    first, second = registered.rows(site.db, tables.attempts)
    assert (first["unsent"], second["unsent"]) == (1, 0)
    assert ended.summary.outcomes == {"deleted": 1}


@pytest.mark.usefixtures("far")
async def test_a_sweep_that_is_stopped_on_the_way_to_the_provider_sends_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(1)

    def early(running: Running) -> None:
        account = running.accounts["main"]
        delete = account.door.delete

        async def stopped(*given: object) -> object:
            loop = asyncio.get_running_loop()
            loop.call_later(0.1, running.sweep.stop, "interrupted")
            return await delete(*given)  # type: ignore[arg-type]  # passed on as they came

        monkeypatch.setattr(account.door, "delete", stopped)

    ended = await site.sweep(afar(site), early=early)
    assert site.deleted() == []
    assert [row["unsent"] for row in registered.rows(site.db, tables.attempts)] == [1]
    assert ended.summary.stop_reason == "interrupted"


async def test_a_key_that_the_api_has_never_answered_deletes_nothing(
    sqlite_database: Database,
) -> None:
    async with sweeping.serving(sqlite_database, shape="openai") as site:
        site.store(5)
        site.fault(method="GET", status=500)
        account = site.account("main", provider="openai", verify=False)
        ended = await site.sweep(account, checked=False)
        assert site.deleted() == []
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert registered.rows(site.db, tables.accounts)[0]["identity"] is None


async def test_what_nobody_foresaw_loses_no_answer_and_ends_with_the_summary(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = site.store(6)
    append = records.append
    failed: list[bool] = []

    def fails_once(*given: object, **named: object) -> range:
        entries = given[1]
        assert isinstance(entries, list)
        if not failed and entries and entries[0].type == "deletion.outcome":
            failed.append(True)
            raise ValueError("nobody foresaw this")
        return append(*given, **named)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(records, "append", fails_once)
    ended = await site.sweep(site.account("main", verify=False))
    assert ended.fault is not None
    assert "ValueError at " in ended.fault.message
    assert ended.summary.stop_reason == "ledger"
    deleted = set(site.deleted())
    assert deleted
    assert {name for name in names if site.states()[name] == ("gone", "deleted")} == deleted


async def test_an_answer_that_cannot_be_written_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = site.store(1)
    monkeypatch.setattr("sweeper.engine.drain.LAST_PAUSES", (0.0,))
    sweeping.refuse(site, "UPDATE", "attempts", "NEW.answer = 'yes'")
    ended = await site.sweep(site.account("main", verify=False), checked=False)
    assert ended.summary.stop_reason == "ledger"
    (told,) = site.told(event.OutcomeUnwritten)
    assert (told.response_id, told.answer, told.status) == (name, "yes", 200)


async def test_planning_for_longer_than_a_lease_lasts_loses_no_lease(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "TERM", 1_500_000)
    monkeypatch.setattr(tenure, "RENEW_EVERY", 0.2)
    make = Planner.make

    def slowly(planner: Planner) -> object:
        time.sleep(2.2)
        return make(planner)

    monkeypatch.setattr(Planner, "make", slowly)
    async with sweeping.serving(postgresql_database) as site:
        site.store(3)
        ended = await site.sweep()
        assert ended.summary.outcomes == {"deleted": 3}


async def test_a_sweep_that_is_stopped_while_it_plans_says_that_it_does_not_know(
    site: Site,
) -> None:
    site.store(3)

    def early(running: Running) -> None:
        running.sweep.stop("interrupted")

    ended = await site.sweep(early=early)
    assert (ended.summary.due, ended.summary.remaining) == (None, None)
    assert ended.summary.stop_reason == "interrupted"
    assert not ended.summary.complete
    assert site.sandbox.journal.entries == []


@pytest.mark.usefixtures("far")
async def test_a_claim_ends_with_its_lease(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lease has left bounds the claim, whatever a claim may last otherwise."""
    site.store(1)
    left = [300_000]

    def check(*_given: object) -> int | None:
        return left.pop() if left else None

    monkeypatch.setattr(leases, "check", check)
    await site.sweep(afar(site))
    first, second = registered.rows(site.db, tables.attempts)
    assert (first["unsent"], second["unsent"]) == (1, 0)


async def test_a_worker_that_fails_cuts_no_other_request_short(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = site.store(4)
    work = Deletion.work

    async def fails_for_the_first(deletion: Deletion, claim: Claim, deadline: float) -> object:
        if claim.response_id == first:
            await site.sandbox.wait_until(lambda: len(site.deleted()) == len(others))
            raise ValueError("nobody foresaw this")
        return await work(deletion, claim, deadline)

    monkeypatch.setattr(Deletion, "work", fails_for_the_first)
    site.fault(method="DELETE", delay=0.2)
    ended = await site.sweep(site.account("main", verify=False), checked=False)
    assert ended.summary.stop_reason == "ledger"
    assert {site.states()[name] for name in others} == {("gone", "deleted")}
    assert site.states()[first] == ("claimed", None)


async def test_a_machine_that_freezes_behind_the_look_at_its_lease_sends_nothing_past_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(1)
    left = [300_000]

    def check(*_given: object) -> int | None:
        if not left:
            return None
        time.sleep(0.6)  # the machine stands still, and the lease does not
        return left.pop()

    monkeypatch.setattr(leases, "check", check)
    await site.sweep()
    first, second = registered.rows(site.db, tables.attempts)
    assert (first["unsent"], second["unsent"]) == (1, 0)


async def test_what_was_seen_is_written_though_putting_it_into_words_fails_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(6)
    settled = Witness.settled
    failed: list[Finished] = []

    def fails_once(witness: Witness, finished: Finished) -> Settled:
        if not failed:
            failed.append(finished)
            raise ValueError("nobody foresaw this")
        return settled(witness, finished)

    monkeypatch.setattr(Witness, "settled", fails_once)
    ended = await site.sweep(site.account("main", verify=False))
    assert ended.fault is not None
    assert site.deleted()
    assert {site.states()[name] for name in site.deleted()} == {("gone", "deleted")}


async def test_a_yes_that_came_too_late_stays_late_when_the_word_of_its_commit_is_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sweeper has taken the claim back; then the answer to the commit is lost."""
    site.store(1)
    write, settle = Recorder._write, outcomes.settle
    freed: list[bool] = []
    lost: list[bool] = []

    def taken_back(connection: sa.Connection, batch: Sequence[Settled], **given: Any) -> Written:
        if batch and not freed:
            freed.append(True)
            assert claims.free(connection, 1) == 1
        return settle(connection, batch, **given)

    def loses_the_word(recorder: Recorder, work: Callable[[sa.Connection], object]) -> object:
        done = write(recorder, work)
        if freed and not lost:
            lost.append(True)
            raise errors.CommitUnknown("the connection was lost")
        return done

    monkeypatch.setattr(outcomes, "settle", taken_back)
    monkeypatch.setattr(Recorder, "_write", loses_the_word)
    ended = await site.sweep(site.account("main", verify=False), checked=False)
    assert ended.summary.outcomes == {}
    assert [one.late for one in site.told(event.ResponseSettled)] == [True]
    assert len(site.records("deletion.late_outcome")) == 1
    assert site.records("deletion.outcome") == []
