"""Schema: migrations make what the tables say, other schemas are refused, copies are marked."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import autogenerate, command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sweeper import errors
from sweeper.domain import moment
from sweeper.domain.plan import Plan
from sweeper.domain.policy import Match, Policy
from sweeper.engine import planning
from sweeper.ledger import database as ledger_database
from sweeper.ledger import faults, schema, tables
from sweeper.ledger.database import Database
from tests.support import lent, registered
from tests.support.sweeping import OPEN

Open = Callable[[str], Database]


@pytest.fixture
def opened() -> Any:
    made: list[Database] = []

    def open_it(url: str) -> Database:
        made.append(ledger_database.open_database(url))
        return made[-1]

    yield open_it
    for db in made:
        db.close()


def config(connection: sa.Connection) -> Config:
    made = Config(attributes={"connection": connection})
    made.set_main_option("path_separator", "os")
    made.set_main_option("script_location", str(schema._folder()))
    return made


def shape(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """Everything that the database itself says of our tables, checks and indexes included."""
    if connection.dialect.name == "sqlite":
        # The order of constraints within a table is not part of its meaning.
        found = connection.exec_driver_sql(
            "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'alembic%'"
            " AND name NOT LIKE 'sqlite_%' AND tbl_name NOT LIKE 'alembic%'"
        )
        return sorted((kind, name, tuple(sorted(_parts(sql)))) for kind, name, sql in found)
    columns = connection.exec_driver_sql(
        "SELECT 'column', table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'"
    )
    constraints = connection.exec_driver_sql(
        "SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
    )
    indexes = connection.exec_driver_sql(
        "SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes"
        " WHERE schemaname = 'public'"
    )
    rows = [*columns, *constraints, *indexes]
    return sorted(tuple(map(str, row)) for row in rows if "alembic" not in row[1])


def _parts(sql: str) -> list[str]:
    return [" ".join(line.split()).rstrip(",") for line in sql.splitlines()]


def test_a_new_ledger_is_upgraded_and_opens_its_log(empty_url: str, opened: Open) -> None:
    db = opened(empty_url)
    assert schema.current(db) is None
    schema.upgrade(db)
    assert schema.current(db) == schema.newest() == "0002"
    schema.check(db)
    (ledger,) = registered.rows(db, tables.ledger)
    assert ledger["log_size"] == 1
    assert ledger["copied_at"] is None
    (record,) = registered.rows(db, tables.records)
    assert record["type"] == "log.opened"


def test_upgrading_again_changes_nothing(database: Database) -> None:
    before = registered.rows(database, tables.ledger)
    schema.upgrade(database)
    assert registered.rows(database, tables.ledger) == before
    assert len(registered.rows(database, tables.records)) == 1


def test_two_that_upgrade_at_once_make_one_ledger(empty_url: str, opened: Open) -> None:
    ready = threading.Barrier(3)

    def upgrade() -> None:
        db = opened(empty_url)
        ready.wait(10)
        schema.upgrade(db)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(upgrade) for _ in range(3)]:
            done.result()
    db = opened(empty_url)
    assert len(registered.rows(db, tables.ledger)) == 1
    assert len(registered.rows(db, tables.records)) == 1


def test_the_newest_migration_is_the_head_of_one_line() -> None:
    made = Config()
    made.set_main_option("path_separator", "os")
    made.set_main_option("script_location", str(schema._folder()))
    scripts = ScriptDirectory.from_config(made)
    assert scripts.get_heads() == [schema.newest()]
    assert sorted(one.revision for one in scripts.walk_revisions()) == schema._revisions()


def test_migrations_make_exactly_the_tables_that_statements_name(
    empty_url: str, opened: Open
) -> None:
    db = opened(empty_url)
    with db.write() as connection:
        tables.METADATA.create_all(connection)
        said = shape(connection)
        tables.METADATA.drop_all(connection)
    schema.upgrade(db)
    with db.read() as connection:
        assert shape(connection) == said
        context = MigrationContext.configure(connection)
        assert autogenerate.compare_metadata(context, tables.METADATA) == []


def test_a_migration_can_be_taken_back(database: Database) -> None:
    with database.write() as connection:
        command.downgrade(config(connection), "base")
    with database.read() as connection:
        assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version"}
    assert schema.current(database) is None
    schema.upgrade(database)
    assert schema.current(database) == schema.newest()


def test_every_table_is_strict(sqlite_database: Database) -> None:
    with sqlite_database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        )
        strict = {name for name, is_strict in found if is_strict}
    assert strict == set(tables.METADATA.tables)


def set_revision(db: Database, revision: str) -> None:
    with db.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def test_a_ledger_without_tables_is_refused_with_the_command_to_run(
    empty_url: str, opened: Open
) -> None:
    with pytest.raises(errors.SchemaMismatch, match="no tables yet") as refused:
        schema.check(opened(empty_url))
    assert refused.value.hint == faults.NO_LEDGER
    assert refused.value.exit_code == 13


def test_a_ledger_that_is_ahead_is_refused_and_left_alone(database: Database) -> None:
    set_revision(database, "9999")
    with pytest.raises(errors.SchemaMismatch, match="is 9999, which this program does not know"):
        schema.check(database)
    with pytest.raises(errors.SchemaMismatch, match="9999"):
        schema.upgrade(database)
    assert schema.current(database) == "9999"


def test_a_ledger_that_is_behind_is_refused_with_the_command_to_run(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_revisions", lambda: ["0001", "0002", "0003"])
    with pytest.raises(errors.SchemaMismatch, match="is 0002, this program needs 0003") as refused:
        schema.check(database)
    assert refused.value.hint == "run: sweeper db upgrade"


def test_a_ledger_of_the_first_version_keeps_all_it_knows(
    empty_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as first:
        first.setattr(schema, "_revisions", lambda: ["0001"])
        old = opened(empty_url)
        schema.upgrade(old)
        assert schema.current(old) == "0001"
    registered.admit(old, registered.registration("resp_1"), registered.registration("resp_2"))
    before = {table: registered.rows(old, table) for table in (tables.responses, tables.records)}
    schema.upgrade(old)
    assert schema.current(old) == schema.newest()
    for table, rows in before.items():
        assert registered.rows(old, table) == rows
    assert registered.rows(old, tables.alarms) == []


def test_no_upgrade_makes_a_response_due(
    empty_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever installs a newer version and changes no setting has the same deleted as before."""
    with monkeypatch.context() as first:
        first.setattr(schema, "_revisions", lambda: ["0001"])
        old = opened(empty_url)
        schema.upgrade(old)
    _fill(old)
    moments = [registered.NOW + days * registered.DAY for days in (0, 1, 5, 6, 30, 3650)]
    before = [_plan(old, now) for now in moments]
    assert [plan.planned for plan in before] == [4, 5, 6, 6, 8, 8]
    assert {plan.unmatched for plan in before} == {1}
    schema.upgrade(old)
    assert schema.current(old) == schema.newest()
    assert [_plan(old, now) for now in moments] == before


