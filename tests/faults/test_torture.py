"""The short form of the kill loop: `python -m tests.torture` is the long one."""

import pytest

from sweeper.ledger import tables
from tests.support import forked
from tests.support.rehearsal import Rehearsal
from tests.torture import loop
from tests.torture.loop import Plan, Untrue

SHORT = Plan(kills=4, responses=200, seed=7, check_every=1)


def test_sweeps_that_are_killed_again_and_again_leave_nothing_that_is_not_so(
    rehearsal: Rehearsal,
) -> None:
    score = loop.run(rehearsal, SHORT, lambda _: None)
    assert score.kills == SHORT.kills
    assert min(score.resets, score.refusals) > 0
    assert sum(score.outcomes.values()) == SHORT.responses
    assert set(score.outcomes) == {"deleted", "absent_after_attempt"}


@pytest.mark.untrue
def test_the_loop_finds_what_is_not_so(rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1)
    assert forked.run(rehearsal.folder, "-c", rehearsal.config, "-q", "sweep").code == 0
    loop.look(rehearsal)
    rehearsal.change(tables.responses, verified=0, outcome="already_absent")
    with pytest.raises(Untrue, match=f"{name} is recorded as already absent, and it was our"):
        loop.look(rehearsal)
