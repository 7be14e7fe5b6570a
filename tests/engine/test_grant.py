"""The leave to send is asked for at the last moment, and a claim that has run out has none."""

from dataclasses import dataclass, field

import pytest

from sweeper.domain.control import Controls
from sweeper.domain.pacing import Pacer
from sweeper.engine.gate import Gate
from sweeper.engine.grant import Grant
from sweeper.engine.pace import Pace

UNPROVED = Controls(pinned=False)


@dataclass(slots=True, kw_only=True)
class Sender:
    """An account as far as a grant knows it, by a clock that is moved by hand."""

    pace: Pace
    gate: Gate = field(default_factory=Gate)
    controls: Controls = UNPROVED
    may_send: bool = True
    at: float = 100.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def sender() -> Sender:
    return Sender(pace=Pace(Pacer(rate=1000)))


async def test_a_claim_in_time_may_be_sent_and_says_when(sender: Sender) -> None:
    grant = Grant(sender, 110.0)
    sender.at = 105.0
    assert await grant.granted()
    assert grant.asked_at == 105.0
    assert grant.holds()


@pytest.mark.parametrize("later", [10.0, 10.5, 3600.0])
async def test_a_claim_that_ran_out_is_not_sent(sender: Sender, later: float) -> None:
    grant = Grant(sender, 110.0)
    sender.at += later
    assert not await grant.granted()


async def test_what_was_granted_ends_with_its_claim_while_a_server_is_reached(
    sender: Sender,
) -> None:
    grant = Grant(sender, 110.0)
    assert await grant.granted()
    sender.at = 109.9
    assert grant.holds()
    sender.at = 110.0
    assert not grant.holds()


async def test_a_stopped_account_has_no_leave_though_it_was_granted(sender: Sender) -> None:
    grant = Grant(sender, 110.0)
    assert await grant.granted()
    sender.may_send = False
    assert not grant.holds()
    assert not await grant.granted()


async def test_while_the_ledger_is_away_a_claim_waits_no_longer_than_it_lasts(
    sender: Sender,
) -> None:
    grant = Grant(sender, 100.05)
    with sender.gate.watching(60) as shut:
        shut()
        sender.at = 100.05
        assert not await grant.granted()
