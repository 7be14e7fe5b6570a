"""Every error a person can meet, with the exit code it ends in and what to do next.

* SweeperError                     1
  x UsageError                     2
  x ConfigurationError            10
    + SecretError                 10
  x LedgerError                    1
    + LedgerBusy                  11
    + SchemaMismatch              13
    + LedgerReplaced               1
    + LedgerDamaged                1
    + LedgerAway                   1
    + CommitUnknown                1
    + UnknownResponse              1
    + UnknownAccount               2
  x AccountStopped                12
  x InvalidRegistration            1
  x DecisionRefused                1
  x CannotListen                   1
  x DaemonSilent                   1
  x Interrupted                    3

A response that could not be deleted is no error: it is an outcome, and a value.
"""

import traceback
from typing import ClassVar


class SweeperError(Exception):
    """The program could not do what was asked."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or self.code)
        self.hint = hint

    @property
    def message(self) -> str:
        return str(self.args[0])


class UsageError(SweeperError):
    """The command was called with words that do not fit together."""

    exit_code = 2
    code = "usage"


class ConfigurationError(SweeperError):
    """The configuration cannot be used."""

    exit_code = 10
    code = "configuration"

    def __init__(
        self, message: str | None = None, *, faults: tuple[str, ...] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.faults = faults


class SecretError(ConfigurationError):
    """An API key cannot be used; the message never holds any part of it."""

    code = "secret"


class LedgerError(SweeperError):
    """The ledger could not be read or written."""

    code = "ledger"


class LedgerBusy(LedgerError):
    """Another sweeper is at work on this ledger."""

    exit_code = 11
    code = "ledger_busy"


class SchemaMismatch(LedgerError):
    """The ledger's schema is not the one this program knows."""

    exit_code = 13
    code = "schema"


class LedgerReplaced(LedgerError):
    """The ledger's file is not the one that was opened."""

    code = "ledger_replaced"


class LedgerDamaged(LedgerError):
    """The ledger's file is damaged."""

    code = "ledger_damaged"


class LedgerAway(LedgerError):
    """The ledger cannot be used for the moment; nothing of what was begun was written."""


class CommitUnknown(LedgerError):
    """The database was lost before it said whether it kept what was written."""


class UnknownResponse(LedgerError):
    """The ledger holds no response of that id."""

    code = "unknown_response"


class UnknownAccount(LedgerError):
    """No account of that name is known."""

    exit_code = 2
    code = "unknown_account"


class AccountStopped(SweeperError):
    """An account is stopped: nothing is deleted there until the reason is gone."""

    exit_code = 12
    code = "account_stopped"


class InvalidRegistration(SweeperError):
    """A registered line breaks the rules; nothing of it was kept."""

    code = "invalid_registration"


class DecisionRefused(SweeperError):
    """A person's decision about a response does not fit how it stands; nothing was changed."""

    code = "decision_refused"


class CannotListen(SweeperError):
    """The address at which the daemon is to answer cannot be had."""

    code = "listen"


class DaemonSilent(SweeperError):
    """The daemon did not answer."""

    code = "no_answer"


class Interrupted(SweeperError):
    """The command was interrupted before it was done."""

    exit_code = 3
    code = "interrupted"


def unforeseen(fault: BaseException) -> SweeperError:
    """What a person can be told of a fault; one that nobody foresaw is kept as the cause."""
    if isinstance(fault, SweeperError):
        return fault
    place = traceback.extract_tb(fault.__traceback__)[-1]
    told = SweeperError(
        f"{type(fault).__name__} at {place.filename}:{place.lineno} during a sweep,"
        " which is a fault of sweeper's",
        hint="what was seen is written, or told in the log; report this, and do not sweep until"
        " it is mended",
    )
    told.__cause__ = fault
    return told
