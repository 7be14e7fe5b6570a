"""People decide while a sweep is at work: what they were told holds, whatever it was to do."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.domain import event, moment
from sweeper.domain.event import Event
from sweeper.ledger import admission, claims, interventions, outcomes, tables
from sweeper.ledger.claims import Wanted
from sweeper.ledger.database import Database
from sweeper.ledger.interventions import Word
from tests.support import deciding, invariants, lent, registered, sweeping
from tests.support.deciding import DAY, RULES, Desk
from tests.support.sweeping import Listening, Site

SUPPORT = {"app": "support"}


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    if database.is_sqlite:
        database.engine.dispose()
        sa.event.listen(
            database.engine,
            "connect",
            lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close(),
        )
    async with sweeping.serving(database) as here:
        yield here


def at(site: Site) -> Desk:
    config = deciding.config(str(site.db.engine.url), site.sandbox.base_url)
    return Desk(db=site.db, config=config, alone=False)


async def asked(site: Site) -> None:
    """Return when the first DELETE has arrived."""
    async with asyncio.timeout(30):
        while not site.deleted():  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.002)


def when_planned(act: Callable[[], object]) -> Listening:
    """Do this when the plan is made, before the sweep goes on."""

    def react(happened: Event) -> None:
        if isinstance(happened, event.SweepStarted):
            act()

    return Listening(react)


class TestBetweenPlanAndClaim:
    """The plan has them; the decision comes before the first claim."""

    KEEPING: tuple[tuple[str, Callable[[Desk, str], Any]], ...] = (
        ("other labels", lambda desk, name: desk.correct(name, app="contracts")),
        ("labels of a longer policy", lambda desk, name: desk.correct(name, app="long")),
        ("a later time", lambda desk, name: desk.correct(name, age=13.9)),
        ("closed", lambda desk, name: desk.close(name)),
    )

    @pytest.mark.parametrize("keep", [do for _, do in KEEPING], ids=[name for name, _ in KEEPING])
    async def test_what_a_person_keeps_is_not_asked_for(
        self, site: Site, keep: Callable[[Desk, str], Any]
    ) -> None:
        ids = site.store(6, labels=SUPPORT)
        kept = ids[::2]
        desk = at(site)
        site.events = when_planned(lambda: [keep(desk, name) for name in kept])
        await site.sweep(policies=RULES)
        assert sorted(site.deleted()) == sorted(ids[1::2])
        assert set(kept) <= site.sandbox.kept()

    async def test_it_may_move_to_labels_that_the_plan_has_too(self, site: Site) -> None:
        """It is judged by the policy of the labels that it has now, not of those planned."""
        ids = site.store(4, labels=SUPPORT)
        old = site.store(4, age=100 * DAY, labels={"app": "long"})
        desk = at(site)
        site.events = when_planned(lambda: desk.correct(ids[0], app="long"))
        await site.sweep(policies=RULES)
        assert sorted(site.deleted()) == sorted([*ids[1:], *old])

    async def test_a_new_link_keeps_the_one_before(self, site: Site) -> None:
        before, after = site.store(2, labels=SUPPORT)
        (young,) = site.store(1, age=DAY, labels=SUPPORT)
        desk = at(site)
        site.events = when_planned(lambda: desk.correct(young, previous=before))
        await site.sweep(policies=RULES)
        assert site.deleted() == [after]

    async def test_what_is_hastened_on_purpose_goes_by_the_bounds_of_the_plan(
        self, site: Site
    ) -> None:
        """No more of a label set than was planned, whatever has come due since."""
        site.store(3, labels=SUPPORT)
        young = site.store(10, age=DAY, labels=SUPPORT)
        desk = at(site)

        def hasten() -> None:
            for name in young:
                desk.correct(name, age=30, earlier=True)

        site.events = when_planned(hasten)
        await site.sweep(policies=RULES)
        assert len(site.deleted()) == 3


class TestWhileItIsAsked:
    async def test_nobody_decides_about_what_was_sent(self, site: Site) -> None:
        site.fault(method="DELETE", delay=0.5)
        ids = site.store(3, labels=SUPPORT)
        desk, told = at(site), list[str]()
        decisions: list[Callable[[str], Any]] = [
            *(desk.close, desk.retry, lambda one: desk.correct(one, app="contracts"))
        ]
        running = asyncio.create_task(site.sweep(policies=RULES))
        await asked(site)
        for name in ids:
            for decide in decisions:
                try:
                    await asyncio.to_thread(decide, name)
                except errors.DecisionRefused as refused:
                    told.append(refused.message)
        ended = await running
        assert len(told) == 9
        assert ended.summary.outcomes == {"deleted": 3}

    @pytest.mark.parametrize("seed", range(3))
    async def test_whoever_was_told_that_it_is_kept_keeps_it(self, site: Site, seed: int) -> None:
        """A crowd of decisions against a sweep at full speed, in whatever order they meet."""
        site.fault(method="DELETE", delay=0.02)
        ids = site.store(150, labels=SUPPORT)
        kept: list[str] = []
        refused: list[str] = []
        begun, over = threading.Event(), threading.Event()
        desk = at(site)
        decisions: list[Callable[[str], Any]] = [
            desk.close,
            lambda one: desk.correct(one, app="contracts"),
            lambda one: desk.correct(one, age=1),
        ]

        def decide() -> None:
            chance = random.Random(seed)
            assert begun.wait(timeout=30)
            for name in chance.sample(ids, len(ids)):
                do = chance.choice(decisions)
                try:
                    do(name)
                except errors.DecisionRefused:
                    refused.append(name)
                else:
                    kept.append(name)
                if over.is_set():
                    return

        def check(happened: Event) -> None:
            if isinstance(happened, event.SweepFinished):
                over.set()

        site.events = Listening(check)
        with ThreadPoolExecutor(1) as pool:
            people = pool.submit(decide)
            running = asyncio.create_task(site.sweep(policies=RULES, checked=False))
            await asked(site)
            begun.set()
            ended = await running
            await asyncio.wrap_future(people)
        invariants.check(site.db)
        assert kept
        assert site.deleted()
        assert not set(kept) & set(site.deleted())
        assert set(kept) <= site.sandbox.kept()
        states = site.states()
        assert {states[name][0] for name in kept} <= {"live", "gone"}
        assert ended.summary.outcomes == {"deleted": len(site.deleted())}
        again = await site.sweep(policies=RULES)
        assert again.summary.complete
        assert not set(kept) & set(site.deleted())

    async def test_what_was_refused_is_tried_by_the_next_sweep(self, site: Site) -> None:
        site.fault(method="DELETE", status=422, times=2)
        ids = site.store(6, labels=SUPPORT)
        desk = at(site)

        def react(happened: Event) -> None:
            if isinstance(happened, event.ResponseSettled) and happened.outcome == "rejected":
                desk.retry(happened.response_id)

        site.events = Listening(react)
        ended = await site.sweep(policies=RULES)
        assert ended.summary.outcomes == {"deleted": 4, "rejected": 2}
        assert ended.summary.remaining == 2
        assert "rejected" not in (ended.summary.remaining_by_reason or {})
        assert not ended.summary.complete
        again = await site.sweep(policies=RULES)
        assert again.summary.outcomes == {"deleted": 2}
        assert again.summary.complete
        assert len(site.deleted()) == len(ids) + 2


class TestLocks:
    """PostgreSQL lets several write at once, so who waits for whom is decided by locks."""

    @pytest.fixture
    def desk(self, postgresql_database: Database) -> Desk:
        db = postgresql_database
        return Desk(db=db, config=deciding.config(str(db.engine.url)))

    @staticmethod
    def beside(work: Callable[[], Any], desk: Desk, hold: Callable[[], Any]) -> Future[Any]:
        """Start `work` in another connection, and go on when it waits for a lock."""
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(work)
            lent.wait_for_a_lock(desk.db)
            hold()
            waiting.exception(timeout=30)
        return waiting

    def test_a_decision_waits_for_a_claim_and_then_comes_too_late(self, desk: Desk) -> None:
        desk.know("resp_1")
        rows, terms = lent.wanted(desk.db, "resp_1"), lent.terms(lent.account_id(desk.db))
        connection = desk.db.engine.connect()
        with connection:
            admission.lock(connection)
            assert claims.take(connection, rows, terms)
            done = self.beside(
                lambda: desk.correct("resp_1", app="contracts"), desk, connection.commit
            )
        with pytest.raises(errors.DecisionRefused, match="being deleted"):
            done.result()
        invariants.check(desk.db)

    def test_a_decision_waits_for_an_outcome_that_is_being_written(self, desk: Desk) -> None:
        """Settling takes no admission lock: the row's own lock is what keeps them apart."""
        desk.know("resp_1")
        (claim,) = lent.take(desk.db, "resp_1")
        connection = desk.db.engine.connect()
        with connection:
            settled = [lent.settled(claim, lent.REJECTED, answer="rejected")]
            outcomes.settle(connection, settled, sweep_id="sweep-1", now=registered.NOW_US)
            done = self.beside(lambda: desk.retry("resp_1"), desk, connection.commit)
        assert done.result().response.state == "live"
        invariants.check(desk.db)

    def test_a_claim_waits_for_a_decision_and_then_finds_nothing(self, desk: Desk) -> None:
        desk.know("resp_1")
        rows = lent.wanted(desk.db, "resp_1", cutoff=moment.to_us(desk.now))
        connection = desk.db.engine.connect()
        with connection:
            taken = interventions.take(connection, "resp_1")
            word = Word(reason="kept", actor={"user": "alice"}, at=moment.to_us(desk.now))
            basis = interventions.Basis(
                provider=None, policy=None, due_at=None, deadline_at=None, policies_sha256="00"
            )
            interventions.close(connection, taken, basis, word)
            done = self.beside(lambda: self.claim(desk, rows), desk, connection.commit)
        assert done.result() == []
        invariants.check(desk.db)

    @staticmethod
    def claim(desk: Desk, rows: list[Wanted]) -> list[claims.Claim]:
        terms = lent.terms(lent.account_id(desk.db))
        with desk.db.write() as connection:
            admission.lock(connection)
            return claims.take(connection, rows, terms)

    def test_two_decisions_come_one_after_the_other(self, desk: Desk) -> None:
        """The second sees what the first has changed, labels included."""
        desk.know("resp_1")
        connection = desk.db.engine.connect()
        with connection:
            taken = interventions.take(connection, "resp_1")
            right = registered.registration("resp_1", labels={"app": "contracts"})
            word = Word(reason="kept", actor={"user": "alice"}, at=moment.to_us(desk.now))
            interventions.correct(connection, taken, right, {}, word)
            done = self.beside(
                lambda: desk.correct("resp_1", app="support"), desk, connection.commit
            )
        with pytest.raises(errors.DecisionRefused, match="was due never"):
            done.result()
        sets = registered.rows(desk.db, tables.label_sets)
        assert {row["labels"]: row["live_count"] for row in sets} == {
            '{"app":"support"}': 0,
            '{"app":"contracts"}': 1,
        }
        invariants.check(desk.db)

    def test_locks_are_taken_in_everybodys_order(self, desk: Desk) -> None:
        """Admission, the rows by their keys, the log's head: nobody waits in a circle."""
        desk.break_rules(labels="[]")
        desk.know("resp_2", previous_response_id="resp_1")
        texts: list[str] = []
        sa.event.listen(
            desk.db.engine, "before_cursor_execute", lambda *values: texts.append(values[2])
        )
        desk.correct("resp_1", app="contracts")
        own = texts[next(n for n, text in enumerate(texts) if "pg_advisory_xact_lock" in text) :]
        head = next(n for n, text in enumerate(own) if "log_size" in text)
        rows = [n for n, text in enumerate(own[:head]) if "FOR UPDATE" in text]
        assert len(rows) == 1
        assert "ORDER BY responses.id FOR UPDATE" in own[rows[0]]
        counts = [n for n, text in enumerate(own) if text.startswith("UPDATE label_sets")]
        assert min(counts) > head
