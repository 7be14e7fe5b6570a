"""Make the plan of a sweep from the ledger: what is due, in which order, within which bounds."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sweeper.domain import decision, labels, moment, plan, policy
from sweeper.domain.plan import AccountPlan, Guards, LabelSetDue, Plan
from sweeper.domain.policy import Policy
from sweeper.engine.candidates import Cut, Family, Order, Row
from sweeper.ledger import accounts, backlog, claims, responses
from sweeper.ledger.database import Database
from sweeper.ledger.responses import Candidate, DueCount, LabelSetRow, Parent

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FAMILIES_AT_ONCE: Final = 500
_DAY: Final = timedelta(days=1)


class Interrupted(Exception):
    """Whoever asked for the plan wants it no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a plan is made from: the rules, the accounts that are configured, and the bounds.

    `only` plans for one policy alone. `most` is what the person who asked allows in all.
    """

    policies: Sequence[Policy]
    accounts: Collection[str]
    guards: Guards
    only: str | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A label set with the policy that decides about it and the cut-off that follows."""

    row: LabelSetRow
    policy: Policy
    keep: timedelta
    cutoff: datetime

    @property
    def as_cut(self) -> Cut:
        return self.cut(self.row.live_count)

    def cut(self, most: int) -> Cut:
        return Cut(
            label_set_id=self.row.id,
            cutoff=moment.to_us(self.cutoff),
            keep=moment.length_us(self.keep),
            most=most,
        )


def rule(
    rows: Iterable[LabelSetRow], policies: Sequence[Policy], now: datetime
) -> tuple[list[Ruled], int]:
    """Find the label sets of which something can be due, and count the unmatched live."""
    ruled, unmatched = [], 0
    for row in rows:
        deciding = policy.deciding(policies, row.account, labels.stored(row.labels))
        if deciding is None:
            unmatched += row.live_count
            continue
        cutoff = decision.cutoff(deciding, now)
        if cutoff is not None and deciding.delete_after is not None:
            ruled.append(Ruled(row=row, policy=deciding, keep=deciding.delete_after, cutoff=cutoff))
    return ruled, unmatched


