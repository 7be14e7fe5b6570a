"""What is due and not gone now, by account and policy: how much, how late, and why."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.engine import planning
from sweeper.engine.planning import Ruled
from sweeper.ledger import accounts, backlog, reports, responses, unfinished
from sweeper.ledger.backlog import Cut
from sweeper.ledger.database import Database
from sweeper.ledger.reports import Overdue
from sweeper.ledger.responses import LabelSetRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """What is due and not gone of an account by one policy, each response once.

    `worst` is for how many seconds the oldest has been due. Policy None: set aside without a
    time of creation, so that nobody knows whether it is due, or since when.
    """

    account: str
    policy: str | None
    due: int
    past_deadline: int
    worst: int | None
    by_reason: Mapping[str, int]


def find(
    config: Config, db: Database, now: datetime, *, only: str | None = None
) -> Sequence[Outstanding]:
    """Count what is due now, in short transactions; `only` is one policy's name."""
    with db.read() as connection:
        sets = responses.label_sets(connection)
        stopped = {one.account for one in accounts.open_breakers(connection)}
    every, _ = planning.rule(sets, config.policies, now)
    ruled = [one for one in every if only is None or one.policy.name == only]
    reasons = unfinished.reasons(db, [_cut(one) for one in ruled], moment.to_us(now))
    oldest = reports.overdue(db, [_cut(one) for one in ruled])
    late = reports.overdue(db, [_deadline(one) for one in ruled])
    found: dict[tuple[str, str | None], Outstanding] = {}
    for one in ruled:
        is_ours = config.account(one.row.account) is not None
        named = _named(reasons[one.row.id], is_ours=is_ours, stopped=one.row.account in stopped)
        past = late.get(one.row.id)
        _join(
            found,
            Outstanding(
                account=one.row.account,
                policy=one.policy.name,
                due=named.total(),
                past_deadline=0 if past is None else past.count,
                worst=_worst(one, oldest.get(one.row.id), now),
                by_reason=named,
            ),
        )
    if only is None:
        known = {one.row.id for one in ruled}
        for aside in _undated(db, [row for row in sets if row.id not in known]):
            _join(found, aside)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))]


def _cut(one: Ruled) -> Cut:
    return Cut(one.row.id, moment.to_us(one.cutoff))


def _deadline(one: Ruled) -> Cut:
    return Cut(one.row.id, moment.to_us(one.cutoff - one.policy.deadline))


def _worst(one: Ruled, oldest: Overdue | None, now: datetime) -> int | None:
    if oldest is None:
        return None
    late = now - (moment.from_us(oldest.oldest_created_at) + one.keep)
    return -(-moment.length_us(late) // 1_000_000)


def _named(reasons: Counter[str], *, is_ours: bool, stopped: bool) -> Counter[str]:
    """Say of what nothing in its own row keeps that its account does, where that is so."""
    named = Counter(reasons)
    if not is_ours:
        aside = {name: named[name] for name in ("claimed", "verifying", "quarantined")}
        named = Counter(no_account=named.total() - sum(aside.values()), **aside)
    elif stopped:
        named["stopped"] += named.pop(backlog.UNTRIED, 0)
    return +named


def _undated(db: Database, sets: Sequence[LabelSetRow]) -> Iterator[Outstanding]:
    for row in sets:
        count = unfinished.undated(db, row.id)
        if count:
            yield Outstanding(
                account=row.account,
                policy=None,
                due=count,
                past_deadline=0,
                worst=None,
                by_reason={"quarantined": count},
            )


def _join(found: dict[tuple[str, str | None], Outstanding], one: Outstanding) -> None:
    """Add what is open of one label set to what is of others under the same policy."""
    if not one.due:
        return
    key = one.account, one.policy
    other = found.get(key, one)
    if other is one:
        found[key] = one
        return
    worsts = [worst for worst in (one.worst, other.worst) if worst is not None]
    found[key] = Outstanding(
        account=one.account,
        policy=one.policy,
        due=one.due + other.due,
        past_deadline=one.past_deadline + other.past_deadline,
        worst=max(worsts, default=None),
        by_reason=Counter(one.by_reason) + Counter(other.by_reason),
    )
