"""`db` makes, judges and copies ledgers."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sweeper.ledger import faults, schema
from tests.support.command import Run


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fresh.toml"
    path.write_text(
        '[ledger]\nurl = "sqlite:///fresh.db"\n[accounts.main]\nprovider = "fireworks"\n'
        'base_url = "http://127.0.0.1:9/inference"\napi_key_env = "KEY_OF_MAIN"\n'
    )
    monkeypatch.setenv("KEY_OF_MAIN", "fw_never_sent")
    return path


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_upgrade_makes_a_ledger_and_again_changes_nothing(run: Run, fresh: Path) -> None:
    newest = schema.newest()
    first = run("-c", fresh, "db", "upgrade")
    assert (first.code, first.out) == (
        0,
        f"the ledger's schema is {newest}; the newest is {newest}\n",
    )
    assert run("-c", fresh, "db", "upgrade", "--json").last == {
        "type": "schema",
        "current": newest,
        "newest": newest,
        "before": newest,
    }
    assert run("-c", fresh, "db", "current").out == first.out


@pytest.mark.parametrize("verb", [("current",), ("check",), ("backup", "copy.db")])
def test_only_upgrade_makes_a_file(run: Run, fresh: Path, verb: tuple[str, ...]) -> None:
    result = run("-c", fresh, "db", *verb)
    assert result.code == 1
    assert "there is no ledger at" in result.err
    assert f"hint: {faults.NO_LEDGER}" in result.err
    assert not fresh.with_name("fresh.db").exists()


def test_a_ledger_behind_or_ahead_is_told_with_13(run: Run, config: Path) -> None:
    ledger = config.with_name("ledger.db")
    sql(ledger, "UPDATE alembic_version SET version_num = '9999'")
    for verb in (("db", "check"), ("db", "backup", config.with_name("copy.db"))):
        result = run("-c", config, *verb, "--json")
        assert (result.code, result.error["error"]) == (13, "schema")
    sql(ledger, "DROP TABLE alembic_version")
    assert run("-c", config, "db", "check").code == 13
    current = run("-c", config, "db", "current")
    assert (current.code, current.out.startswith("the ledger's schema is missing")) == (0, True)


def test_a_whole_ledger_passes_the_check(run: Run, config: Path) -> None:
    assert run("-c", config, "db", "check").code == 0
    assert run("-c", config, "db", "check", "--json").last == {
        "type": "db_check",
        "ok": True,
        "faults": [],
        "copied_at": None,
        "records": 1,
        "responses": 0,
    }


@pytest.mark.parametrize(
    "statement,fault",
    [
        ("DELETE FROM records", "records: 0 is missing"),
        ("UPDATE records SET seq = 7", "records: 0 is missing"),
        ("DELETE FROM ledger", "ledger: its only row is missing"),
        ("INSERT INTO label_sets VALUES (1, 7, '{}', 0)", "label_sets: row 1 points at a row of"),
    ],
)
def test_damage_is_told(run: Run, config: Path, statement: str, fault: str) -> None:
    sql(config.with_name("ledger.db"), statement)
    result = run("-c", config, "db", "check")
    assert result.code == 1
    assert f"fault: {fault}" in result.out
    told = run("-c", config, "db", "check", "--json")
    assert (told.code, told.last["ok"], len(told.last["faults"])) == (1, False, 1)


def test_a_file_that_is_no_ledger_is_told(run: Run, config: Path) -> None:
    config.with_name("ledger.db").write_bytes(b"no database at all" * 100)
    result = run("-c", config, "db", "check", "--json")
    assert (result.code, result.error["error"]) == (1, "ledger")
    assert result.error["hint"] == "ledger.url names a file that is no ledger: name the right one"


ALL = [
    ("status",),
    ("plan",),
    ("sweep", "--dry-run"),
    ("explain", "resp_1"),
    ("responses", "list"),
    ("responses", "show", "resp_1"),
    ("account", "list"),
    ("sweep",),
    ("sweep", "--max", "1"),
    ("responses", "add", "resp_1", "--created-at", "1763769600"),
    ("responses", "import", "-"),
    ("account", "check", "main"),
    ("account", "reset", "main", "--reason", "tried"),
    ("account", "accept", "main", "--reason", "tried"),
    ("report",),
]


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_no_verb_but_an_upgrade_makes_a_ledger(
    run: Run, fresh: Path, verb: tuple[str, ...]
) -> None:
    result = run("-c", fresh, *verb, "--json")
    ledger = fresh.with_name("fresh.db")
    assert (result.code, result.out) == (1, "")
    assert result.error["message"] == f"there is no ledger at {ledger}"
    assert result.error["hint"] == faults.NO_LEDGER
    assert not ledger.exists()
    ledger.touch(mode=0o600)
    empty = run("-c", fresh, *verb, "--json")
    assert (empty.code, empty.error["hint"]) == (13, faults.NO_LEDGER)
    assert ledger.stat().st_size == 0


def test_a_backup_is_a_marked_copy_and_never_overwrites(run: Run, config: Path) -> None:
    copy = config.with_name("copy.db")
    result = run("-c", config, "db", "backup", copy, "--json")
    assert result.last == {"type": "backup", "file": str(copy), "bytes": copy.stat().st_size}
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        (copied_at,) = connection.execute("SELECT copied_at FROM ledger").fetchone()
    assert copied_at > 0
    copy.replace(config.with_name("ledger.db"))
    restored = run("-c", config, "db", "check", "--json")
    assert (restored.code, restored.last["ok"]) == (0, True)
    assert restored.last["copied_at"] is not None
    assert "this ledger is a backup, made at" in run("-c", config, "db", "check").out
    copy.touch()
    again = run("-c", config, "db", "backup", copy)
    assert (again.code, again.out) == (2, "")
    nowhere = run("-c", config, "db", "backup", config.with_name("none") / "copy.db", "--json")
    assert (nowhere.code, nowhere.error["error"]) == (1, "ledger")
    assert "a folder that exists" in nowhere.error["hint"]
    other = run("-c", config, "db", "backup", config.with_name("other.db"))
    assert "the ledger was copied to" in other.out


def test_a_postgresql_ledger_is_made_and_checked(
    run: Run, tmp_path: Path, postgresql_url: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[ledger]\nurl = "{postgresql_url}"\n')
    assert run("-c", path, "db", "upgrade").code == 0
    assert run("-c", path, "db", "check").code == 0
    assert "pg_dump" in run("-c", path, "db", "backup", tmp_path / "copy.db").err
