"""The configuration as the rest of the program meets it: frozen values, faultless by birth."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from sweeper.domain.plan import Guards
from sweeper.domain.policy import Policy
from sweeper.domain.response import AccountName
from sweeper.domain.schedule import Schedule


class KeyPlace(StrEnum):
    """The kinds of places in which an API key may be kept."""

    FILE = "file"
    VARIABLE = "environment variable"
    CREDENTIAL = "systemd credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where an account's key is kept: the path, the variable's or the credential's name."""

    place: KeyPlace
    name: str

    def __str__(self) -> str:
        return f"{self.place} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One `[accounts.NAME]`. `base_url` is in its normal form; `verify` is false for "none"."""

    name: AccountName
    provider: str
    base_url: str
    account_id: str | None
    rate_per_second: float
    max_in_flight: int
    verify: bool
    key_source: KeySource


class LogFormat(StrEnum):
    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How operational logs look; `response_ids` says whether they may name responses."""

    format: LogFormat
    response_ids: bool


DEFAULT_SCHEDULE: Final = Schedule(every=timedelta(minutes=15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where the daemon answers; port 0 is any that is free."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a sweep is told; `warnings` are sentences about what is allowed but doubtful.

    Without a `spool` no files are taken in, without an `alarm` nobody is called, and without
    `listen` nothing answers. `alarm` is a program with its arguments.
    """

    path: Path
    ledger_url: str
    spool: Path | None = None
    schedule: Schedule = DEFAULT_SCHEDULE
    guards: Guards
    max_clock_skew: timedelta
    trust_local_clock: bool
    accounts: tuple[Account, ...]
    policies: tuple[Policy, ...]
    alarm: tuple[str, ...] | None = None
    listen: Listen | None = None
    behind_proxy: bool = False
    log: LogSettings
    warnings: tuple[str, ...]

    def account(self, name: str) -> Account | None:
        return next((account for account in self.accounts if account.name == name), None)