def _fill(db: Database) -> None:
    """Due and not yet due, kept for ever or by nobody, in a chain, backing off, gone, set aside."""
    made = {"support": (20, 15, 14, 13, 9, 1), "bills": (400,), "contracts": (400,), "other": (9,)}
    registered.admit(
        db,
        *(
            registered.registration(f"{app}_{days}", age=days * registered.DAY, labels={"app": app})
            for app, ages in made.items()
            for days in ages
        ),
        registered.registration(
            "follows", age=14 * registered.DAY, labels={"app": "support"}, previous="support_20"
        ),
        *(
            registered.registration(name, age=20 * registered.DAY, labels={"app": "support"})
            for name in ("later", "gone", "aside")
        ),
    )
    lent.put(db, "later", next_try_at=moment.to_us(registered.NOW + 7 * registered.DAY))
    lent.put(db, "gone", state="gone", outcome="closed", finished_at=registered.NOW_US)
    lent.put(db, "aside", state="quarantined", quarantine_reason="conflicting")


def _plan(db: Database, now: datetime) -> Plan:
    policies = tuple(
        Policy(name=app, match=Match(labels={"app": frozenset({app})}), delete_after=keep)
        for app, keep in (("support", 14 * registered.DAY), ("bills", None), ("contracts", None))
    )
    scope = planning.Scope(policies=policies, accounts=frozenset({"main"}), guards=OPEN)
    return planning.Planner(db, scope, now).make()


