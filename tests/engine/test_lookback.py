"""Controls after what was not found, and controls that grew too old."""

import asyncio
from collections import Counter

import pytest

from sweeper.domain import event
from sweeper.ledger.database import Database
from tests.support import sweeping
from tests.support.sweeping import DAY, Running, Site


async def test_whose_key_it_is_is_asked_again_after_four_minutes(site: Site) -> None:
    site.store(12)
    site.fault(method="DELETE", delay=0.05)
    found: list[Running] = []

    def age(happened: event.Event) -> None:
        if isinstance(happened, event.AccountChecked):
            account = found[0].accounts["main"]
            account.controls = account.controls.confirmed(account.now() - 300)

    site.events = sweeping.Listening(age)
    ended = await site.sweep(site.account("main", max_in_flight=1), early=found.append)
    assert ended.summary.complete
    assert site.sandbox.journal.targets().count("/verifyApiKey") == 2


async def test_another_account_behind_the_key_is_noticed_then(sqlite_database: Database) -> None:
    async with sweeping.serving(sqlite_database, keys={"own": "a", "other": "b"}) as site:
        site.store(40)
        site.fault(method="DELETE", delay=0.05)
        found: list[Running] = []

        def swap(happened: event.Event) -> None:
            if isinstance(happened, event.AccountChecked):
                account = found[0].accounts["main"]
                account.controls = account.controls.confirmed(account.now() - 300)
                site.sandbox.keys["own"] = "b"

        site.events = sweeping.Listening(swap)
        ended = await site.sweep(
            site.account("main", key="own", max_in_flight=1), early=found.append
        )
        assert ended.summary.stop_reason == "account:main:identity"
        assert len(site.sandbox.kept("a")) == 40
        assert {state for state, _ in site.states().values()} == {"live"}


async def test_what_was_not_found_is_judged_in_portions_while_others_are_sent(site: Site) -> None:
    site.store(1)
    site.know(*(f"resp_{n:03}" for n in range(120)), age=40 * DAY)
    ended = await site.sweep()
    assert ended.summary.outcomes == {"expired_by_provider": 120, "deleted": 1}
    controls = site.sandbox.journal.targets().count("/verifyApiKey")
    assert 2 <= controls < 60


async def test_of_a_kind_that_cannot_be_seen_one_is_looked_for_once(site: Site) -> None:
    site.store(1, labels={"app": "seen"})
    site.know(*(f"resp_{n:03}" for n in range(120)), age=40 * DAY)
    site.know("resp_young", age=DAY)
    await site.sweep(site.account("main", verify=False))
    assert site.sandbox.journal.targets().count("/verifyApiKey") > 2
    assert site.looked_for().count("resp_young") == 1


async def test_an_interruption_leaves_what_has_no_control_yet_open(site: Site) -> None:
    site.store(2, age=15 * DAY)
    site.know("resp_gone")
    site.fault(path="verifyApiKey", after=1, delay=0.3)
    async with site.opened() as running:
        task = asyncio.create_task(running.sweep.run())
        await site.sandbox.wait_until(
            lambda: site.sandbox.journal.targets().count("/verifyApiKey") == 2
        )
        running.sweep.stop("interrupted")
        ended = await task
    assert site.states()["resp_gone"] == ("live", "not_visible")
    assert ended.summary.stop_reason == "interrupted"


async def test_what_finished_during_a_control_is_neither_lost_nor_told_twice(site: Site) -> None:
    """The control takes its time, while outcomes are brought and new ones come in."""
    gone = [f"resp_gone{n}" for n in range(60)]
    site.know(*gone, age=40 * DAY)
    names = site.store(600)
    site.fault(method="GET", path="verifyApiKey", after=1, delay=0.7)
    ended = await site.sweep(site.account("main", rate_per_second=400.0))
    assert ended.summary.outcomes == {"deleted": 600, "expired_by_provider": 60}
    assert (ended.summary.verified, ended.summary.complete) == (600, True)
    told = Counter(one.response_id for one in site.told(event.ResponseSettled))
    assert told == Counter([*names, *gone])


async def test_what_was_not_found_is_written_though_the_sweep_is_cancelled_in_the_control(
    site: Site,
) -> None:
    await _after_one_sweep(site)
    site.know("resp_gone")
    site.fault(method="GET", path="verifyApiKey", after=1, delay=5)
    asked = site.sandbox.journal.targets().count("/verifyApiKey")
    sweep = asyncio.create_task(site.sweep(checked=False))
    await site.sandbox.wait_until(
        lambda: site.sandbox.journal.targets().count("/verifyApiKey") == asked + 2
    )
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
    row = site.row("resp_gone")
    assert (row["state"], row["outcome"]) == ("live", "not_visible")
    assert (row["touched"], row["ambiguous"]) == (0, 0), "a 404 to our attempt was no deletion"


async def _after_one_sweep(site: Site) -> None:
    site.store(1)
    await site.sweep()
