"""A whole sweep against a real provider on a socket: what is sent, what is kept, what is told."""

import asyncio
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event
from sweeper.domain.plan import Guards
from sweeper.domain.policy import Match, Policy
from sweeper.engine import reckoning
from sweeper.ledger import leases, tables
from sweeper.ledger.database import Database
from tests.support import lent, registered, sweeping
from tests.support.sweeping import DAY, TWO_WEEKS, Site


class TestWhatIsDue:
    async def test_it_is_deleted_once_looked_for_once_and_verified(self, either: Site) -> None:
        ids = either.store(30)
        ended = await either.sweep()
        assert sorted(either.deleted()) == sorted(ids)
        looked_for = either.looked_for()
        assert looked_for[0] in ids  # the control before the first claim
        assert sorted(looked_for[1:]) == sorted(ids)
        assert either.sandbox.kept() == frozenset()
        assert set(either.states().values()) == {("gone", "deleted")}
        assert all(row["verified"] and row["attempts"] == 1 for row in either.rows.values())
        summary = ended.summary
        assert summary.outcomes == {"deleted": 30}
        assert (summary.due, summary.planned, summary.verified) == (30, 30, 30)
        assert summary.complete
        assert summary.remaining == 0
        told = either.records("deletion.outcome")
        assert len(told) == 30
        assert all(one["verified"] and one["evidence"]["verify_get"] == 404 for one in told)
        assert {one["policy"] for one in told} == {"two weeks"}

    async def test_without_verification_the_yes_is_what_is_told(self, either: Site) -> None:
        either.store(5)
        ended = await either.sweep(either.account("main", verify=False))
        assert ended.summary.outcomes == {"deleted": 5}
        assert ended.summary.verified == 0
        assert ended.summary.complete
        assert len(either.looked_for()) == 1  # the control

    async def test_the_other_profile_is_swept_alike(self, sqlite_database: Database) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.store(5)
            ended = await site.sweep(site.account("main", provider="openai"))
            assert ended.summary.outcomes == {"deleted": 5}
            assert ended.summary.verified == 5
            assert ended.summary.complete

    async def test_a_sweep_with_nothing_to_do_sends_nothing_and_is_complete(
        self, either: Site
    ) -> None:
        ended = await either.sweep()
        assert ended.summary.complete
        assert either.sandbox.journal.entries == []

    async def test_what_is_registered_and_not_admitted_yet_is_swept_too(self, site: Site) -> None:
        (name,) = site.sandbox.seed(1, age=20 * DAY)
        with site.db.write() as connection:
            connection.execute(
                tables.registrations.insert().values(
                    account="main",
                    response_id=name,
                    created_at=registered.NOW_US,
                    labels="{}",
                )
            )
        await site.sweep(policies=(Policy(name="soon", delete_after=timedelta(seconds=1)),))
        assert site.states() == {name: ("gone", "deleted")}


