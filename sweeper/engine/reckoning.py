"""Reckon up what a sweep has left behind: how much is still due, and why."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sweeper.domain import moment
from sweeper.domain.plan import LabelSetDue, Plan
from sweeper.engine.planning import Ruled
from sweeper.ledger import residue as ledger_residue
from sweeper.ledger import responses
from sweeper.ledger.database import Database
from sweeper.ledger.residue import UNTRIED, Bounds

if TYPE_CHECKING:
    from sqlalchemy import Connection


def residue(
    db: Database,
    made: Plan,
    every: Collection[tuple[int, int]],
    *,
    sweep_id: str,
    halted: Collection[str],
    counted: Callable[[], None],
) -> Mapping[str, int]:
    """Count what is still due of a plan, by reason; `halted` accounts were stopped.

    `counted` is called after each page of what was read, and may end this by raising.

    `every` names all label sets that a policy deletes from, with their cut-offs: what is due
    there and not live is left as well. What was not tried and is kept by nothing in the ledger
    was left because its account stopped, or because the plan was bounded; what was to wait when
    the plan was made is backing off. Raises LedgerError where that cannot be read.
    """
    total: Counter[str] = Counter()
    newest = 0
    made_at = moment.to_us(made.made_at)
    for account in made.accounts:
        cuts = [(one.label_set_id, moment.to_us(one.cutoff)) for one in account.sets]
        newest = max(newest, account.newest_pk)
        bounds = Bounds(sweep_id=sweep_id, newest_pk=account.newest_pk, now=made_at)
        left = ledger_residue.live(db, cuts, bounds, counted)
        sets = {one.label_set_id: one for one in account.sets}
        for label_set_id, reasons in left.items():
            untried = reasons.pop(UNTRIED, 0)
            if account.account in halted:
                # A parent that was planned waits for nothing but its children's turn.
                planned = max(0, reasons["waiting"] - sets[label_set_id].waiting)
                reasons["waiting"] -= planned
                total["stopped"] += untried + planned
            else:
                total[_left_out(sets[label_set_id])] += untried
            total.update(reasons)
    configured = {one.account for one in made.accounts}
    total.update(ledger_residue.elsewhere(db, every, newest, configured=configured))
    total["no_account"] += made.no_account
    return {reason: total[reason] for reason in sorted(total) if total[reason]}


def _left_out(one: LabelSetDue) -> str:
    """Why a sweep that nothing stopped left something of a label set untried."""
    if one.capped:
        return "capped"
    # What came back in time to be tried has taken the place of something that was planned.
    return "backing_off" if one.backing_off else "stopped"


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


def kept(connection: "Connection", ruled: Sequence[Ruled], now: int) -> tuple[int, datetime | None]:
    """How many live responses are past their time, and since when the oldest has been."""
    cuts = [(one.row.id, moment.to_us(one.cutoff)) for one in ruled]
    counts = responses.due_counts(connection, cuts, now)
    due = [
        created + moment.length_us(one.keep)
        for one in ruled
        if one.row.id in counts
        and (created := ledger_residue.oldest(connection, one.row.id)) is not None
    ]
    total = sum(sum(count) for count in counts.values())
    return total, moment.from_us(min(due)) if due else None