def test_a_migration_that_fails_leaves_nothing_behind(
    empty_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = schema._folder()
    (tmp_path / "versions").mkdir()
    for name in ("env.py", "script.py.mako", "versions/0001_first_ledger.py"):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "versions" / "0002_broken.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        "revision, down_revision = '0002', '0001'\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.execute('SELECT * FROM no_such_table')\n"
    )
    monkeypatch.setattr(schema, "_folder", lambda: tmp_path)
    db = opened(empty_url)
    with pytest.raises(errors.LedgerError):
        schema.upgrade(db)
    assert schema.current(db) == "0001"
    with db.read() as connection:
        assert not sa.inspect(connection).has_table("half")


# Copies


def test_a_copy_is_whole_private_and_marked(sqlite_database: Database, tmp_path: Path) -> None:
    registered.admit(sqlite_database, registered.registration("resp_1"))
    target = tmp_path / "copy.db"
    schema.backup(sqlite_database, target)
    assert target.stat().st_mode & 0o777 == 0o600
    copy = ledger_database.open_database(f"sqlite:///{target}")
    try:
        schema.check(copy)
        assert registered.rows(copy) == registered.rows(sqlite_database)
        assert registered.rows(copy, tables.ledger)[0]["copied_at"] is not None
    finally:
        copy.close()
    assert registered.rows(sqlite_database, tables.ledger)[0]["copied_at"] is None


def test_a_copy_never_overwrites(sqlite_database: Database, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(errors.UsageError, match="exists already"):
        schema.backup(sqlite_database, target)
    assert target.read_text() == "precious"


def test_a_copy_into_a_folder_that_does_not_exist_is_refused(
    sqlite_database: Database, tmp_path: Path
) -> None:
    with pytest.raises(errors.LedgerError, match="cannot be made"):
        schema.backup(sqlite_database, tmp_path / "nowhere" / "copy.db")


def test_a_copy_that_fails_leaves_no_file(tmp_path: Path, opened: Open) -> None:
    db = opened(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(errors.LedgerError, match="could not be copied"):
        schema.backup(db, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_copy_of_a_damaged_ledger_is_refused(sqlite_database: Database, tmp_path: Path) -> None:
    registered.admit(sqlite_database, *(registered.registration(f"resp_{n}") for n in range(200)))
    assert sqlite_database.path is not None
    sqlite_database.engine.dispose()
    with closing(sqlite3.connect(sqlite_database.path)) as raw:
        pages = (
            raw.execute(
                "SELECT pageno FROM dbstat WHERE name = 'uq_responses_account_id_response_id'"
            )
            if _has_dbstat(raw)
            else []
        )
        page = next((row[0] for row in pages), None)
        if page is None:
            (page,) = raw.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_responses_1'"
            ).fetchone()
        (size,) = raw.execute("PRAGMA page_size").fetchone()
    content = bytearray(sqlite_database.path.read_bytes())
    content[(page - 1) * size + 100 : page * size] = bytes(size - 100)
    sqlite_database.path.write_bytes(content)
    with pytest.raises(errors.LedgerError, match=r"damaged|malformed"):
        schema.backup(sqlite_database, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def _has_dbstat(raw: sqlite3.Connection) -> bool:
    return ("ENABLE_DBSTAT_VTAB",) in raw.execute("PRAGMA compile_options").fetchall()


def test_a_ledger_in_postgresql_is_not_copied_here(
    postgresql_database: Database, tmp_path: Path
) -> None:
    with pytest.raises(errors.UsageError, match="PostgreSQL") as refused:
        schema.backup(postgresql_database, tmp_path / "copy.db")
    assert refused.value.hint == "use pg_dump"


def test_a_copy_made_while_others_commit_holds_one_state(
    sqlite_database: Database, tmp_path: Path
) -> None:
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            batch = [registered.registration(f"resp_{number}_{n}") for n in range(50)]
            registered.admit(sqlite_database, *batch)
            written.set()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        try:
            assert written.wait(30)
            for number in range(5):
                target = tmp_path / f"copy{number}.db"
                schema.backup(sqlite_database, target)
                with closing(sqlite3.connect(target)) as copy:
                    (rows,) = copy.execute("SELECT count(*) FROM responses").fetchone()
                    (live,) = copy.execute("SELECT sum(live_count) FROM label_sets").fetchone()
                    (logged,) = copy.execute("SELECT count(*) FROM records").fetchone()
                    (size,) = copy.execute("SELECT log_size FROM ledger").fetchone()
                assert rows == live > 0
                assert rows % 50 == 0
                assert logged == size == rows // 50 + 1
        finally:
            stop.set()
            writer.result()
