"""A sweep that is frozen past its time sends nothing more, and what it saw too late is recorded."""

import json
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from sweeper.ledger import tables
from tests.support import forked, truth
from tests.support import rehearsal as rehearsals
from tests.support.command import Result
from tests.support.failpoints import Act, Point, Step, Trap
from tests.support.forked import Child
from tests.support.patience import wait_for
from tests.support.rehearsal import YOUNG, Rehearsal

SEEN = (Point.HTTP_AFTER_RESPONSE, Point.OUTCOME_MID, Point.OUTCOME_BEFORE_COMMIT)
EARLIER = (Point.CLAIM_AFTER_COMMIT, Point.HTTP_BEFORE_SEND, Point.HTTP_AFTER_SEND)


def call(rehearsal: Rehearsal) -> Sequence[object]:
    return ("-c", rehearsal.config, "-q", "sweep", "--json")


def swept(rehearsal: Rehearsal) -> Result:
    return forked.run(rehearsal.folder, *call(rehearsal))


def taken_over(rehearsal: Rehearsal) -> Result | None:
    """The second sweep, unless the first one's lease still runs."""
    done = swept(rehearsal)
    return None if done.code == 11 else done


def late(rehearsal: Rehearsal) -> list[dict[str, Any]]:
    rows = rehearsal.rows(tables.records)
    bodies = [json.loads(row["body"]) for row in rows]
    return [body for body in bodies if body["type"] == "deletion.late_outcome"]


def items(rehearsal: Rehearsal, ids: Sequence[str]) -> set[str]:
    return {row["item"] for row in rehearsal.rows() if row["response_id"] in ids}


def deletes(rehearsal: Rehearsal) -> Counter[str]:
    found: list[str] = rehearsal.sandbox.call(lambda one: one.journal.targets("DELETE"))
    return Counter(each.rpartition("/")[2] for each in found)


def woken(child: Child) -> Result:
    child.send(signal.SIGCONT)
    return child.ended()


@pytest.mark.parametrize(
    "step, point",
    [(Step.DELETE, point) for point in (*EARLIER, *SEEN)]
    + [(Step.VERIFY, point) for point in (Point.HTTP_AFTER_SEND, Point.OUTCOME_BEFORE_COMMIT)],
)
def test_another_sweep_takes_over_and_what_the_first_saw_is_recorded_as_late(
    rehearsal: Rehearsal, postgresql_url: str, step: Step, point: Point
) -> None:
    verify = "all" if step is Step.VERIFY else "none"
    rehearsal.url = postgresql_url
    rehearsal.write(verify=verify, in_flight=2)
    rehearsal.responses(6)
    rehearsal.responses(2, age=YOUNG)
    trap = Trap(point=point, act=Act.FREEZE, mark=rehearsal.folder / "sprung", step=step)
    with forked.started(rehearsal.folder, *call(rehearsal), trap=trap, hasty=True) as first:
        first.until_frozen()
        in_flight = step is Step.DELETE and point is Point.HTTP_AFTER_SEND
        rehearsal.wait_for_deletes(1 if in_flight else 0)
        second = wait_for(lambda: taken_over(rehearsal), "sweep that takes over")
        assert (second.code, second.last["complete"]) == (0, True), second
        before = deletes(rehearsal)
        done = woken(first)
    # Where the database broke off a commit, that may be what it hears of first.
    assert done.code in ({1, 11} if point is Point.OUTCOME_BEFORE_COMMIT else {11}), done
    # What was about to be written as it froze is written; nothing that waited is sent.
    sent = deletes(rehearsal) - before
    assert sent == Counter(trap.sprung() if point is Point.HTTP_BEFORE_SEND else [])
    truth.check(rehearsal, settled=True)
    told = {one["item"]: one["outcome"] for one in late(rehearsal)}
    if point in (Point.HTTP_AFTER_SEND, *SEEN):
        assert items(rehearsal, trap.sprung()) <= told.keys()
        assert set(told.values()) == {"deleted"}
    ends = {row["outcome"] for row in rehearsal.rows() if row["response_id"] in trap.sprung()}
    was_done = step is Step.DELETE and point not in EARLIER[:2]
    assert ends == ({"absent_after_attempt"} if was_done else {"deleted"})


@pytest.fixture
def rehearsal(tmp_path: Any, sqlite_url: str) -> Any:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.mark.parametrize("point", [Point.CLAIM_AFTER_COMMIT, Point.HTTP_AFTER_SEND])
def test_a_file_stays_locked_and_what_waited_too_long_is_given_back_unsent(
    rehearsal: Rehearsal, point: Point
) -> None:
    rehearsal.write(verify="none", in_flight=1)
    rehearsal.responses(3)
    trap = Trap(point=point, act=Act.FREEZE, mark=rehearsal.folder / "sprung")
    with forked.started(rehearsal.folder, *call(rehearsal), trap=trap, hasty=True) as first:
        first.until_frozen()
        rehearsal.wait_for_deletes(1 if point is Point.HTTP_AFTER_SEND else 0)
        sent = deletes(rehearsal)
        refused = swept(rehearsal)
        assert (refused.code, refused.out) == (11, "")
        assert deletes(rehearsal) == sent
        last = max(row["claim_deadline"] or 0 for row in rehearsal.rows()) / 1_000_000
        # By the sweep's own clock they end a little later: by as long as their transaction took.
        wait_for(lambda: time.time() > last + 1, "end of the claims")
        done = woken(first)
    assert (done.code, done.last["outcomes"]) == (0, {"deleted": 3}), done
    assert set(deletes(rehearsal).values()) == {1}
    assert {row["ambiguous"] for row in rehearsal.rows()} == {0}
    unsent = sum(row["unsent"] for row in rehearsal.rows(tables.attempts))
    assert unsent >= (2 if point is Point.HTTP_AFTER_SEND else 3)
    assert late(rehearsal) == []
    truth.check(rehearsal, settled=True)
