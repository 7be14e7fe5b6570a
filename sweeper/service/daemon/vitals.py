"""What the daemon knows of itself: its role, its sweep, and whether that gets on."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from sweeper.engine.gate import Gate
from sweeper.engine.pulse import Pulse

STALLED_AFTER: Final = 150.0
"""Seconds without a beat after which the loop that sweeps counts as stuck.

Longer than any one step: PostgreSQL ends a statement after 120 s, a request ends after 40 s.
"""


class Role(StrEnum):
    STARTING = "starting"
    ACTIVE = "active"
    STANDBY = "standby"
    STOPPING = "stopping"


@dataclass(slots=True, kw_only=True)
class Vitals:
    """Written by the daemon's loop alone, read by whoever asks how it is."""

    pulse: Pulse = field(default_factory=Pulse)
    gate: Gate = field(default_factory=Gate)
    """Shut as long as the ledger does not take what is to be written."""
    role: Role = Role.STARTING
    sweeping: bool = False
    next_sweep_at: datetime | None = None
    unread_spool_files: int | None = 0
    failing: str | None = None
    """Why the last sweep could not run, in one sentence; None since one ran."""

    @property
    def is_stalled(self) -> bool:
        """Whether the loop that sweeps, or waits to, has not got on for too long."""
        return self.pulse.age() > STALLED_AFTER