class TestWhatMustStay:
    async def test_what_is_not_due_is_not_asked_for(self, either: Site) -> None:
        either.store(3, age=13 * DAY)
        ended = await either.sweep()
        assert either.sandbox.journal.entries == []
        assert ended.summary.complete

    async def test_what_no_policy_matches_or_one_keeps_for_ever_stays(self, site: Site) -> None:
        site.store(2, labels={"app": "a"})
        site.store(2, labels={"app": "b"})
        kept = Policy(name="kept", match=Match(labels={"app": frozenset({"a"})}), delete_after=None)
        other = Policy(name="c", match=Match(labels={"app": frozenset({"c"})}), delete_after=DAY)
        ended = await site.sweep(policies=(kept, other))
        assert site.sandbox.journal.entries == []
        assert ended.plan.unmatched == 2

    async def test_what_is_set_aside_is_left_and_told_as_residue(self, either: Site) -> None:
        (name,) = either.store()
        either.know(name, labels={"app": "other"})  # says something else of it
        ended = await either.sweep()
        assert either.sandbox.journal.deletes() == []
        assert ended.summary.remaining_by_reason == {"quarantined": 1}
        assert not ended.summary.complete

    async def test_what_is_due_elsewhere_stays_and_is_told(self, site: Site) -> None:
        site.store(2, account="other")
        ended = await site.sweep()
        assert site.sandbox.journal.entries == []
        assert ended.summary.due == 2
        assert ended.summary.remaining_by_reason == {"no_account": 2}

    async def test_a_parent_waits_for_a_child_that_is_not_due(self, either: Site) -> None:
        names = either.chain(3, ages=(20 * DAY, 20 * DAY, 2 * DAY))
        ended = await either.sweep()
        assert either.sandbox.kept() == frozenset(names)
        assert either.sandbox.journal.entries == []
        assert ended.summary.due == 2
        assert ended.summary.remaining_by_reason == {"waiting": 2}

    async def test_a_dry_run_sends_nothing_and_claims_nothing(self, either: Site) -> None:
        either.store(3)
        async with either.opened() as running:
            ended = await running.sweep.rehearse()
        assert either.sandbox.journal.entries == []
        assert ended.summary.dry_run
        assert not ended.summary.complete
        assert (ended.summary.due, ended.summary.planned, ended.summary.remaining) == (3, 3, 3)
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        assert registered.rows(either.db, tables.attempts) == []

    async def test_only_the_policy_that_was_named_is_applied(self, site: Site) -> None:
        (a,) = site.store(labels={"app": "a"})
        (b,) = site.store(labels={"app": "b"})
        first = Policy(
            name="first", match=Match(labels={"app": frozenset({"a"})}), delete_after=DAY
        )
        ended = await site.sweep(policies=(first, TWO_WEEKS), only="first")
        assert site.deleted() == [a]
        assert site.states()[b] == ("live", None)
        assert ended.summary.due == 1


class TestGuards:
    async def test_a_refused_plan_sends_nothing(self, either: Site) -> None:
        either.store(3)
        guards = Guards(max_deletions_per_sweep=2, max_share_per_sweep=1, max_deletions_per_day=100)
        ended = await either.sweep(guards=guards)
        assert either.sandbox.journal.entries == []
        assert ended.summary.stop_reason == "guard"
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        assert "max_deletions_per_sweep" in ended.refused[0]
        assert [one.account for one in either.told(event.GuardRefused)] == ["main"]

    @pytest.mark.parametrize(
        "guards",
        [
            Guards(max_deletions_per_sweep=0, max_share_per_sweep=1, max_deletions_per_day=9),
            Guards(max_deletions_per_sweep=9, max_share_per_sweep=0, max_deletions_per_day=9),
            Guards(max_deletions_per_sweep=9, max_share_per_sweep=1, max_deletions_per_day=0),
        ],
    )
    async def test_nought_blocks_and_never_disables(self, site: Site, guards: Guards) -> None:
        site.store(1)
        ended = await site.sweep(guards=guards)
        assert site.sandbox.journal.entries == []
        assert not ended.summary.complete
        assert ended.summary.remaining == 1

    async def test_a_share_is_judged_from_a_hundred_on(self, site: Site) -> None:
        site.store(99)
        site.store(1, age=DAY)
        guards = Guards(
            max_deletions_per_sweep=1000, max_share_per_sweep=0.5, max_deletions_per_day=1000
        )
        assert (await site.sweep(guards=guards)).summary.complete
        site.store(100)
        ended = await site.sweep(guards=guards)
        assert ended.summary.stop_reason == "guard"
        assert len(site.deleted()) == 99

    async def test_one_accounts_refusal_stops_no_other(self, sqlite_database: Database) -> None:
        keys = {"key-a": "a", "key-b": "b"}
        async with sweeping.serving(sqlite_database, keys=keys) as site:
            site.store(3, at="a", account="one")
            b = site.store(2, at="b", account="two")
            guards = Guards(
                max_deletions_per_sweep=2, max_share_per_sweep=1, max_deletions_per_day=100
            )
            ended = await site.sweep(
                site.account("one", key="key-a"), site.account("two", key="key-b"), guards=guards
            )
            assert sorted(site.deleted()) == sorted(b)
            assert ended.summary.stop_reason == "guard"
            assert ended.summary.outcomes == {"deleted": 2}
            assert ended.summary.remaining_by_reason == {"stopped": 3}

    async def test_a_bound_picks_the_earliest_due_and_the_rest_is_capped(
        self, either: Site
    ) -> None:
        later = either.store(2, age=15 * DAY, labels={"app": "a"})
        sooner = either.store(2, age=19 * DAY, labels={"app": "b"})
        ended = await either.sweep(most=3)
        assert either.deleted()[:2] == sooner
        assert either.deleted()[2:] == later[:1]
        assert ended.summary.remaining_by_reason == {"capped": 1}
        assert (ended.summary.due, ended.summary.planned) == (4, 3)
        assert not ended.summary.complete
        assert ended.summary.stop_reason is None

    async def test_the_days_bound_counts_what_was_claimed_before(self, site: Site) -> None:
        site.store(5)
        guards = Guards(max_deletions_per_sweep=100, max_share_per_sweep=1, max_deletions_per_day=3)
        first = await site.sweep(guards=guards)
        second = await site.sweep(guards=guards)
        assert first.summary.remaining_by_reason == {"capped": 2}
        assert second.summary.planned == 0
        assert len(site.deleted()) == 3


