"""The provider's yes is its word alone: only what was looked for is proved to be gone."""

import asyncio
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from sweeper.domain import event
from sweeper.domain.outcome import VERIFY_WINDOW, Outcome
from sweeper.ledger import reports
from sweeper.ledger.database import Database
from sweeper.sandbox.manners import Manner
from sweeper.telemetry.metrics import Metrics
from tests.support import command, lent, pager, sweeping, truth
from tests.support.command import Run
from tests.support.logged import logged, of_event
from tests.support.rehearsal import YOUNG, Rehearsal
from tests.support.sweeping import DAY, Site

BY_ID: Final = "/responses/resp_"
NO_SUCH: Final = {"detail": "Response not found"}
FIRST, SECOND = "fw_first_canarykey", "fw_second_canarykey"
ENDS: Final = frozenset({"deleted", "absent_after_attempt", "already_absent"})


def looked_again(site: Site, *names: str, after: timedelta = timedelta(0)) -> None:
    """Let the next look, or the next try, have come; `after` is how long ago the yes was, more."""
    for name in names:
        row = site.row(name)
        if row["state"] == "verifying":
            earlier = row["yes_at"] - after // timedelta(microseconds=1)
            lent.put(site.db, name, verify_at=0, yes_at=earlier)
        else:
            lent.put(site.db, name, next_try_at=None)


async def said_yes(site: Site, count: int = 1, *, key: str | None = None, **rule: Any) -> list[str]:
    """Responses that the provider said yes to, and that nobody could look for so far."""
    names = site.store(count)
    site.store(1, age=DAY)
    site.fault(method="GET", path=BY_ID, after=1, **(rule or {"status": 503}))
    await site.sweep(site.account("main", key=key, max_in_flight=1))
    assert {site.states()[name] for name in names} == {("verifying", None)}
    site.mend()
    site.events.clear()
    looked_again(site, *names)
    return names


