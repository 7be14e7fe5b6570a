"""Plans over random ledgers, against a model that a person can check."""

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.domain import moment
from sweeper.domain.plan import Plan
from sweeper.domain.policy import Match, Policy
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.engine import planning
from sweeper.engine.candidates import Cut, Queue
from sweeper.engine.planning import Planner, ReadLeaves, Scope
from sweeper.ledger import claims, database, responses
from sweeper.ledger.claims import Terms
from sweeper.ledger.database import Database
from sweeper.ledger.responses import Candidate
from tests.support import lent, registered
from tests.support.registered import DAY, NOW
from tests.support.sweeping import OPEN

POLICIES = (
    Policy(name="a", match=Match(labels={"app": frozenset({"a"})}), delete_after=14 * DAY),
    Policy(name="b", match=Match(labels={"app": frozenset({"b"})}), delete_after=5 * DAY),
    Policy(name="kept", match=Match(labels={"app": frozenset({"kept"})}), delete_after=None),
)
KEEP = {policy.name: policy.delete_after for policy in POLICIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One response of a random ledger; `parent` is the index of an earlier one."""

    app: str
    days: int
    parent: int | None
    backing_off: bool
    aside: bool


@st.composite
def forests(draw: st.DrawFn) -> list[Node]:
    size = draw(st.integers(1, 14))
    return [
        Node(
            app=draw(st.sampled_from(["a", "a", "b", "kept", "unmatched"])),
            days=draw(st.integers(1, 25)),
            parent=draw(st.none() | st.integers(0, index - 1)) if index else None,
            backing_off=draw(st.sampled_from([False] * 5 + [True])),
            aside=draw(st.sampled_from([False] * 9 + [True])),
        )
        for index in range(size)
    ]


def name(index: int) -> str:
    return f"resp_{index:02}"


@contextmanager
def ledger(template: Path, forest: list[Node]) -> Iterator[Database]:
    """A ledger that holds the forest."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        shutil.copy(template, path)
        db = database.open_database(f"sqlite:///{path}")
        try:
            registered.admit(db, *(_registration(forest, index) for index in range(len(forest))))
            for index, node in enumerate(forest):
                if node.aside:
                    lent.put(db, name(index), state="quarantined", quarantine_reason="conflicting")
                elif node.backing_off:
                    lent.put(db, name(index), next_try_at=moment.to_us(NOW + timedelta(hours=1)))
            yield db
        finally:
            db.close()


def _registration(forest: list[Node], index: int) -> Registration:
    node = forest[index]
    return Registration(
        account=AccountName("main"),
        response_id=ResponseId(name(index)),
        created_at=NOW - node.days * DAY - timedelta(seconds=index),
        labels=f'{{"app":"{node.app}"}}',
        subject=None,
        previous_response_id=None if node.parent is None else ResponseId(name(node.parent)),
    )


class Model:
    """What a plan should say, told one response at a time."""

    def __init__(self, forest: list[Node]) -> None:
        self.forest = forest

    def is_due(self, index: int) -> bool:
        node = self.forest[index]
        keep = KEEP.get(node.app)
        return keep is not None and node.days * DAY >= keep and not node.aside

    def is_possible(self, index: int) -> bool:
        """Due now, and so is everything that continues it."""
        return (
            self.is_due(index)
            and not self.forest[index].backing_off
            and all(self.is_possible(child) for child in self.children(index))
        )

    def children(self, index: int) -> list[int]:
        return [at for at, node in enumerate(self.forest) if node.parent == index]

    def counted(self, allowed: int | None) -> dict[str, dict[str, int]]:
        every = range(len(self.forest))
        due = Counter(self.forest[one].app for one in every if self.is_due(one))
        possible = Counter(self.forest[one].app for one in every if self.is_possible(one))
        later = Counter(
            self.forest[one].app
            for one in every
            if self.is_due(one) and self.forest[one].backing_off
        )
        told = {
            app: {
                "due": due[app],
                "backing_off": later[app],
                "waiting": due[app] - later[app] - possible[app],
                "possible": possible[app],
            }
            for app in due
        }
        if allowed is not None:
            total = sum(possible.values())
            assert min(allowed, total) <= total
        return told


def planned(db: Database, most: int | None = None) -> Plan:
    scope = Scope(policies=POLICIES, accounts=frozenset({"main"}), guards=OPEN, most=most)
    return Planner(db, scope, NOW).make()


class TestAPlan:
    @settings(max_examples=60, deadline=None)
    @given(forest=forests(), most=st.none() | st.integers(0, 14))
    def test_counts_what_the_model_counts(
        self, sqlite_template: Path, forest: list[Node], most: int | None
    ) -> None:
        with ledger(sqlite_template, forest) as db:
            made = planned(db, most)
        model = Model(forest).counted(most)
        told = {
            one.policy: {
                "due": one.due,
                "backing_off": one.backing_off,
                "waiting": one.waiting,
                "possible": one.planned + one.capped,
            }
            for one in made.accounts[0].sets
        }
        assert told == model
        possible = sum(one["possible"] for one in model.values())
        assert made.planned == (possible if most is None else min(most, possible))
        assert made.capped == possible - made.planned
        assert made.due == made.planned + made.capped + made.waiting + made.backing_off
        unmatched = sum(1 for node in forest if node.app == "unmatched")  # whatever its state
        assert made.unmatched == unmatched

    @settings(max_examples=30, deadline=None)
    @given(forest=forests(), most=st.integers(1, 14))
    def test_is_worked_off_children_first_and_never_beyond_it(
        self, sqlite_template: Path, forest: list[Node], most: int
    ) -> None:
        model = Model(forest)
        with ledger(sqlite_template, forest) as db:
            made = planned(db, most)
            order = [int(one.removeprefix("resp_")) for one in worked_off(db, made)]
        assert len(order) == len(set(order)) == made.planned
        for place, index in enumerate(order):
            assert model.is_possible(index)
            assert all(child in order[:place] for child in model.children(index))
        per_set = Counter(forest[index].app for index in order)
        assert per_set == +Counter({one.policy: one.planned for one in made.accounts[0].sets})

    @settings(max_examples=30, deadline=None)
    @given(forest=forests(), most=st.integers(1, 14))
    def test_takes_the_earliest_due_where_nothing_is_linked(
        self, sqlite_template: Path, forest: list[Node], most: int
    ) -> None:
        alone = [
            Node(app=one.app, days=one.days, parent=None, backing_off=False, aside=one.aside)
            for one in forest
        ]
        model = Model(alone)
        with ledger(sqlite_template, alone) as db:
            made = planned(db, most)
            order = worked_off(db, made)

        def due_at(index: int) -> timedelta:
            keep = KEEP[alone[index].app]
            assert keep is not None
            return keep - alone[index].days * DAY - timedelta(seconds=index)

        due = sorted((one for one in range(len(alone)) if model.is_due(one)), key=due_at)
        assert order == [name(index) for index in due[:most]]


def worked_off(db: Database, made: Plan) -> list[str]:
    """Claim and delete all of a plan, a few at a time; the ids in their order."""
    (one,) = made.accounts
    queue = Queue(
        Cut(
            label_set_id=each.label_set_id,
            cutoff=moment.to_us(each.cutoff),
            keep=moment.length_us(each.delete_after),
            most=each.planned,
        )
        for each in one.sets
    )
    account = lent.account_id(db)
    now = moment.to_us(NOW)
    done: list[str] = []
    while True:
        with db.write() as connection:
            read = ReadLeaves(connection, one.newest_pk, now)
            wanted = queue.take(3, now, read)
            assert bool(wanted) or queue.is_drained(now, read)
            taken = claims.take(connection, wanted, _terms(account, made, len(done)))
            queue.claimed(claim.pk for claim in taken)
        if not taken:
            return done
        done += [claim.response_id for claim in taken]
        written = lent.settle(db, [lent.settled(claim, lent.DELETED) for claim in taken])
        with db.read() as connection:
            queue.freed(
                parent
                for parent in responses.parents(connection, written.freed, now)
                if parent.eligible and not parent.children
            )


def _terms(account: int, made: Plan, number: int) -> Terms:
    return lent.terms(account, token=f"token-{number}", newest_pk=made.accounts[0].newest_pk)


class TestScope:
    def test_an_account_that_the_ledger_has_never_seen_has_an_empty_plan(
        self, sqlite_database: Database
    ) -> None:
        scope = Scope(policies=POLICIES, accounts=frozenset({"new"}), guards=OPEN)
        (made,) = Planner(sqlite_database, scope, datetime.now(UTC)).make().accounts
        assert (made.due, made.planned, made.live) == (0, 0, 0)

    def test_many_families_are_resolved_in_portions(self, sqlite_database: Database) -> None:
        batch = []
        for number in range(600):
            for place, previous in (("root", None), ("leaf", f"root_{number}")):
                batch.append(
                    registered.registration(
                        f"{place}_{number}", age=20 * DAY, labels={"app": "a"}, previous=previous
                    )
                )
        registered.admit(sqlite_database, *batch)
        made = planned(sqlite_database)
        assert (made.planned, made.waiting) == (1200, 0)
        half = planned(sqlite_database, most=700)
        assert (half.planned, half.capped) == (700, 500)

    def test_a_bounded_plan_reads_as_far_as_its_bound_and_counts_the_rest(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = [
            registered.registration(f"resp_{n}", age=20 * DAY, labels={"app": "a"})
            for n in range(3000)
        ]
        registered.admit(sqlite_database, *batch)
        read: list[int] = []
        leaves = responses.leaves

        def counted(*args: Any, **given: Any) -> Sequence[Candidate]:
            rows = leaves(*args, **given)
            read.append(len(rows))
            return rows

        monkeypatch.setattr(responses, "leaves", counted)
        made = planned(sqlite_database, most=10)
        assert (made.due, made.planned, made.capped, made.waiting) == (3000, 10, 2990, 0)
        assert read == [1000]
        assert planned(sqlite_database, most=0).capped == 3000
        assert read == [1000]

    @pytest.mark.parametrize(
        "most, asked", [(None, 0), (None, 1), (None, 2), (None, 3), (1, 3), (1, 4)]
    )
    def test_a_plan_that_nobody_wants_any_more_is_given_up_at_the_next_page(
        self, sqlite_database: Database, most: int | None, asked: int
    ) -> None:
        registered.admit(
            sqlite_database,
            registered.registration("root", age=20 * DAY, labels={"app": "a"}),
            registered.registration("leaf", age=20 * DAY, labels={"app": "a"}, previous="root"),
        )
        answers = itertools.chain([False] * asked, itertools.repeat(True))
        scope = Scope(policies=POLICIES, accounts=frozenset({"main"}), guards=OPEN, most=most)
        planner = Planner(sqlite_database, scope, NOW, stopped=lambda: next(answers))
        with pytest.raises(planning.Interrupted):
            planner.make()