class TestOrder:
    async def test_what_is_due_earliest_goes_first_across_label_sets(self, site: Site) -> None:
        short = Policy(
            name="short", match=Match(labels={"app": frozenset({"s"})}), delete_after=DAY
        )
        ages = {"a": 20, "b": 18, "c": 16}
        names = {
            app: site.store(age=days * DAY, labels={"app": app})[0] for app, days in ages.items()
        }
        (early,) = site.store(age=9 * DAY, labels={"app": "s"})  # due for eight days
        await site.sweep(site.account("main", max_in_flight=1), policies=(short, TWO_WEEKS))
        assert site.deleted() == [early, names["a"], names["b"], names["c"]]

    async def test_a_chain_goes_leaf_first_in_one_sweep(self, either: Site) -> None:
        names = either.chain(12)
        ended = await either.sweep()
        assert either.deleted() == names[::-1]
        assert ended.summary.complete

    async def test_a_long_chain_does_too(self, site: Site) -> None:
        names = site.chain(200)
        ended = await site.sweep(site.account("main", verify=False))
        assert site.deleted() == names[::-1]
        assert ended.summary.complete

    async def test_a_fork_goes_before_what_it_continues(self, site: Site) -> None:
        (root,) = site.store(age=25 * DAY)
        left = site.store(age=21 * DAY, previous=root)
        right = site.store(age=22 * DAY, previous=root)
        twig = site.store(age=20 * DAY, previous=right[0])
        await site.sweep()
        order = site.deleted()
        assert order[-1] == root
        assert order.index(twig[0]) < order.index(right[0])
        assert set(order) == {root, *left, *right, *twig}

    async def test_one_living_leaf_keeps_all_that_it_continues(self, site: Site) -> None:
        (root,) = site.store(age=25 * DAY)
        (due,) = site.store(age=21 * DAY, previous=root)
        site.store(age=2 * DAY, previous=root)
        ended = await site.sweep()
        assert site.deleted() == [due]
        assert ended.summary.remaining_by_reason == {"waiting": 1}
        assert not ended.summary.complete

    async def test_a_bound_takes_children_before_their_parents(self, site: Site) -> None:
        names = site.chain(4)
        ended = await site.sweep(most=2)
        assert site.deleted() == [names[3], names[2]]
        assert ended.summary.remaining_by_reason == {"capped": 1, "waiting": 1}

    async def test_a_parent_stays_when_its_child_could_not_be_deleted(self, site: Site) -> None:
        root, leaf = site.chain(2)
        site.fault(method="DELETE", status=422, body={"detail": "no"})
        ended = await site.sweep()
        assert site.deleted() == [leaf]
        assert site.states() == {root: ("live", None), leaf: ("quarantined", "rejected")}
        assert ended.summary.remaining_by_reason == {"quarantined": 1, "waiting": 1}


