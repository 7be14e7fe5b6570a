"""The leave to write: asked before a connection is made, and whenever one stands ready."""

from collections.abc import Awaitable, Callable

import pytest

from sweeper.domain.answer import AnswerKind
from sweeper.domain.secret import Secret
from sweeper.provider.profile import FIREWORKS
from sweeper.provider.responses import Responses
from tests.support import hostile
from tests.support.hostile import Peer, Visit

YES = hostile.answer(200, b'{"message":"Response deleted successfully"}')


class Leave:
    """Does something while it is asked for, and says what it was told to say."""

    def __init__(
        self,
        *,
        granted: tuple[bool, ...] = (True,),
        holds: tuple[bool, ...] = (True,),
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._granted = iter(granted)
        self._holds = iter(holds)
        self._meanwhile = meanwhile
        self.asked: list[str] = []

    async def granted(self) -> bool:
        self.asked.append("granted")
        if self._meanwhile is not None:
            await self._meanwhile()
        return next(self._granted)

    def holds(self) -> bool:
        self.asked.append("holds")
        return next(self._holds)


async def once(visit: Visit) -> None:
    """Answer one question, keep the connection, and close it when it is told to."""
    await visit.question()
    visit.say(YES)
    if await visit.question():
        visit.say(YES)


def door(peer: Peer) -> Responses:
    return Responses(profile=FIREWORKS, base_url=peer.url, key=Secret("fw_canary"))


async def test_without_leave_no_connection_is_made() -> None:
    async with hostile.peer(once) as peer:
        responses = door(peer)
        leave = Leave(holds=(False,))
        answer = await responses.delete("resp_1", leave)
        assert (answer.kind, answer.was_withdrawn) == (AnswerKind.NOT_SENT, True)
        assert leave.asked == ["holds"]
        assert peer.visits == []
        await responses.aclose()


async def test_without_leave_nothing_is_written_and_it_was_no_failure() -> None:
    async with hostile.peer(once) as peer:
        responses = door(peer)
        leave = Leave(granted=(False,))
        answer = await responses.delete("resp_1", leave)
        assert (answer.kind, answer.was_withdrawn) == (AnswerKind.NOT_SENT, True)
        assert leave.asked == ["holds", "granted"]
        await responses.aclose()
        await peer.until_all_gone()
        assert peer.questions == []


async def test_leave_is_asked_for_when_the_connection_stands() -> None:
    async with hostile.peer(once) as peer:
        responses = door(peer)

        async def stands() -> None:
            assert len(peer.visits) == 1
            assert peer.questions == []

        leave = Leave(meanwhile=stands)
        assert (await responses.delete("resp_1", leave)).kind is AnswerKind.YES
        assert leave.asked == ["holds", "granted"]
        await responses.aclose()


@pytest.mark.parametrize("again", [True, False])
async def test_what_closes_while_leave_is_waited_for_is_replaced_and_leave_asked_again(
    *, again: bool
) -> None:
    async with hostile.peer(once) as peer:
        responses = door(peer)
        assert (await responses.delete("resp_1")).kind is AnswerKind.YES

        async def closes() -> None:
            await peer.visits[0].close()

        leave = Leave(granted=(True, again), meanwhile=closes)
        answer = await responses.delete("resp_2", leave)
        assert leave.asked == ["holds", "granted", "granted"]
        assert answer.kind is (AnswerKind.YES if again else AnswerKind.NOT_SENT)
        assert answer.was_withdrawn is not again
        await responses.aclose()
        await peer.until_all_gone()
        assert len(peer.questions) == 1 + again


async def test_a_server_that_closes_whatever_stands_is_not_written_to() -> None:
    async with hostile.peer(once) as peer:
        responses = door(peer)

        async def closes() -> None:
            await peer.visits[-1].close()

        leave = Leave(granted=(True, True), meanwhile=closes)
        answer = await responses.delete("resp_1", leave)
        assert leave.asked == ["holds", "granted", "granted"]
        assert (answer.kind, answer.was_withdrawn) == (AnswerKind.NOT_SENT, False)
        await responses.aclose()
        assert peer.questions == []
