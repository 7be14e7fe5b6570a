"""What the tests of the fault matrix stand on; after each of them it is looked for secrets."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from sweeper.ledger import database as ledger_database
from tests.cli.conftest import run
from tests.daemon.conftest import start
from tests.engine.conftest import either, site
from tests.support import canary, command
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import Rehearsal

__all__ = ["either", "run", "site", "start"]

_LEDGERS = ("database_url", "postgresql_url")


@pytest.fixture
def rehearsal(tmp_path: Path, database_url: str) -> Iterator[Rehearsal]:
    """A sandbox, a ledger and a configuration, once for each kind of database."""
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_leaks(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After every test: no key and no content in an output, a log, an event, a file or a row."""
    names = set(request.fixturenames)
    urls = [request.getfixturevalue(name) for name in _LEDGERS if name in names]
    sites = [request.getfixturevalue(name) for name in ("site", "either") if name in names]
    command.written.clear()
    yield
    found = canary.leaks(caplog.text, "the log")
    found += canary.in_files(tmp_path)
    for text in command.written:
        found += canary.leaks(text, "what a command wrote")
    for one in sites:
        found += canary.leaks(repr(one.events), "the events")
    for url in urls:
        if url.startswith("postgresql"):
            db = ledger_database.open_database(url)
            try:
                found += canary.in_ledger(db)
            finally:
                db.close()
    assert found == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test let through to its own streams, or to a traceback, is looked at as well."""
    report = yield
    if found := canary.leaks(report.capstdout + report.capstderr, "what the test wrote"):
        report.outcome = "failed"
        report.longrepr = os.linesep.join(found)
    return report
