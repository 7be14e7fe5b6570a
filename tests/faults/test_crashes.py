"""Wherever a sweep dies, fails or is ended, the ledger stays true and the next sweep ends it."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.engine import opening
from sweeper.engine.account import Account
from sweeper.engine.deletion import Absence, Deletion, Finished
from sweeper.engine.lookback import LookBack
from sweeper.ledger import leases
from sweeper.ledger.claims import Claim
from sweeper.ledger.database import Database
from tests.support import forked, sweeping, truth
from tests.support.command import Result
from tests.support.failpoints import EXITED, Act, Point, Step, Trap
from tests.support.rehearsal import YOUNG, Rehearsal
from tests.support.sweeping import Site

DUE = 4
TWO_KEYS = {"fw_canarykey/77+q?8": "acme", "fw_other": "other"}
UNSENT = (Point.CLAIM_BEFORE_COMMIT, Point.CLAIM_AFTER_COMMIT, Point.HTTP_BEFORE_SEND)
LOST = (Point.OUTCOME_COMMIT_LOST_FAIL, Point.OUTCOME_COMMIT_LOST_OK)
SETTLING = (Point.OUTCOME_MID, Point.OUTCOME_BEFORE_COMMIT, *LOST)
DEATHS = {Act.EXIT: EXITED, Act.KILL: -9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What a DELETE leads to, and whether it is that or its verification that is hit."""

    verify: str
    step: Step


WAYS = {
    "word": Way(verify="none", step=Step.DELETE),
    "yes": Way(verify="all", step=Step.DELETE),
    "proof": Way(verify="all", step=Step.VERIFY),
}
# Until it is answered, a DELETE that is to be verified goes the way of one that is not.
ANSWERED = (Point.HTTP_AFTER_RESPONSE, *SETTLING)
MAIN = [(way, point) for way in ("word", "proof") for point in Point]
EVERYWHERE = MAIN + [("yes", point) for point in ANSWERED]


@dataclass(slots=True, kw_only=True)
class Kept(Rehearsal):
    """One whose ledger stays open for us: it is looked at often."""

    db: Database

    @contextmanager
    def database(self) -> Iterator[Database]:
        yield self.db


@pytest.fixture
def rehearsal(rehearsal: Rehearsal, database: Database) -> Rehearsal:
    """Some that are due, and one each that is too young and that no policy lets go."""
    kept = Kept(
        folder=rehearsal.folder,
        sandbox=rehearsal.sandbox,
        url=rehearsal.url,
        ids=rehearsal.ids,
        due=rehearsal.due,
        fastest=rehearsal.fastest,
        db=database,
    )
    kept.responses(DUE)
    kept.responses(1, age=YOUNG)
    kept.responses(1, labels={"app": "contracts"})
    return kept


def sweep(rehearsal: Rehearsal, trap: Trap | None = None) -> Result:
    call = ("-c", rehearsal.config, "-q", "sweep", "--json")
    return forked.run(rehearsal.folder, *call, trap=trap)


def about(rehearsal: Rehearsal, ids: Sequence[str]) -> list[dict[str, Any]]:
    return [row for row in rehearsal.rows() if row["response_id"] in ids]


def asked(rehearsal: Rehearsal, method: str, ids: Sequence[str]) -> Counter[str]:
    """How often the provider was asked for each."""
    targets: list[str] = rehearsal.sandbox.call(lambda one: one.journal.targets(method))
    return Counter({one: sum(each.endswith("/" + one) for each in targets) for one in ids})


