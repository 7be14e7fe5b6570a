"""Libraries, schema, database and clock: what everything stands on."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper.config import load
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.ledger.mode import Mode
from sweeper.service.doctor import soundness
from sweeper.service.doctor.findings import Check, Finding, Level
from tests.support.registered import admit, registration


def found(db: Database, config: Path) -> dict[Check, list[Finding]]:
    told: dict[Check, list[Finding]] = {}
    for one in soundness.ledger(load.load(config, {}), db):
        told.setdefault(one.check, []).append(one)
    return told


@pytest.fixture
def config(tmp_path: Path, database_url: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[ledger]\nurl = "{database_url}"\n')
    return path


def test_the_libraries_that_run_are_named() -> None:
    (one,) = soundness.libraries()
    assert one.level is Level.OK
    for name in ("Python 3.", "sweeper 0.", "sqlalchemy 2.1", "httpx 0.28", "h11 0.", "SQLite 3."):
        assert name in one.message
    assert "apscheduler 3.11" in one.message


@pytest.mark.parametrize(
    "bounds,version,fits",
    [
        (">=2.1,<2.2", "2.1", True),
        (">=2.1,<2.2", "2.1.9", True),
        ("<2.2,>=2.1", "2.2", False),
        ("<2.2,>=2.1", "2.2.0b1", False),
        ("<4,>=3.11.3", "3.11.2", False),
        ("<4,>=3.11.3", "3.11.10", True),
        ("<4,>=3.11.3", "4.0", False),
        (">=14", "9.9", False),
        ("", "0.1", True),
        (">=1", None, False),
    ],
)
def test_a_library_that_the_program_was_not_made_for_is_a_fault(
    bounds: str, version: str | None, fits: bool
) -> None:
    wrong = list(soundness.misfits([f"thing{bounds}"], {"thing": version}))
    assert (wrong == []) is fits
    for one in wrong:
        assert (one.level, one.subject) == (Level.FAULT, "thing")
        assert one.next == f"pip install 'thing{bounds}', or install sweeper anew"


def test_a_library_that_is_not_there_is_missing() -> None:
    assert soundness._version("no-such-library-of-ours") is None
    (one,) = soundness.misfits(["no-such-library-of-ours>=1"], {"no-such-library-of-ours": None})
    assert one.message.startswith("no-such-library-of-ours is missing: ")


def test_what_only_an_extra_needs_is_not_missed() -> None:
    required = ['psycopg[binary]<4,>=3.2; extra == "postgres"', "???"]
    assert list(soundness.misfits(required, {})) == []


def test_a_sound_ledger_has_no_fault(database: Database, config: Path) -> None:
    told = found(database, config)
    assert set(told) == {Check.SCHEMA, Check.DATABASE}
    assert [one.level for one in told[Check.SCHEMA]] == [Level.OK]


def test_a_backup_is_told_to_be_one(database: Database, config: Path) -> None:
    with database.write() as connection:
        connection.execute(sa.update(tables.ledger).values(copied_at=1_760_000_000_000_000))
    _, one = found(database, config)[Check.SCHEMA]
    assert one.level is Level.WARNING
    assert "made at 2025-10-09T08:53:20" in one.message


def test_a_clock_that_went_back_is_a_fault(database: Database, config: Path) -> None:
    with database.write() as connection:
        connection.execute(sa.update(tables.ledger).values(last_good_at=4_000_000_000_000_000))
    (one,) = found(database, config)[Check.CLOCK]
    assert one.level is Level.FAULT
    assert "behind the last time at which it was right" in one.message


def test_a_database_that_may_lose_what_it_wrote_is_a_fault() -> None:
    settings = {"synchronous_commit": "on", "fsync": "off", "full_page_writes": "off"}
    (one,) = soundness._database(Mode(name="PostgreSQL 16", settings=settings))
    assert one.level is Level.FAULT
    assert one.next == "set fsync = on, full_page_writes = on in PostgreSQL"
    for safe in (dict.fromkeys(settings, "on"), {"journal_mode": "wal"}):
        (one,) = soundness._database(Mode(name="any", settings=safe))
        assert one.level is Level.OK


def test_a_ledger_that_agrees_with_itself_is_told_with_how_much_was_read(
    database: Database,
) -> None:
    (one,) = soundness.invariance(database)
    assert (one.check, one.level) == (Check.INVARIANTS, Level.OK)
    assert one.message == "1 records and 0 responses agree with one another"


def test_a_ledger_that_contradicts_itself_is_a_fault_for_each_sentence(database: Database) -> None:
    admit(database, registration("resp_1"))
    with database.write() as connection:
        connection.execute(sa.update(tables.label_sets).values(live_count=5))
        connection.execute(sa.update(tables.responses).values(quarantine_reason="rejected"))
    first, second = soundness.invariance(database)
    assert (first.level, second.level) == (Level.FAULT, Level.FAULT)
    assert "'resp_1': it is live, and has a reason to be set aside" in first.message
    assert "5 living are counted, 1 are there" in second.message
    assert first.next is not None
    assert first.next.startswith("stop the daemon, keep the ledger as it is")


def test_where_there_is_no_time_it_is_said_that_not_all_was_read(database: Database) -> None:
    (one,) = soundness.invariance(database, seconds=0)
    assert one.level is Level.OK
    assert one.message.startswith("the newest 0 records and 0 responses agree")
    assert one.message.endswith("for all others: sweeper db check")
