"""Drain one account's plan: claim, delete, verify and settle until nothing is left to do now."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import event, moment
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.engine import testimony
from sweeper.engine.account import Account, Emit
from sweeper.engine.candidates import Queue
from sweeper.engine.deletion import Absence, Deletion, Finished
from sweeper.engine.lookback import LookBack
from sweeper.engine.planning import ReadLeaves
from sweeper.engine.recorder import Recorder
from sweeper.engine.testimony import Witness
from sweeper.evidence.record import RecordType
from sweeper.ledger import (
    accounts,
    admission,
    claims,
    clock,
    leases,
    outcomes,
    records,
    responses,
    sightings,
)
from sweeper.ledger.claims import Claim, Terms
from sweeper.ledger.leases import Lease
from sweeper.ledger.outcomes import Settled
from sweeper.ledger.records import Entry

if TYPE_CHECKING:
    from sqlalchemy import Connection

BATCH: Final = 1000
"""The most outcomes or claims in one transaction."""
PATIENCE: Final = 0.25
"""Seconds that a known outcome waits for others before it is written."""
CLAIM_SECONDS: Final = 15.0
"""How long a claim may wait for its slot; past it, it is given back unsent."""
_HORIZON: Final = 3.0
_SLOTS_WITHIN: Final = 5.0
LAST_TRIES: Final = 3


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has happened at one account so far; each response counts by its last outcome."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verified: int = 0
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one account's drain is to do, and for which sweep.

    `alarm` hears at once of a fault of the ledger, so that no other account sends on.
    """

    sweep_id: str
    newest_pk: int
    queue: Queue
    witness: Witness
    lease: Lease | None
    longest_id: Callable[[str], int]
    alarm: Callable[[errors.SweeperError], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one transaction did. Claims end at `ends_at`, in seconds of the boot clock.

    `crowded`: more must be admitted first. `drained`: nothing is left that could be done now;
    None where nobody looked.
    """

    claims: Sequence[Claim] = ()
    late: frozenset[outcomes.Fence] = frozenset()
    doubt: str | None = None
    crowded: bool = False
    drained: bool | None = None
    ends_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one transaction is to do; with `look` it also looks whether anything is left to do."""

    settled: Sequence[Settled]
    room: int
    look: bool
    newly_seen: set[int]

    @property
    def claims(self) -> bool:
        return self.room > 0 or self.look


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

    async def run(self) -> Tally:
        """Return when nothing that is planned can be done now, or when the account stopped.

        Every claim is settled or given back by then. What the ledger raises is raised here, after
        the requests in flight have come to their end.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._account.settings.max_in_flight):
                group.create_task(self._work())
            try:
                await self._feed(group)
            except errors.SweeperError as fault:
                self._fail(fault)
            finally:
                self._account.halt()
                for _ in range(self._account.settings.max_in_flight):
                    self._todo.put_nowait(None)
        if self._fault is not None:
            await self._last_words()
            raise self._fault
        return self.tally

    async def _last_words(self) -> None:
        """After a fault of the ledger nothing more is sent, but what was seen is still written."""
        self._finished += self._absences.given_up()
        for _ in range(LAST_TRIES):
            batch, self._finished = self._finished, []
            try:
                self._settled(batch, await self._turn(batch, 0))
            except errors.LedgerError:
                continue
            return

    async def _work(self) -> None:
        while (task := await self._todo.get()) is not None:
            claim, deadline = task
            done = await self._deletion.work(claim, deadline)
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
            turn = _Turn()
            if batch or room or (idle and not self._looked):
                turn = await self._turn(batch, room, look=idle)
                self._settled(batch, turn)
                self._hand_out(turn)
            if self._in_hand == 0 and (turn.drained or not self._wanted):
                return
            self._look_back(group)
            if not turn.crowded and len(self._finished) < self._full:
                await self._rest()
            self._measure(len(batch), began)

    @property
    def _wanted(self) -> bool:
        return self._account.may_send and self.tally.doubt is None

    def _room(self, settling: int) -> int:
        """How many more responses to claim now: 3 s of work, and only what soon gets a slot."""
        if not self._wanted:
            return 0
        first = 4 * self._account.settings.max_in_flight
        most = min(2 * BATCH, max(first, int(self._throughput * _HORIZON)))
        most = min(most, self._account.pace.within(_SLOTS_WITHIN))
        self._full = max(1, min(BATCH, most // 2))
        room = most - (self._in_hand - settling)
        return room if room * 2 >= most else 0

    async def _turn(self, batch: Sequence[Finished], room: int, *, look: bool = False) -> _Turn:
        """Write and claim in one transaction, once more if only a fresh `Date` was lacking."""
        work = _Work(
            settled=[self._do.witness.settled(one) for one in batch],
            room=room,
            look=look and self._wanted,
            newly_seen=self._account.newly_seen,
        )
        self._account.newly_seen = set()
        self._returned(batch)
        try:
            turn = await self._recorder.write(lambda c: self._write(c, work))
        except errors.SweeperError:
            self._account.newly_seen |= work.newly_seen
            self._finished = [*batch, *self._finished]
            raise
        if turn.doubt is not None and self._account.watch.is_old and not self._asked_again:
            self._asked_again = True
            await self._absences.refresh()
            return replace(turn, doubt=None)
        self._asked_again = turn.doubt is not None
        return turn

    def _write(self, connection: "Connection", work: "_Work") -> _Turn:
        account = self._account
        now = moment.to_us(account.watch.clock.wall())
        doubt = account.watch.doubt(connection)
        if work.claims:
            # Whoever admits holds this lock and then waits for the log's head: take it first.
            admission.lock(connection)
        self._remember(connection, work.newly_seen, now)
        late = self._settle(connection, work, now, doubt)
        if doubt is not None:
            return _Turn(late=late, doubt=doubt if work.claims else None)
        if not work.claims:
            return _Turn(late=late)
        leases.check(connection, self._do.lease)
        if admission.drain(connection, now=now, longest=self._do.longest_id).left:
            return _Turn(late=late, crowded=True)
        if not work.room:
            return _Turn(late=late, drained=self._is_drained(connection, now))
        ends_at = account.now() + CLAIM_SECONDS
        taken = self._claim(connection, work.room, now)
        clock.keep_good(connection, now)
        return _Turn(claims=taken, ends_at=ends_at, late=late, drained=not taken)

    def _settle(
        self, connection: "Connection", work: "_Work", now: int, doubt: str | None
    ) -> frozenset[outcomes.Fence]:
        settled, dated = work.settled, now
        if doubt is not None:
            settled = [testimony.doubted(one) for one in settled]
            dated = clock.last_good(connection) or now
        written = outcomes.settle(connection, settled, sweep_id=self._do.sweep_id, now=dated)
        if doubt is not None and self.tally.doubt is None and not self._account.watch.is_old:
            anomaly = Entry(type=RecordType.CLOCK_ANOMALY, fields={"account": self._account.name})
            records.append(connection, [anomaly], now=dated)
        if written.freed:
            parents = responses.parents(connection, written.freed, now)
            self._do.queue.freed(one for one in parents if one.eligible and not one.children)
        return written.late

    def _is_drained(self, connection: "Connection", now: int) -> bool:
        read = ReadLeaves(connection, self._do.newest_pk, now)
        return self._do.queue.is_drained(now, read) and not claims.has_verifications(
            connection, self._account.row.id, now
        )

    def _claim(self, connection: "Connection", room: int, now: int) -> list[Claim]:
        terms = Terms(
            account_id=self._account.row.id,
            sweep_id=self._do.sweep_id,
            token=secrets.token_hex(16),
            newest_pk=self._do.newest_pk,
            now=now,
            deadline=now + int(CLAIM_SECONDS * 1_000_000),
        )
        verifying = claims.take_verifications(connection, room, terms)
        read = ReadLeaves(connection, self._do.newest_pk, now)
        wanted = self._do.queue.take(room - len(verifying), now, read)
        if not wanted:
            return verifying
        taken = claims.take(connection, wanted, replace(terms, token=secrets.token_hex(16)))
        self._do.queue.claimed(claim.pk for claim in taken)
        return verifying + taken

    def _remember(self, connection: "Connection", newly_seen: Collection[int], now: int) -> None:
        """Keep what the account's key has seen, and what it has missed."""
        account = self._account
        if newly_seen or account.get_seen or account.last_yes_at is not None:
            sightings.save(
                connection,
                account.row.id,
                key=account.key,
                label_sets=newly_seen,
                get_seen=account.get_seen,
                yes_at=account.last_yes_at,
                now=now,
            )
        accounts.save_not_found(connection, account.row.id, account.not_found)

    def _returned(self, batch: Sequence[Finished]) -> None:
        for one in batch:
            settlement = one.settlement
            if settlement.state is State.LIVE:
                at = settlement.next_try_at or one.at
                self._do.queue.returned(one.claim.pk, one.claim.label_set_id, moment.to_us(at))

    def _settled(self, batch: Sequence[Finished], turn: _Turn) -> None:
        self._in_hand -= len(batch)
        if turn.doubt is not None and self.tally.doubt is None:
            self.tally.doubt = turn.doubt
            self._emit(event.ClockDoubted(account=self._account.name, detail=turn.doubt))
        for one in batch:
            if one.settlement.outcome is not None:
                self._count(one, late=one.claim.fence in turn.late)

    def _count(self, one: Finished, *, late: bool) -> None:
        claim, settlement = one.claim, one.settlement
        assert settlement.outcome is not None
        if not late:
            if claim.outcome is not None:
                self.tally.outcomes[Outcome(claim.outcome)] -= 1
            self.tally.outcomes[settlement.outcome] += 1
            self.tally.verified += settlement.verified
        self._emit(self._do.witness.told(one, sweep_id=self._do.sweep_id, late=late))

    def _hand_out(self, turn: _Turn) -> None:
        self._in_hand += len(turn.claims)
        if turn.drained is not None:
            self._looked = not turn.claims
        for claim in turn.claims:
            self._todo.put_nowait((claim, turn.ends_at))

    def _look_back(self, group: asyncio.TaskGroup) -> None:
        """See to it that controls follow what was not found, and that none grows too old."""
        if self._control is not None and not self._control.done():
            return
        if self._absences.is_due(idle=self._idle):
            self._control = group.create_task(self._judge_absences())
        elif self._wanted and self._absences.is_stale:
            self._control = group.create_task(self._absences.refresh())

    async def _judge_absences(self) -> None:
        """Judge them after a control; a fault of the ledger must cut no request short."""
        try:
            self._finished += await self._absences.judged()
        except errors.SweeperError as fault:
            self._fail(fault)
        self._wake.set()

    def _fail(self, fault: errors.SweeperError) -> None:
        """Send nothing more, here and, by whoever hears of it, anywhere else."""
        self._fault = self._fault or fault
        self._account.halt()
        self._do.alarm(fault)

    async def _living(self) -> Sequence[tuple[str, int]]:
        return await self._recorder.write(
            lambda c: sightings.newest_live(c, self._account.row.id, 5)
        )

    async def _rest(self) -> None:
        """Wait until there is something to write, or for as long as an outcome may wait."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _measure(self, settled: int, began: float) -> None:
        if settled:
            passed = max(time.monotonic() - began, 1e-6)
            self._throughput = 0.5 * self._throughput + 0.5 * (settled / passed)