class Case:
    """One sweep into a trap, and what must be so before and after the next one."""

    def __init__(self, rehearsal: Rehearsal, way: Way, point: Point, act: Act) -> None:
        self.rehearsal = rehearsal
        self.way = way
        self.point = point
        self.act = act
        mark = rehearsal.folder / "sprung"
        self.trap = Trap(point=point, act=act, mark=mark, step=way.step)
        rehearsal.write(verify=way.verify)
        if way is WAYS["proof"] and point is Point.CLAIM_BEFORE_COMMIT:
            self._begin_verifications()

    def _begin_verifications(self) -> None:
        """Otherwise they are first claimed in the very transaction that writes the yes down."""
        mark = self.rehearsal.folder / "begun"
        trap = Trap(point=Point.OUTCOME_BEFORE_COMMIT, act=Act.TERMINATE, mark=mark)
        assert sweep(self.rehearsal, trap).code == 3
        self.rehearsal.pass_time()

    def spring(self) -> Result:
        done = sweep(self.rehearsal, self.trap)
        assert self.trap.sprung(), done.err
        truth.check(self.rehearsal)
        return done

    @property
    def hit(self) -> list[str]:
        return self.trap.sprung()

    def at_death(self) -> None:
        """What a process that is simply gone leaves of the responses that were concerned."""
        rows, verify = about(self.rehearsal, self.hit), self.way.step is Step.VERIFY
        point = self.point
        if point is Point.OUTCOME_COMMIT_LOST_OK:
            self.is_written()
            return
        is_claimed = point is not Point.CLAIM_BEFORE_COMMIT
        state = "verifying" if verify else "claimed" if is_claimed else "live"
        assert self.states(rows) == {(state, None, is_claimed)}
        if not verify:
            was_sent = point not in UNSENT
            assert set(asked(self.rehearsal, "DELETE", self.hit).values()) == {int(was_sent)}
            assert {row["attempts"] for row in rows} == {int(is_claimed)}

    def is_written(self) -> None:
        """What was seen of those that were concerned stands in the ledger."""
        found = {(row["state"], row["outcome"]) for row in about(self.rehearsal, self.hit)}
        assert found <= {("verifying", None), ("gone", "deleted")}
        assert self.way is WAYS["yes"] or found == {("gone", "deleted")}

    @staticmethod
    def states(rows: Sequence[dict[str, Any]]) -> set[tuple[str, str | None, bool]]:
        return {(row["state"], row["outcome"], row["token"] is not None) for row in rows}

    def go_on(self) -> None:
        """The next sweep ends everything."""
        self.rehearsal.pass_time()
        done = sweep(self.rehearsal)
        assert (done.code, done.last["complete"]) == (0, True), done
        truth.check(self.rehearsal)
        assert truth.unsettled(self.rehearsal) == []

    def ended(self, outcome: str, *, deletes: int = 1) -> None:
        """How those that were concerned ended, and how often their deletion was asked for."""
        rows = about(self.rehearsal, self.hit)
        proved = self.way.verify == "all" and outcome == "deleted"
        assert {(row["outcome"], row["verified"]) for row in rows} == {(outcome, int(proved))}
        assert set(asked(self.rehearsal, "DELETE", self.hit).values()) == {deletes}


@pytest.mark.parametrize(
    "way, point, act",
    [(*each, act) for each in MAIN for act in DEATHS]
    + [("yes", point, Act.KILL) for point in ANSWERED],
)
def test_wherever_a_sweep_dies_the_next_one_ends_it_and_claims_nothing_that_is_not_so(
    rehearsal: Rehearsal, way: str, point: Point, act: Act
) -> None:
    case = Case(rehearsal, WAYS[way], point, act)
    assert case.spring().code == DEATHS[act]
    case.at_death()
    case.go_on()
    if way == "proof" or point is Point.OUTCOME_COMMIT_LOST_OK or point in UNSENT:
        case.ended("deleted")
    else:
        # The provider did delete, but nobody wrote down that it said so.
        case.ended("absent_after_attempt", deletes=2)
    was_in_doubt = point not in (Point.CLAIM_BEFORE_COMMIT, Point.OUTCOME_COMMIT_LOST_OK)
    doubts = int(was_in_doubt and way != "proof")
    assert {row["ambiguous"] for row in about(rehearsal, case.hit)} == {doubts}


@pytest.mark.parametrize("way, point", EVERYWHERE)
def test_wherever_a_sweep_fails_it_writes_all_that_it_saw(
    rehearsal: Rehearsal, way: str, point: Point
) -> None:
    case = Case(rehearsal, WAYS[way], point, Act.RAISE)
    done = case.spring()
    rows = rehearsal.rows()
    assert done.last["outcomes"] == Counter(row["outcome"] for row in rows if row["outcome"])
    assert "outcome_unwritten" not in done.err
    if point in SETTLING:
        case.is_written()
    if point not in LOST:
        # A database that breaks may be tried again; a fault of the program ends the sweep.
        assert (done.code, done.last["stop_reason"]) == (1, "ledger"), done
        left = {row["response_id"] for row in rows if row["token"] is not None}
        # Only the one whose work was cut off stays claimed, or what was claimed as it failed.
        unfinished = point not in (*SETTLING, Point.CLAIM_BEFORE_COMMIT)
        assert left == (set(case.hit) if unfinished else set())
    case.go_on()
    if way == "proof" or point in (*UNSENT, *SETTLING):
        case.ended("deleted")
    else:
        case.ended("absent_after_attempt", deletes=2)


