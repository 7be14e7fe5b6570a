"""One account's part in a sweep: make its control, drain it, and say why it stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import event, moment, policy
from sweeper.domain.outcome import Breaker
from sweeper.domain.plan import AccountPlan
from sweeper.domain.policy import Policy
from sweeper.engine import opening, reckoning
from sweeper.engine.account import Account, Emit
from sweeper.engine.breaker import PERSISTENT
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What all visits of one sweep have in common.

    `dated` gives the time for a record; `alarm` hears at once of a fault of the ledger, so that
    no other account sends on.
    """

    sweep_id: str
    policies: Sequence[Policy]
    ruled: Sequence[Ruled]
    recorder: Recorder
    emit: Emit
    longest_id: Callable[[str], int]
    dated: "Callable[[Connection], int]"
    alarm: Callable[[errors.SweeperError], None]


class Visit:
    """Works off one account's plan; `tally` tells what has been done, also while it runs.

    `ended_at` is when it stopped trying; None until then.
    """

    def __init__(
        self, errand: Errand, account: Account, plan: AccountPlan, lease: Lease | None
    ) -> None:
        self.account = account
        self.tally = Tally()
        self.ended_at: datetime | None = None
        self._errand = errand
        self._plan = plan
        self._lease = lease

    async def run(self) -> None:
        """Return when nothing can be done now, or when the account stopped.

        Raises what the ledger raises, and ConfigurationError for an account that the ledger
        knows by another name.
        """
        account, errand = self.account, self._errand
        try:
            if await opening.enter(account, self._plan, errand.recorder, errand.dated):
                drain = Drain(account, errand.recorder, self._assignment(), errand.emit)
                self.tally = drain.tally
                await drain.run()
        except errors.ConfigurationError as fault:
            account.stop(Breaker.IDENTITY, fault.message)
            raise
        finally:
            self.ended_at = account.watch.clock.wall()
            await self._told()

    async def _told(self) -> None:
        """Write down why an account stopped, and tell how much is kept past its time there."""
        account, errand = self.account, self._errand
        stop = account.stopped
        if stop is None:
            return

        def write(connection: "Connection") -> event.BreakerOpened:
            now = errand.dated(connection)
            anew = stop.breaker not in PERSISTENT or accounts.open_breaker(
                connection, account.row, stop.breaker, stop.detail, now=now
            )
            kept, oldest = reckoning.kept(connection, self._plan, now)
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

        errand.emit(await errand.recorder.write(write))

    def _assignment(self) -> Assignment:
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
