"""Drain one account's plan: claim, delete, verify and settle until nothing is left to do now."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import event, moment
from sweeper.domain.outcome import Outcome
from sweeper.domain.response import State
from sweeper.engine import testimony
from sweeper.engine.account import Account, Emit
from sweeper.engine.candidates import Queue
from sweeper.engine.deletion import Absence, Deletion, Finished
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
_ABSENCES_AT_ONCE: Final = 50
_ABSENCE_WAIT: Final = 5.0
_CONTROL_AGE: Final = 240.0
LAST_TRIES: Final = 3


@dataclass(slots=True, kw_only=True)
class Tally:
    """What has happened at one account so far; each response counts by its last outcome."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verified: int = 0
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one account's drain is to do, and for which sweep."""

    sweep_id: str
    newest_pk: int
    queue: Queue
    witness: Witness
    lease: Lease | None
    longest_id: Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What one transaction did."""

    claims: Sequence[Claim] = ()
    late: frozenset[int] = frozenset()
    doubt: str | None = None
    crowded: bool = False


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
        self._absences: list[Absence] = []
        self._in_hand = 0
        self._wake = asyncio.Event()
        self._full = 1
        self._throughput = 0.0
        self._control: asyncio.Task[object] | None = None
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
                self._fault = fault
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
        self._finished.extend(self._deletion.settle(one) for one in self._absences)
        self._absences = []
        for _ in range(LAST_TRIES):
            try:
                turn = await self._turn(self._finished, 0)
            except errors.LedgerError:
                continue
            self._settled(self._finished, turn)
            break

    async def _work(self) -> None:
        while (task := await self._todo.get()) is not None:
            claim, deadline = task
            done = await self._deletion.work(claim, deadline)
            if isinstance(done, Absence):
                self._absences.append(done)
            else:
                self._finished.append(done)
            if len(self._finished) >= self._full or self._idle:
                self._wake.set()

    @property
    def _idle(self) -> bool:
        """Whether nothing is being sent, so that there is nothing to wait for."""
        return self._in_hand == len(self._finished) + len(self._absences)

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            batch, self._finished = self._finished[:BATCH], self._finished[BATCH:]
            room = self._room(len(batch))
            began = time.monotonic()
            turn = _Turn()
            if batch or room:
                try:
                    turn = await self._turn(batch, room)
                except errors.SweeperError:
                    self._finished = batch + self._finished
                    raise
                self._settled(batch, turn)
                self._hand_out(turn.claims)
            done = not turn.claims if room else not self._wanted
            if done and self._in_hand == 0 and not turn.crowded:
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

    async def _turn(self, batch: Sequence[Finished], room: int) -> _Turn:
        account = self._account
        settled = [self._do.witness.settled(one) for one in batch]
        self._returned(batch)
        return await self._recorder.write(lambda c: self._write(c, settled, room, account))

    def _write(
        self, connection: "Connection", settled: Sequence[Settled], room: int, account: Account
    ) -> _Turn:
        now = moment.to_us(account.watch.clock.wall())
        doubt = account.watch.doubt(connection)
        dated = now if doubt is None else (clock.last_good(connection) or now)
        if doubt is not None:
            settled = [testimony.doubted(one) for one in settled]
        written = outcomes.settle(connection, settled, sweep_id=self._do.sweep_id, now=dated)
        if doubt is not None and self.tally.doubt is None:
            anomaly = Entry(type=RecordType.CLOCK_ANOMALY, fields={"account": account.name})
            records.append(connection, [anomaly], now=dated)
        self._remember(connection, now)
        if written.freed:
            parents = responses.parents(connection, written.freed, now)
            self._do.queue.freed(one for one in parents if one.eligible and not one.children)
        if not room or doubt is not None:
            return _Turn(late=written.late, doubt=doubt)
        leases.check(connection, self._do.lease)
        if admission.drain(connection, now=now, longest=self._do.longest_id).left:
            return _Turn(late=written.late, crowded=True)
        taken = self._claim(connection, room, now)
        clock.keep_good(connection, now)
        return _Turn(claims=taken, late=written.late)

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

    def _remember(self, connection: "Connection", now: int) -> None:
        """Keep what the account's key has seen, and what it has missed."""
        account = self._account
        new, account.newly_seen = account.newly_seen, set()
        if new or account.last_yes_at is not None:
            sightings.save(
                connection,
                account.row.id,
                key=account.key,
                label_sets=new,
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
                self._count(one, late=one.claim.pk in turn.late)

    def _count(self, one: Finished, *, late: bool) -> None:
        claim, settlement = one.claim, one.settlement
        assert settlement.outcome is not None
        if not late:
            if claim.outcome is not None:
                self.tally.outcomes[Outcome(claim.outcome)] -= 1
            self.tally.outcomes[settlement.outcome] += 1
            self.tally.verified += settlement.verified
        ruling = self._do.witness.rulings.get(claim.label_set_id)
        overdue = None
        if ruling is not None:
            due = claim.created_at + ruling.keep + ruling.deadline
            overdue = timedelta(microseconds=max(0, moment.to_us(one.at) - due))
        self._emit(
            event.ResponseSettled(
                sweep_id=self._do.sweep_id,
                account=self._account.name,
                response_id=claim.response_id,
                policy=None if ruling is None else ruling.policy,
                outcome=settlement.outcome,
                verified=settlement.verified,
                attempt=claim.attempts,
                status=None if one.answer is None else one.answer.status,
                overdue=overdue,
                next_try_at=settlement.next_try_at,
                late=late,
            )
        )

    def _hand_out(self, taken: Sequence[Claim]) -> None:
        self._in_hand += len(taken)
        deadline = self._account.now() + CLAIM_SECONDS
        for claim in taken:
            self._todo.put_nowait((claim, deadline))

    def _look_back(self, group: asyncio.TaskGroup) -> None:
        """See to it that controls follow what was not found, and that none grows too old."""
        if self._control is not None and not self._control.done():
            return
        now = self._account.now()
        if self._absences:
            oldest = now - self._absences[0].last_at
            if self._idle or len(self._absences) >= _ABSENCES_AT_ONCE or oldest > _ABSENCE_WAIT:
                self._control = group.create_task(self._settle_absences())
            return
        identity_at = self._account.controls.identity_at
        if identity_at is not None and self._wanted and now - identity_at > _CONTROL_AGE:
            self._control = group.create_task(self._account.identify())

    async def _settle_absences(self) -> None:
        waiting, self._absences = self._absences, []
        await self._account_control(waiting)
        self._finished.extend(self._deletion.settle(one) for one in waiting)
        self._wake.set()

    async def _account_control(self, waiting: Sequence[Absence]) -> None:
        """Make a control after these absences: the account's name, and sight of its responses."""
        account = self._account
        latest = max(one.last_at for one in waiting)
        if account.profile.names_accounts:
            await account.identify()
        needs_get = not account.get_seen and any(one.answer is None for one in waiting)
        if needs_get or not account.profile.names_accounts:
            if not _sighted(account, latest) or needs_get:
                await account.look_at(await self._living())
        elif not _sighted(account, latest):
            await account.look_at_collection()

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


def _sighted(account: Account, after: float) -> bool:
    at = account.controls.sight_at
    return at is not None and at > after