class TestSeveralAccounts:
    KEYS: ClassVar = {"key-a": "a", "key-b": "b"}

    async def test_a_stopped_account_holds_up_no_other(self, sqlite_database: Database) -> None:
        async with sweeping.serving(sqlite_database, keys=self.KEYS) as site:
            site.store(3, at="a", account="one")
            b = site.store(40, at="b", account="two")
            site.fault(method="DELETE", account="a", status=401, body={"error": "no"})
            ended = await site.sweep(
                site.account("one", key="key-a"), site.account("two", key="key-b")
            )
            assert sorted(one for one in site.deleted() if one in b) == sorted(b)
            assert ended.summary.stop_reason == "account:one:credential"
            assert ended.summary.outcomes == {"deleted": 40}
            assert ended.summary.remaining_by_reason == {"stopped": 3}

    async def test_a_silent_account_holds_up_no_other(self, sqlite_database: Database) -> None:
        async with sweeping.serving(sqlite_database, keys=self.KEYS) as site:
            site.store(1, at="a", account="one")
            b = site.store(40, at="b", account="two")
            site.fault(method="DELETE", account="a", do="silence")
            async with site.opened(
                site.account("one", key="key-a"), site.account("two", key="key-b")
            ) as running:
                task = asyncio.create_task(running.sweep.run())
                await site.sandbox.wait_until(
                    lambda: sum(one.carried_out for one in site.sandbox.journal.deletes()) == 40
                )
                assert not task.done()
                running.sweep.stop("interrupted")
                await running.accounts["one"].aclose()
                ended = await task
            assert ended.summary.outcomes["failing"] == 1
            assert {site.states()[one][0] for one in b} <= {"gone", "verifying"}

    async def test_two_names_for_one_account_are_a_mistake_that_is_told(self, either: Site) -> None:
        either.store(2, account="one")
        either.store(2, account="two")
        ended = await either.sweep(either.account("one"), either.account("two"))
        assert isinstance(ended.fault, errors.ConfigurationError)
        assert len(either.deleted()) == 2
        assert ended.summary.stop_reason is not None
        assert ended.summary.stop_reason.endswith(":identity")


class TestInterruption:
    async def test_nothing_stays_claimed_and_what_is_in_flight_is_recorded(
        self, either: Site
    ) -> None:
        either.store(50)
        either.fault(method="DELETE", delay=0.2)
        async with either.opened(either.account("main", max_in_flight=2)) as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(lambda: len(either.deleted()) == 2)
            running.sweep.stop("interrupted")
            ended = await task
        assert len(either.deleted()) == 2
        states = either.states()
        assert sorted(state for state, _ in states.values()) == ["live"] * 48 + ["verifying"] * 2
        assert ended.summary.stop_reason == "interrupted"
        assert ended.summary.remaining_by_reason == {"stopped": 48, "verifying": 2}
        unsent = [row for row in registered.rows(either.db, tables.attempts) if row["unsent"]]
        assert len(unsent) == len(registered.rows(either.db, tables.attempts)) - 2
        assert all(row["attempts"] == 0 for row in either.rows.values() if row["state"] == "live")

    async def test_an_interrupted_opening_opens_no_breaker_and_pins_nothing(
        self, site: Site
    ) -> None:
        site.store(2)
        site.fault(path="verifyApiKey", delay=0.2)
        async with site.opened(site.account("main", rate_per_second=20)) as running:
            task = asyncio.create_task(running.sweep.run())
            await site.sandbox.wait_until(lambda: site.sandbox.journal.entries)
            running.sweep.stop("interrupted")
            ended = await task
        assert ended.summary.stop_reason == "interrupted"
        assert site.told(event.BreakerOpened) == []
        assert site.deleted() == []
        (account,) = registered.rows(site.db, tables.accounts)
        assert account["pinned_account_id"] in (None, site.sandbox.account)
        assert (account["identity"] is None) == (account["pinned_account_id"] is None)

    async def test_one_that_waits_for_the_account_check_opens_none_either(self, site: Site) -> None:
        site.store(2)
        site.fault(path="verifyApiKey", status=429, retry_after=60)
        throttled = asyncio.Event()

        def hear(happened: event.Event) -> None:
            if isinstance(happened, event.Throttled):
                throttled.set()

        site.events = sweeping.Listening(hear)
        async with site.opened() as running:
            task = asyncio.create_task(running.sweep.run())
            await throttled.wait()
            running.sweep.stop("interrupted")
            ended = await task
        assert ended.summary.stop_reason == "interrupted"
        assert ended.summary.remaining_by_reason == {"stopped": 2}
        assert site.told(event.BreakerOpened) == []
        assert [one.result for one in site.told(event.AccountChecked)] == ["interrupted"]

    async def test_the_next_sweep_finishes_what_was_left(self, either: Site) -> None:
        either.store(10)
        either.fault(method="DELETE", delay=0.1, times=2)
        async with either.opened(either.account("main", max_in_flight=2)) as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(either.deleted)
            running.sweep.stop("interrupted")
            await task
        ended = await either.sweep()
        assert ended.summary.complete
        assert set(either.states().values()) == {("gone", "deleted")}
        assert len(either.deleted()) == 10


