"""A 404 is no proof: whatever makes all look deleted, the ledger says nothing of the kind."""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.config.settings import Account as AccountConfig
from sweeper.domain import moment
from sweeper.domain.outcome import TERMINAL
from sweeper.domain.secret import Secret
from sweeper.engine.sweep import Ended
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from tests.support import registered, sweeping, truth
from tests.support.command import Run
from tests.support.rehearsal import SUPPORT, Rehearsal
from tests.support.sweeping import DAY, Site

OURS, THEIRS, PARTLY = "fw_canarykey/77+q?8", "fw_otherkey991", "fw_partkey123"
KEYS = {OURS: "acme", THEIRS: "other", PARTLY: "acme"}
SEEN, HIDDEN = {"app": "seen"}, {"app": "hidden"}
LONG_AGO = datetime.now(UTC) - 31 * DAY
DAY_US = moment.length_us(DAY)
AGED = ("created_at", "first_created_at")
OF_AN_OPEN_ATTEMPT = {
    *("outcome", "record_seq", "sweep_id", "settled_token", "next_try_at", "failures"),
    *("claims", "attempts", "first_attempt_at", "last_attempt_at"),
    *("policy", "due_at", "deadline_at", "policies_sha256"),
}
GONE = {one.value for one in TERMINAL}
Configured = tuple[AccountConfig, Secret]


@asynccontextmanager
async def serving(db: Database, **given: Any) -> AsyncIterator[Site]:
    """A site with our key, another account's, and one that sees only part of ours."""
    sweeping.hurry(db)
    async with sweeping.serving(db, **{"keys": KEYS, "views": {PARTLY: SEEN}, **given}) as site:
        yield site


