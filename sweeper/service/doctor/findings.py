"""What an examination finds: how each thing stands, and what to do about it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from sweeper import errors


class Check(StrEnum):
    """What is looked at."""

    CONFIGURATION = "configuration"
    LIBRARIES = "libraries"
    SCHEMA = "schema"
    DATABASE = "database"
    INVARIANTS = "invariants"
    CLOCK = "clock"
    KEY = "key"
    REACH = "reach"
    ACCOUNT = "account"
    DISK = "disk"
    PERMISSIONS = "permissions"
    SPOOL = "spool"
    ALARM = "alarm"
    DAEMON = "daemon"
    SWEEPS = "sweeps"
    SCHEDULE = "schedule"


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Doubtful, or about to go wrong."""
    FAULT = "fault"
    """Wrong: something cannot be done, or is not safe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `subject` is the account or the path that it is about.

    `next` says what to do about what is not well, with the command where there is one.
    """

    check: Check
    level: Level
    message: str
    subject: str | None = None
    next: str | None = None


def ok(check: Check, message: str, subject: str | None = None) -> Finding:
    return Finding(check=check, level=Level.OK, message=message, subject=subject)


def warning(check: Check, message: str, then: str, subject: str | None = None) -> Finding:
    return Finding(check=check, level=Level.WARNING, message=message, subject=subject, next=then)


def fault(check: Check, message: str, then: str, subject: str | None = None) -> Finding:
    return Finding(check=check, level=Level.FAULT, message=message, subject=subject, next=then)


def guarded(
    check: Check, look: Callable[[], Iterable[Finding]], subject: str | None = None
) -> Iterator[Finding]:
    """What a look finds; whatever ends it early is a finding too, and hides no other."""
    try:
        yield from look()
    except errors.SweeperError as error:
        yield fault(check, error.message, error.hint or "see: sweeper status", subject)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        message = f"{place}{error.strerror or type(error).__name__}"
        yield fault(check, message, "run this as the user that runs sweeper", subject)
    except Exception as error:  # noqa: BLE001 - its text may hold anything, so only its kind is told
        message = f"it could not be looked at: {type(error).__name__}, a fault of sweeper's"
        yield fault(check, message, "report it, with what sweeper --version says", subject)
