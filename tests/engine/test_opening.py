"""Before the first claim: whose account it is, whether it is stopped, what the key can see."""

import time
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain import event
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from tests.support import lent, registered, sweeping
from tests.support.sweeping import DAY, Site

NOBODY = "http://127.0.0.1:9"


def account_row(site: Site) -> dict[str, Any]:
    (row,) = registered.rows(site.db, tables.accounts)
    return row


class TestWhoseItIs:
    async def test_the_account_is_pinned_at_first_use(self, either: Site) -> None:
        either.store(1)
        await either.sweep()
        row = account_row(either)
        assert row["pinned_account_id"] == either.sandbox.account
        assert row["control"] == "passed"
        assert len(either.records("account.pinned")) == 1
        either.store(1)
        await either.sweep()
        assert len(either.records("account.pinned")) == 1

    @pytest.mark.parametrize(
        "rule,breaker",
        [
            ({"status": 404, "body": {"detail": "Not Found"}}, "configuration"),
            ({"status": 200, "body": {}}, "configuration"),
            ({"status": 200, "headers": {"x-fireworks-account-id": "a b"}}, "configuration"),
            ({"status": 200, "html": "log in"}, "intercepted"),
            ({"status": 500}, "unreachable"),
            ({"status": 409}, "unreachable"),
            ({"do": "close"}, "unreachable"),
        ],
    )
    async def test_nothing_is_asked_of_an_account_that_nobody_names(
        self, site: Site, rule: dict[str, Any], breaker: str
    ) -> None:
        site.store(3)
        site.fault(path="verifyApiKey", **rule)
        ended = await site.sweep()
        assert set(site.sandbox.journal.targets()) == {"/verifyApiKey"}
        assert ended.summary.stop_reason == f"account:main:{breaker}"
        assert site.breakers() == [breaker]
        assert ended.summary.remaining_by_reason == {"stopped": 3}
        assert account_row(site)["identity"] is None

    async def test_a_refused_key_stops_the_account_at_once(self, site: Site) -> None:
        site.store(3)
        ended = await site.sweep(site.account("main", key="no-such-key"))
        assert site.sandbox.journal.targets() == ["/verifyApiKey"]
        assert ended.summary.stop_reason == "account:main:credential"

    async def test_another_account_than_the_configured_one_is_refused(self, site: Site) -> None:
        site.store(3)
        ended = await site.sweep(site.account("main", account_id="acme"))
        assert site.sandbox.journal.targets() == ["/verifyApiKey"]
        assert ended.summary.stop_reason == "account:main:identity"
        assert account_row(site)["identity"] is None

    @pytest.mark.parametrize("given", [{"account_id": "acme"}, {"base_url": NOBODY}])
    async def test_another_configuration_than_the_pinned_one_sends_nothing(
        self, site: Site, given: dict[str, Any]
    ) -> None:
        site.store(1)
        await site.sweep()
        sent = len(site.sandbox.journal.entries)
        site.store(1)
        ended = await site.sweep(site.account("main", **given))
        assert ended.summary.stop_reason == "account:main:identity"
        assert len(site.sandbox.journal.entries) == sent

    async def test_another_key_of_a_provider_that_names_nobody_waits_for_a_person(
        self, sqlite_database: Database
    ) -> None:
        keys = {"old": "a", "new": "a"}
        async with sweeping.serving(sqlite_database, shape="openai", keys=keys) as site:
            site.store(1)
            assert (await site.sweep(site.account("main", provider="openai"))).summary.complete
            sent = len(site.sandbox.journal.entries)
            site.store(1)
            ended = await site.sweep(site.account("main", provider="openai", key="new"))
            assert ended.summary.stop_reason == "account:main:identity"
            assert len(site.sandbox.journal.entries) == sent

    async def test_another_key_of_the_same_named_account_is_noted(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, keys={"old": "a", "new": "a"}) as site:
            site.store(1)
            await site.sweep(site.account("main", key="old"))
            site.store(1)
            assert (await site.sweep(site.account("main", key="new"))).summary.complete
            assert len(site.records("credential.changed")) == 1


class TestWhetherItAnswers:
    @pytest.mark.parametrize("provider", ["fireworks", "openai"])
    async def test_where_nobody_listens_it_ends_quickly_and_charges_nothing(
        self, either: Site, provider: str
    ) -> None:
        either.store(20)
        began = time.monotonic()
        ended = await either.sweep(either.account("main", provider=provider, base_url=NOBODY))
        assert time.monotonic() - began < 10
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert ended.summary.outcomes == {}
        assert ended.summary.remaining_by_reason == {"stopped": 20}
        rows = either.rows.values()
        assert {row["state"] for row in rows} == {"live"}
        assert {row["attempts"] + row["failures"] + row["touched"] for row in rows} == {0}
        assert either.breakers() == ["unreachable"]

    async def test_a_provider_that_is_busy_is_asked_again(self, site: Site) -> None:
        site.store(2)
        site.fault(path="verifyApiKey", times=2, status=429)
        assert (await site.sweep()).summary.complete

    async def test_a_provider_that_asks_for_an_hour_is_left_alone(self, site: Site) -> None:
        site.store(2)
        site.fault(path="verifyApiKey", status=429, retry_after=3600)
        ended = await site.sweep()
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert len(site.sandbox.journal.entries) == 1


