"""What the tests of the fault matrix stand on; after each of them it is looked for secrets."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.daemon.conftest import start
from tests.engine.conftest import either, site
from tests.support import canary, truth
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import Rehearsal

__all__ = ["either", "run", "site", "start"]

_IN_LEDGERS = pytest.StashKey[list[str]]()


@pytest.fixture
def rehearsal(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> Iterator[Rehearsal]:
    """A sandbox, a ledger and a configuration, once for each kind of database.

    What the ledger says must be true at the end, unless a test is marked as `untrue`.
    """
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        yield made
        if request.node.get_closest_marker("untrue") is None:
            truth.check(made)


@pytest.fixture(autouse=True)
def nothing_leaks(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """After every test: no key and no content in an output, a log, an event, a file or a row.

    It is set up before whatever makes a ledger or starts a process, and so comes last.
    """
    canary.begin()
    yield
    found = request.node.stash.get(_IN_LEDGERS, [])
    found += canary.indistinct()
    found += canary.leaks(caplog.text, "the log")
    found += canary.in_files(tmp_path)
    found += canary.in_told()
    assert found == []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Ledgers are looked through while their servers still run."""
    item.stash[_IN_LEDGERS] = canary.in_ledgers()
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test let through to its own streams is looked at as well."""
    report = yield
    if found := canary.leaks(report.capstdout + report.capstderr, "what the test wrote"):
        report.outcome = "failed"
        report.longrepr = os.linesep.join(found)
    if report.when == "teardown":
        canary.end()
    return report