def ends(site: Site) -> list[tuple[str, bool]]:
    """Every end that the log's records tell, with whether it was verified."""
    return [
        (one["outcome"], one["verified"])
        for one in site.records("deletion.outcome")
        if one["outcome"] in ENDS
    ]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for a ledger that is not going to come back."""
    monkeypatch.setattr("sweeper.engine.drain.LAST_PAUSES", (0.01,))


class TestInterruption:
    async def test_a_yes_that_could_not_be_written_is_never_told_as_a_deletion(
        self, either: Site, hurried: None
    ) -> None:
        (name,) = either.store()
        either.store(1, age=DAY)
        sweeping.refuse(either, "UPDATE", "responses", "NEW.state = 'verifying'")
        ended = await either.sweep(checked=False)
        assert ended.summary.outcomes == {}
        assert ended.summary.stop_reason == "ledger"
        (told,) = either.told(event.OutcomeUnwritten)
        assert (told.response_id, told.status) == (name, 200)
        assert either.told(event.ResponseSettled) == []
        assert either.states()[name] == ("claimed", None)
        sweeping.allow(either, "responses")
        await either.sweep()
        assert either.deleted() == [name, name]
        assert either.states()[name] == ("gone", "absent_after_attempt")
        assert ends(either) == [("absent_after_attempt", False)]

    async def test_a_stop_between_the_yes_and_the_look_leaves_the_look_to_the_next_sweep(
        self, either: Site
    ) -> None:
        names = either.store(6)
        either.store(1, age=DAY)
        either.fault(method="DELETE", delay=0.2)
        async with either.opened(either.account("main", max_in_flight=2)) as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(lambda: len(either.deleted()) == 2)
            running.sweep.stop("interrupted")
            ended = await task
        assert ended.summary.remaining_by_reason == {"stopped": 4, "verifying": 2}
        assert (ended.summary.outcomes, ended.summary.verified) == ({}, 0)
        assert ends(either) == []
        either.mend()
        ended = await either.sweep()
        assert ended.summary.outcomes == {"deleted": 6}
        assert ended.summary.verified == 6
        assert sorted(either.deleted()) == sorted(names)

    async def test_a_stop_while_it_is_looked_for_loses_nothing_that_was_seen(
        self, either: Site
    ) -> None:
        (name,) = either.store()
        either.store(1, age=DAY)
        either.fault(method="GET", path=BY_ID, after=1, delay=0.3)
        async with either.opened() as running:
            task = asyncio.create_task(running.sweep.run())
            await either.sandbox.wait_until(lambda: len(either.looked_for()) == 2)
            running.sweep.stop("interrupted")
            ended = await task
        assert either.states()[name] == ("gone", "deleted")
        assert (ended.summary.verified, ends(either)) == (1, [("deleted", True)])

    async def test_what_was_seen_and_could_not_be_written_is_seen_again(
        self, either: Site, hurried: None
    ) -> None:
        (name,) = either.store()
        either.store(1, age=DAY)
        sweeping.refuse(either, "UPDATE", "responses", "NEW.state = 'gone'")
        ended = await either.sweep(checked=False)
        assert ended.summary.stop_reason == "ledger"
        assert either.states()[name] == ("verifying", None)
        assert ends(either) == []
        assert either.told(event.ResponseSettled) == []
        sweeping.allow(either, "responses")
        ended = await either.sweep()
        assert either.deleted() == [name]
        assert ends(either) == [("deleted", True)]
        assert ended.summary.verified == 1

    @pytest.mark.parametrize(
        "point, number",
        [
            ("the DELETE", signal.SIGKILL),
            ("the GET", signal.SIGKILL),
            ("the GET", signal.SIGTERM),
        ],
    )
    def test_a_process_that_ends_meanwhile_leaves_what_is_true(
        self, rehearsal: Rehearsal, run: Run, point: str, number: signal.Signals
    ) -> None:
        """Killed while the yes is on its way, or while the response is being looked for."""
        rehearsal.responses(1)
        rehearsal.responses(1, age=YOUNG)
        method, seen = ("DELETE", 1) if point == "the DELETE" else ("GET", 2)
        path = None if method == "DELETE" else BY_ID
        rehearsal.fault(method=method, path=path, after=seen - 1, times=1, delay=0.4)
        child = command.start("-c", rehearsal.config, "-q", "sweep", "--json")
        rehearsal.sandbox.wait_until(
            lambda one: sum(BY_ID in each.target for each in one.journal.requests(method)) >= seen,
            within=30,
        )
        done = command.end(child, number)
        assert done.code == (-9 if number == signal.SIGKILL else 3)
        rehearsal.sandbox.wait_until(
            lambda one: all(entry.done for entry in one.journal.entries), within=30
        )
        assert truth.violations(rehearsal) == []
        # A signal lets what is in flight come to its end; a kill does not.
        lost = point == "the DELETE" and number == signal.SIGKILL
        seen_now = {row["outcome"] for row in rehearsal.rows()}
        assert seen_now == (
            {None, "deleted"} if number != signal.SIGKILL and point == "the GET" else {None}
        )
        rehearsal.mend()
        rehearsal.pass_time()
        again = run("-c", rehearsal.config, "-q", "sweep", "--json")
        assert again.code == 0, again.err
        assert truth.violations(rehearsal) == truth.unsettled(rehearsal) == []
        (gone,) = (row for row in rehearsal.rows() if row["state"] == "gone")
        assert gone["outcome"] == ("absent_after_attempt" if lost else "deleted")
        assert gone["verified"] == (0 if lost else 1)
        assert rehearsal.requests("DELETE") == (2 if lost else 1)

    @pytest.mark.parametrize(
        "rule, breaker",
        [
            ({"status": 401, "body": {"error": "no"}}, "credential"),
            ({"status": 403, "body": {"error": "no"}}, "credential"),
            ({"status": 402, "body": {"error": "no"}}, "payment"),
            ({"status": 412, "body": {"error": "no"}}, "payment"),
            ({"status": 405, "body": {"detail": "Method Not Allowed"}}, "configuration"),
            ({"status": 501, "body": {"error": "no"}}, "configuration"),
            ({"status": 302}, "configuration"),
        ],
    )
    async def test_a_stop_of_the_account_decides_nothing(
        self, site: Site, rule: dict[str, Any], breaker: str
    ) -> None:
        names = await said_yes(site, 2, **rule)
        before = {name: site.row(name)["failures"] for name in names}
        assert set(before.values()) == {0}
        assert site.breakers() == [breaker]
        # As long as it lasts nothing is decided and nothing is charged.
        site.fault(method="GET", **rule)
        ended = await site.sweep()
        assert ended.summary.remaining_by_reason == {"verifying": 2}
        assert ends(site) == []
        site.mend()
        ended = await site.sweep()
        assert (ended.summary.outcomes, ended.summary.verified) == ({"deleted": 2}, 2)
        assert sorted(site.deleted()) == sorted(names)


UNDECIDED: Final[tuple[dict[str, Any], ...]] = (
    {"status": 404, "body": {"detail": "Not Found"}},
    {"status": 404, "html": "no such page"},
    {"status": 404, "body": []},
    {"status": 404, "body": "not json"},
    {"status": 404},
    {"status": 200, "html": "log in"},
    {"status": 204},
    {"status": 429},
    {"status": 500},
    {"status": 400, "body": {"error": "no"}},
    {"status": 409, "body": {"error": "busy"}},
    {"do": "close"},
    {"do": "reset"},
    {"truncate": 3, "status": 404, "body": NO_SUCH},
    {"gzip": True, "status": 404, "body": NO_SUCH},
)


class TestAnswersThatDecideNothing:
    async def test_it_stays_to_be_verified_and_is_looked_for_again(self, either: Site) -> None:
        names = either.store(len(UNDECIDED))
        (newest,) = either.store(1, age=19 * DAY)  # which the opening sees
        for name, rule in zip(names, UNDECIDED, strict=True):
            either.fault(method="GET", id=name, times=1, **rule)
        ended = await either.sweep(either.account("main", max_in_flight=1))
        verified = {name for name in names if either.row(name)["state"] == "gone"}
        for name, rule in zip(names, UNDECIDED, strict=True):
            # What was looked for again within the same sweep met its rule before.
            asked = [one for one in either.looked_for() if one == name]
            assert len(asked) == (2 if name in verified else 1), rule
            row = either.row(name)
            # Whoever asks for time is not counted against the response.
            assert row["failures"] == (0 if rule.get("status") == 429 else 1), rule
            assert row["verified"] == (name in verified), rule
        left = set(names) - verified
        assert {either.states()[name] for name in left} == {("verifying", None)}
        assert ended.summary.outcomes == {"deleted": len(verified) + 1}
        looked_again(either, *left)
        await either.sweep()
        assert ends(either) == [("deleted", True)] * (len(names) + 1)
        assert sorted(either.deleted()) == sorted([*names, newest])

    @pytest.mark.parametrize("provider", ["fireworks", "openai"])
    @pytest.mark.parametrize(
        "rule",
        [
            {"status": 405, "body": {"detail": "Method Not Allowed"}},
            {"status": 501, "body": {"error": "no"}},
            {"status": 404, "body": {"detail": "Not Found"}},
            {"status": 404, "html": "no such page"},
        ],
        ids=lambda rule: str(rule["status"]) + ("" if "body" in rule else " page"),
    )
    async def test_a_server_without_a_get_proves_no_deletion(
        self, sqlite_database: Database, rule: dict[str, Any], provider: str
    ) -> None:
        shape = {"shape": "openai"} if provider == "openai" else {}
        async with sweeping.serving(sqlite_database, **shape) as site:
            names = site.store(3)
            site.fault(method="GET", path=BY_ID, **rule)
            main = site.account("main", provider=provider)
            for _ in range(3):
                ended = await site.sweep(main)
                looked_again(site, *(n for n in names if site.row(n)["state"] != "claimed"))
            assert ends(site) == []
            assert ended.summary.outcomes.get("deleted", 0) == ended.summary.verified == 0
            assert not ended.summary.complete
            if rule["status"] != 404:
                assert ended.summary.stop_reason == "account:main:configuration"
                assert site.deleted() == []
            assert all(row["outcome"] != "deleted" for row in site.rows.values())

    async def test_without_verification_such_a_server_is_taken_at_its_word(
        self, either: Site
    ) -> None:
        names = either.store(2)
        either.fault(method="GET", path=BY_ID, status=404, body={"detail": "Not Found"})
        await either.sweep()
        assert {either.states()[name] for name in names} == {("verifying", None)}
        looked_again(either, *names)
        ended = await either.sweep(either.account("main", verify=False))
        assert (ended.summary.outcomes, ended.summary.verified) == ({"deleted": 2}, 0)
        assert ends(either) == [("deleted", False)] * 2


class TestDelay:
    async def test_within_ten_minutes_no_control_is_needed(self, site: Site) -> None:
        (name,) = await said_yes(site)
        looked_again(site, name, after=VERIFY_WINDOW - timedelta(minutes=1))
        site.fault(path="verifyApiKey", after=1, status=500)
        await site.sweep()
        assert site.states()[name] == ("gone", "deleted")

    @pytest.mark.parametrize("later", [timedelta(minutes=11), 3 * DAY, 60 * DAY])
    async def test_later_a_control_must_stand_on_both_sides(
        self, either: Site, later: timedelta
    ) -> None:
        (name,) = await said_yes(either)
        looked_again(either, name, after=later)
        either.fault(path="verifyApiKey", after=1, status=500)
        either.fault(path="verifyApiKey", after=1, status=500)
        await either.sweep()
        assert either.states()[name] == ("verifying", None)
        either.mend()
        looked_again(either, name)
        ended = await either.sweep()
        assert either.states()[name] == ("gone", "deleted")
        assert ended.summary.verified == 1
        (record,) = either.records("deletion.outcome")
        assert (record["evidence"]["control"], record["evidence"]["verify_get"]) == ("pass", 404)


class TestAnotherKey:
    async def test_another_key_of_the_account_verifies_between_controls_only(
        self, database: Database
    ) -> None:
        async with sweeping.serving(database, keys={FIRST: "a", SECOND: "a"}) as site:
            (name,) = await said_yes(site, key=FIRST)
            site.fault(path="verifyApiKey", after=1, status=500)
            ended = await site.sweep(site.account("main", key=SECOND))
            assert site.states()[name] == ("verifying", None)
            assert ended.summary.remaining_by_reason == {"verifying": 1}
            assert ends(site) == []
            site.mend()
            looked_again(site, name)
            ended = await site.sweep(site.account("main", key=SECOND))
            assert (site.states()[name], ended.summary.verified) == (("gone", "deleted"), 1)
            assert site.deleted() == [name]
            (record,) = site.records("deletion.outcome")
            assert record["evidence"]["control"] == "pass"

    async def test_a_key_that_sees_only_part_of_the_account_verifies_nothing(
        self, database: Database
    ) -> None:
        keys, views = {FIRST: "a", SECOND: "a"}, {SECOND: {"app": "b"}}
        async with sweeping.serving(database, keys=keys, views=views) as site:
            (name,) = await said_yes(site, key=FIRST)
            site.store(2, age=DAY, labels={"app": "b"})
            for later in (timedelta(0), timedelta(minutes=11)):
                looked_again(site, name, after=later)
                ended = await site.sweep(site.account("main", key=SECOND))
                assert site.states()[name] == ("verifying", None)
                assert not ended.summary.complete
            assert ends(site) == []

    async def test_the_key_of_another_account_sees_nothing_and_proves_nothing(
        self, database: Database
    ) -> None:
        async with sweeping.serving(database, keys={FIRST: "a", SECOND: "b"}) as site:
            (name,) = await said_yes(site, key=FIRST)
            ended = await site.sweep(site.account("main", key=SECOND))
            assert ended.summary.stop_reason == "account:main:identity"
            assert site.states()[name] == ("verifying", None)
            ended = await site.sweep(site.account("main", key=FIRST))
            assert ended.summary.verified == 1

    async def test_a_key_that_stands_for_another_account_by_now_proves_nothing(
        self, site: Site
    ) -> None:
        """The key is the same; who answers says so only after the look."""
        (name,) = await said_yes(site)
        looked_again(site, name, after=timedelta(minutes=11))
        site.fault(method="GET", path=name, status=404, body=NO_SUCH)
        site.fault(
            path="verifyApiKey", after=1, status=200, headers={"x-fireworks-account-id": "b"}
        )
        ended = await site.sweep()
        assert site.states()[name] == ("verifying", None)
        assert ended.summary.stop_reason == "account:main:identity"
        assert ends(site) == []

    async def test_the_same_key_at_another_address_verifies_nothing(self, site: Site) -> None:
        (name,) = await said_yes(site)
        async with sweeping.serving(site.db) as elsewhere:
            moved = elsewhere.account("main", key=site.main[1].reveal())
            ended = await elsewhere.sweep(moved)
            assert ended.summary.stop_reason == "account:main:identity"
            assert site.states()[name] == ("verifying", None)
            assert elsewhere.looked_for() == []


class TestALie:
    async def test_it_is_tried_again_and_each_time_counted_and_recorded(self, either: Site) -> None:
        (name,) = either.store()
        either.fault(method="DELETE", do="lie")
        metrics = Metrics("1")
        for count in range(1, 4):
            either.events.clear()
            ended = await either.sweep(either.account("main", max_in_flight=1))
            row = either.row(name)
            assert (row["state"], row["outcome"], row["verified"]) == ("live", "still_present", 0)
            assert row["failures"] >= count
            assert row["finished_at"] is None
            assert row["next_try_at"] > row["yes_at"]
            assert (ended.summary.outcomes, ended.summary.verified) == ({"still_present": 1}, 0)
            assert ended.summary.remaining_by_reason == {"still_present": 1}
            assert not ended.summary.complete
            for one in either.told(event.ResponseSettled):
                assert one.outcome is Outcome.STILL_PRESENT
                metrics.hear(one)
            looked_again(either, name)
        told = either.records("deletion.outcome")
        assert {(one["outcome"], one["verified"]) for one in told} == {("still_present", False)}
        assert [one["supersedes"] for one in told] == [None, *(one["seq"] for one in told[:-1])]
        text = metrics.text().decode()
        (counted,) = re.findall(
            r'sweeper_deletions_total\{.*outcome="still_present".*\} (\S+)', text
        )
        assert float(counted) == len(told) == len(either.deleted()) >= 3
        assert not re.search(r'outcome="deleted".*\} [1-9]', text)
        with either.db.read() as connection:
            (incident,) = reports.incidents(connection)
        assert (incident.account, incident.count, incident.readable) == ("main", 1, 1)
        either.mend()
        ended = await either.sweep()
        assert (either.states()[name], ended.summary.verified) == (("gone", "deleted"), 1)
        with either.db.read() as connection:
            assert reports.incidents(connection) == []

    async def test_what_is_gone_afterwards_without_another_yes_is_absent_and_not_deleted(
        self, either: Site
    ) -> None:
        """The provider deletes late: the second DELETE finds nothing, and no yes stands for it."""
        (name,) = either.store()
        either.store(1, age=DAY)
        either.fault(method="DELETE", do="lie")
        await either.sweep()
        either.mend()
        either.sandbox.store.delete(either.sandbox.account, name, now=either.sandbox.clock.now())
        looked_again(either, name)
        ended = await either.sweep()
        assert either.states()[name] == ("gone", "absent_after_attempt")
        assert (ended.summary.outcomes, ended.summary.verified) == ({"absent_after_attempt": 1}, 0)
        assert ends(either) == [("absent_after_attempt", False)]

    async def test_one_lie_among_truths_is_told_apart(self, either: Site) -> None:
        names = either.store(9)
        either.fault(method="DELETE", id=names[4], do="lie")
        ended = await either.sweep()
        assert ended.summary.outcomes == {"deleted": 8, "still_present": 1}
        assert ended.summary.verified == 8
        assert either.states()[names[4]] == ("live", "still_present")

    async def test_a_child_that_is_still_there_keeps_its_parent(self, either: Site) -> None:
        root, leaf = either.chain(2)
        either.fault(method="DELETE", id=leaf, do="lie")
        ended = await either.sweep()
        assert root not in either.deleted()
        assert ended.summary.remaining_by_reason == {"still_present": 1, "waiting": 1}


# What people and programs are told of it

DELETED: Final = re.compile(r"\bdeleted\b")


@pytest.fixture
def paged(rehearsal: Rehearsal, tmp_path: Path) -> pager.Pager:
    made = pager.pager(tmp_path / "pager")
    rehearsal.write(made.section)
    return made


def test_a_lie_is_an_error_an_alarm_and_nowhere_a_deletion(
    rehearsal: Rehearsal, run: Run, paged: pager.Pager
) -> None:
    (name,) = rehearsal.responses(1, age=timedelta(days=14, hours=6))  # due, and not late
    rehearsal.fault(method="DELETE", do=Manner.LIE)
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 3
    assert result.last["outcomes"] == {"still_present": 1}
    (line, *_) = of_event(logged(result.err), "response_settled")
    assert (line["level"], line["outcome"], line["verified"]) == ("error", "still_present", False)
    (told,) = paged.told
    assert (told["id"], told["state"], told["responses"]) == ("incident:main", "open", 1)

    def shown(*verb: str) -> command.Result:
        return run("-c", rehearsal.config, *verb)

    assert shown("responses", "show", name, "--json").last["outcome"] == "still_present"
    assert (
        shown("responses", "list", "--outcome", "still_present", "--json").lines[0]["response_id"]
        == name
    )
    for outcome in ("deleted", "absent_after_attempt"):
        assert shown("responses", "list", "--outcome", outcome, "--json").last["responses"] == 0
    assert shown("responses", "list", "--state", "gone", "--json").last["responses"] == 0
    explained = shown("explain", name, "--json").last
    assert (explained["outcome"], explained["verified"]) == ("still_present", False)
    assert "An incident" in explained["sentence"]
    assert "could still be read" in explained["sentence"]
    status = shown("status", "--json")
    assert status.last["open"] == {"still_present": 1}
    assert "still present" in shown("status").out
    reported = shown("report", "--json").last
    assert (reported["outcomes"].get("deleted", 0), reported["verified"]) == (0, 0)
    assert reported["open"]
    planned = shown("plan", "--json").last
    assert planned["due"] == 1
    # An answer of another kind proves nothing: the incident stays until the response is gone.
    rehearsal.mend()
    rehearsal.pass_time()
    rehearsal.fault(method="DELETE", status=503)
    assert shown("sweep", "--json").last["outcomes"] == {"failing": 1}
    assert [state for _, state in paged.states] == ["open"]
    rehearsal.mend()
    rehearsal.pass_time()
    assert shown("sweep", "--json").last["outcomes"] == {"deleted": 1}
    assert paged.states == [("incident:main", "open"), ("incident:main", "resolved")]
    assert truth.violations(rehearsal) == truth.unsettled(rehearsal) == []


def test_a_yes_that_nobody_could_verify_is_nowhere_a_deletion(
    rehearsal: Rehearsal, run: Run
) -> None:
    (name,) = rehearsal.responses(1)
    rehearsal.fault(method="GET", path=BY_ID, after=1, status=503)
    swept = run("-c", rehearsal.config, "sweep", "--json")
    assert (swept.code, swept.last["outcomes"], swept.last["verified"]) == (3, {}, 0)
    assert swept.last["remaining_by_reason"] == {"verifying": 1}
    assert of_event(logged(swept.err), "response_settled") == []

    def shown(*verb: str) -> dict[str, Any]:
        return run("-c", rehearsal.config, *verb, "--json").last

    found = shown("responses", "show", name)
    assert (found["state"], found["outcome"], found["verified"]) == ("verifying", None, False)
    assert shown("explain", name)["outcome"] is None
    assert shown("status")["not_live"] == {"main": {"verifying": 1}}
    reported = shown("report")
    assert (reported["outcomes"], reported["verified"]) == ({}, 0)
    assert shown("responses", "list", "--outcome", "deleted")["responses"] == 0
    # Somebody may be sure that it is gone; while it is being verified no word is taken for it.
    refused = run("-c", rehearsal.config, "responses", "close", name, "--reason", "gone")
    assert refused.code == 1
    rehearsal.mend()
    rehearsal.pass_time()
    assert shown("sweep")["verified"] == 1
    assert truth.violations(rehearsal) == truth.unsettled(rehearsal) == []
