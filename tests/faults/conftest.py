"""Ledgers, providers and commands for the tests of the fault matrix."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import either, site
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import Rehearsal

__all__ = ["either", "site"]


@pytest.fixture
def rehearsal(tmp_path: Path, database_url: str) -> Iterator[Rehearsal]:
    """A sandbox, a ledger and a configuration, once for each kind of database."""
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        yield made
