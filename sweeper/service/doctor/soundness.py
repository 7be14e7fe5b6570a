"""Look at what everything stands on: libraries, the ledger's schema, its database, the clock."""

import platform
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from operator import ge, lt
from typing import Final

from sweeper.config.settings import Config
from sweeper.domain import moment
from sweeper.domain.summary import rfc3339
from sweeper.ledger import database as databases
from sweeper.ledger import integrity, invariants, mode, schema
from sweeper.ledger.database import Database
from sweeper.service import assembly
from sweeper.service.doctor.findings import Check, Finding, fault, ok, warning

LOOK_SECONDS: Final = 10.0
"""For how long the ledger is held against itself; `sweeper db check` takes the time it needs."""
_CONTRADICTED: Final = (
    "stop the daemon, keep the ledger as it is, find out who wrote to it, and compare a backup"
)
_NAMED: Final = ("sweeper", "sqlalchemy", "httpx", "h11", "apscheduler")
"""Of which people are told the version when all is well."""
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?([^;]*)(?:;(.*))?")
_BOUND: Final = re.compile(r"(>=|<)\s*([0-9.]+)")
_HOLDS: Final[Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]]] = {
    ">=": ge,
    "<": lt,
}


def libraries() -> Iterator[Finding]:
    """Which versions run, and which of them are not those that this program was made for."""
    required = metadata.requires("sweeper") or []
    names = [found[1] for each in required if (found := _REQUIREMENT.match(each))]
    versions = {name: _version(name) for name in (*names, *_NAMED)}
    told = ", ".join(f"{name} {versions[name]}" for name in _NAMED)
    told = f"Python {platform.python_version()}, {told}, SQLite {sqlite3.sqlite_version}"
    yield from list(misfits(required, versions)) or [ok(Check.LIBRARIES, told)]


def misfits(required: Iterable[str], versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """Which of the requirements are not met; those of extras are left out."""
    for each in required:
        found = _REQUIREMENT.match(each)
        if found is None or "extra" in (found[3] or ""):
            continue
        name, bounds = found[1], found[2].strip()
        version = versions.get(name)
        if version is None or not _fits(version, bounds):
            yield fault(
                Check.LIBRARIES,
                f"{name} {version or 'is missing'}: this sweeper needs {name}{bounds}",
                f"pip install '{name}{bounds}', or install sweeper anew",
                name,
            )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, bounds: str) -> bool:
    return all(
        _HOLDS[sign](_numbers(version), _numbers(bound)) for sign, bound in _BOUND.findall(bounds)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"(?:^|\.)([0-9]+)", version))


def ledger(config: Config, db: Database) -> Iterator[Finding]:
    """How an open ledger stands: its schema was checked when it was opened."""
    yield ok(Check.SCHEMA, f"the ledger's schema is {schema.newest()}, the newest")
    copied_at = integrity.copied_at(db)
    if copied_at is not None:
        yield warning(
            Check.SCHEMA,
            f"this ledger is a backup, made at {rfc3339(moment.from_us(copied_at))}: what was"
            " deleted since then is not known to it",
            "sweeper plan, then sweeper sweep --max 99",
        )
    yield from _database(mode.read(db))
    with db.read() as connection:
        doubt = assembly.watch(config).doubt(connection)
    if doubt is not None:
        yield fault(Check.CLOCK, doubt, "mend the time service; nothing is deleted meanwhile")


def invariance(db: Database, seconds: float = LOOK_SECONDS) -> Iterator[Finding]:
    """Whether the ledger agrees with itself, as far as there is time to look."""
    ends_at = time.monotonic() + seconds
    found = invariants.examine(db, enough=lambda: time.monotonic() >= ends_at)
    for one in found.faults:
        yield fault(Check.INVARIANTS, one, _CONTRADICTED)
    if found.faults:
        return
    many = f"{found.records:,} records and {found.responses:,} responses"
    told = f"{many} agree with one another"
    if not found.whole:
        told = f"the newest {told}; for all others: sweeper db check"
    yield ok(Check.INVARIANTS, told)


def _database(found: mode.Mode) -> Iterator[Finding]:
    settings = ", ".join(f"{name} {value}" for name, value in found.settings.items())
    if found.unsafe:
        yield fault(
            Check.DATABASE,
            f"{found.name} runs with {settings}: a crash can lose or damage what was written",
            f"set {', '.join(f'{name} = on' for name in found.unsafe)} in PostgreSQL",
        )
        return
    why = ""
    if found.settings.get("journal_mode") == "delete" and not databases.wal_is_safe(
        sqlite3.sqlite_version_info[:3]
    ):
        why = "; its write-ahead log is not used, in which this SQLite can lose commits"
    yield ok(Check.DATABASE, f"{found.name}: {settings}{why}")