class Before:
    """How everything stood, to be held against how it stands after sweeps that prove nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.rows = copy.deepcopy(site.rows)
        self.live = self._live()
        self.kept = site.sandbox.kept("acme")

    def _live(self) -> dict[int, int]:
        found = registered.rows(self._site.db, tables.label_sets)
        return {row["id"]: row["live_count"] for row in found}

    def aged(self) -> None:
        for row in self.rows.values():
            for column in AGED:
                row[column] -= DAY_US

    def stands(self, *names: str) -> None:
        """Nothing is changed of these responses, or of all, but for open attempts."""
        now = self._site.rows
        assert now.keys() == self.rows.keys()
        for name in names or now:
            row, before = now[name], self.rows[name]
            changed = {column for column in row if row[column] != before[column]}
            assert changed <= OF_AN_OPEN_ATTEMPT, (name, changed)
            assert (row["state"], row["touched"], row["token"]) == ("live", 0, None)
            assert row["outcome"] in (None, "not_visible", "unconfirmed")
        if not names:
            assert self._live() == self.live
            assert self._site.sandbox.kept("acme") == self.kept
            outcomes = self._site.records("deletion.outcome")
            assert not [one for one in outcomes if one["outcome"] in GONE]


def pass_a_day(site: Site) -> None:
    """Let everything be a day older, and every next try have come."""
    columns = tables.responses.c
    older = {name: columns[name] - DAY_US for name in AGED}
    come = sa.case((columns.next_try_at.is_not(None), 1), else_=None)
    with site.db.write() as connection:
        connection.execute(sa.update(tables.responses).values(**older, next_try_at=come))


def due_day_by_day(site: Site, days: int, **given: Any) -> list[str]:
    """Store one to four responses that come due on each of the next days."""
    names: list[str] = []
    for day in range(days):
        names += site.store(1 + day % 4, age=(14 - day) * DAY, **given)
    return names


async def weeks(site: Site, days: int, *account: Configured) -> list[Ended]:
    """Sweep once a day, for weeks; nothing that is registered may be claimed to be gone."""
    before, ended = Before(site), []
    for _ in range(days):
        ended.append(await site.sweep(*account))
        before.stands()
        pass_a_day(site)
        before.aged()
    return ended


def wrong(site: Site, **given: Any) -> Configured:
    return site.account("main", **given)


def at_a_router(site: Site, **given: Any) -> Configured:
    return site.account("main", base_url=f"{site.sandbox.origin}/elsewhere", **given)


SURROUNDINGS: dict[str, tuple[Callable[..., Configured], dict[str, Any], str]] = {
    "a key that nobody knows": (wrong, {"key": "fw_no_such_key"}, "credential"),
    "the key of another account": (wrong, {"key": THEIRS}, "not_found"),
    "that key, where the account is configured": (
        wrong,
        {"key": THEIRS, "account_id": "acme"},
        "identity",
    ),
    "a key that sees only part": (wrong, {"key": PARTLY}, "not_found"),
    "a path at which only a router answers": (at_a_router, {}, "configuration"),
}
UNNAMED: dict[str, tuple[Callable[..., Configured], dict[str, Any], str]] = {
    "a key that nobody knows": (wrong, {"key": "fw_no_such_key"}, "credential"),
    "the key of another account": (wrong, {"key": THEIRS}, "not_found"),
    "a key that sees only part": (wrong, {"key": PARTLY}, "not_found"),
    "a path at which only a router answers": (at_a_router, {}, "not_found"),
}


@pytest.mark.parametrize("what", SURROUNDINGS)
async def test_for_weeks_of_small_sweeps_nothing_is_called_gone(
    sqlite_database: Database, what: str
) -> None:
    """Two weeks, since after thirty days the provider itself has removed everything."""
    make, given, breaker = SURROUNDINGS[what]
    async with serving(sqlite_database) as site:
        due_day_by_day(site, 14, labels=HIDDEN)
        ended = await weeks(site, 14, make(site, **given))
        assert {one.summary.stop_reason for one in ended[4:]} == {f"account:main:{breaker}"}
        assert not any(one.summary.complete for one in ended)
        assert len(set(site.deleted())) <= 5 + 3  # those in flight come to their end
        assert site.breakers() == [breaker]


@pytest.mark.parametrize("what", UNNAMED)
async def test_where_no_provider_names_the_account_neither(
    sqlite_database: Database, what: str
) -> None:
    make, given, breaker = UNNAMED[what]
    async with serving(sqlite_database, shape="openai", lifetime=None) as site:
        due_day_by_day(site, 14, labels=HIDDEN)
        ended = await weeks(site, 14, make(site, provider="openai", **given))
        assert ended[-1].summary.stop_reason == f"account:main:{breaker}"
        assert len(set(site.deleted())) <= 5 + 3  # those in flight come to their end


@pytest.mark.parametrize("key", [THEIRS, PARTLY])
async def test_too_few_for_any_breaker_stay_open_for_weeks(database: Database, key: str) -> None:
    """Four responses in all, looked for each day: no storm, and no proof either."""
    async with serving(database) as site:
        names = site.store(4, age=14 * DAY, labels=HIDDEN)
        ended = await weeks(site, 14, wrong(site, key=key))
        assert [one.summary.stop_reason for one in ended] == [None] * 14
        assert {one.summary.remaining_by_reason["not_visible"] for one in ended} == {4}  # type: ignore[index]  # asserted by being indexed
        assert site.sandbox.kept("acme") == frozenset(names)
        # Any day the right key may come; it is another account's to whom the name was bound.
        if key == PARTLY:
            assert (await site.sweep(wrong(site, key=OURS))).summary.outcomes == {"deleted": 4}


async def test_what_a_key_may_not_see_stays_open_beside_what_it_deletes(
    sqlite_database: Database,
) -> None:
    """Yeses between them keep any breaker shut, and prove nothing about another label set."""
    async with serving(sqlite_database) as site:
        hidden = [site.store(1, age=(14 - day) * DAY, labels=HIDDEN)[0] for day in range(10)]
        seen = [site.store(2, age=(14 - day) * DAY, labels=SEEN) for day in range(10)]
        before = Before(site)
        for day in range(10):
            ended = await site.sweep(wrong(site, key=PARTLY))
            assert ended.summary.stop_reason is None
            assert ended.summary.outcomes == {"deleted": 2, "not_visible": day + 1}
            before.stands(*hidden)
            pass_a_day(site)
            before.aged()
        assert site.sandbox.kept("acme") == frozenset(hidden)
        assert {site.states()[name] for name in itertools.chain(*seen)} == {("gone", "deleted")}
        assert site.breakers() == []


@pytest.mark.parametrize("verify", [True, False])
async def test_a_key_whose_account_is_another_one_from_some_moment_on_proves_nothing(
    database: Database, verify: bool
) -> None:
    """The provider itself moves the key in the middle of a sweep."""
    async with serving(database) as site:
        names = site.store(12)
        site.fault(method="DELETE", delay=0.02)
        mine = site.account("main", max_in_flight=1, verify=verify)

        async def move() -> None:
            await site.sandbox.wait_until(lambda: len(site.deleted()) >= 3)
            site.sandbox.keys[OURS] = "other"

        await asyncio.gather(site.sweep(mine), move())
        gone = {name for name, (state, _) in site.states().items() if state == "gone"}
        assert gone <= set(names) - site.sandbox.kept("acme")
        assert {row["outcome"] for row in site.rows.values()} <= {"deleted", "not_visible", None}
        ended = await site.sweep(mine)
        assert ended.summary.stop_reason in ("account:main:identity", "account:main:not_found")


class TestADeletionWhoseAnswerIsLost:
    @pytest.mark.parametrize("how", ["reset", "close"])
    async def test_the_404_afterwards_is_told_as_perhaps_ours(self, either: Site, how: str) -> None:
        (name,) = either.store(1, labels=SEEN)
        either.store(1, age=DAY, labels=SEEN)
        either.fault(method="DELETE", times=1, carry_out=True, do=how)
        first = await either.sweep()
        assert first.summary.outcomes == {"failing": 1}
        row = either.row(name)
        assert (row["state"], row["touched"], row["ambiguous"]) == ("live", 1, 1)
        come(either)
        assert (await either.sweep()).summary.outcomes == {"absent_after_attempt": 1}
        told = [one["outcome"] for one in either.records("deletion.outcome")]
        assert told == ["failing", "absent_after_attempt"]
        last = either.records("deletion.outcome")[-1]
        assert (last["attempts"], last["ambiguous"], last["evidence"]["control"]) == (2, 1, "pass")
        assert either.deleted() == [name, name]

    async def test_a_key_that_was_swapped_meanwhile_proves_nothing(
        self, database: Database
    ) -> None:
        """It may have been ours, but another account cannot say so."""
        async with serving(database) as site:
            (name,) = site.store(1)
            site.fault(method="DELETE", times=1, do="reset")
            await site.sweep(wrong(site, key=OURS))
            come(site)
            site.sandbox.keys[OURS] = "other"
            ended = await site.sweep(wrong(site, key=OURS))
            assert ended.summary.stop_reason == "account:main:identity"
            assert site.states() == {name: ("live", "failing")}
            site.sandbox.keys[OURS] = "acme"
            come(site)
            assert (await site.sweep(wrong(site, key=OURS))).summary.outcomes == {"deleted": 1}


def come(site: Site) -> None:
    """Let every next try have come."""
    with site.db.write() as connection:
        connection.execute(sa.update(tables.responses).values(next_try_at=None))


class TestAFirstInstall:
    """What an earlier job deleted, and what the provider itself has removed, is all 404."""

    def history(self, rehearsal: Rehearsal) -> tuple[list[str], list[str]]:
        """Register what is long gone and what a former job deleted, of two kinds that both live."""
        rehearsal.write(in_flight=1)
        old = rehearsal.responses(15, age=60 * DAY, stored=False)
        deleted = rehearsal.responses(6, stored=False)
        deleted += rehearsal.responses(6, stored=False, labels=SUPPORT | {"env": "dev"})
        rehearsal.responses(9, age=2 * DAY)
        rehearsal.responses(1, age=2 * DAY, labels=SUPPORT | {"env": "dev"})
        rehearsal.due.update(deleted)
        return old, deleted

    def test_history_past_the_providers_lifetime_is_no_storm(
        self, rehearsal: Rehearsal, run: Run
    ) -> None:
        rehearsal.responses(40, age=60 * DAY, stored=False)
        done = run("-c", rehearsal.config, "sweep", "--json")
        assert (done.code, done.last["outcomes"]) == (0, {"expired_by_provider": 40})
        assert done.last["complete"]
        assert rehearsal.rows(tables.breakers) == []
        assert truth.violations(rehearsal) == []

    def test_what_a_former_job_deleted_is_a_storm_with_a_way_on_to_the_end(
        self, rehearsal: Rehearsal, run: Run
    ) -> None:
        old, deleted = self.history(rehearsal)
        stopped = run("-c", rehearsal.config, "sweep", "--json")
        assert (stopped.code, stopped.last["stop_reason"]) == (12, "account:main:not_found")
        sent = rehearsal.requests("DELETE")
        again = run("-c", rehearsal.config, "sweep", "--json")
        assert (again.code, rehearsal.requests("DELETE")) == (12, sent)
        reset = ("account", "reset", "main", "--expect-absent", "12", "--reason", "the old job")
        assert run("-c", rehearsal.config, *reset).code == 0
        rehearsal.pass_time()
        done = run("-c", rehearsal.config, "sweep", "--json")
        assert (done.code, done.last["complete"]) == (0, True), done.last
        outcomes = {row["response_id"]: row["outcome"] for row in rehearsal.rows()}
        assert {outcomes[each] for each in old} == {"expired_by_provider"}
        assert {outcomes[each] for each in deleted} == {"already_absent"}
        assert truth.violations(rehearsal) == truth.unsettled(rehearsal) == []

    def test_who_expects_too_few_is_stopped_again(self, rehearsal: Rehearsal, run: Run) -> None:
        self.history(rehearsal)
        run("-c", rehearsal.config, "sweep")
        reset = ("account", "reset", "main", "--reason", "the old job", "--expect-absent")
        assert run("-c", rehearsal.config, *reset, "1").code == 0
        rehearsal.pass_time()
        assert run("-c", rehearsal.config, "sweep").code == 12
        assert run("-c", rehearsal.config, *reset, "12").code == 0
        rehearsal.pass_time()
        assert run("-c", rehearsal.config, "sweep").code == 0
        assert truth.unsettled(rehearsal) == []

    def test_a_kind_of_which_nothing_lives_stays_open_until_the_provider_has_removed_it(
        self, rehearsal: Rehearsal, run: Run
    ) -> None:
        """No key could tell it from what it may not see, whatever a person expects."""
        rehearsal.responses(12, stored=False)
        run("-c", rehearsal.config, "sweep")
        reset = ("account", "reset", "main", "--reason", "the old job", "--expect-absent", "12")
        assert run("-c", rehearsal.config, *reset).code == 0
        rehearsal.pass_time()
        still = run("-c", rehearsal.config, "sweep", "--json")
        assert (still.code, still.last["outcomes"]) == (3, {"not_visible": 12})
        rehearsal.change(tables.responses, created_at=moment.to_us(LONG_AGO), next_try_at=None)
        done = run("-c", rehearsal.config, "sweep", "--json")
        assert (done.code, done.last["outcomes"]) == (0, {"expired_by_provider": 12})
