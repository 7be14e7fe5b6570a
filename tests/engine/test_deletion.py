"""What each answer of a provider makes of a response: real answers, from a socket to the ledger."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from sweeper.domain import event, moment
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.notfound import NotFound
from sweeper.domain.outcome import Breaker, Outcome, Settlement
from sweeper.domain.response import State
from sweeper.domain.secret import Secret
from sweeper.engine.clock import Clock
from sweeper.engine.deletion import Absence, Deletion, Finished
from sweeper.ledger import accounts, tables
from sweeper.ledger.database import Database
from tests.support import lent, registered, sweeping
from tests.support.sweeping import DAY, Site

LONG_AGO = 31 * DAY
"""Older than the provider itself keeps anything."""


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back-off takes nearly as long as it may, so that no sweep sees its end."""
    monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 0.999)


def open_again(site: Site, *names: str) -> None:
    """Let the next try of responses have come."""
    for name in names:
        lent.put(site.db, name, next_try_at=None)


def rename(site: Site, name: str, instead: str) -> None:
    """Write another id straight into the database."""
    with site.db.write() as connection:
        connection.execute(
            tables.responses.update()
            .where(tables.responses.c.response_id == name)
            .values(response_id=instead)
        )


class TestAnswersToADelete:
    @pytest.mark.parametrize(
        "rule, outcome, touched",
        [
            ({"status": 408}, "failing", True),
            ({"status": 425}, "failing", False),
            ({"status": 429}, "failing", False),
            ({"status": 500}, "failing", True),
            ({"status": 500, "html": "oops"}, "failing", True),
            ({"status": 502, "html": "bad gateway"}, "failing", True),
            ({"status": 503}, "failing", True),
            ({"status": 504}, "failing", True),
            ({"status": 520}, "failing", True),
            ({"status": 409, "body": {"error": "busy"}}, "failing", False),
            ({"status": 423, "body": {"error": "locked"}}, "failing", False),
            ({"status": 200, "html": "maintenance"}, "unconfirmed", True),
            ({"status": 200, "body": {}}, "unconfirmed", True),
            ({"status": 200, "body": []}, "unconfirmed", True),
            ({"status": 200, "body": "null"}, "unconfirmed", True),
            ({"status": 200, "body": {"deleted": False}}, "unconfirmed", True),
            ({"status": 200, "body": {"error": {"message": "no"}}}, "unconfirmed", True),
            ({"status": 202, "body": {"message": "later"}}, "unconfirmed", True),
            ({"status": 204}, "unconfirmed", True),
            ({"status": 206, "body": {"message": "part"}}, "unconfirmed", True),
            ({"status": 418, "body": {"error": "teapot"}}, "unconfirmed", False),
            ({"status": 406, "body": {"error": "x"}}, "unconfirmed", False),
            ({"truncate": 5}, "failing", True),
            ({"do": "close"}, "failing", True),
            ({"do": "reset"}, "failing", True),
            ({"do": "reset", "carry_out": True}, "failing", True),
            ({"raw": "HTTP/1.1 999999 no\r\n\r\n", "then": "close"}, "failing", True),
            ({"gzip": True}, "unconfirmed", True),
        ],
    )
    async def test_it_is_open_and_tried_again_later(
        self,
        site: Site,
        late: None,
        rule: dict[str, Any],
        outcome: str,
        touched: bool,
    ) -> None:
        (name,) = site.store()
        site.fault(method="DELETE", times=1, **rule)
        ended = await site.sweep()
        row = site.row(name)
        assert (row["state"], row["outcome"]) == ("live", outcome)
        # A 429 speaks of the account, and puts no response off.
        assert row["failures"] == int(rule.get("status") != 429)
        assert row["attempts"] == 1
        assert row["touched"] == row["ambiguous"] == int(touched)
        assert row["next_try_at"] > row["last_attempt_at"]
        assert row["finished_at"] is None
        assert ended.summary.outcomes == {outcome: 1}
        assert ended.summary.remaining_by_reason == {outcome: 1}
        assert ended.summary.stop_reason is None
        assert not ended.summary.complete
        (record,) = site.records("deletion.outcome")
        assert record["outcome"] == outcome
        assert record["ambiguous"] == int(touched)

    @pytest.mark.parametrize("status", [400, 413, 414, 422])
    async def test_an_id_that_is_refused_is_set_aside_after_one_try(
        self, site: Site, status: int
    ) -> None:
        (name,) = site.store()
        site.fault(method="DELETE", status=status, body={"detail": "no"})
        ended = await site.sweep()
        assert site.states() == {name: ("quarantined", "rejected")}
        assert site.row(name)["quarantine_reason"] == "rejected"
        assert ended.summary.remaining_by_reason == {"quarantined": 1}
        await site.sweep()
        assert site.deleted() == [name]

    @pytest.mark.parametrize(
        "status, breaker",
        [
            (401, "credential"),
            (402, "payment"),
            (403, "credential"),
            (405, "configuration"),
            (407, "credential"),
            (412, "payment"),
            (415, "configuration"),
            (501, "configuration"),
            (301, "configuration"),
            (302, "configuration"),
            (307, "configuration"),
            (308, "configuration"),
        ],
    )
    async def test_it_stops_the_account_and_charges_nothing(
        self, site: Site, status: int, breaker: str
    ) -> None:
        site.store(20)
        site.fault(method="DELETE", status=status, body={"error": "no"})
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert len(site.deleted()) == 1
        rows = site.rows.values()
        assert {(row["state"], row["outcome"]) for row in rows} == {("live", None)}
        assert {row["failures"] for row in rows} == {0}
        assert {row["next_try_at"] for row in rows} == {None}
        assert ended.summary.stop_reason == f"account:main:{breaker}"
        assert ended.summary.outcomes == {}
        assert ended.summary.remaining_by_reason == {"stopped": 20}
        assert site.breakers() == [breaker]
        (opened,) = site.told(event.BreakerOpened)
        assert (opened.breaker, opened.kept) == (breaker, 20)
        assert opened.oldest_due_at is not None
        assert [one["breaker"] for one in site.records("breaker.opened")] == [breaker]
        # The account works again: the control lifts the breaker, and all goes.
        site.mend()
        assert (await site.sweep()).summary.complete
        assert site.breakers() == []
        assert [one["breaker"] for one in site.records("breaker.closed")] == [breaker]

    async def test_three_pages_in_a_row_stop_the_account(self, site: Site) -> None:
        site.store(20)
        site.fault(method="DELETE", status=200, html="log in")
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert len(site.deleted()) == 3
        assert ended.summary.stop_reason == "account:main:intercepted"
        assert ended.summary.outcomes == {"unconfirmed": 3}

    async def test_two_pages_and_an_answer_stop_nothing(self, site: Site) -> None:
        site.store(9)
        for after in (0, 3, 6):
            site.fault(method="DELETE", after=after, times=2, status=200, html="log in")
        ended = await site.sweep(site.account("main", max_in_flight=1, verify=False))
        assert ended.summary.stop_reason is None

    async def test_a_storm_of_failures_stops_the_account(self, site: Site) -> None:
        site.store(40)
        site.fault(method="DELETE", status=500)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert len(site.deleted()) == 10
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert site.breakers() == ["unreachable"]

    async def test_a_deletion_whose_answer_was_lost_is_settled_by_its_absence(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.store(age=DAY)
        either.fault(method="DELETE", times=1, do="reset", carry_out=True)
        await either.sweep()
        either.mend()
        if either.states()[name][0] != "gone":
            open_again(either, name)
            await either.sweep()
        row = either.row(name)
        assert (row["state"], row["outcome"]) == ("gone", "absent_after_attempt")
        assert not row["verified"]
        last = either.records("deletion.outcome")[-1]
        assert last["outcome"] == "absent_after_attempt"
        assert last["evidence"]["control"] == "pass"
        assert last["evidence"]["verify_get"] == 404
        assert last["ambiguous"] == 1
        assert last["supersedes"] is not None

    async def test_an_id_that_must_not_be_sent_never_is(self, either: Site) -> None:
        bad = ["../files/x", "a#b", "a?b", "..", "a b", "é", "x" * 129]
        good = either.store(len(bad) + 1)
        for name, instead in zip(good[1:], bad, strict=True):
            rename(either, name, instead)
        ended = await either.sweep()
        assert either.deleted() == good[:1]
        assert set(either.looked_for()) == set(good[:1])
        rows = [either.row(name) for name in bad]
        assert {row["quarantine_reason"] for row in rows[:-1]} == {"malformed:bad_id"}
        # Another provider might take the last one: it is not the row that is wrong.
        assert rows[-1]["quarantine_reason"] == "rejected"
        assert {(row["state"], row["attempts"]) for row in rows} == {("quarantined", 0)}
        assert ended.summary.remaining_by_reason == {"quarantined": len(bad)}
        assert ended.summary.stop_reason is None

    async def test_a_verification_under_such_an_id_is_not_sent_either(self, site: Site) -> None:
        (name,) = site.store()
        site.fault(method="GET", path="/responses/", after=1, status=503)
        await site.sweep()
        assert site.states()[name][0] == "verifying"
        lent.put(site.db, name, verify_at=0)
        rename(site, name, "../files/x")
        before = len(site.looked_for())
        site.mend()
        ended = await site.sweep()
        assert site.states() == {"../files/x": ("quarantined", None)}
        assert site.row("../files/x")["quarantine_reason"] == "malformed:bad_id"
        assert len(site.looked_for()) == before
        assert ended.summary.remaining_by_reason == {"quarantined": 1}

    async def test_a_verification_under_an_id_that_only_this_provider_cannot_have_waits(
        self, site: Site, late: None
    ) -> None:
        long = "x" * 129
        (name,) = site.store()
        site.fault(method="GET", path="/responses/", after=1, status=503)
        await site.sweep()
        before, failures = len(site.looked_for()), site.row(name)["failures"]
        lent.put(site.db, name, verify_at=0)
        rename(site, name, long)
        site.mend()
        began = moment.to_us(datetime.now(UTC))
        ended = await site.sweep()
        row = site.row(long)
        assert (row["state"], row["failures"]) == ("verifying", failures + 1)
        assert row["verify_at"] - began > 0.9 * 2 ** (failures + 1) * 1_000_000
        assert len(site.looked_for()) == before
        assert ended.summary.remaining_by_reason == {"verifying": 1}


class TestPauses:
    @pytest.mark.parametrize(
        "rule",
        [
            {"status": 429, "retry_after": 1},
            {"status": 503, "retry_after": 1},
            {"status": 429, "retry_after": {"seconds": 2, "form": "imf"}},
        ],
    )
    async def test_the_whole_account_waits_as_long_as_it_was_asked_to(
        self, site: Site, rule: dict[str, Any]
    ) -> None:
        site.store(12)
        site.fault(method="DELETE", after=3, times=1, **rule)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        journal = site.sandbox.journal.entries
        (refused,) = (index for index, one in enumerate(journal) if one.status in (429, 503))
        assert journal[refused + 1].at - journal[refused].at >= 0.95
        assert ended.summary.complete
        assert ended.summary.outcomes == {"deleted": 12}
        (told,) = site.told(event.Throttled)
        assert told.pause_seconds is not None

    async def test_a_sweep_does_not_wait_for_what_was_refused_last(self, site: Site) -> None:
        (name,) = site.store()
        site.fault(method="DELETE", status=429, retry_after=3600)
        ended = await site.sweep()  # the test's own limit is two minutes
        row = site.row(name)
        assert (row["state"], row["outcome"]) == ("live", "failing")
        assert row["next_try_at"] - row["last_attempt_at"] > 3500 * 1_000_000
        assert ended.summary.remaining_by_reason == {"failing": 1}

    async def test_a_sweep_does_not_wait_for_a_verification_that_was_refused(
        self, site: Site
    ) -> None:
        (name,) = site.store()
        site.fault(method="GET", path="/responses/", after=1, status=429, retry_after=3600)
        ended = await site.sweep()
        row = site.row(name)
        assert row["state"] == "verifying"
        assert row["verify_at"] - row["yes_at"] > 3500 * 1_000_000
        assert ended.summary.remaining_by_reason == {"verifying": 1}

    async def test_a_refusal_without_guidance_slows_down_and_goes_on(self, site: Site) -> None:
        site.store(20)
        site.fault(method="DELETE", after=2, times=2, status=429, retry_after="soon")
        site.fault(method="DELETE", after=4, times=1, status=429, retry_after=0)
        ended = await site.sweep()
        first, *_ = site.told(event.Throttled)
        assert first.rate_per_second < sweeping.FAST * 0.95
        assert ended.summary.outcomes["deleted"] >= 17
        assert ended.summary.stop_reason is None


class TestWhenA404Settles:
    async def test_with_sight_of_its_kind_and_controls_on_both_sides_it_is_absent(
        self, either: Site
    ) -> None:
        either.store(5)
        either.know("resp_gone")
        ended = await either.sweep()
        assert either.states()["resp_gone"] == ("gone", "already_absent")
        assert ended.summary.outcomes == {"deleted": 5, "already_absent": 1}
        assert ended.summary.complete
        record = next(
            one for one in either.records("deletion.outcome") if one["outcome"] == "already_absent"
        )
        assert record["evidence"]["control"] == "pass"
        assert record["evidence"]["status"] == 404
        assert record["verified"] is False
        gets = [one for one in either.looked_for() if one == "resp_gone"]
        assert gets

    async def test_a_kind_that_this_key_has_never_seen_stays_open(self, either: Site) -> None:
        either.store(5, labels={"app": "a"})
        either.know("resp_gone", labels={"app": "b"})
        ended = await either.sweep()
        assert either.states()["resp_gone"] == ("live", "not_visible")
        assert ended.summary.remaining_by_reason == {"not_visible": 1}

    async def test_a_410_is_a_404(self, site: Site) -> None:
        (name,) = site.store()
        site.store(3)
        for method in ("DELETE", "GET"):
            site.fault(method=method, id=name, status=410, body={"detail": "Response gone"})
        await site.sweep()
        assert site.states()[name] == ("gone", "already_absent")

    async def test_another_control_than_the_identity_is_not_enough(self, site: Site) -> None:
        """Nothing can be read and there is no list: 404s stay open, whoever the key belongs to."""
        site.know("resp_a", "resp_b")
        site.fault(path="limit=1", status=500)
        await site.sweep()
        assert set(site.states().values()) == {("live", "not_visible")}

    async def test_sight_without_the_identity_is_not_enough(self, site: Site) -> None:
        site.store(3)
        site.know("resp_gone")
        site.fault(path="verifyApiKey", after=1, status=500)
        ended = await site.sweep()
        assert site.states()["resp_gone"] == ("live", "not_visible")
        assert ended.summary.outcomes == {"deleted": 3, "not_visible": 1}

    async def test_a_get_that_still_reads_it_proves_that_it_is_there(self, site: Site) -> None:
        (name,) = site.store()
        site.store(3)
        site.fault(method="DELETE", id=name, status=404, body={"detail": "Response not found"})
        await site.sweep()
        assert site.states()[name] == ("live", "unconfirmed")

    async def test_a_get_of_any_other_answer_leaves_it_open(self, site: Site) -> None:
        site.store(3)
        site.know("resp_gone")
        site.fault(method="GET", id="resp_gone", status=500)
        await site.sweep()
        assert site.states()["resp_gone"] == ("live", "not_visible")

    async def test_a_get_that_stops_the_account_charges_nothing(self, site: Site) -> None:
        site.store(3, age=21 * DAY)
        site.know("resp_gone")
        site.fault(method="GET", id="resp_gone", status=401, body={"error": "no"})
        site.fault(method="GET", path="/responses/resp_", after=0, times=1)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert site.states()["resp_gone"] == ("live", None)
        assert ended.summary.stop_reason == "account:main:credential"

    async def test_a_routers_404_settles_nothing(self, site: Site) -> None:
        names = site.store(4)
        ended = await site.sweep(site.account("main", base_url=f"{site.sandbox.origin}/elsewhere"))
        assert site.deleted() == []
        assert set(site.states().values()) == {("live", None)}
        assert ended.summary.stop_reason == "account:main:configuration"
        assert site.sandbox.kept() == frozenset(names)
        assert registered.rows(site.db, tables.accounts)[0]["identity"] is None

    async def test_the_key_of_another_account_settles_nothing(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, keys={"own": "a", "other": "b"}) as site:
            names = site.store(4)
            ended = await site.sweep(site.account("main", key="other"))
            assert set(site.states().values()) == {("live", "not_visible")}
            assert site.sandbox.kept("a") == frozenset(names)
            assert not ended.summary.complete

    async def test_the_key_of_another_account_is_refused_where_one_is_pinned(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, keys={"own": "a", "other": "b"}) as site:
            site.store(1)
            await site.sweep(site.account("main", key="own"))
            site.store(4)
            ended = await site.sweep(site.account("main", key="other"))
            assert len(site.deleted()) == 1
            assert ended.summary.stop_reason == "account:main:identity"
            assert site.breakers() == ["identity"]
            assert (await site.sweep(site.account("main", key="own"))).summary.complete
            assert site.breakers() == []

    async def test_without_a_name_only_what_can_be_read_is_a_control(
        self, sqlite_database: Database
    ) -> None:
        keys = {"own": "a", "other": "b"}
        async with sweeping.serving(sqlite_database, keys=keys, shape="openai") as site:
            site.store(3)
            ended = await site.sweep(site.account("main", provider="openai", key="other"))
            assert set(site.states().values()) == {("live", "not_visible")}
            assert ended.summary.outcomes == {"not_visible": 3}

    async def test_without_a_name_sight_on_both_sides_settles_too(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.store(3)
            site.store(1, age=DAY)  # what can still be read afterwards
            site.know("resp_gone")
            await site.sweep(site.account("main", provider="openai"))
            assert site.states()["resp_gone"] == ("gone", "already_absent")

    async def test_what_the_provider_itself_removes_has_expired(self, either: Site) -> None:
        """A first install finds a long history: it settles it and stops nothing."""
        either.know(*(f"resp_{n}" for n in range(30)), age=60 * DAY)
        ended = await either.sweep()
        assert set(either.states().values()) == {("gone", "expired_by_provider")}
        assert ended.summary.outcomes == {"expired_by_provider": 30}
        assert ended.summary.complete
        assert either.breakers() == []

    async def test_a_404_after_an_attempt_of_ours_is_not_called_expired(self, site: Site) -> None:
        site.know("resp_gone", age=LONG_AGO)
        lent.put(site.db, "resp_gone", touched=1, ambiguous=1)
        await site.sweep()
        assert site.states()["resp_gone"] == ("gone", "absent_after_attempt")


class TestVerification:
    async def test_a_yes_that_is_a_lie_is_an_incident_and_is_tried_again(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.fault(method="DELETE", do="lie")
        ended = await either.sweep()
        row = either.row(name)
        assert (row["state"], row["outcome"]) == ("live", "still_present")
        assert row["failures"] >= 1
        assert row["next_try_at"] > row["yes_at"]
        assert ended.summary.outcomes == {"still_present": 1}
        assert ended.summary.remaining_by_reason == {"still_present": 1}
        assert {one["outcome"] for one in either.records("deletion.outcome")} == {"still_present"}
        either.mend()
        open_again(either, name)
        await either.sweep()
        assert either.states()[name] == ("gone", "deleted")

    async def test_one_that_was_cut_off_is_done_by_the_next_sweep(self, either: Site) -> None:
        (name,) = either.store()
        either.fault(method="GET", path="/responses/", after=1, status=503)
        ended = await either.sweep()
        assert either.states() == {name: ("verifying", None)}
        assert ended.summary.outcomes == {}
        assert ended.summary.remaining_by_reason == {"verifying": 1}
        assert not ended.summary.complete
        either.mend()
        lent.put(either.db, name, verify_at=0)
        again = await either.sweep()
        assert either.deleted() == [name]
        assert either.states() == {name: ("gone", "deleted")}
        assert (again.summary.due, again.summary.verified) == (0, 1)
        (record,) = either.records("deletion.outcome")
        assert record["policy"] == "two weeks"
        assert record["due_at"] is not None

    @pytest.mark.parametrize(
        "key,provider", [("other", "fireworks"), ("part", "fireworks"), ("new", "openai")]
    )
    async def test_a_key_that_might_not_see_it_never_verifies(
        self, sqlite_database: Database, key: str, provider: str
    ) -> None:
        """Another account's, one that sees only part, and one whose account nobody names."""
        keys = {"first": "a", "other": "b", "part": "a", "new": "a"}
        views = {"part": {"app": "b"}}
        async with sweeping.serving(
            sqlite_database, keys=keys, views=views, shape=provider
        ) as site:
            name = await self.said_yes(site, provider=provider)
            site.store(1, age=DAY, labels={"app": "b"})
            site.store(1, age=DAY, labels={"app": "a"}, at="b")
            self.accept(site, key)
            ended = await site.sweep(site.account("main", key=key, provider=provider))
            assert site.states()[name] == ("verifying", None)
            assert not ended.summary.complete
            lent.put(site.db, name, verify_at=0)
            self.accept(site, "first")
            await site.sweep(site.account("main", key="first", provider=provider))
            assert site.states()[name] == ("gone", "deleted")

    def accept(self, site: Site, key: str) -> None:
        """Bind the name to whoever this key stands for, as a person's word does."""
        with site.db.write() as connection:
            mark = accounts.fingerprint(connection, Secret(key))
            connection.execute(tables.accounts.update().values(key_fingerprint=mark))
            named = tables.accounts.c.pinned_account_id.is_not(None)
            whose = tables.accounts.update().values(pinned_account_id=site.sandbox.keys[key])
            connection.execute(whose.where(named))

    async def test_a_key_that_took_its_place_verifies_between_controls(
        self, sqlite_database: Database
    ) -> None:
        """The key that got the yes may be revoked by now, and then nothing else could."""
        async with sweeping.serving(sqlite_database, keys={"first": "a", "new": "a"}) as site:
            name = await self.said_yes(site)
            site.store(9, age=DAY, labels={"app": "b"})  # which are looked at first
            del site.sandbox.keys["first"]
            assert (await site.sweep(site.account("main", key="new"))).summary.verified == 1
            assert site.states()[name] == ("gone", "deleted")
            (record,) = site.records("deletion.outcome")
            assert record["evidence"]["control"] == "pass"

    async def said_yes(self, site: Site, **given: Any) -> str:
        """Have one response deleted, and its verification fail; a young one of its kind lives."""
        (name,) = site.store(labels={"app": "a"})
        site.store(1, age=DAY, labels={"app": "a"})
        site.fault(method="GET", path=name, after=1, status=503)
        await site.sweep(site.account("main", key="first", **given))
        site.mend()
        lent.put(site.db, name, verify_at=0)
        return name

    async def test_where_nothing_can_be_read_by_id_nothing_is_verified(self, site: Site) -> None:
        (name,) = site.store()
        site.fault(method="GET", path="/responses/", status=404, body={"detail": "No such route"})
        ended = await site.sweep()
        assert site.deleted() == [name]
        assert site.states() == {name: ("verifying", None)}
        assert ended.summary.remaining_by_reason == {"verifying": 1}

    async def test_what_is_there_is_seen_before_it_goes_though_the_control_saw_nothing(
        self, site: Site
    ) -> None:
        """The newest five are gone already: without a look, no yes could ever be verified."""
        site.store(3)
        site.know(*(f"resp_{n}" for n in range(5)), age=40 * DAY, labels={"app": "old"})
        site.know("resp_5", labels={"app": "gone"})
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert ended.summary.outcomes["deleted"] == 3
        assert ended.summary.verified == 3

    async def test_what_never_can_be_read_is_not_looked_for_without_end(self, site: Site) -> None:
        names = site.store(40)
        site.fault(method="GET", path="/responses/", status=404, body={"detail": "No such route"})
        await site.sweep(site.account("main", max_in_flight=1))
        before = site.sandbox.journal.targets("GET")
        assert site.deleted() == names
        assert len(before) <= 5 + 20 + 40 + 20

    async def test_where_nothing_was_read_by_id_yet_something_living_is_looked_for(
        self, site: Site
    ) -> None:
        (name,) = site.store()
        site.store(1, age=DAY)
        site.fault(method="GET", path=name, after=1, status=503)
        await site.sweep()
        site.mend()
        with site.db.write() as connection:
            connection.execute(tables.accounts.update().values(get_seen_key=None))
        lent.put(site.db, name, verify_at=0)
        site.fault(method="GET", path="/responses/", times=1, status=503)  # the opening's look
        await site.sweep()
        assert site.states()[name] == ("gone", "deleted")

    async def test_long_after_the_yes_controls_are_needed(self, site: Site) -> None:
        (name,) = site.store()
        site.store(1, age=DAY)
        site.fault(method="GET", path=name, after=1, status=503)
        await site.sweep()
        site.mend()
        early = site.row(name)["yes_at"] - 3600 * 1_000_000
        lent.put(site.db, name, verify_at=0, yes_at=early)
        await site.sweep()
        assert site.states()[name] == ("gone", "deleted")
        (record,) = site.records("deletion.outcome")
        assert record["evidence"]["control"] == "pass"

    async def test_long_after_the_yes_and_without_controls_it_stays(self, site: Site) -> None:
        (name,) = site.store()
        site.store(1, age=DAY)
        site.fault(method="GET", path=name, after=1, status=503)
        await site.sweep()
        site.mend()
        site.fault(path="verifyApiKey", after=1, status=500)
        early = site.row(name)["yes_at"] - 3600 * 1_000_000
        lent.put(site.db, name, verify_at=0, yes_at=early)
        await site.sweep()
        assert site.states()[name] == ("verifying", None)

    async def test_what_is_no_longer_to_be_verified_is_deleted_unverified(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.fault(method="GET", path="/responses/", after=1, status=503)
        await either.sweep()
        either.mend()
        lent.put(either.db, name, verify_at=0)
        ended = await either.sweep(either.account("main", verify=False))
        row = either.row(name)
        assert (row["state"], row["outcome"], row["verified"]) == ("gone", "deleted", 0)
        assert ended.summary.verified == 0

    async def test_a_stop_leaves_it_to_be_verified(self, site: Site) -> None:
        (name,) = site.store()
        site.fault(method="GET", path="/responses/", after=1, status=401, body={"error": "no"})
        ended = await site.sweep()
        assert site.states() == {name: ("verifying", None)}
        assert ended.summary.stop_reason == "account:main:credential"
        site.mend()
        assert (await site.sweep()).summary.complete
        assert site.states() == {name: ("gone", "deleted")}


class TestNotFoundBreaker:
    async def test_five_in_a_row_stop_the_account_and_settle_nothing(self, either: Site) -> None:
        either.store(3, age=15 * DAY, labels={"app": "other"})
        either.know(*(f"resp_{n}" for n in range(10)))
        ended = await either.sweep(either.account("main", max_in_flight=1))
        assert ended.summary.stop_reason == "account:main:not_found"
        assert len(either.deleted()) == 5
        assert either.breakers() == ["not_found"]
        assert {state for state, _ in either.states().values()} == {"live"}
        (opened,) = either.told(event.BreakerOpened)
        assert opened.kept == 13

    async def test_a_stopped_account_sends_nothing_more(self, either: Site) -> None:
        either.know(*(f"resp_{n}" for n in range(6)))
        await either.sweep(either.account("main", max_in_flight=1))
        sent = len(either.sandbox.journal.entries)
        ended = await either.sweep()
        assert len(either.sandbox.journal.entries) == sent
        assert ended.summary.stop_reason == "account:main:not_found"
        assert not ended.summary.complete

    async def test_it_counts_across_sweeps_of_one_response_each(self, site: Site) -> None:
        for n in range(5):
            site.know(f"resp_{n}")
            ended = await site.sweep(most=1)
            lent.put(site.db, f"resp_{n}", next_try_at=2**60)
            expected = "account:main:not_found" if n == 4 else None
            assert ended.summary.stop_reason == expected

    async def test_one_response_that_is_tried_again_and_again_counts_once(self, site: Site) -> None:
        site.know("resp_typo")
        for _ in range(6):
            ended = await site.sweep()
            assert ended.summary.stop_reason is None
            assert ended.summary.outcomes == {"not_visible": 1}
            lent.put(site.db, "resp_typo", next_try_at=1)
        assert site.breakers() == []
        assert len(site.deleted()) == 6

    async def test_what_was_settled_since_the_last_yes_is_listed(self, site: Site) -> None:
        site.store(1, age=15 * DAY)  # sight of the kind, so that the first ones settle
        site.know(*(f"resp_{n}" for n in range(5)))
        ended = await site.sweep(site.account("main", max_in_flight=1))
        (opened,) = site.told(event.BreakerOpened)
        settled = [
            name for name, (_, outcome) in site.states().items() if outcome == "already_absent"
        ]
        assert list(opened.settled_absent) == settled == [f"resp_{n}" for n in range(4)]
        assert site.states()["resp_4"] == ("live", "not_visible")
        assert ended.summary.stop_reason == "account:main:not_found"

    async def test_a_yes_between_them_ends_a_row(self, site: Site) -> None:
        site.know(*(f"resp_a{n}" for n in range(4)), age=25 * DAY)
        site.store(1, age=24 * DAY)
        site.know(*(f"resp_b{n}" for n in range(4)), age=23 * DAY)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert ended.summary.stop_reason is None
        assert ended.summary.outcomes["deleted"] == 1

    async def test_eleven_of_twenty_stop_it_though_yeses_come_between(self, site: Site) -> None:
        site.store(1)
        with site.db.write() as connection:
            connection.execute(
                tables.accounts.update().values(not_found_recent="AAAAYAAAAYAA" + "Y" * 7)
            )
        site.know("resp_gone", age=21 * DAY)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert ended.summary.stop_reason == "account:main:not_found"

    async def test_what_a_person_expects_to_be_absent_stops_nothing(self, site: Site) -> None:
        site.store(3)
        with site.db.write() as connection:
            connection.execute(tables.accounts.update().values(expect_absent=8))
        site.know(*(f"resp_{n}" for n in range(8)), age=21 * DAY)
        ended = await site.sweep()
        assert ended.summary.complete
        assert ended.summary.outcomes == {"deleted": 3, "already_absent": 8}
        assert registered.rows(site.db, tables.accounts)[0]["expect_absent"] == 0

    async def test_what_we_may_have_deleted_does_not_count(self, site: Site) -> None:
        site.know(*(f"resp_{n}" for n in range(8)))
        for n in range(8):
            lent.put(site.db, f"resp_{n}", touched=1, ambiguous=1)
        ended = await site.sweep()
        assert ended.summary.outcomes == {"absent_after_attempt": 8}
        assert ended.summary.complete


class TestClaimsPastTheirTime:
    async def test_what_got_no_slot_in_time_is_given_back_unsent(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sweeper.engine.exchange.CLAIM_SECONDS", 0.05)
        site.store(6)
        site.fault(method="DELETE", delay=0.2)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert ended.summary.complete
        attempts = registered.rows(site.db, tables.attempts)
        assert sum(1 for one in attempts if not one["unsent"]) == 6
        assert any(one["unsent"] for one in attempts)
        assert len(site.deleted()) == 6
        assert {row["attempts"] for row in site.rows.values()} == {1}

    async def test_a_verification_that_got_no_slot_in_time_is_due_at_once_and_charged_nothing(
        self, site: Site
    ) -> None:
        (name,) = site.store(1)
        lent.put(site.db, name, state="verifying", yes_at=1, verify_at=1)
        async with site.opened(site.account("main", rate_per_second=1 / 60)) as running:
            account = running.accounts["main"]
            (claim,) = lent.verifications(site.db)
            assert await account.pace.slot()
            began = datetime.now(UTC)
            done = await Deletion(account).work(claim, account.now() + 0.1)
        assert isinstance(done, Finished)
        assert done.claim is claim
        assert done.settlement == Settlement(
            state=State.VERIFYING, verify_at=done.settlement.verify_at
        )
        assert done.settlement.verify_at is not None
        assert began <= done.settlement.verify_at <= datetime.now(UTC)
        assert site.sandbox.journal.entries == []

    async def test_a_machine_that_slept_while_it_waited_for_its_slot_sends_nothing(
        self, site: Site
    ) -> None:
        """The loop's clock stands still through a suspend; the boot clock does not."""
        (name,) = site.store(1)
        async with site.opened(site.account("main", rate_per_second=5, verify=False)) as running:
            account = running.accounts["main"]
            clock = running.watch.clock = Slept()
            (claim,) = lent.take(site.db, name)
            assert await account.pace.slot()
            work = asyncio.create_task(Deletion(account).work(claim, account.now() + 10))
            await asyncio.sleep(0)
            clock.seconds = 20
            done = await work
        assert isinstance(done, Finished)
        assert done.unsent
        assert done.settlement == Settlement(state=State.LIVE)
        assert site.deleted() == []


class Slept(Clock):
    """The clocks of a machine that has been suspended for some seconds."""

    seconds = 0.0

    def boot(self) -> float:
        return super().boot() + self.seconds


class TestWhatAStopMakesOfAnAbsence:
    async def test_nobody_waits_for_a_slot_any_more(self, site: Site) -> None:
        async with site.opened(site.account("main", rate_per_second=1 / 60)) as running:
            account = running.accounts["main"]
            assert await account.pace.slot()
            waiting = asyncio.create_task(account.pace.slot())
            await asyncio.sleep(0)
            account.stop(Breaker.PAYMENT, "the provider answered 402")
            assert await asyncio.wait_for(waiting, 5) is False
            assert await account.identify() is None
        assert site.sandbox.journal.entries == []

    @pytest.mark.parametrize("stop", ["", "stopped", "tripped"])
    async def test_controls_on_both_sides_settle_nothing_once_the_account_is_stopped(
        self, site: Site, stop: str
    ) -> None:
        site.know("resp_gone", age=LONG_AGO)
        async with site.opened() as running:
            account = running.accounts["main"]
            (claim,) = lent.take(site.db, "resp_gone")
            at = account.now()
            before = account.controls.confirmed(at - 2).sighted(at - 2)
            account.controls = before.confirmed(at).sighted(at)
            if stop == "stopped":
                account.stop(Breaker.CREDENTIAL, "the provider answered 401")
            elif stop == "tripped":
                account.not_found = NotFound(recent="AAAAA")
            missing = Answer(kind=AnswerKind.ABSENT, status=404)
            done = Deletion(account).settle(
                Absence(
                    claim=claim,
                    answer=missing,
                    get=missing,
                    at=datetime.now(UTC),
                    before=before,
                    first_at=at - 1.5,
                    last_at=at - 1,
                )
            )
        assert done.bracketed == (not stop)
        assert done.answer is missing
        expected = Outcome.NOT_VISIBLE if stop else Outcome.EXPIRED_BY_PROVIDER
        assert done.settlement.outcome is expected
