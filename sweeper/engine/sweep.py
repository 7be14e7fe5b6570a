"""One sweep from admission to summary, over all accounts at once."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import event, moment, plan, policy
from sweeper.domain.outcome import Outcome
from sweeper.domain.plan import Plan
from sweeper.domain.summary import Summary
from sweeper.engine import causes, planning, reckoning
from sweeper.engine.account import Account, Emit
from sweeper.engine.clock import ClockWatch
from sweeper.engine.planning import Planner, Ruled, Scope
from sweeper.engine.recorder import Recorder
from sweeper.engine.tenure import Tenure
from sweeper.engine.visit import Errand, Renew, Visit
from sweeper.ledger import admission, claims, clock, leases, sweeps
from sweeper.ledger.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection


Intake = Callable[[Callable[[], None]], Awaitable[int | None]]
"""Takes in what lies in the spool; says how many files stay unread, None where nobody knows.

What it is given is called whenever it has got on.
"""
HURRY: Final = 2.0
"""Seconds for answers that are still to come, when a sweep was told twice to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a sweep ended. `fault` is what made the ledger unusable, if anything did.

    `refused` are the guards' sentences, one for each account whose plan was refused.
    """

    summary: Summary
    plan: Plan
    refused: tuple[str, ...] = ()
    fault: errors.SweeperError | None = None


class Sweep:
    """Deletes what is due. `stop` ends it early: requests in flight finish and are recorded."""

    def __init__(
        self,
        *,
        db: Database,
        recorder: Recorder,
        watch: ClockWatch,
        scope: Scope,
        accounts: Sequence[Account],
        emit: Emit,
        longest_id: Callable[[str], int],
        intake: Intake,
        renew: Renew,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._db = db
        self._recorder = recorder
        self._watch = watch
        self._scope = scope
        self._accounts = accounts
        self._emit = emit
        self._longest_id = longest_id
        self._intake = intake
        self._renew = renew
        self._unread: int | None = None
        self._stop_reason: str | None = None
        self._is_hurried = False
        self._refused: dict[str, str] = {}
        self._visits: list[Visit] = []
        self._tenure = Tenure(recorder)
        self._ruled: Sequence[Ruled] = ()
        self._cuts: Sequence[tuple[int, int]] = ()
        self._unadmitted: str | None = None
        self._unplanned = False
        self._fault: errors.SweeperError | None = None
        self._misconfigured: errors.ConfigurationError | None = None

    def stop(self, reason: str, *, hurry: bool = False) -> None:
        """Claim nothing more, give back what was not sent, let the rest finish.

        Who is in a `hurry` waits less: for answers that are still to come a moment, for the count
        of what is left not at all.
        """
        self._stop_reason = self._stop_reason or reason
        for account in self._accounts:
            account.halt()
            if hurry:
                account.hurry(HURRY)
        if hurry:
            self._is_hurried = True
            self._recorder.hurry()

    async def run(self) -> Ended:
        """Run the sweep; raises only before it has begun, LedgerBusy above all."""
        started = self._now()
        with ExitStack() as stack:
            stack.enter_context(leases.file_lock(self._db))
            begun_at = moment.to_us(started)
            for happened in await self._recorder.write(lambda c: self._begin(c, begun_at)):
                self._emit(happened)
            renewal = asyncio.create_task(self._tenure.keep(self._fail))
            try:
                return await self._run(started)
            finally:
                renewal.cancel()
                await self._tenure.release()

    async def rehearse(self) -> Ended:
        """Make the plan and stop there: nothing is claimed and nothing is sent."""
        started = self._now()
        self._unread = await self._intake(self._recorder.pulse.beat)
        await self._admit()
        made = await self._plan()
        summary = self._rehearsed(made, started)
        return Ended(summary=summary, plan=made, refused=self._sentences)

    async def _run(self, started: datetime) -> Ended:
        made = Plan(made_at=started, accounts=())
        self._watch.begun()
        try:
            self._unread = await self._intake(self._got_on)
            await self._admit()
            made = await self._plan()
        except errors.LedgerError as fault:
            self._unplanned = True
            self._fail(fault)
        except planning.Interrupted:
            self._unplanned = True
        else:
            self._emit(
                event.SweepStarted(
                    sweep_id=self.id,
                    due=made.due,
                    planned=made.planned,
                    ids_sha256={one.account: one.ids_sha256 for one in made.accounts},
                )
            )
            for name, why in self._refused.items():
                self._emit(event.GuardRefused(sweep_id=self.id, account=name, detail=why))
            await self._work(made)
        summary = await self._finish(made, started)
        self._emit(
            event.SweepFinished(
                sweep_id=self.id, complete=summary.complete, numbers=summary.as_json()
            )
        )
        return Ended(
            summary=summary,
            plan=made,
            refused=self._sentences,
            fault=self._fault or self._misconfigured,
        )

    def _begin(self, connection: "Connection", begun_at: int) -> Sequence[event.Event]:
        """Take the leases, and take back what an earlier sweeper left claimed."""
        now = self._dated(connection)
        if self._watch.doubt(connection) is None:
            sweeps.redate(connection, now=begun_at)
        self._tenure.acquire(connection, [one.name for one in self._accounts])
        freed = {one.name: claims.free(connection, one.row.id) for one in self._accounts}
        sweeps.begin(connection, self.id, now=begun_at)
        sha256 = policy.fingerprint(self._scope.policies)
        happened: list[event.Event] = [
            event.ClaimsFreed(account=name, count=count) for name, count in freed.items() if count
        ]
        if sweeps.keep_policies(connection, sha256, now=now):
            happened.append(event.PoliciesChanged(sweep_id=self.id, policies_sha256=sha256))
        return happened

    async def _admit(self) -> None:
        """Take in all that was registered, as long as the own clock is not known to be wrong."""
        left = True
        while left:
            left = await self._recorder.write(self._admit_page)

    def _admit_page(self, connection: "Connection") -> bool:
        self._unadmitted = self._watch.doubt(connection)
        if self._unadmitted is not None:
            return False
        now = self._now_us()
        return admission.drain(connection, now=now, longest=self._longest_id).left

    async def _plan(self) -> Plan:
        now = self._watch.planned()
        planner = Planner(self._db, self._scope, now, stopped=self._is_stopped)
        made = await asyncio.to_thread(planner.make)
        self._ruled = await asyncio.to_thread(planner.ruled)
        self._cuts = planner.cuts(self._ruled)
        for one in made.accounts:
            why = plan.refusal(one, self._scope.guards)
            if why is not None:
                self._refused[one.account] = why
        return made

    def _got_on(self) -> None:
        if self._is_stopped():
            raise planning.Interrupted

    def _is_stopped(self) -> bool:
        self._recorder.pulse.beat()
        return self._stop_reason is not None

    async def _work(self, made: Plan) -> None:
        plans = {one.account: one for one in made.accounts}
        errand = self._errand()
        self._visits = [
            Visit(errand, account, plans[account.name], self._tenure.of(account.name))
            for account in self._accounts
            if account.name not in self._refused
        ]
        async with asyncio.TaskGroup() as group:
            for visit in self._visits:
                group.create_task(self._guarded(visit))

    def _errand(self) -> Errand:
        return Errand(
            sweep_id=self.id,
            policies=self._scope.policies,
            ruled=self._ruled,
            recorder=self._recorder,
            emit=self._emit,
            longest_id=self._longest_id,
            dated=self._dated,
            alarm=self._fail,
            renew=self._renewed,
        )

    async def _renewed(self, account: Account) -> Account | None:
        """The account by another key, if there is one and the sweep goes on."""
        renewed = await self._renew(account) if self._goes_on else None
        if renewed is None:
            return None
        self._accounts = [renewed if one is account else one for one in self._accounts]
        if not self._goes_on:
            renewed.halt()
        return renewed

    @property
    def _goes_on(self) -> bool:
        return self._stop_reason is None and self._fault is None

    async def _guarded(self, visit: Visit) -> None:
        """Sweep an account; a fault, whatever it is, halts all and cuts no request short."""
        try:
            await visit.run()
        except errors.ConfigurationError as fault:
            self._misconfigured = self._misconfigured or fault
        except Exception as fault:  # noqa: BLE001 - the other accounts come to their own end
            self._fail(errors.unforeseen(fault))

    def _fail(self, fault: errors.SweeperError) -> None:
        self._fault = self._fault or fault
        for account in self._accounts:
            account.halt()

    async def _finish(self, made: Plan, started: datetime) -> Summary:
        reasons: Mapping[str, int] | None = None
        if self._fault is None and not self._unplanned:
            try:
                reasons = await asyncio.to_thread(self._residue, made)
            except errors.LedgerError as unreadable:
                self._fault = unreadable
            except planning.Interrupted:
                pass  # what is left stays unknown
        outcomes = Counter[Outcome]()
        for visit in self._visits:
            outcomes.update(visit.tally.outcomes)
        summary = Summary(
            sweep_id=self.id,
            dry_run=False,
            due=None if self._unplanned else made.due,
            planned=made.planned,
            outcomes={one.value: outcomes[one] for one in Outcome if outcomes[one]},
            verified=sum(visit.tally.verified for visit in self._visits),
            held=made.held,
            remaining=None if reasons is None else sum(reasons.values()),
            remaining_by_reason=reasons,
            stop_reason=None,
            started_at=started,
            finished_at=self._now(),
            unread_spool_files=self._unread,
        )
        summary = self._with_causes(summary, made)
        if self._fault is None:
            try:
                await self._recorder.write(lambda c: self._close(c, summary))
            except errors.LedgerError as fault:
                self._fault = fault
                return self._with_causes(summary, made)
        return summary

    def _close(self, connection: "Connection", summary: Summary) -> None:
        sweeps.finish(
            connection,
            self.id,
            complete=summary.complete,
            stop_reason=summary.stop_reason,
            summary=summary.as_json(),
            finished_at=moment.to_us(summary.finished_at),
            now=self._dated(connection),
        )

    def _residue(self, made: Plan) -> Mapping[str, int]:
        stopped = {one.name for one in self._accounts if one.stopped is not None}
        return reckoning.residue(
            self._db,
            made,
            self._cuts,
            sweep_id=self.id,
            halted=stopped | set(self._refused) | self._doubting | self._interrupted,
            counted=self._go_on,
        )

    def _go_on(self) -> None:
        self._recorder.pulse.beat()
        if self._is_hurried:
            raise planning.Interrupted

    @property
    def _sentences(self) -> tuple[str, ...]:
        return tuple(self._refused.values())

    @property
    def _doubting(self) -> set[str]:
        return {one.account.name for one in self._visits if one.tally.doubt is not None}

    @property
    def _interrupted(self) -> set[str]:
        return set() if self._stop_reason is None else {one.name for one in self._accounts}

    def _with_causes(self, summary: Summary, made: Plan) -> Summary:
        doubted = bool(self._doubting) or self._unadmitted is not None
        of_all = (
            "ledger" if self._fault else None,
            self._stop_reason,
            "clock" if doubted else None,
        )
        found = causes.of(
            [one for one in of_all if one is not None],
            {one.name: one.stopped.breaker for one in self._accounts if one.stopped is not None},
            {one.account.name: one.stop for one in self._visits if one.stop is not None},
            [one for one in made.accounts if one.account in self._refused],
        )
        return replace(summary, stops=found, stop_reason=found[0].reason if found else None)

    def _rehearsed(self, made: Plan, started: datetime) -> Summary:
        reasons = reckoning.planned(made)
        rehearsed = Summary(
            sweep_id=self.id,
            dry_run=True,
            due=made.due,
            planned=made.planned,
            outcomes={},
            verified=0,
            held=made.held,
            remaining=made.due,
            remaining_by_reason=reasons,
            stop_reason=None,
            started_at=started,
            finished_at=self._now(),
            unread_spool_files=self._unread,
        )
        return self._with_causes(rehearsed, made)

    def _now(self) -> datetime:
        return self._watch.clock.wall()

    def _now_us(self) -> int:
        return moment.to_us(self._now())

    def _dated(self, connection: "Connection") -> int:
        """The time for a record: the last good one while the clock is known to be wrong."""
        if self._watch.doubt(connection) is None:
            return self._now_us()
        return clock.last_good(connection) or self._now_us()