class TestWhatTheKeySees:
    async def test_five_are_looked_for_at_most_and_then_the_list(self, site: Site) -> None:
        site.know(*(f"resp_{n}" for n in range(9)), age=40 * DAY)
        await site.sweep(site.account("main", verify=False))
        targets = site.sandbox.journal.targets()
        first_delete = next(
            index
            for index, one in enumerate(site.sandbox.journal.entries)
            if one.method == "DELETE"
        )
        assert first_delete == 7
        assert targets[0] == "/verifyApiKey"
        assert targets[6].endswith("?limit=1")

    async def test_with_only_verifications_to_do_those_are_looked_for(
        self, sqlite_database: Database
    ) -> None:
        """Nothing else lives, so nothing else would tell the provider's time."""
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            (name,) = site.store(1)
            mine = site.account("main", provider="openai")
            site.fault(method="GET", after=1, status=503)
            await site.sweep(mine)
            assert site.states()[name] == ("verifying", None)
            site.mend()
            lent.put(site.db, name, verify_at=0)
            ended = await site.sweep(mine)
            assert site.states()[name] == ("gone", "deleted")
            assert ended.summary.complete


class TestBreakers:
    async def test_an_answer_of_the_api_lifts_what_it_disproves(self, either: Site) -> None:
        either.store(1)
        stop(either, "credential")
        assert (await either.sweep()).summary.complete
        assert either.breakers() == []

    async def test_with_nothing_due_a_stopped_account_is_still_looked_at(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.store(1, age=DAY)
            stop(site, "credential")
            ended = await site.sweep(site.account("main", provider="openai"))
            assert site.breakers() == []
            assert len(site.looked_for()) == 1
            assert ended.summary.complete

    async def test_silence_lifts_nothing_and_pins_nothing(self, sqlite_database: Database) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            site.store(1, age=DAY)
            stop(site, "credential")
            site.fault(do="close")
            await site.sweep(site.account("main", provider="openai"))
            assert site.breakers() == ["credential", "unreachable"]
            assert account_row(site)["identity"] is None

    async def test_only_a_person_lifts_the_one_for_what_was_not_found(self, either: Site) -> None:
        either.store(1)
        stop(either, "not_found")
        ended = await either.sweep()
        assert either.sandbox.journal.entries == []
        assert ended.summary.stop_reason == "account:main:not_found"
        (told,) = either.told(event.BreakerOpened)
        assert told.kept == 1

    async def test_what_a_person_reset_since_is_taken_up(self, site: Site) -> None:
        """An account that was opened earlier goes by what the ledger says when the sweep begins."""
        site.store(1)
        site.know("resp_gone", age=21 * DAY)
        with site.db.write() as connection:
            connection.execute(tables.accounts.update().values(not_found_recent="AAAA"))

        def reset(_running: sweeping.Running) -> None:
            with site.db.write() as connection:
                connection.execute(
                    tables.accounts.update().values(not_found_recent="", expect_absent=1)
                )

        ended = await site.sweep(early=reset)
        assert ended.summary.stop_reason is None
        assert account_row(site)["expect_absent"] == 0


def stop(site: Site, breaker: str) -> None:
    row = account_row(site)
    with site.db.write() as connection:
        connection.execute(
            tables.breakers.insert().values(
                account_id=row["id"], breaker=breaker, opened_at=1, detail="before"
            )
        )


class TestATripThatNobodyWroteDown:
    """Too much was not found, and the breaker was not opened: the memory of it counts."""

    async def test_after_a_crash_nothing_is_sent_and_it_is_told(self, either: Site) -> None:
        either.store(1)
        await either.sweep()
        before = len(either.deleted())
        either.store(6)
        with either.db.write() as connection:
            connection.execute(sa.update(tables.accounts).values(not_found_recent="AAAAA"))
        ended = await either.sweep()
        assert len(either.deleted()) == before
        assert ended.summary.stop_reason == "account:main:not_found"
        assert either.breakers() == ["not_found"]

    async def test_beside_another_stop_it_is_told_when_that_is_lifted(self, site: Site) -> None:
        account = site.account("main", max_in_flight=8)
        site.store(1)
        await site.sweep(account)
        gone = [f"resp_gone{n}" for n in range(5)]
        site.know(*gone, age=21 * DAY)
        first, *_ = site.store(10)
        for name in gone:
            site.fault(method="DELETE", id=name, delay=0.4)
        site.fault(method="DELETE", id=first, delay=0.1, status=401)
        ended = await site.sweep(account)
        assert ended.summary.stop_reason == "account:main:credential"
        site.mend()
        before = len(site.deleted())
        with site.db.write() as connection:
            connection.execute(sa.update(tables.responses).values(next_try_at=None))
        ended = await site.sweep(account)
        assert len(site.deleted()) == before
        assert ended.summary.stop_reason == "account:main:not_found"
        assert {site.states()[name] for name in gone} == {("live", "not_visible")}
