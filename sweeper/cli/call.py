"""What one call of the command was given, and how its verb comes to configuration and ledger."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from sweeper import errors

if TYPE_CHECKING:
    from sweeper.config.settings import Config
    from sweeper.domain.secret import Secret
    from sweeper.ledger.database import Database

COMPLETE: Final = "_SWEEPER_COMPLETE"
"""The variable by which a shell asks for words instead of calling a verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The options before the verb; `level` is the least level of logs that is shown."""

    config_path: Path | None
    level: int

    def quieter(self) -> "Call":
        """The same call with warnings and errors only, unless more was asked for."""
        asked_for_more = self.level < logging.INFO
        return self if asked_for_more else replace(self, level=max(self.level, logging.WARNING))

    def config(self) -> "Config":
        from sweeper.config import load

        return load.load(self.config_path, os.environ)

    @contextmanager
    def ledger(self, config: "Config") -> "Iterator[Database]":
        """Open the configured ledger, its schema checked; none is made where it is missing."""
        from sweeper.service import assembly

        database = assembly.open_ledger(config)
        try:
            yield database
        finally:
            database.close()

    def start_logs(self, config: "Config", secrets: "Iterable[Secret]" = ()) -> None:
        from sweeper.telemetry import logs

        logs.configure(format=config.log.format, level=self.level, secrets=secrets)


def _worded(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise errors.UsageError("--reason: say why in words; they are recorded")
    return value


pass_call = click.make_pass_decorator(Call)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
with_reason = click.option("--reason", required=True, callback=_worded, help="Why; it is recorded.")