@pytest.mark.parametrize("way, point", MAIN)
def test_wherever_a_sweep_is_told_to_end_it_leaves_nothing_in_doubt(
    rehearsal: Rehearsal, way: str, point: Point
) -> None:
    case = Case(rehearsal, WAYS[way], point, Act.TERMINATE)
    done = case.spring()
    rows = rehearsal.rows()
    assert {row["ambiguous"] for row in rows} == {0}
    assert done.last["outcomes"] == Counter(row["outcome"] for row in rows if row["outcome"])
    if point in LOST:
        case.is_written()
        assert done.code in (1, 3), done
    else:
        assert (done.code, done.last["stop_reason"]) == (3, "interrupted"), done
        assert {row["token"] for row in rows} == {None}
    case.go_on()
    case.ended("deleted")
    assert {row["outcome"] for row in rehearsal.rows()} == {"deleted", None}


@pytest.mark.parametrize("point", [Point.HTTP_AFTER_SEND, *ANSWERED])
def test_wherever_a_sweep_is_cancelled_what_it_saw_is_written(
    rehearsal: Rehearsal, point: Point
) -> None:
    case = Case(rehearsal, WAYS["word"], point, Act.CANCEL)
    assert case.spring().code == 1
    if point is not Point.HTTP_AFTER_SEND:
        case.is_written()
    case.go_on()
    if point is Point.HTTP_AFTER_SEND:
        case.ended("absent_after_attempt", deletes=2)
    else:
        case.ended("deleted")


class Unforeseen(Exception):
    """What no module of ours raises."""


class TestFaultsOfTheProgram:
    """Whatever fails, requests in flight come to their end, and nobody waits for ever."""

    async def test_a_worker_that_is_gone_leaves_nobody_waiting_for_it(
        self, either: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = either.store(6)
        work = Deletion.work

        async def cut(deletion: Deletion, claim: Claim, deadline: float) -> Finished | Absence:
            if claim.response_id == names[1]:
                raise asyncio.CancelledError
            return await work(deletion, claim, deadline)

        monkeypatch.setattr(Deletion, "work", cut)
        async with asyncio.timeout(20):
            ended = await either.sweep(either.account("main", max_in_flight=1, verify=False))
        assert isinstance(ended.fault, errors.SweeperError)
        assert ended.fault.exit_code == 1
        states = either.states()
        assert states.pop(names[1]) == ("claimed", None)
        assert states.pop(names[0]) == ("gone", "deleted")
        assert set(states.values()) <= {("gone", "deleted"), ("live", None), ("claimed", None)}

    @pytest.mark.parametrize("where", ["enter", "refresh", "lease"])
    async def test_a_fault_beside_the_requests_cuts_none_of_them_short(
        self, postgresql_database: Database, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        async with sweeping.serving(postgresql_database, keys=TWO_KEYS) as site:
            (slow,) = site.store(1)
            site.know("resp_other", account="other")
            site.fault(method="DELETE", id=slow, delay=1.0)
            mine, other = site.account("main"), site.account("other", key="fw_other")
            match where:
                case "enter":
                    whole = opening.enter

                    async def enter(account: Account, *given: Any) -> bool:
                        if account.name == "other":
                            await site.sandbox.wait_until(site.deleted)
                            raise Unforeseen
                        return await whole(account, *given)

                    monkeypatch.setattr(opening, "enter", enter)
                case "refresh":

                    async def refresh(_: LookBack) -> None:
                        await site.sandbox.wait_until(site.deleted)
                        raise Unforeseen

                    monkeypatch.setattr("sweeper.engine.lookback._CONTROL_AGE", 0.1)
                    monkeypatch.setattr(LookBack, "refresh", refresh)
                case _:
                    renewed = leases.renew

                    def renew(connection: sa.Connection, lease: leases.Lease) -> None:
                        renewed(connection, lease)
                        if site.deleted():
                            raise Unforeseen

                    monkeypatch.setattr("sweeper.engine.tenure.RENEW_EVERY", 0.1)
                    monkeypatch.setattr(leases, "renew", renew)
            ended = await site.sweep(mine, *([other] if where == "enter" else []))
            assert isinstance(ended.fault, errors.SweeperError)
            assert "fault of sweeper's" in ended.fault.message
            # Its yes was heard and written down.
            assert site.row(slow)["state"] == "verifying"
            assert site.row(slow)["ambiguous"] == 0
