"""Hold the ledger against what really happened at the sandbox: the invariants I1 to I8."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sweeper.ledger import invariants as product
from sweeper.ledger import tables
from sweeper.sandbox.journal import Arrival
from tests.support import canary, invariants
from tests.support.rehearsal import Rehearsal

_WINDOWS: Final = (1.0, 60.0)
_LATE: Final = 0.5
"""How many seconds later than it left a request may be seen on a busy machine."""
_TOLD: Final = 20

ENDS = {"deleted", "absent_after_attempt", "already_absent", "expired_by_provider", "closed"}


def check(rehearsal: Rehearsal, *, settled: bool = False) -> None:
    """Raise AssertionError with all that is untrue, at a moment at which no sweep runs.

    I1 nothing was asked to be deleted that was not due; I2 every DELETE has an attempt that was
    written before; I3 what is gone has one record of its end, and the other way round; I4 nothing
    is deleted without the provider's yes; I5 the log is whole; I6 the rate was kept by all who
    ever ran; I7 no key and no content stands in any file; and where everything is `settled`, I8:
    all that was due is gone, and nothing is claimed.
    """
    rehearsal.sandbox.wait_until(
        lambda one: all(entry.done for entry in one.journal.entries), within=30
    )
    found = violations(rehearsal) + canary.in_files(rehearsal.folder)
    found += unsettled(rehearsal) if settled else []
    assert found == [], "\n".join(found[:_TOLD])
    with rehearsal.database() as db:
        invariants.check(db)


def violations(rehearsal: Rehearsal) -> list[str]:
    """What in the ledger is not true, or what happened to a response that was not due.

    Holds at every moment at which no sweep runs, also after one that was killed.
    """
    rows = {row["response_id"]: row for row in rehearsal.rows()}
    journal = _by_id(rehearsal)
    stored = rehearsal.stored()
    with rehearsal.database() as db:
        contradicted = product.examine(db).faults
    return [
        *contradicted,
        *_not_due(rehearsal, rows, journal, stored),
        *_claimed_deletions(rows, journal, stored),
        *_records(rehearsal, rows),
        *_attempts(rehearsal, rows, journal),
        *_counts(rehearsal, rows),
        *too_fast(_arrivals(rehearsal), rehearsal.fastest),
    ]


def unsettled(rehearsal: Rehearsal) -> list[str]:
    """What of the due responses is not gone, or left claimed."""
    rows = {row["response_id"]: row for row in rehearsal.rows()}
    claimed = [
        f"{each} is {row['state']}, token {row['token']}"
        for each, row in rows.items()
        if row["token"] is not None or (each in rehearsal.due and row["state"] != "gone")
    ]
    return claimed + [f"{each} is not admitted yet" for each in rehearsal.due - rows.keys()]


def too_fast(entries: Sequence[Arrival], rate: float) -> Iterator[str]:
    """One sentence for each account and window in which more came than so many a second."""
    arrived: dict[str | None, list[float]] = defaultdict(list)
    for entry in entries:
        arrived[entry.account].append(entry.at)
    for account, times in arrived.items():
        for window in _WINDOWS:
            most = math.ceil((window + _LATE) * rate)
            ends = zip(times, times[most:], strict=False)
            if any(last - first < window for first, last in ends):
                yield f"more than {most} requests about {account} came within {window} s"


def _arrivals(rehearsal: Rehearsal) -> list[Arrival]:
    found: list[Arrival] = rehearsal.sandbox.call(lambda one: list(one.journal.entries))
    return found


def _by_id(rehearsal: Rehearsal) -> Mapping[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for entry in _arrivals(rehearsal):
        found[entry.target.rpartition("/")[2]].append(entry)
    return found


def _deletes(entries: Sequence[Arrival]) -> list[Arrival]:
    return [entry for entry in entries if entry.method == "DELETE"]


def _not_due(
    rehearsal: Rehearsal,
    rows: Mapping[str, Mapping[str, Any]],
    journal: Mapping[str, list[Arrival]],
    stored: frozenset[str],
) -> Iterator[str]:
    for each in rehearsal.ids - rehearsal.due:
        if _deletes(journal.get(each, [])):
            yield f"{each} was not due, and a DELETE was sent"
        if each not in stored:
            yield f"{each} was not due, and is gone at the sandbox"
        if rows[each]["state"] == "gone" and rows[each]["outcome"] != "closed":
            yield f"{each} was not due, and is gone in the ledger"
    for each, entries in journal.items():
        if _deletes(entries) and each not in rehearsal.due:
            yield f"a DELETE was sent for {each!r}, which nobody registered as due"


def _claimed_deletions(
    rows: Mapping[str, Mapping[str, Any]],
    journal: Mapping[str, list[Arrival]],
    stored: frozenset[str],
) -> Iterator[str]:
    for each, row in rows.items():
        deletes = _deletes(journal.get(each, []))
        yes = [entry for entry in deletes if entry.status == 200]
        if row["state"] == "gone" and row["outcome"] != "closed" and each in stored:
            yield f"{each} is gone in the ledger, and the sandbox still has it"
        if row["outcome"] == "deleted" and not any(entry.carried_out for entry in yes):
            yield f"{each} is recorded as deleted without the provider's yes"
        if row["outcome"] == "already_absent" and any(entry.carried_out for entry in deletes):
            yield f"{each} is recorded as already absent, and it was our DELETE"
        if row["verified"]:
            after = [entry for entry in journal[each] if yes and entry.seq > yes[0].seq]
            if not any(entry.method == "GET" and entry.status == 404 for entry in after):
                yield f"{each} is recorded as verified, and no GET after the yes found it missing"


def _records(rehearsal: Rehearsal, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    bodies = [
        json.loads(row["body"])
        for row in rehearsal.rows(tables.records)
        if row["type"] == "deletion.outcome"
    ]
    ends = Counter(body["item"] for body in bodies if body["outcome"] in ENDS)
    last = {body["item"]: body["outcome"] for body in bodies}
    for each, row in rows.items():
        item, gone = row["item"], row["state"] == "gone"
        if ends[item] != int(gone):
            yield f"{each} is {row['state']} with {ends[item]} records of an end"
        if last.get(item) != row["outcome"]:
            yield f"{each}: the last record says {last.get(item)}, the ledger {row['outcome']}"


def _attempts(
    rehearsal: Rehearsal,
    rows: Mapping[str, Mapping[str, Any]],
    journal: Mapping[str, list[Arrival]],
) -> Iterator[str]:
    names = {row["id"]: each for each, row in rows.items()}
    written = Counter(
        names[row["response_pk"]] for row in rehearsal.rows(tables.attempts) if not row["unsent"]
    )
    for each, entries in journal.items():
        if len(_deletes(entries)) > written[each]:
            yield f"{each}: more DELETEs arrived than attempts are written"


def _counts(rehearsal: Rehearsal, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    alive = Counter(
        row["label_set_id"] for row in rows.values() if row["state"] not in ("gone", "quarantined")
    )
    for row in rehearsal.rows(tables.label_sets):
        if row["live_count"] != alive[row["id"]]:
            yield f"label set {row['id']} counts {row['live_count']} live, not {alive[row['id']]}"
