"""One account's part in a sweep: make its control, drain it, and say why it stopped."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import event, moment, policy
from sweeper.domain.outcome import Breaker
from sweeper.domain.plan import AccountPlan
from sweeper.domain.policy import Policy
from sweeper.engine import opening, reckoning
from sweeper.engine.account import Account, Emit
from sweeper.engine.candidates import Cut, Queue
from sweeper.engine.drain import Drain, Tally
from sweeper.engine.exchange import Assignment
from sweeper.engine.planning import Ruled
from sweeper.engine.recorder import Recorder
from sweeper.engine.testimony import Ruling, Witness
from sweeper.ledger import accounts, sightings
from sweeper.ledger.leases import Lease

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LISTED: Final = 20

Renew = Callable[[Account], Awaitable[Account | None]]
"""Opens an account anew by the key that stands there now; None unless that was not tried yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What all visits of one sweep have in common.

    `dated` gives the time for a record; `alarm` hears at once of a fault of the ledger, so that
    no other account sends on; `renew` is asked for an account whose key was refused.
    """

    sweep_id: str
    policies: Sequence[Policy]
    ruled: Sequence[Ruled]
    recorder: Recorder
    emit: Emit
    longest_id: Callable[[str], int]
    dated: "Callable[[Connection], int]"
    alarm: Callable[[errors.SweeperError], None]
    renew: Renew


class Visit:
    """Works off one account's plan; `tally` tells what has been done, also while it runs.

    `stop` is why the account stopped, once that is written down.
    """

    def __init__(
        self, errand: Errand, account: Account, plan: AccountPlan, lease: Lease | None
    ) -> None:
        self.account = account
        self.tally = Tally()
        self.stop: event.BreakerOpened | None = None
        self._errand = errand
        self._plan = plan
        self._lease = lease
        self._assigned: Assignment | None = None

    async def run(self) -> None:
        """Return when nothing can be done now, or when the account stopped.

        Raises what the ledger raises, and ConfigurationError for an account that the ledger
        knows by another name.
        """
        try:
            await self._work()
            while await self._renewed():
                await self._work()
        except errors.ConfigurationError as fault:
            self.account.stop(Breaker.IDENTITY, fault.message)
            raise
        finally:
            await self._told()

    async def _work(self) -> None:
        account, errand = self.account, self._errand
        account.gate = errand.recorder.gate
        if await opening.enter(account, self._plan, errand.recorder, errand.dated):
            drain = Drain(account, errand.recorder, self._assignment(), errand.emit)
            drain.tally = self.tally
            await drain.run()

    async def _renewed(self) -> bool:
        """Whether the key was refused and another one stands there now, to be gone on with.

        Nothing is in flight by then, and what was not sent has been given back. The other key
        proves whose it is as any key does, and inherits nothing that this one has seen.
        """
        stop = self.account.stopped
        if stop is None or stop.breaker is not Breaker.CREDENTIAL:
            return False
        account = await self._errand.renew(self.account)
        if account is None:
            return False
        self.account = account
        self._errand.emit(
            event.KeyReplaced(account=account.name, key_fingerprint=account.key_fingerprint)
        )
        return True

    async def _told(self) -> None:
        """Write down why an account stopped, and tell how much is kept past its time there."""
        account, errand = self.account, self._errand
        stop = account.stopped
        if stop is None:
            return

        def write(connection: "Connection") -> event.BreakerOpened:
            now = errand.dated(connection)
            anew = accounts.open_breaker(
                connection, account.row, stop.breaker, stop.detail, now=now
            )
            ruled = [one for one in errand.ruled if one.row.account == account.name]
            kept, oldest = reckoning.kept(connection, ruled, now)
            absent: Sequence[str] = ()
            if stop.breaker is Breaker.NOT_FOUND:
                absent = sightings.absent_since_yes(connection, account.row.id, _LISTED)
            return event.BreakerOpened(
                account=account.name,
                breaker=stop.breaker,
                detail=stop.detail,
                kept=kept,
                oldest_due_at=oldest,
                settled_absent=tuple(absent),
                anew=anew,
            )

        self.stop = await errand.recorder.write(write)
        errand.emit(self.stop)

    def _assignment(self) -> Assignment:
        """What is to be done, by the key that the account has now: what is planned counts once."""
        if self._assigned is None:
            self._assigned = self._first_assignment()
        witness = replace(self._assigned.witness, key=self.account.key)
        return replace(self._assigned, witness=witness)

    def _first_assignment(self) -> Assignment:
        account, errand, made = self.account, self._errand, self._plan
        return Assignment(
            sweep_id=errand.sweep_id,
            newest_pk=made.newest_pk,
            queue=Queue(
                Cut(
                    label_set_id=one.label_set_id,
                    cutoff=moment.to_us(one.cutoff),
                    keep=moment.length_us(one.delete_after),
                    most=one.planned,
                )
                for one in made.sets
            ),
            witness=Witness(
                provider=account.settings.provider,
                account=account.name,
                key=account.key,
                policies_sha256=policy.fingerprint(errand.policies),
                rulings={
                    one.row.id: Ruling.of(one.policy.name, one.keep, one.policy.deadline)
                    for one in errand.ruled
                    if one.row.account == account.name
                },
            ),
            lease=self._lease,
            longest_id=errand.longest_id,
            alarm=errand.alarm,
        )
