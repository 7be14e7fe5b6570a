"""Drain one account's plan: claim, delete, verify and settle until nothing is left to do now."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sweeper import errors
from sweeper.domain import event, moment
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.engine.account import Account, Emit
from sweeper.engine.deletion import Absence, Deletion, Finished
from sweeper.engine.exchange import Assignment, Exchange, Given, Got
from sweeper.engine.lookback import LookBack
from sweeper.engine.recorder import Recorder
from sweeper.ledger import sightings
from sweeper.ledger.claims import Claim
from sweeper.ledger.outcomes import Fence

BATCH: Final = 1000
"""The most outcomes or claims in one transaction."""
PATIENCE: Final = 0.25
"""Seconds that a known outcome waits for others before it is written."""
_GLANCE: Final = 1.0
"""Seconds between two looks at an account that waits for its next slot."""
_HORIZON: Final = 3.0
_SLOTS_WITHIN: Final = 5.0
LAST_PAUSES: Final = (0.2, 1.0, 3.0)
"""Seconds between the last tries to write what was seen, after a fault that does not pass."""
_AGAIN: Final = 1.0
"""Seconds between two tries while the ledger is away, each of which is a patient one."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has happened at one account so far; each response counts by its last outcome."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verified: int = 0
    doubt: str | None = None


