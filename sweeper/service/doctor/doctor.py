"""Examine everything that a sweep relies on, and say of each fault what to do about it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from sweeper import errors
from sweeper.config import lint
from sweeper.config import load as load_config
from sweeper.config.settings import Config
from sweeper.ledger.database import Database
from sweeper.service import assembly
from sweeper.service.doctor import contact, premises, regularity, soundness
from sweeper.service.doctor.findings import Check, Finding, fault, guarded, ok, warning

_CHECK = "sweeper check"
_TOLD_APART = (load_config.OPEN, lint.NO_CREDENTIALS, "alarm.command: ")
"""Warnings of what is looked at more closely further down."""


def examine(
    load: Callable[[], Config], environ: Mapping[str, str], *, offline: bool
) -> Iterator[Finding]:
    """Look at one thing after the other, and tell at once; what fails hides nothing else.

    Nothing is made or repaired, and no DELETE is sent. Accounts are asked as by `account check`,
    whose good answer lifts what it lifts there; `offline` asks none.
    """
    yield from guarded(Check.LIBRARIES, soundness.libraries)
    try:
        config = load()
    except errors.ConfigurationError as error:
        for one in error.faults or (error.message,):
            yield fault(Check.CONFIGURATION, one, error.hint or f"mend it, then {_CHECK}")
        return
    yield from guarded(Check.CONFIGURATION, partial(_configuration, config))
    db: Database | None = None
    try:
        db = assembly.open_ledger(config)
    except errors.SchemaMismatch as error:
        yield fault(Check.SCHEMA, error.message, error.hint or _CHECK)
    except errors.SweeperError as error:
        yield fault(Check.DATABASE, error.message, error.hint or "sweeper db check")
    try:
        yield from _looks(config, db, environ, offline=offline)
    finally:
        if db is not None:
            db.close()


def _configuration(config: Config) -> Iterator[Finding]:
    own = [one for one in config.warnings if not any(each in one for each in _TOLD_APART)]
    for one in own:
        yield warning(Check.CONFIGURATION, one, f"edit {config.path}, then {_CHECK}")
    yield from premises.configuration(config.path)
    if not own:
        yield ok(Check.CONFIGURATION, f"{config.path} can be used")


def _looks(
    config: Config, db: Database | None, environ: Mapping[str, str], *, offline: bool
) -> Iterator[Finding]:
    if db is not None:
        yield from _of_ledger(config, db)
    yield from _of_disk(config, None if db is None else db.path)
    yield from guarded(Check.ALARM, partial(premises.alarm, config.alarm, environ))
    for each in config.accounts:
        yield from guarded(Check.KEY, partial(contact.key, each, environ), each.name)
        yield from guarded(Check.PERMISSIONS, partial(premises.key, each), each.name)
    for each in () if offline else config.accounts:
        if db is None:
            told = "the provider was not asked, for its answer is kept in the ledger"
            yield warning(Check.ACCOUNT, told, "mend the ledger first", each.name)
        else:
            control = partial(contact.account, config, db, each, environ)
            yield from guarded(Check.ACCOUNT, control, each.name)


def _of_ledger(config: Config, db: Database) -> Iterator[Finding]:
    yield from guarded(Check.DATABASE, partial(soundness.ledger, config, db))
    yield from guarded(Check.INVARIANTS, partial(soundness.invariance, db))
    if db.path is not None:
        yield from guarded(Check.PERMISSIONS, partial(premises.ledger, db.path))
    yield from guarded(Check.DAEMON, partial(regularity.daemon, db))
    yield from guarded(Check.SWEEPS, partial(regularity.last_sweep, db))
    yield from guarded(Check.SCHEDULE, partial(regularity.missed, db))


def _of_disk(config: Config, ledger: Path | None) -> Iterator[Finding]:
    yield from guarded(Check.DISK, partial(_room, config, ledger))
    if config.spool is not None:
        yield from guarded(Check.SPOOL, partial(premises.intake, config.spool))


def _room(config: Config, ledger: Path | None) -> Iterator[Finding]:
    for folder, size in premises.places(config, ledger):
        yield from premises.room(folder, holds=size)
