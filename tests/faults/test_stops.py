"""What stops an account is told everywhere, is asked once whether it is over, and is lifted."""

import asyncio
import json
import os
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.config import load
from sweeper.domain import event, moment
from sweeper.domain.outcome import Breaker
from sweeper.domain.plan import Guards
from sweeper.engine import breaker as breakers
from sweeper.ledger import accounts, tables
from sweeper.ledger.database import Database
from sweeper.provider import trust
from sweeper.service.daemon import recollection
from sweeper.service.daemon.health import Health
from sweeper.service.daemon.rounds import Around, Rounds
from sweeper.service.daemon.systemd import Notifier
from sweeper.service.daemon.vitals import Role, Vitals
from sweeper.telemetry.metrics import Metrics
from tests.support import canary, encrypted, figures, pager, registered, sweeping, truth
from tests.support import rehearsal as rehearsals
from tests.support.command import Result, Run
from tests.support.pager import Pager
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal
from tests.support.sweeping import DAY, Site

HOUR = timedelta(hours=1)
KEPT = 7
DUE_SINCE = 3 * HOUR
"""Past its time, and not yet past its deadline: nothing but the stop is to be told."""
ANYTHING = {"status": 500}


@dataclass(slots=True, kw_only=True)
class Stage:
    """A provider that can be brought to stop the account, and what a person does about it."""

    here: Rehearsal
    run: Run
    front: encrypted.Front
    pager: Pager
    trusted: bool = False

    def call(self, *words: object) -> Result:
        return self.run("-c", self.here.config, *words, "--json")

    def configured(self, **values: object) -> None:
        self.here.write(self.pager.section, **values)

    def readiness(self) -> tuple[list[str], list[Mapping[str, object]], bytes]:
        """What `/readyz` and `/metrics` are made of."""

        async def asked() -> tuple[list[str], list[Mapping[str, object]], bytes]:
            with self.here.database() as db:
                vitals = Vitals(role=Role.ACTIVE)
                health = Health(load.load(self.here.config, {}), db, vitals, Metrics("1"))
                return list(await health.ready()), list(health.stopped), await health.metrics()

        return asyncio.run(asked())


