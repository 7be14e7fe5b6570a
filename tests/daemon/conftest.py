"""A sandbox, a ledger of each kind, and the daemon as a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import daemon as daemons
from tests.support import rehearsal as rehearsals
from tests.support.daemon import Daemon
from tests.support.rehearsal import Rehearsal

Start = Callable[..., Daemon]


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """A sandbox with an SQLite ledger and a configuration that names both."""
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def either(tmp_path: Path, database_url: str) -> Iterator[Rehearsal]:
    """The same, once for each kind of database."""
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        yield made


@pytest.fixture
def start() -> Iterator[Start]:
    """Start daemons that end with the test: `start(rehearsal.config, NOTIFY_SOCKET=…)`."""
    with ExitStack() as stack:

        def begin(config: Path, *options: str, **environ: str) -> Daemon:
            return stack.enter_context(daemons.daemon(config, *options, **environ))

        yield begin
