"""`sweeper db`: bring the ledger to the newest schema, check it, and copy it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.verbs import Verbs

if TYPE_CHECKING:
    from sweeper.ledger.database import Database


@click.group("db", cls=Verbs)
def command() -> None:
    """Upgrade, check and copy the ledger."""


@command.command("upgrade", epilog="Example: sweeper db upgrade")
@as_json
@pass_call
def upgrade(call: Call, *, as_json: bool) -> None:
    """Bring the ledger to the newest schema; a new one is made where there is none."""
    from sweeper.ledger import schema

    with _opened(call, create=True) as database:
        before = schema.current(database)
        schema.upgrade(database)
        _tell_schema(database, as_json=as_json, before=before)


@command.command("current", epilog="Example: sweeper db current --json")
@as_json
@pass_call
def current(call: Call, *, as_json: bool) -> None:
    """Show the ledger's schema and the newest that this program knows."""
    with _opened(call) as database:
        _tell_schema(database, as_json=as_json)


@command.command("check", epilog="Example: sweeper db check")
@as_json
@pass_call
def check(call: Call, *, as_json: bool) -> int:
    """Check the schema (exit code 13), and look for damage and contradictions (exit code 1).

    All of the ledger is read, which takes a while. While SQLite checks its own file, others wait
    to write.
    """
    from sweeper.ledger import integrity, invariants, schema

    with _opened(call) as database:
        schema.check(database)
        examined = invariants.examine(database)
        faults = [*integrity.faults(database), *examined.faults]
        copied_at = integrity.copied_at(database)
    if as_json:
        fields = {"ok": not faults, "faults": faults, "copied_at": output.instant(copied_at)}
        read = {"records": examined.records, "responses": examined.responses}
        output.json_line("db_check", fields | read)
    else:
        if copied_at is not None:
            output.line(f"this ledger is a backup, made at {output.short_instant(copied_at)}")
        for fault in faults:
            output.line(f"fault: {fault}")
        if not faults:
            output.line("the ledger is whole, agrees with its log, and its schema is the newest")
    return 1 if faults else 0


@command.command("backup", epilog="Example: sweeper db backup /backup/ledger-2026-01-31.db")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
@pass_call
def backup(call: Call, *, file: Path, as_json: bool) -> None:
    """Copy an SQLite ledger to FILE, which must not exist; safe while a sweep runs.

    The copy is marked as one. PostgreSQL is copied with its own pg_dump.
    """
    from sweeper.ledger import schema

    with _opened(call) as database:
        schema.check(database)
        schema.backup(database, file)
    size = file.stat().st_size
    if as_json:
        output.json_line("backup", {"file": str(file), "bytes": size})
    else:
        output.line(f"the ledger was copied to {file} ({size:,} bytes)")


@contextmanager
def _opened(call: Call, *, create: bool = False) -> "Iterator[Database]":
    """Open the ledger whatever its schema; only an upgrade may make a new file."""
    from sweeper.ledger import database

    opened = database.open_database(call.config().ledger_url, create=create)
    try:
        yield opened
    finally:
        opened.close()


def _tell_schema(database: "Database", *, as_json: bool, before: str | None = None) -> None:
    from sweeper.ledger import schema

    now, newest = schema.current(database), schema.newest()
    if as_json:
        output.json_line("schema", {"current": now, "newest": newest, "before": before or now})
    elif before is not None and before != now:
        output.line(f"the ledger was upgraded from {before} to {now}")
    else:
        output.line(f"the ledger's schema is {now or 'missing'}; the newest is {newest}")