@pytest.fixture
def stage(
    tmp_path: Path, sqlite_url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as here:
        port = urlsplit(here.sandbox.base_url).port
        assert port is not None
        with encrypted.front(port) as front:
            made = Stage(here=here, run=run, front=front, pager=pager.pager(tmp_path / "pager"))
            system = trust.system

            def whom() -> ssl.SSLContext:
                return made.front.trust if made.trusted else system()

            monkeypatch.setattr(trust, "system", whom)
            made.configured(in_flight=1)
            yield made


def _fault(**rule: Any) -> Callable[[Stage], None]:
    return lambda stage: stage.here.fault(**rule)


def _mended(stage: Stage) -> None:
    stage.here.mend()


def _wrong_path(stage: Stage) -> None:
    stage.configured(base_url=f"{stage.here.sandbox.base_url}/nowhere")


def _right_path(stage: Stage) -> None:
    stage.configured(base_url=stage.here.sandbox.base_url)


def _over_tls(stage: Stage) -> None:
    path = urlsplit(stage.here.sandbox.base_url).path
    stage.configured(base_url=f"{stage.front.base_url}{path}")


def _certified(stage: Stage) -> None:
    stage.trusted = True


def _lost(stage: Stage) -> None:
    stage.here.sandbox.call(
        lambda one: [
            one.store.delete(one.account, each, now=one.clock.now())
            for each in one.store.ids(one.account, now=one.clock.now())
        ]
    )


def _expected(stage: Stage) -> None:
    words = ("--expect-absent", KEPT, "--reason", "an old job deleted them")
    assert stage.call("account", "reset", "main", *words).last["lifted"] == ["not_found"]
    stage.here.pass_time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How an account comes to be stopped, and what lifts that.

    `known` accounts were pinned before; with `lifted_before` the sweep finds nothing more to lift.
    """

    cause: Callable[[Stage], None]
    mend: Callable[[Stage], None] = _mended
    known: bool = True
    lifted_before: bool = False


def _page(**more: Any) -> dict[str, Any]:
    return {"status": 200, "body": b"<html>log in</html>", "content_type": "text/html", **more}


TROUBLES: Mapping[Breaker, Trouble] = {
    Breaker.CREDENTIAL: Trouble(
        cause=lambda stage: stage.here.use_key("fw_revoked"),
        mend=lambda stage: stage.here.use_key(KEY),
    ),
    Breaker.PAYMENT: Trouble(cause=_fault(status=412)),
    Breaker.CONFIGURATION: Trouble(cause=_wrong_path, mend=_right_path, known=False),
    Breaker.IDENTITY: Trouble(
        cause=lambda stage: stage.here.use_key(OTHER_KEY),
        mend=lambda stage: stage.here.use_key(KEY),
    ),
    Breaker.NOT_FOUND: Trouble(cause=_lost, mend=_expected, lifted_before=True),
    Breaker.INTERCEPTED: Trouble(cause=_fault(**_page())),
    Breaker.UNREACHABLE: Trouble(cause=_fault(status=503)),
    Breaker.TLS: Trouble(cause=_over_tls, mend=_certified, known=False),
}


@pytest.mark.parametrize("breaker", Breaker)
def test_a_stop_is_named_everywhere_with_what_is_kept_until_what_lifts_it_has_come(
    stage: Stage, breaker: Breaker
) -> None:
    trouble, here = TROUBLES[breaker], stage.here
    here.responses(KEPT, age=14 * DAY + DUE_SINCE)
    if trouble.known:
        assert stage.call("account", "check", "main").code == 0
    trouble.cause(stage)

    swept = stage.call("sweep")

    assert swept.code == 12
    _told_by_the_sweep(swept, breaker)
    _told_by_the_command(stage, breaker)
    _told_by_the_daemon(stage, breaker)
    _told_by_the_alarm(stage, breaker, "open")
    assert _records(here) == {("breaker.opened", breaker.value): 1}

    trouble.mend(stage)
    swept = stage.call("sweep")

    assert swept.last["stop_reason"] is None
    closed = [line for line in _log(swept) if line["event"] == "breaker_closed"]
    lifted = [] if trouble.lifted_before else [breaker.value]
    assert [one["breaker"] for one in closed] == lifted
    assert here.rows(tables.breakers) == []
    assert stage.call("status").last["stopped"] == []
    _told_by_the_alarm(stage, breaker, "resolved")
    both = {("breaker.opened", breaker.value): 1, ("breaker.closed", breaker.value): 1}
    assert _records(here) == both
    if breaker is not Breaker.NOT_FOUND:
        assert (swept.code, swept.last["outcomes"]) == (0, {"deleted": KEPT})
    assert truth.violations(here) == []


def _told_by_the_sweep(swept: Result, breaker: Breaker) -> None:
    reason = f"account:main:{breaker.value}"
    (stop,) = swept.last["stops"]
    assert swept.last["stop_reason"] == reason
    assert (stop["reason"], stop["account"], stop["kept"]) == (reason, "main", KEPT)
    (opened,) = [line for line in _log(swept) if line["event"] == "breaker_opened"]
    assert (opened["level"], opened["breaker"]) == ("error", breaker.value)
    assert opened["kept_past_its_time"] == KEPT
    for since in (stop["oldest_due_at"], opened["oldest_due_at"]):
        _is_old_enough((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())


def _told_by_the_command(stage: Stage, breaker: Breaker) -> None:
    status = stage.call("status")
    (stopped,) = status.last["stopped"]
    assert (status.code, stopped["account"], stopped["breaker"]) == (3, "main", breaker.value)
    assert stopped["kept"] == KEPT
    _is_old_enough(stopped["oldest_seconds"])
    (listed,) = [one for one in stage.call("account", "list").lines if one["type"] == "account"]
    assert (listed["stopped"], listed["kept"]) == ([breaker.value], KEPT)
    _is_old_enough(listed["oldest_seconds"])
    words = stage.run("-c", stage.here.config, "status").out
    assert f"({breaker.value.replace('_', ' ')})" in words
    assert re.search(
        "; 7 responses kept past their time there, the oldest by 3 h( [0-9]+ s)?\n", words
    )
    checked = stage.call("account", "check", "main")
    named = checked.last["waits_for_reset"] or [checked.last["stopped"]]
    assert (checked.code, named, checked.last["kept"]) == (12, [breaker.value], KEPT)
    _is_old_enough(checked.last["oldest_seconds"])
    words = stage.run("-c", stage.here.config, "account", "check", "main").out
    assert re.search("kept past their time +7, the oldest by 3 h( [0-9]+ s)?\n", words)


def _told_by_the_daemon(stage: Stage, breaker: Breaker) -> None:
    failing, (stopped,), text = stage.readiness()
    assert failing == [f"account_stopped:main:{breaker.value}"]
    named = (stopped["account"], stopped["breaker"], stopped["kept"])
    assert named == ("main", breaker.value, KEPT)
    _is_old_enough(stopped["oldest_seconds"])
    is_open = figures.series(text, "sweeper_breaker_open")
    expected = {frozenset({("account", "main"), ("breaker", one.value)}): one for one in Breaker}
    assert {expected[labels] for labels, value in is_open.items() if value} == {breaker}
    assert figures.figure(text, "sweeper_kept_responses", account="main") == KEPT
    _is_old_enough(figures.figure(text, "sweeper_oldest_kept_seconds", account="main"))


def _told_by_the_alarm(stage: Stage, breaker: Breaker, state: str) -> None:
    name = f"account_stopped:main:{breaker.value}"
    told = [one for one in stage.pager.told if one["id"] == name]
    assert told[-1]["state"] == state
    assert (told[-1]["breaker"], told[-1]["responses"]) == (breaker.value, KEPT)
    _is_old_enough(told[-1]["oldest_seconds"])


def _is_old_enough(seconds: object) -> None:
    assert seconds == pytest.approx(DUE_SINCE.total_seconds(), abs=90)


def _log(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.err.splitlines()]


def _records(here: Rehearsal) -> Counter[tuple[str, str]]:
    bodies = [json.loads(row["body"]) for row in here.rows(tables.records)]
    return Counter(
        (body["type"], body["breaker"]) for body in bodies if body["type"].startswith("breaker.")
    )


class TestPayment:
    @pytest.mark.parametrize("status", [402, 412])
    async def test_a_suspended_account_charges_nothing_to_its_responses(
        self, either: Site, status: int
    ) -> None:
        """F21: what is in flight comes to its end, and what comes after it is not sent."""
        names = either.store(20, age=14 * DAY + DUE_SINCE)
        either.fault(method="DELETE", after=6, status=status, body={"error": {"code": "x"}})

        ended = await either.sweep()

        assert ended.summary.stop_reason == "account:main:payment"
        answered_yes = [one for one in names if either.row(one)["yes_at"] is not None]
        assert 7 <= len(either.deleted()) <= 10
        assert len(answered_yes) == 6
        for name in set(names) - set(answered_yes):
            row = either.row(name)
            assert (row["state"], row["failures"], row["touched"]) == ("live", 0, 0)
            assert row["next_try_at"] is None
        (told,) = either.told(event.BreakerOpened)
        assert (told.breaker, told.kept) == (Breaker.PAYMENT, 14)
        assert told.oldest_due_at is not None
        (stop,) = ended.summary.stops
        assert (stop.kept, stop.oldest_due_at) == (14, told.oldest_due_at)


class TestServerDown:
    async def test_one_server_error_is_no_reason_to_stop(self, either: Site) -> None:
        """F29."""
        (name, *others) = either.store(20)
        either.fault(method="DELETE", id=name, times=1, status=500)

        ended = await either.sweep()

        assert ended.summary.stop_reason is None
        assert either.breakers() == []
        assert either.row(name)["failures"] <= 1
        assert {either.row(one)["outcome"] for one in others} == {"deleted"}

    async def test_nine_failures_in_a_row_and_an_answer_stop_nothing(self, site: Site) -> None:
        site.store(25)
        site.fault(method="DELETE", times=9, **ANYTHING)
        site.fault(method="DELETE", after=10, times=9, **ANYTHING)
        ended = await site.sweep(site.account("main", max_in_flight=1))
        assert ended.summary.stop_reason is None

    async def test_the_tenth_failure_in_a_row_is_the_last_delete_that_is_sent(
        self, either: Site
    ) -> None:
        either.store(25)
        either.fault(method="DELETE", **ANYTHING)
        ended = await either.sweep(either.account("main", max_in_flight=1))
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert len(either.deleted()) == 10
        assert either.breakers() == ["unreachable"]

    async def test_a_storm_stops_the_account_and_a_later_sweep_asks_once(
        self, either: Site
    ) -> None:
        """F29: ten in a row open it, whatever is in flight then is awaited; then one question."""
        either.store(60)
        either.fault(method="DELETE", **ANYTHING)
        ended = await either.sweep(either.account("main", max_in_flight=8))
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert 10 <= len(either.deleted()) <= 17
        assert either.breakers() == ["unreachable"]
        assert len(either.told(event.BreakerOpened)) == 1

        before = either.rows
        either.mend()
        either.fault(**ANYTHING)
        for _ in range(3):
            _come_due(either)
            either.sandbox.journal.entries.clear()
            ended = await either.sweep(either.account("main", max_in_flight=8))
            assert len(either.sandbox.journal.entries) == 1
            assert ended.summary.stop_reason == "account:main:unreachable"
            assert ended.summary.outcomes == {}
            assert ended.summary.remaining_by_reason == {"stopped": 60}
        assert [one.anew for one in either.told(event.BreakerOpened)] == [True, *[False] * 3]
        after = either.rows
        told_apart = {"next_try_at"}
        assert {n: _without(row, told_apart) for n, row in after.items()} == {
            n: _without(row, told_apart) for n, row in before.items()
        }

        either.mend()
        _come_due(either)
        ended = await either.sweep(either.account("main", max_in_flight=8))
        assert ended.summary.complete
        assert either.breakers() == []
        assert len(either.told(event.BreakerClosed)) == 1
        assert [one["breaker"] for one in either.records("breaker.closed")] == ["unreachable"]

    async def test_one_question_is_enough_also_where_nobody_names_the_account(
        self, sqlite_database: Database
    ) -> None:
        async with sweeping.serving(sqlite_database, shape="openai") as site:
            mine = site.account("main", provider="openai", max_in_flight=8)
            site.store(1)
            assert (await site.sweep(mine)).summary.complete
            site.store(40)
            site.fault(method="DELETE", **ANYTHING)
            await site.sweep(mine)
            assert site.breakers() == ["unreachable"]
            site.mend()
            site.fault(do="close")
            _come_due(site)
            site.sandbox.journal.entries.clear()
            ended = await site.sweep(mine)
            assert ended.summary.stop_reason == "account:main:unreachable"
            assert len(site.sandbox.journal.entries) == 1

    async def test_a_server_that_lets_itself_be_read_and_deletes_nothing_gets_one_delete(
        self, site: Site
    ) -> None:
        """Each of them may have been carried out, and is open until that is known."""
        site.store(60)
        site.fault(method="DELETE", **ANYTHING)
        mine = site.account("main", max_in_flight=8)
        await site.sweep(mine)
        for _ in range(2):
            _come_due(site)
            site.sandbox.journal.entries.clear()
            ended = await site.sweep(mine)
            assert ended.summary.stop_reason == "account:main:unreachable"
            assert len(site.deleted()) == 1
        assert site.breakers() == ["unreachable"]

    @pytest.mark.parametrize(
        "rule",
        [
            {"status": 503, "retry_after": 1},
            {"status": 502},
            {"do": "reset"},
            {"status": 200, "html": "back soon"},
        ],
    )
    async def test_whoever_is_on_trial_is_stopped_by_its_first_failure(
        self, site: Site, rule: dict[str, Any]
    ) -> None:
        await _stopped(site)
        site.fault(**rule)
        await site.sweep()
        assert len(site.sandbox.journal.entries) == 1
        assert "unreachable" in site.breakers()

    @pytest.mark.parametrize("after", [0, 1])
    async def test_the_trial_is_over_when_a_delete_is_answered(
        self, site: Site, after: int
    ) -> None:
        await _stopped(site)
        site.fault(method="DELETE", after=after, times=1, **ANYTHING)
        ended = await site.sweep()
        reason = None if after else "account:main:unreachable"
        assert ended.summary.stop_reason == reason

    async def test_who_only_asks_for_patience_is_not_down(self, site: Site) -> None:
        await _stopped(site)
        site.fault(path="verifyApiKey", times=2, status=429)
        assert (await site.sweep()).summary.complete
        assert site.breakers() == []

    async def test_an_answer_that_stops_the_account_anew_says_that_the_server_is_back(
        self, either: Site
    ) -> None:
        """Whoever is called out at night is told of the key, and no more of the network."""
        await _stopped(either)
        either.fault(status=401)
        ended = await either.sweep()
        assert ended.summary.stop_reason == "account:main:credential"
        assert either.breakers() == ["credential"]
        assert [one.breaker for one in either.told(event.BreakerClosed)] == [Breaker.UNREACHABLE]

    async def test_a_server_that_answers_only_whose_the_key_is_stays_down(self, site: Site) -> None:
        await _stopped(site)
        site.fault(path="responses", **ANYTHING)
        ended = await site.sweep()
        assert len(site.sandbox.journal.entries) == 2
        assert ended.summary.stop_reason == "account:main:unreachable"
        assert site.told(event.BreakerClosed) == []


async def _stopped(site: Site) -> None:
    """An account that its provider's silence has stopped; the provider is well again."""
    site.store(1)
    assert (await site.sweep()).summary.complete
    site.store(3)
    site.fault(**ANYTHING)
    await site.sweep()
    assert site.breakers() == ["unreachable"]
    site.mend()
    site.sandbox.journal.entries.clear()
    site.events.clear()


def _come_due(site: Site) -> None:
    table = tables.responses
    with site.db.write() as connection:
        connection.execute(
            sa.update(table).where(table.c.next_try_at.is_not(None)).values(next_try_at=1)
        )


def _without(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


class TestHandshakes:
    def test_three_in_a_row_stop_the_account_and_a_later_sweep_tries_one(
        self, stage: Stage
    ) -> None:
        stage.here.responses(KEPT)
        _over_tls(stage)
        assert stage.call("sweep").last["stop_reason"] == "account:main:tls"
        assert stage.front.knocks == breakers.HANDSHAKES_IN_A_ROW
        assert stage.call("sweep").last["stop_reason"] == "account:main:tls"
        assert stage.front.knocks == breakers.HANDSHAKES_IN_A_ROW + 1
        assert stage.here.requests() == 0
        (row,) = stage.here.rows(tables.breakers)
        assert row["detail"] == "3 TLS handshakes in a row failed"

    def test_the_doctor_tells_of_it_as_of_the_way_to_the_provider(self, stage: Stage) -> None:
        _over_tls(stage)
        findings = stage.call("doctor").last["findings"]
        (reach,) = [one for one in findings if one["check"] == "reach"]
        assert reach["level"] == "fault"
        assert "TLS handshakes" in reach["message"]
        assert "certificate" in reach["next"]
        assert [one for one in findings if one["check"] == "account"] == []


class TestWhatLiftsNothing:
    @pytest.mark.parametrize(
        "breaker",
        [Breaker.CREDENTIAL, Breaker.PAYMENT, Breaker.CONFIGURATION, Breaker.INTERCEPTED],
    )
    async def test_a_control_that_shows_nothing_lets_nothing_be_deleted(
        self, either: Site, breaker: Breaker
    ) -> None:
        """Whose the key is says nothing of what it may do."""
        either.store(1)
        await either.sweep()
        either.store(3)
        either.sandbox.journal.entries.clear()
        _open(either.db, breaker)
        either.fault(path="responses", status=418)
        ended = await either.sweep()
        assert ended.summary.stop_reason == f"account:main:{breaker.value}"
        assert either.deleted() == []
        assert either.breakers() == [breaker.value]

    def test_a_check_that_lifted_nothing_says_so(self, stage: Stage) -> None:
        stage.here.responses(1)
        assert stage.call("plan").code == 0
        assert stage.call("account", "check", "main").code == 0
        with stage.here.database() as db:
            _open(db, Breaker.PAYMENT)
        stage.here.fault(path="responses", status=418)
        checked = stage.call("account", "check", "main")
        assert (checked.code, checked.last["waits_for_reset"]) == (12, ["payment"])
        assert (checked.last["stopped"], checked.last["kept"]) == (None, 1)
        lifted = stage.call("account", "reset", "main", "--reason", "paid, says the bank")
        assert lifted.last["lifted"] == ["payment"]


def _open(db: Database, breaker: Breaker) -> None:
    with db.write() as connection:
        row = accounts.get(connection, "main")
        assert row is not None
        now = moment.to_us(datetime.now(UTC))
        accounts.open_breaker(connection, row, breaker, "before", now=now)


class TestSeveral:
    async def test_one_accounts_stop_leaves_the_others_alone(self, either: Site) -> None:
        either.store(3)
        either.store(3, account="other")
        refused = either.account("other", key="fw_revoked")
        ended = await either.sweep(either.main, refused)
        assert ended.summary.stop_reason == "account:other:credential"
        assert ended.summary.outcomes == {"deleted": 3}
        assert [one.reason for one in ended.summary.stops] == ["account:other:credential"]

    async def test_every_stop_of_a_sweep_is_told_and_none_hides_another(self, either: Site) -> None:
        either.store(2)
        either.store(3, account="other")
        either.store(120, account="third")
        accounts_ = (
            either.account("main", key="fw_revoked"),
            either.account("other", base_url="http://127.0.0.1:9"),
            either.account("third"),
        )
        guards = Guards(
            max_deletions_per_sweep=100, max_share_per_sweep=1, max_deletions_per_day=10**6
        )
        ended = await either.sweep(*accounts_, guards=guards)
        assert [(one.reason, one.account, one.kept) for one in ended.summary.stops] == [
            ("account:main:credential", "main", 2),
            ("account:other:unreachable", "other", 3),
            ("guard", "third", 120),
        ]
        (row,) = registered.rows(either.db, tables.sweeps)
        stops = json.loads(row["summary"])["stops"]
        assert [one["reason"] for one in stops] == [one.reason for one in ended.summary.stops]

    def test_a_refusal_and_a_stop_are_both_told_to_people(self, stage: Stage) -> None:
        """A guard's refusal at one account must not be forgotten for a key at another."""
        here, hours = stage.here, 14 * DAY + DUE_SINCE
        other = here.folder / "other-key"
        other.touch(mode=0o600)
        canary.watch("the other key", "fw_revoked")
        other.write_text("fw_revoked")
        section = (
            f'[accounts.other]\nprovider = "fireworks"\napi_key_file = "{other}"\n'
            f'base_url = "{here.sandbox.base_url}"\n'
        )
        here.write(section + stage.pager.section, share="0.5")
        here.responses(120, age=hours)
        here.responses(2, age=hours, account="other", stored=False)

        swept = stage.call("sweep")

        assert (swept.code, swept.last["stop_reason"]) == (12, "account:other:credential")
        assert [one["reason"] for one in swept.last["stops"]][1:] == ["guard"]
        status = stage.call("status")
        assert status.last["withheld"] == ["guard"]
        assert [one["breaker"] for one in status.last["stopped"]] == ["credential"]
        words = stage.run("-c", here.config, "status").out
        assert "STOPPED: account other" in words
        assert "REFUSED: a guard refused" in words
        failing, _, _ = stage.readiness()
        assert failing == ["account_stopped:other:credential", "guard"]
        told = {one["id"]: one["responses"] for one in stage.pager.told}
        assert told == {"account_stopped:other:credential": 2, "account_stopped:guard": 120}


class TestTheDaemon:
    @pytest.mark.parametrize(
        "ago,after",
        [
            (timedelta(0), timedelta(minutes=1)),
            (timedelta(minutes=7), timedelta(minutes=7)),
            (3 * DAY, HOUR),
            (-DAY, timedelta(minutes=1)),
        ],
    )
    def test_it_asks_again_the_less_often_the_longer_an_account_is_stopped(
        self, database: Database, ago: timedelta, after: timedelta
    ) -> None:
        now = datetime.now(UTC)
        with database.write() as connection:
            accounts.ensure(connection, ["main"])
        _open(database, Breaker.TLS)
        with database.write() as connection:
            connection.execute(sa.update(tables.breakers).values(opened_at=moment.to_us(now - ago)))
        assert recollection.next_look(database, {"main"}, now) == now + after
        assert recollection.next_look(database, {"other"}, now) is None

    @pytest.mark.parametrize("breaker", Breaker)
    def test_it_asks_again_by_itself_only_where_that_may_help(
        self, sqlite_database: Database, breaker: Breaker
    ) -> None:
        with sqlite_database.write() as connection:
            accounts.ensure(connection, ["main"])
        _open(sqlite_database, breaker)
        again = recollection.next_look(sqlite_database, {"main"}, datetime.now(UTC))
        by_itself = {Breaker.UNREACHABLE, Breaker.TLS, Breaker.INTERCEPTED}
        assert (again is not None) == (breaker in by_itself)

    async def test_when_the_server_is_back_it_goes_on_long_before_its_schedule(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recollection, "SOONEST_LOOK", timedelta(milliseconds=50))
        monkeypatch.setattr(recollection, "LATEST_LOOK", timedelta(milliseconds=50))
        here, heard = stage.here, Heard()
        here.write('[schedule]\nevery = "7d"\n')
        here.responses(3)
        here.fault(**ANYTHING)
        config = load.load(here.config, {})
        around = Around(
            load=lambda: config,
            environ=os.environ,
            emit=heard.append,
            notifier=Notifier({}),
            redact=lambda _keys: None,
        )
        with here.database() as db:
            rounds = Rounds(config=config, db=db, around=around, vitals=Vitals())
            work = asyncio.create_task(rounds.run())
            try:
                await heard.until(lambda: len(heard.sweeps) >= 2)
                assert here.requests("DELETE") == 0
                here.mend()
                await heard.until(lambda: heard.sweeps[-1].complete)
            finally:
                rounds.end()
                await work
        assert [one.anew for one in heard if isinstance(one, event.BreakerOpened)][:2] == [
            True,
            False,
        ]
        assert not here.stored() & here.due
        assert truth.violations(here) == []


class Heard(list[event.Event]):
    """What a daemon has told, and a way to wait for it; it tells it in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def append(self, happened: event.Event) -> None:
        super().append(happened)
        self._more.set()

    @property
    def sweeps(self) -> list[event.SweepFinished]:
        return [one for one in self if isinstance(one, event.SweepFinished)]

    async def until(self, there: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not there():
                self._more.clear()
                await self._more.wait()


async def test_a_stop_that_this_version_does_not_know_stops_all_and_says_why(
    either: Site,
) -> None:
    either.store(3)
    with either.db.write() as connection:
        (key,) = accounts.ensure(connection, ["main"]).values()
        connection.execute(
            tables.breakers.insert().values(
                account_id=key, breaker="eclipse", opened_at=1, detail="d"
            )
        )
    ended = await either.sweep()
    assert isinstance(ended.fault, errors.LedgerError)
    assert "eclipse" in ended.fault.message
    assert either.sandbox.journal.entries == []
