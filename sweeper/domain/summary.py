"""The numbers of one sweep, the same in the command's JSON, the ledger, the log and the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Something that stopped a sweep, or its part at one account.

    `kept` counts what is past its time there, the oldest since `oldest_due_at`; None where that
    is not known. A guard knows no more than how much is due.
    """

    reason: str
    account: str | None = None
    kept: int | None = None
    oldest_due_at: datetime | None = None

    def as_json(self) -> dict[str, object]:
        since = None if self.oldest_due_at is None else rfc3339(self.oldest_due_at)
        return {
            "reason": self.reason,
            "account": self.account,
            "kept": self.kept,
            "oldest_due_at": since,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One sweep's numbers. `remaining` is None when it could not be determined, never then 0.

    `unread_spool_files` may hold registrations that nobody knows of; None when the spool could
    not be looked into. `stops` are all causes that it opened or met; the first one
    gives the `stop_reason`.
    """

    sweep_id: str
    dry_run: bool
    due: int | None
    planned: int
    outcomes: Mapping[str, int]
    verified: int
    held: int
    remaining: int | None
    remaining_by_reason: Mapping[str, int] | None
    stop_reason: str | None
    started_at: datetime
    finished_at: datetime
    unread_spool_files: int | None = 0
    stops: Sequence[Cause] = ()

    @property
    def complete(self) -> bool:
        """Nothing stopped it, the spool is read, and all that is due and left is held."""
        all_known = self.unread_spool_files == 0
        return self.stop_reason is None and all_known and self.remaining == self.held

    def as_json(self) -> dict[str, object]:
        return {
            "type": "summary",
            "sweep_id": self.sweep_id,
            "dry_run": self.dry_run,
            "due": self.due,
            "planned": self.planned,
            "outcomes": dict(self.outcomes),
            "verified": self.verified,
            "held": self.held,
            "remaining": self.remaining,
            "remaining_by_reason": None
            if self.remaining_by_reason is None
            else dict(self.remaining_by_reason),
            "unread_spool_files": self.unread_spool_files,
            "complete": self.complete,
            "stop_reason": self.stop_reason,
            "stops": [one.as_json() for one in self.stops],
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
        }


def rfc3339(at: datetime) -> str:
    """A moment as every output writes it: UTC, microseconds, `Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
