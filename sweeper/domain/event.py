"""What happened, as values: the one stream that log lines, metrics and progress are read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from sweeper.domain.outcome import Breaker, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStarted:
    """A sweep began; `planned` responses are to be deleted of `due` ones."""

    name: ClassVar[str] = "sweep_started"
    sweep_id: str
    due: int
    planned: int
    ids_sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountChecked:
    """A control was made before an account's first claim."""

    name: ClassVar[str] = "account_checked"
    account: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSettled:
    """One outcome was written. `late` ones were fenced off: they are recorded, no more."""

    name: ClassVar[str] = "response_settled"
    sweep_id: str
    account: str
    response_id: str
    policy: str | None
    outcome: Outcome
    verified: bool
    attempt: int
    status: int | None
    overdue: timedelta | None
    next_try_at: datetime | None
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnwritten:
    """An answer that the ledger would not take: this is all that is left of it.

    The response stays claimed, and the next sweep takes it as one that may have been deleted.
    """

    name: ClassVar[str] = "outcome_unwritten"
    sweep_id: str
    account: str
    response_id: str
    answer: str
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerWaitedFor:
    """The ledger does not take what is to be written: nothing is sent until it does."""

    name: ClassVar[str] = "ledger_waited_for"
    detail: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBack:
    """The ledger that was waited for has been written to; so many `seconds` after that was told."""

    name: ClassVar[str] = "ledger_back"
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened:
    """An account stopped: nothing more is sent there until the reason is gone.

    `kept` responses are past their time, the oldest since `oldest_due_at`. `settled_absent` were
    written as absent since the provider's last yes and want a second look. Without `anew` it has
    been open since an earlier sweep.
    """

    name: ClassVar[str] = "breaker_opened"
    account: str
    breaker: Breaker
    detail: str
    kept: int
    oldest_due_at: datetime | None
    settled_absent: tuple[str, ...] = ()
    anew: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsFreed:
    """Claims of a sweeper that died were taken back; each of them may have been sent."""

    name: ClassVar[str] = "claims_freed"
    account: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSetAside:
    """Responses that were due stand in the ledger as nobody could have registered them.

    `reasons` counts them by what is wrong. Nothing is sent for them until a person decides.
    """

    name: ClassVar[str] = "rows_set_aside"
    account: str
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDoubted:
    """The clock cannot be trusted: nothing is claimed until it can."""

    name: ClassVar[str] = "clock_doubted"
    account: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed:
    """An account may go on: the reason for its stop is gone, or a person said so."""

    name: ClassVar[str] = "breaker_closed"
    account: str
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReplaced:
    """An account's key was refused, and another one stands where it was read: it is tried now."""

    name: ClassVar[str] = "key_replaced"
    account: str
    key_fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesChanged:
    """The set of policies in force is another than in the sweep before."""

    name: ClassVar[str] = "policies_changed"
    sweep_id: str
    policies_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRefused:
    """A guard refused an account's plan before any call was made."""

    name: ClassVar[str] = "guard_refused"
    sweep_id: str
    account: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """The provider asked for fewer requests; the account waits or slows down."""

    name: ClassVar[str] = "account_throttled"
    account: str
    pause_seconds: float | None
    rate_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFinished:
    """A sweep ended; `numbers` are those of its summary, to the letter."""

    name: ClassVar[str] = "sweep_finished"
    sweep_id: str
    complete: bool
    numbers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted:
    """The daemon is at work; `next_sweep_at` is None where the schedule never comes again."""

    name: ClassVar[str] = "daemon_started"
    schedule: str
    next_sweep_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStandsBy:
    """Another daemon sweeps this ledger; this one takes over when that one is gone."""

    name: ClassVar[str] = "daemon_stands_by"
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping:
    """The daemon was told to end; what is in flight comes to its end and is recorded.

    When `hurried` it was told so once more, and waits less.
    """

    name: ClassVar[str] = "daemon_stopping"
    signal: str
    sweeping: bool
    hurried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped:
    """The daemon has ended, and nothing of it is left at work."""

    name: ClassVar[str] = "daemon_stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFailed:
    """The daemon ends because something in it has died."""

    name: ClassVar[str] = "daemon_failed"
    code: str
    detail: str
    hint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationDoubted:
    """What the configuration in force says is allowed, and hardly meant."""

    name: ClassVar[str] = "configuration_doubted"
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded:
    """A new configuration is in force; `changed` are the sections that differ."""

    name: ClassVar[str] = "configuration_reloaded"
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused:
    """A new configuration could not be used, so that the one before stays in force."""

    name: ClassVar[str] = "configuration_refused"
    detail: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsMissed:
    """Sweeps that the schedule asked for did not run, or did not come to their end."""

    name: ClassVar[str] = "runs_missed"
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWaits:
    """Somebody else's sweep is at work on the ledger; it is tried again in `retry_seconds`."""

    name: ClassVar[str] = "sweep_waits"
    detail: str
    retry_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFailed:
    """A sweep could not begin, or could not go on; it is tried again in `retry_seconds`.

    None: with the next one of the schedule. `sweep_id` is that of a sweep that had begun, and
    whose end was told; None where none could.
    """

    name: ClassVar[str] = "sweep_failed"
    code: str
    detail: str
    hint: str | None
    retry_seconds: float | None
    sweep_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFileRegistered:
    """A file of the spool was taken in whole and moved to `done/`.

    Of what was `added`, so much is at accounts that are not configured (`no_account`).
    """

    name: ClassVar[str] = "spool_file_registered"
    file: str
    read: int
    added: int
    completed: int
    known: int
    skipped: int
    rejected: int
    no_account: int

    @property
    def is_well(self) -> bool:
        """Whether every line was kept, and may be deleted once it is due."""
        return not (self.rejected or self.no_account)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFileLeft:
    """Something in the spool was left as it is; `unread` ones keep sweeps from being complete."""

    name: ClassVar[str] = "spool_file_left"
    file: str
    reason: str
    unread: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmTold:
    """The alarm command heard of something; `state` is open or resolved."""

    name: ClassVar[str] = "alarm_told"
    alarm: str
    state: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmUntold:
    """The alarm command failed, so that nobody may have heard; it is tried again."""

    name: ClassVar[str] = "alarm_untold"
    alarm: str
    state: str
    summary: str
    detail: str


Event = (
    DaemonStarted
    | DaemonStandsBy
    | DaemonStopping
    | DaemonStopped
    | DaemonFailed
    | ConfigurationDoubted
    | ConfigurationReloaded
    | ConfigurationRefused
    | RunsMissed
    | SweepWaits
    | SweepFailed
    | SpoolFileRegistered
    | SpoolFileLeft
    | AlarmTold
    | AlarmUntold
    | SweepStarted
    | AccountChecked
    | ResponseSettled
    | OutcomeUnwritten
    | LedgerWaitedFor
    | LedgerBack
    | BreakerOpened
    | ClaimsFreed
    | RowsSetAside
    | ClockDoubted
    | BreakerClosed
    | KeyReplaced
    | PoliciesChanged
    | GuardRefused
    | Throttled
    | SweepFinished
)
