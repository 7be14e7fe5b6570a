"""Reckon up what a sweep has left behind: how much is still due, and why."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper.domain import moment
from sweeper.domain.plan import AccountPlan, Plan
from sweeper.ledger import residue as ledger_residue
from sweeper.ledger import responses
from sweeper.ledger.database import Database
from sweeper.ledger.residue import UNTRIED, Bounds

if TYPE_CHECKING:
    from sqlalchemy import Connection


def residue(
    db: Database, made: Plan, *, sweep_id: str, halted: Collection[str], now: int
) -> Mapping[str, int]:
    """Count what is still due of a plan, by reason; `halted` accounts were stopped.

    What was not tried and is kept by nothing in the ledger was left because its account stopped,
    or because the plan was bounded. Raises LedgerError where that cannot be read.
    """
    counted: Counter[str] = Counter()
    every: list[tuple[int, int]] = []
    newest = 0
    for account in made.accounts:
        cuts = [(one.label_set_id, moment.to_us(one.cutoff)) for one in account.sets]
        every += cuts
        newest = max(newest, account.newest_pk)
        bounds = Bounds(sweep_id=sweep_id, newest_pk=account.newest_pk, now=now)
        left = ledger_residue.live(db, cuts, bounds)
        capped = {one.label_set_id for one in account.sets if one.capped}
        for label_set_id, reasons in left.items():
            untried = reasons.pop(UNTRIED, 0)
            is_capped = label_set_id in capped and account.account not in halted
            counted.update(reasons)
            counted["capped" if is_capped else "stopped"] += untried
    with db.read() as connection:
        for (_, reason), number in ledger_residue.elsewhere(connection, every, newest).items():
            counted[reason] += number
    counted["no_account"] += made.no_account
    return {reason: counted[reason] for reason in sorted(counted) if counted[reason]}


def planned(made: Plan) -> Mapping[str, int]:
    """What a rehearsal leaves: everything that is due, most of it because nothing was sent."""
    counted = {
        "stopped": made.planned,
        "capped": made.capped,
        "waiting": made.waiting,
        "backing_off": made.backing_off,
        "no_account": made.no_account,
    }
    return {reason: number for reason, number in sorted(counted.items()) if number}


def kept(connection: "Connection", made: AccountPlan, now: int) -> tuple[int, datetime | None]:
    """How many live responses of an account are past their time, and since when the oldest."""
    cuts = [(one.label_set_id, moment.to_us(one.cutoff)) for one in made.sets]
    counts = responses.due_counts(connection, cuts, now)
    due = [
        created + moment.length_us(one.delete_after)
        for one in made.sets
        if one.label_set_id in counts
        and (created := ledger_residue.oldest(connection, one.label_set_id)) is not None
    ]
    total = sum(sum(count) for count in counts.values())
    return total, moment.from_us(min(due)) if due else None
