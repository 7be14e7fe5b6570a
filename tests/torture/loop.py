"""Kill sweeps at random moments, again and again, and look after it whether the ledger is true."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, Popen

from sweeper.sandbox.api import Request
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Manner
from tests.support import command, truth
from tests.support.rehearsal import YOUNG, Rehearsal

RESETS = 0.10
"""The share of DELETEs that are carried out and then answered by a reset connection."""
REFUSALS = 0.05
"""The share of requests about responses that are answered 503."""
_UNDER_FIRE = 0.8
"""The share of all work that is done, by and large, by sweeps which are killed."""
_REQUESTS_EACH = 2.2
"""A DELETE, a GET, and what has to be asked again."""
_LONGEST = 6.0
"""The longest life of a sweep, in such shares; most are short, and lose nearly all they did."""
_KEPT = 50
_TOLD = 4000
_MOST_SWEEPS = 30
_BOUNDS = "1.0\nmax_deletions_per_sweep = 10000000\nmax_deletions_per_day = 10000000"
_RESET = Fault(do=Manner.RESET, carry_out=True)
_REFUSED = Fault(status=503)


class Untrue(Exception):
    """The ledger says what is not so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often to kill, over how many responses; it is looked after each so many kills."""

    kills: int
    responses: int
    seed: int
    check_every: int


@dataclass(slots=True, kw_only=True)
class Score:
    """What has happened. `idle` are kills of sweeps that had sent nothing yet."""

    kills: int = 0
    idle: int = 0
    sweeps: int = 0
    seconds: float = 0.0
    requests: int = 0
    resets: int = 0
    refusals: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class Dice:
    """A provider that fails now and then."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.resets = 0
        self.refusals = 0

    def choose(self, request: Request, _account: str | None) -> Fault | None:
        if request.response_id is None:
            return None
        roll = self._chance.random()
        if request.method == "DELETE" and roll < RESETS:
            self.resets += 1
            return _RESET
        if RESETS <= roll < RESETS + REFUSALS:
            self.refusals += 1
            return _REFUSED
        return None


def run(rehearsal: Rehearsal, plan: Plan, tell: Callable[[str], None]) -> Score:
    """Make the responses, kill as often as planned, and let a last sweep come to its end.

    Raises Untrue at the first thing in the ledger that is not so.
    """
    score, chance, began = Score(), random.Random(plan.seed), time.monotonic()
    dice = Dice(random.Random(plan.seed + 1))
    rehearsal.write(share=_BOUNDS, rate="5000/second", in_flight=8)
    rehearsal.responses(plan.responses)
    rehearsal.responses(_KEPT, age=YOUNG)
    rehearsal.responses(_KEPT, labels={"app": "contracts"})
    rehearsal.sandbox.call(lambda one: setattr(one.faults, "choose", dice.choose))
    share = _UNDER_FIRE * _REQUESTS_EACH * plan.responses / plan.kills
    while score.kills < plan.kills:
        _kill(rehearsal, int(_LONGEST * share * chance.random() ** 2), chance, score)
        if score.kills % plan.check_every == 0:
            look(rehearsal)
            tell(_progress(rehearsal, score, began))
    _finish(rehearsal, score)
    score.requests = rehearsal.requests()
    score.resets, score.refusals = dice.resets, dice.refusals
    score.outcomes = Counter(
        row["outcome"] for row in rehearsal.rows() if row["response_id"] in rehearsal.due
    )
    score.seconds = time.monotonic() - began
    return score


def _kill(rehearsal: Rehearsal, requests: int, chance: random.Random, score: Score) -> None:
    """Start a sweep and kill it after so many requests, or a moment after its start."""
    before = _arrived(rehearsal)
    child = _start(rehearsal)
    score.sweeps += 1
    try:
        _wait(rehearsal, child, before + requests)
        if requests == 0:
            time.sleep(chance.random())  # sometimes it has not even loaded yet
        if child.poll() is None:
            child.kill()
    finally:
        child.kill()
        child.wait(60)
    if child.returncode == -9:
        score.kills += 1
        score.idle += _arrived(rehearsal) == before
    elif child.returncode not in (0, 3):
        raise Untrue(f"a sweep ended with {child.returncode}: {_said(rehearsal)}")
    rehearsal.sandbox.wait_until(
        lambda one: all(entry.done for entry in one.journal.entries[-64:]), within=30
    )
    rehearsal.pass_time()


def _start(rehearsal: Rehearsal) -> Popen[bytes]:
    """A sweep whose words stand in a file: one that waits for a reader would not get on."""
    with _words(rehearsal).open("wb") as words:
        return Popen(
            [sys.executable, "-m", "sweeper", "-c", rehearsal.config, "-q", "sweep", "--json"],
            stdin=DEVNULL,
            stdout=words,
            stderr=words,
            env=command.environment(),
        )


def _words(rehearsal: Rehearsal) -> Path:
    return rehearsal.folder / "words"


def _said(rehearsal: Rehearsal) -> str:
    """The last of what the last sweep said."""
    return _words(rehearsal).read_text()[-_TOLD:]


def _wait(rehearsal: Rehearsal, child: Popen[bytes], requests: int) -> None:
    while child.poll() is None and _arrived(rehearsal) < requests:
        time.sleep(0.005)


def _arrived(rehearsal: Rehearsal) -> int:
    return rehearsal.sandbox.call(lambda one: len(one.journal.entries))


def look(rehearsal: Rehearsal, *, settled: bool = False) -> None:
    """Raise Untrue where the ledger says what is not so, or what was not due is gone."""
    try:
        truth.check(rehearsal, settled=settled)
    except AssertionError as found:
        raise Untrue(str(found)) from found


def _finish(rehearsal: Rehearsal, score: Score) -> None:
    """Sweep as the schedule would until one says that it is complete."""
    for _ in range(_MOST_SWEEPS):
        rehearsal.pass_time()
        code = _start(rehearsal).wait(1800)
        score.sweeps += 1
        if code == 0:
            break
        if code != 3:
            raise Untrue(f"a sweep ended with {code}: {_said(rehearsal)}")
    look(rehearsal, settled=True)


def _progress(rehearsal: Rehearsal, score: Score, began: float) -> str:
    gone = len(rehearsal.ids) - len(rehearsal.stored())
    return (
        f"{time.monotonic() - began:6.0f} s: {score.kills} kills, {gone:,} of"
        f" {len(rehearsal.due):,} gone at the provider, all true"
    )
