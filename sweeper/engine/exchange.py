"""Exchange what is finished for new claims: one transaction of an account's drain."""

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sweeper import errors
from sweeper.domain import moment
from sweeper.engine import testimony
from sweeper.engine.account import Account
from sweeper.engine.candidates import Queue
from sweeper.engine.planning import ReadLeaves
from sweeper.engine.testimony import Witness
from sweeper.evidence.record import RecordType
from sweeper.ledger import (
    accounts,
    admission,
    claims,
    clock,
    leases,
    malformed,
    outcomes,
    records,
    responses,
    sightings,
)
from sweeper.ledger.claims import Claim, Terms
from sweeper.ledger.leases import Lease
from sweeper.ledger.malformed import Misfit
from sweeper.ledger.outcomes import Settled
from sweeper.ledger.records import Entry

if TYPE_CHECKING:
    from sqlalchemy import Connection

CLAIM_SECONDS: Final = 15.0
"""How long a claim may wait for its slot; past it, it is given back unsent."""


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
class Given:
    """What is brought: settlements, and for how many claims there is room.

    With `look` it is also looked whether anything is left to do. `was_doubted` says that the
    clock was doubted before.
    """

    settled: Sequence[Settled]
    room: int = 0
    look: bool = False
    newly_seen: Collection[int] = ()
    was_doubted: bool = False

    @property
    def claims(self) -> bool:
        return self.room > 0 or self.look


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What comes back. Claims end at `ends_at`, in seconds of the boot clock.

    `crowded`: more must be admitted first. `drained`: nothing is left that could be done now;
    None where nobody looked. `misfits` were claimed too, and set aside at once.
    """

    claims: Sequence[Claim] = ()
    misfits: Sequence[Misfit] = ()
    late: frozenset[outcomes.Fence] = frozenset()
    doubt: str | None = None
    crowded: bool = False
    drained: bool | None = None
    ends_at: float = 0.0

    @property
    def in_vain(self) -> bool:
        """Whether there is something to claim that could not be, and may be the next time."""
        return self.crowded or bool(self.misfits and not self.claims)


class Exchange:
    """One account's dealings with the ledger during a sweep."""

    def __init__(self, account: Account, assignment: Assignment) -> None:
        self._account = account
        self._do = assignment

    def make(self, connection: "Connection", given: Given) -> Got:
        """Settle first, then claim: all of it is committed, or nothing.

        Locks are taken in one order by everybody, so that nobody waits in a circle: the lease,
        admission, the account, its responses, the log's head. Raises LedgerBusy when the lease
        is lost; nothing is settled then in this transaction.
        """
        account = self._account
        self._do.queue.begin()
        lease_ends_at = math.inf
        if given.claims:
            asked_at = account.now()  # before: whoever freezes in between has less time, not more
            left = leases.check(connection, self._do.lease)
            if left is not None:
                lease_ends_at = asked_at + left / 1_000_000
            admission.lock(connection)
        now = moment.to_us(account.watch.clock.wall())
        doubt = account.watch.doubt(connection, account.name)
        self._remember(connection, given.newly_seen, now)
        late = self._settle(connection, given, now, doubt)
        if doubt is not None:
            return Got(late=late, doubt=doubt if given.claims else None)
        if not given.claims:
            return Got(late=late)
        if admission.drain(connection, now=now, longest=self._do.longest_id).left:
            return Got(late=late, crowded=True)
        if not given.room:
            return Got(late=late, drained=self._is_drained(connection, now))
        began = account.now()
        ends_at = min(began + CLAIM_SECONDS, lease_ends_at)
        deadline = now + int((ends_at - began) * 1_000_000)
        taken = self._claim(connection, given.room, now, deadline)
        if not account.watch.is_old(account.name):
            clock.keep_good(connection, now)
        misfits = malformed.find(taken)
        malformed.set_aside(connection, misfits, now=now)
        bad = {one.claim.pk for one in misfits}
        sound = [claim for claim in taken if claim.pk not in bad] if bad else taken
        return Got(claims=sound, misfits=misfits, ends_at=ends_at, late=late, drained=not taken)

    def _settle(
        self, connection: "Connection", given: Given, now: int, doubt: str | None
    ) -> frozenset[outcomes.Fence]:
        settled, dated = given.settled, now
        if doubt is not None:
            settled = [testimony.doubted(one) for one in settled]
            dated = clock.last_good(connection) or now
        written = outcomes.settle(connection, settled, sweep_id=self._do.sweep_id, now=dated)
        account = self._account
        if doubt is not None and not given.was_doubted and not account.watch.is_old(account.name):
            anomaly = Entry(type=RecordType.CLOCK_ANOMALY, fields={"account": account.name})
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

    def _claim(self, connection: "Connection", room: int, now: int, deadline: int) -> list[Claim]:
        terms = Terms(
            account_id=self._account.row.id,
            sweep_id=self._do.sweep_id,
            token=secrets.token_hex(16),
            newest_pk=self._do.newest_pk,
            now=now,
            deadline=deadline,
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