class Planner:
    """Reads the ledger in short transactions, so that nobody's commit waits for a plan."""

    def __init__(
        self,
        db: Database,
        scope: Scope,
        now: datetime,
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._db = db
        self._scope = scope
        self._now = now
        self._now_us = moment.to_us(now)
        self._stopped = stopped

    def make(self) -> Plan:
        """Count all that is due, and plan as much of it as is allowed.

        Raises Interrupted soon after `stopped` says so: half a plan tells nothing.
        """
        with self._db.read() as connection:
            rows = responses.label_sets(connection)
            newest_pk = responses.newest_pk(connection)
        every, unmatched = rule(rows, self._scope.policies, self._now)
        ruled = self._meant(every)
        counts = self._counts(ruled)
        live = Counter[str]()
        for row in rows:
            live[row.account] += row.live_count
        plans, left = [], self._scope.most
        for account in sorted(self._scope.accounts):
            mine = [one for one in ruled if one.row.account == account]
            walk = _Walk(self._db, mine, newest_pk, self._now_us, self._stopped)
            walk.run(self._allowed(account, left))
            made = AccountPlan(
                account=account,
                live=live[account],
                sets=tuple(
                    _due(one, counts[one.row.id], walk)
                    for one in mine
                    if any(counts[one.row.id]) or walk.planned[one.row.id]
                ),
                ids_sha256=walk.hash.hexdigest(),
                newest_pk=newest_pk,
            )
            plans.append(made)
            left = None if left is None else left - made.planned
        elsewhere = Counter[str]()
        for one in ruled:
            if one.row.account not in self._scope.accounts:
                elsewhere[one.row.account] += sum(counts[one.row.id])
        return Plan(
            made_at=self._now,
            accounts=tuple(plans),
            no_account=elsewhere.total(),
            no_account_by={name: n for name, n in sorted(elsewhere.items()) if n},
            unmatched=unmatched,
        )

    def ruled(self) -> list[Ruled]:
        """All label sets from which a policy deletes, whatever is due of them."""
        with self._db.read() as connection:
            rows = responses.label_sets(connection)
        return rule(rows, self._scope.policies, self._now)[0]

    def cuts(self, ruled: Iterable[Ruled]) -> list[tuple[int, int]]:
        """Label set and cut-off of those that this plan is about."""
        return [(one.row.id, moment.to_us(one.cutoff)) for one in self._meant(ruled)]

    def _meant(self, ruled: Iterable[Ruled]) -> list[Ruled]:
        only = self._scope.only
        return [one for one in ruled if only is None or one.policy.name == only]

    def _counts(self, ruled: Sequence[Ruled]) -> Mapping[int, DueCount]:
        counted = {}
        for one in ruled:
            cut = backlog.Cut(one.row.id, moment.to_us(one.cutoff))
            counted[one.row.id] = backlog.due(self._db, cut, self._now_us, self._stopped)
            _go_on(self._stopped)
        return counted

    def _allowed(self, account: str, most: int | None) -> int:
        claimed = self._claimed_last_day(account)
        return plan.allowance(self._scope.guards, claimed_last_day=claimed, max_now=most)

    def _claimed_last_day(self, account: str) -> int:
        with self._db.read() as connection:
            row = accounts.get(connection, account)
            if row is None:
                return 0
            since = moment.to_us(self._now - _DAY)
            return claims.first_attempts(connection, row.id, since)


def _due(one: Ruled, counts: DueCount, walk: "_Walk") -> LabelSetDue:
    key = one.row.id
    planned = walk.planned[key]
    # What was registered or settled between the count and the walk must not turn negative.
    not_planned = max(0, counts.eligible - planned)
    waiting = not_planned if walk.is_whole else min(not_planned, walk.waiting(one))
    return LabelSetDue(
        label_set_id=key,
        account=one.row.account,
        labels=one.row.labels,
        policy=one.policy.name,
        delete_after=one.keep,
        deadline=one.policy.deadline,
        cutoff=one.cutoff,
        due=planned + not_planned + counts.backing_off,
        backing_off=counts.backing_off,
        waiting=waiting,
        planned=planned,
        capped=not_planned - waiting,
    )


def _go_on(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Interrupted


class _Walk:
    """Goes through what is due in the order of deletion, as far as nothing keeps it.

    It ends where what is allowed is used up: the cost of a bounded plan grows with its bound.
    What it did not come to is only counted, and split into what waits and what is capped by the
    database. That split is exact for lines of continuations of up to 50; of longer ones, what
    waits for something beyond may be told as capped. `is_whole` where it saw all.
    """

    def __init__(
        self,
        db: Database,
        ruled: Sequence[Ruled],
        newest_pk: int,
        now_us: int,
        stopped: Callable[[], bool],
    ) -> None:
        self._db = db
        self._cuts = [backlog.Cut(one.row.id, moment.to_us(one.cutoff)) for one in ruled]
        self._newest_pk = newest_pk
        self._now_us = now_us
        self._stopped = stopped
        self._order = Order(one.as_cut for one in ruled)
        self._family = Family()
        self.planned = Counter[int]()
        self.hash = hashlib.sha256()
        self.is_whole = False

    def run(self, allowed: int) -> None:
        for _ in range(allowed):
            row = self._next()
            if row is None:
                self.is_whole = True
                return
            self.planned[row.label_set_id] += 1
            self._family.planned(row)
            self.hash.update(f"{row.response_id}\n".encode())

    def waiting(self, one: Ruled) -> int:
        """How many of a label set could be tried now, but are kept by what continues them."""
        counted = backlog.waiting(
            self._db,
            backlog.Cut(one.row.id, moment.to_us(one.cutoff)),
            self._cuts,
            newest_pk=self._newest_pk,
            now=self._now_us,
            is_stopped=self._stopped,
        )
        _go_on(self._stopped)
        return counted

    def _next(self) -> Row | None:
        if self._family.pending >= _FAMILIES_AT_ONCE:
            self._order.freed(self._family.resolve(self._parents))
        row = self._order.pop(self._leaves)
        while row is None and self._family.pending:
            self._order.freed(self._family.resolve(self._parents))
            row = self._order.pop(self._leaves)
        return row

    def _leaves(
        self, label_set_id: int, cutoff: int, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Candidate]:
        _go_on(self._stopped)
        with self._db.read() as connection:
            return responses.leaves(
                connection,
                label_set_id,
                cutoff,
                self._newest_pk,
                self._now_us,
                after=after,
                limit=limit,
            )

    def _parents(self, keys: Sequence[int]) -> Sequence[Parent]:
        _go_on(self._stopped)
        with self._db.read() as connection:
            return responses.parents(connection, keys, self._now_us)


@dataclass(frozen=True, slots=True)
class ReadLeaves:
    """Reads pages of leaves within a transaction that is already open."""

    connection: "Connection"
    newest_pk: int
    now_us: int

    def __call__(
        self, label_set_id: int, cutoff: int, after: tuple[int, int] | None, limit: int
    ) -> Sequence[Candidate]:
        return responses.leaves(
            self.connection,
            label_set_id,
            cutoff,
            self.newest_pk,
            self.now_us,
            after=after,
            limit=limit,
        )