class TestWhoMaySweep:
    async def test_one_ledger_has_one_sweeper(self, either: Site) -> None:
        either.store(1)
        if either.db.is_sqlite:
            with leases.file_lock(either.db), pytest.raises(errors.LedgerBusy):
                await either.sweep()
        else:
            with either.db.write() as connection:
                held = leases.acquire(connection, "main")
            with pytest.raises(errors.LedgerBusy):
                await either.sweep()
            with either.db.write() as connection:
                leases.release(connection, held)
        assert either.sandbox.journal.entries == []
        assert (await either.sweep()).summary.complete

    async def test_what_a_dead_sweeper_left_is_taken_again_at_once(self, either: Site) -> None:
        names = either.store(2)
        lent.take(either.db, names[0], now=0)
        ended = await either.sweep()
        (freed,) = either.told(event.ClaimsFreed)
        assert freed.count == 1
        assert ended.summary.outcomes == {"deleted": 2}
        assert either.row(names[0])["ambiguous"] == 1

    async def test_the_lease_is_free_again_after_a_sweep(
        self, postgresql_database: Database
    ) -> None:
        async with sweeping.serving(postgresql_database) as site:
            site.store(1)
            await site.sweep()
            (lease,) = registered.rows(site.db, tables.leases)
            assert lease["expires_at"] == 0

    async def test_the_lease_is_renewed_while_a_sweep_goes_on(
        self, postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.tenure.RENEW_EVERY", 0.05)
        monkeypatch.setattr(leases, "TERM", 500_000)
        async with sweeping.serving(postgresql_database) as site:
            site.store(2)
            site.fault(method="DELETE", delay=1.0)
            assert (await site.sweep()).summary.complete

    async def test_a_renewal_that_fails_ends_a_sweep_that_waits(
        self, postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.tenure.RENEW_EVERY", 0.05)
        async with sweeping.serving(postgresql_database) as site:
            site.store(30)
            site.fault(method="DELETE", delay=0.5)
            async with site.opened(site.account("main", max_in_flight=1)) as running:
                task = asyncio.create_task(running.sweep.run())
                await site.sandbox.wait_until(site.deleted)
                with site.db.write() as connection:
                    connection.execute(tables.leases.update().values(holder="somebody else"))
                ended = await task
            assert isinstance(ended.fault, errors.LedgerBusy)
            assert len(site.deleted()) == 1

    async def test_a_lost_lease_ends_everything_before_more_is_sent(
        self, postgresql_database: Database
    ) -> None:
        async with sweeping.serving(postgresql_database) as site:
            site.store(60)

            def lose(happened: event.Event) -> None:
                if isinstance(happened, event.AccountChecked):
                    with site.db.write() as connection:
                        connection.execute(tables.leases.update().values(holder="somebody else"))

            site.events = sweeping.Listening(lose)
            ended = await site.sweep()
            assert isinstance(ended.fault, errors.LedgerBusy)
            assert site.deleted() == []
            assert ended.summary.stop_reason == "ledger"
            assert ended.summary.remaining is None


class TestFaultsOfTheLedger:
    async def test_after_a_commit_that_fails_nothing_more_is_sent(self, either: Site) -> None:
        either.store(100)
        either.fault(method="DELETE", delay=0.02)
        sweeping.refuse(either, "UPDATE", "responses", "NEW.state = 'verifying'")
        ended = await either.sweep(either.account("main", max_in_flight=2), checked=False)
        assert isinstance(ended.fault, errors.LedgerError)
        assert ended.summary.stop_reason == "ledger"
        assert ended.summary.remaining is None
        assert ended.summary.remaining_by_reason is None
        assert not ended.summary.complete
        # Two may have been in flight, and one more per worker in the time of the commit.
        assert len(either.deleted()) < 40
        assert {state for state, _ in either.states().values()} == {"live", "claimed"}
        sweeping.allow(either, "responses")
        sent = set(either.deleted())
        await either.sweep()
        outcomes = {name: outcome for name, (_, outcome) in either.states().items()}
        for name, outcome in outcomes.items():
            assert outcome == ("absent_after_attempt" if name in sent else "deleted")
        assert len(either.deleted()) == 100 + len(sent)

    async def test_a_fault_that_passes_loses_no_outcome(self, site: Site) -> None:
        names = site.store(3)
        failed: list[int] = []
        _on_settle(site, failed)
        ended = await site.sweep(checked=False)
        assert ended.summary.stop_reason == "ledger"
        assert failed
        assert {state for state, _ in site.states().values()} == {"verifying"}
        site.events.clear()
        again = await site.sweep()
        assert again.summary.outcomes == {"deleted": 3}
        assert sorted(site.deleted()) == sorted(names)

    async def test_a_ledger_that_cannot_be_read_still_ends_with_a_summary(self, site: Site) -> None:
        site.store(1)
        sweeping.refuse(site, "DELETE", "registrations", "1")
        with site.db.write() as connection:
            connection.execute(tables.registrations.insert().values(account="x"))
        ended = await site.sweep(checked=False)
        assert ended.summary.due is None
        assert ended.summary.remaining is None
        assert ended.summary.stop_reason == "ledger"
        assert site.sandbox.journal.entries == []

    async def test_what_cannot_be_counted_is_not_nought(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> Mapping[str, int]:
            raise errors.LedgerError("the disk is gone")

        monkeypatch.setattr(reckoning, "residue", fail)
        site.store(1)
        ended = await site.sweep()
        assert ended.summary.outcomes == {"deleted": 1}
        assert ended.summary.remaining is None
        assert ended.summary.stop_reason == "ledger"
        assert not ended.summary.complete

    async def test_a_sweep_that_cannot_be_closed_is_not_complete(self, either: Site) -> None:
        either.store(1)
        sweeping.refuse(either, "UPDATE", "sweeps", "NEW.finished_at IS NOT NULL")
        ended = await either.sweep()
        assert ended.summary.stop_reason == "ledger"
        assert ended.summary.outcomes == {"deleted": 1}
        assert not ended.summary.complete

    async def test_a_file_that_was_replaced_takes_no_outcome(self, site: Site) -> None:
        site.store(40)
        path = site.db.path
        assert path is not None
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        fired: list[object] = []

        def replace(happened: event.Event) -> None:
            if isinstance(happened, event.AccountChecked):
                copy.replace(path)
                fired.append(happened)

        site.events = sweeping.Listening(replace)
        ended = await site.sweep(checked=False)
        assert fired
        assert isinstance(ended.fault, errors.LedgerReplaced)
        assert site.deleted() == []
        assert ended.summary.remaining is None

    async def test_a_fault_at_one_account_ends_the_others_too(
        self, sqlite_database: Database
    ) -> None:
        keys = {"key-a": "a", "key-b": "b"}
        async with sweeping.serving(sqlite_database, keys=keys) as site:
            a, slow = site.store(2, at="a", account="one")
            site.store(300, at="b", account="two")
            site.fault(method="DELETE", id=slow, delay=1.5)
            site.fault(method="DELETE", account="b", delay=0.02)
            sweeping.refuse(
                site, "UPDATE", "responses", f"OLD.response_id = '{a}' AND NEW.state <> 'claimed'"
            )
            ended = await site.sweep(
                site.account("one", key="key-a"),
                site.account("two", key="key-b", max_in_flight=2),
                checked=False,
            )
            assert ended.summary.stop_reason == "ledger"
            assert slow in site.deleted()
            assert len(site.deleted()) < 100


class TestResidue:
    async def test_what_waits_for_its_next_try_is_backing_off(self, either: Site) -> None:
        (name,) = either.store()
        either.store(2)
        lent.put(either.db, name, next_try_at=_soon(60))
        ended = await either.sweep()
        assert ended.summary.due == 3
        assert ended.summary.planned == 2
        assert ended.summary.remaining_by_reason == {"backing_off": 1}

    async def test_what_came_back_in_time_takes_the_place_of_another_of_its_kind(
        self, site: Site
    ) -> None:
        (name,) = site.store()
        (other,) = site.store()
        lent.put(site.db, name, next_try_at=_soon(60))

        def come_back(happened: event.Event) -> None:
            if isinstance(happened, event.SweepStarted):
                lent.put(site.db, name, next_try_at=None)

        site.events = sweeping.Listening(come_back)
        ended = await site.sweep()
        assert site.deleted() == [name]
        assert site.states()[other] == ("live", None)
        assert ended.summary.remaining_by_reason == {"backing_off": 1}

    async def test_a_refused_account_still_tells_what_waits_for_its_next_try(
        self, site: Site
    ) -> None:
        (name,) = site.store()
        site.store(2)
        lent.put(site.db, name, next_try_at=_soon(60))
        guards = Guards(max_deletions_per_sweep=0, max_share_per_sweep=1, max_deletions_per_day=100)
        ended = await site.sweep(guards=guards)
        assert ended.summary.remaining_by_reason == {"backing_off": 1, "stopped": 2}

    async def test_what_a_person_must_decide_keeps_the_next_sweep_incomplete_too(
        self, site: Site
    ) -> None:
        (name,) = site.store()
        site.fault(method="DELETE", status=400, body={"detail": "no"})
        first = await site.sweep()
        second = await site.sweep()
        assert site.deleted() == [name]
        for ended in (first, second):
            assert ended.summary.remaining_by_reason == {"quarantined": 1}
            assert not ended.summary.complete

    async def test_the_numbers_of_a_plan_add_up(self, either: Site) -> None:
        either.store(4)
        either.chain(2, ages=(20 * DAY, DAY))
        (name,) = either.store()
        lent.put(either.db, name, next_try_at=_soon(60))
        either.store(2, account="nobody")
        made = (await either.sweep(most=3)).plan
        numbers = (made.planned, made.held, made.capped, made.waiting, made.backing_off)
        assert numbers == (3, 0, 1, 1, 1)
        assert made.no_account == 2
        assert made.due == sum(numbers) + made.no_account == 8


def _soon(seconds: float) -> int:
    return int((time.time() + seconds) * 1e6)


def _on_settle(site: Site, failed: list[int]) -> None:
    """Make the first commit of an outcome fail, and no other."""

    def fail(connection: sa.Connection) -> None:
        verifying = connection.exec_driver_sql(
            "SELECT count(*) FROM responses WHERE state = 'verifying'"
        ).scalar_one()
        if verifying and not failed:
            failed.append(verifying)
            raise sa.exc.OperationalError("COMMIT", {}, Exception("disk is full"))

    sa.event.listen(site.db.engine, "commit", fail)