class Drain:
    """Works off one account. Everything that is written goes through the recorder."""

    def __init__(
        self, account: Account, recorder: Recorder, assignment: Assignment, emit: Emit
    ) -> None:
        self.tally = Tally()
        self._account = account
        self._recorder = recorder
        self._do = assignment
        self._emit = emit
        self._exchange = Exchange(account, assignment)
        self._deletion = Deletion(account)
        self._todo: asyncio.Queue[tuple[Claim, float] | None] = asyncio.Queue()
        self._finished: list[Finished] = []
        self._absences = LookBack(account, self._deletion.settle, self._living)
        self._in_hand = 0
        self._wake = asyncio.Event()
        self._full = 1
        self._throughput = 0.0
        self._control: asyncio.Task[None] | None = None
        self._looked = False
        self._asked_again = False
        self._fault: errors.SweeperError | None = None
        self._told: set[Fence] = set()

    async def run(self) -> Tally:
        """Return when nothing that is planned can be done now, or when the account stopped.

        Every claim is settled or given back by then. What the ledger raises is raised here, after
        the requests in flight have come to their end.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._account.settings.max_in_flight):
                    group.create_task(self._work())
                try:
                    await self._feed(group)
                except Exception as fault:  # noqa: BLE001 - requests in flight come to their end
                    self._fail(errors.unforeseen(fault))
                finally:
                    self._account.halt()
                    for _ in range(self._account.settings.max_in_flight):
                        self._todo.put_nowait(None)
        except asyncio.CancelledError:
            # Whoever cancels this wants the process to end: it is written once, or told.
            self._recorder.hurry()
            await self._last_words()
            raise
        if self._fault is not None:
            await self._last_words()
            raise self._fault
        return self.tally

    async def _last_words(self) -> None:
        """After a fault of the ledger nothing more is sent, but what was seen is still written.

        As long as the ledger is away, and the process lives, it is kept and tried again. It is told
        meanwhile: should the process be killed, the log is the only place where it stands.
        """
        self._finished += self._absences.given_up()
        if isinstance(self._fault, errors.LedgerAway):
            self._tell_unwritten()
        pauses = iter(LAST_PAUSES)
        while True:
            batch, self._finished = self._finished, []
            try:
                self._settled(batch, await self._turn(batch, 0))
            except errors.LedgerAway:
                self._tell_unwritten()
                if self._recorder.is_hurried:
                    return
                await asyncio.sleep(_AGAIN)
            except Exception:  # noqa: BLE001 - whatever it is, what was seen is told
                pause = None if self._recorder.is_hurried else next(pauses, None)
                if pause is None:
                    self._tell_unwritten()
                    return
                await asyncio.sleep(pause)
            else:
                return

    def _tell_unwritten(self) -> None:
        """Tell once of each answer that the ledger has not taken."""
        for one in self._finished:
            if one.answer is None or one.claim.fence in self._told:
                continue
            self._told.add(one.claim.fence)
            self._emit(
                event.OutcomeUnwritten(
                    sweep_id=self._do.sweep_id,
                    account=self._account.name,
                    response_id=one.claim.response_id,
                    answer=one.answer.kind.value,
                    status=one.answer.status,
                )
            )

    async def _work(self) -> None:
        try:
            while (task := await self._todo.get()) is not None:
                await self._worked_off(*task)
        except asyncio.CancelledError as fault:
            # Nobody may wait for what a worker had in hand that is no longer there.
            self._fail(errors.unforeseen(fault))
            self._wake.set()
            raise

    async def _worked_off(self, claim: Claim, deadline: float) -> None:
        try:
            done = await self._deletion.work(claim, deadline)
        except Exception as fault:  # noqa: BLE001 - what nobody foresaw must cut no request short
            self._fail(errors.unforeseen(fault))
            self._wake.set()
            return
        if isinstance(done, Absence):
            self._absences.add(done)
        else:
            self._finished.append(done)
        if len(self._finished) >= self._full or self._idle:
            self._wake.set()

    @property
    def _idle(self) -> bool:
        """Whether nothing is being sent, so that there is nothing to wait for."""
        return self._in_hand == len(self._finished) + len(self._absences)

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        while self._fault is None:
            self._wake.clear()
            batch, self._finished = self._finished[:BATCH], self._finished[BATCH:]
            room = self._room(len(batch))
            idle = self._in_hand == len(batch)
            began = time.monotonic()
            turn = Got()
            if batch or room or (idle and not self._looked):
                turn = await self._turn(batch, room, look=idle)
                self._settled(batch, turn)
                self._hand_out(turn)
            if self._in_hand == 0 and (turn.drained or not self._wanted):
                return
            self._look_back(group)
            if not turn.in_vain and len(self._finished) < self._full:
                await self._rest()
            self._measure(len(batch), began)

    @property
    def _wanted(self) -> bool:
        return self._account.may_send and self.tally.doubt is None

    @property
    def _soon(self) -> int:
        """How many requests may go out within the next seconds."""
        return self._account.pace.within(_SLOTS_WITHIN)

    def _room(self, settling: int) -> int:
        """How many more responses to claim now: 3 s of work, and only what soon gets a slot.

        One at a time as long as nobody knows whether the account may go on.
        """
        if not self._wanted:
            return 0
        if self._account.on_trial:
            return 0 if self._in_hand > settling else min(1, self._soon)
        first = 4 * self._account.settings.max_in_flight
        most = min(2 * BATCH, max(first, int(self._throughput * _HORIZON)))
        if not self._soon:
            self._account.pulse.beat()  # it waits on purpose: for an hour, if the provider asks
        most = min(most, self._soon)
        self._full = max(1, min(BATCH, most // 2))
        room = most - (self._in_hand - settling)
        return room if room * 2 >= most else 0

    async def _turn(self, batch: Sequence[Finished], room: int, *, look: bool = False) -> Got:
        """Write and claim in one transaction, once more if only a fresh `Date` was lacking."""
        newly_seen, self._account.newly_seen = self._account.newly_seen, set()
        try:
            given = Given(
                settled=[self._do.witness.settled(one) for one in batch],
                room=room,
                look=look and self._wanted,
                newly_seen=newly_seen,
                was_doubted=self.tally.doubt is not None,
            )
            self._returned(batch)
            turn = await self._recorder.write(lambda c: self._exchange.make(c, given))
            self._do.queue.keep()
        except BaseException:  # cancelled, too: written once more, it is known
            self._account.newly_seen.update(newly_seen)
            self._finished = [*batch, *self._finished]
            raise
        is_old = self._account.watch.is_old(self._account.name)
        if turn.doubt is not None and is_old and not self._asked_again:
            self._asked_again = True
            await self._absences.refresh()
            return replace(turn, doubt=None)
        self._asked_again = turn.doubt is not None
        return turn

    def _returned(self, batch: Sequence[Finished]) -> None:
        for one in batch:
            settlement = one.settlement
            if settlement.state is State.LIVE:
                at = settlement.next_try_at or one.at
                self._do.queue.returned(one.claim.pk, one.claim.label_set_id, moment.to_us(at))

    def _settled(self, batch: Sequence[Finished], turn: Got) -> None:
        self._in_hand -= len(batch)
        if turn.doubt is not None and self.tally.doubt is None:
            self.tally.doubt = turn.doubt
            self._emit(event.ClockDoubted(account=self._account.name, detail=turn.doubt))
        for one in batch:
            late = one.claim.fence in turn.late
            if one.settlement.outcome is not None or (late and one.settlement.yes):
                self._count(one, late=late)

    def _count(self, one: Finished, *, late: bool) -> None:
        claim, settlement = one.claim, one.settlement
        if not late:
            assert settlement.outcome is not None, "only a late yes is told without an outcome"
            if claim.outcome is not None:
                self.tally.outcomes[Outcome(claim.outcome)] -= 1
            self.tally.outcomes[settlement.outcome] += 1
            self.tally.verified += settlement.verified
        self._emit(self._do.witness.told(one, sweep_id=self._do.sweep_id, late=late))

    def _hand_out(self, turn: Got) -> None:
        self._in_hand += len(turn.claims)
        if turn.misfits:
            reasons = Counter(one.reason for one in turn.misfits)
            self._emit(event.RowsSetAside(account=self._account.name, reasons=reasons))
        if turn.drained is not None:
            self._looked = not turn.claims
        for claim in turn.claims:
            self._todo.put_nowait((claim, turn.ends_at))

    def _look_back(self, group: asyncio.TaskGroup) -> None:
        """See to it that controls follow what was not found, and that none grows too old."""
        if self._control is not None and not self._control.done():
            return
        if self._absences.is_due(idle=self._idle):
            self._control = group.create_task(self._beside(self._judge_absences()))
        elif self._wanted and self._absences.is_stale and self._soon:
            self._control = group.create_task(self._beside(self._absences.refresh()))

    async def _judge_absences(self) -> None:
        judged = await self._absences.judged()
        self._finished += judged  # not in one statement: it would keep what stood there before
        self._wake.set()

    async def _beside(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside the workers, none of whose requests it may cut short when it fails."""
        try:
            await work
        except Exception as fault:  # noqa: BLE001 - what nobody foresaw must cut no request short
            self._fail(errors.unforeseen(fault))

    def _fail(self, fault: errors.SweeperError) -> None:
        """Send nothing more, here and, by whoever hears of it, anywhere else."""
        self._fault = self._fault or fault
        self._account.halt()
        self._do.alarm(fault)

    async def _living(self, label_set_id: int | None) -> Sequence[tuple[str, int]]:
        if label_set_id is not None:
            return await self._recorder.write(lambda c: sightings.newest_of(c, label_set_id, 3))
        return await self._recorder.write(
            lambda c: sightings.newest_live(c, self._account.row.id, 5)
        )

    async def _rest(self) -> None:
        """Wait until there is something to write, or for as long as an outcome may wait."""
        try:
            async with asyncio.timeout(PATIENCE if self._in_hand or self._soon else _GLANCE):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _measure(self, settled: int, began: float) -> None:
        if settled:
            passed = max(time.monotonic() - began, 1e-6)
            self._throughput = 0.5 * self._throughput + 0.5 * (settled / passed)
