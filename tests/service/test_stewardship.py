"""What people do about accounts keeps to the order in which everybody locks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper.config import load
from sweeper.domain.outcome import Breaker
from sweeper.domain.secret import Secret
from sweeper.ledger import accounts
from sweeper.service import operator, stewardship
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import KEY, Rehearsal


@pytest.fixture
def rehearsal(tmp_path: Path, database_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, database_url) as made:
        yield made


def test_a_reset_changes_the_account_before_it_locks_the_logs_head(rehearsal: Rehearsal) -> None:
    """Who locked them the other way round could wait in a circle with a sweep that settles."""
    config = load.load(rehearsal.config, {})
    texts: list[str] = []
    with rehearsal.database() as db:
        with db.write() as connection:
            accounts.ensure(connection, ["main"])
            row = accounts.get(connection, "main")
            assert row is not None
            accounts.open_breaker(connection, row, Breaker.NOT_FOUND, "seen", now=1)
        sa.event.listen(db.engine, "before_cursor_execute", lambda *values: texts.append(values[2]))
        _, closed = stewardship.reset(
            config, db, "main", Secret(KEY), expect_absent=1, who=operator.who({}, "known")
        )
    assert closed == [Breaker.NOT_FOUND]
    changed = [n for n, text in enumerate(texts) if text.startswith("UPDATE accounts")]
    recorded = [n for n, text in enumerate(texts) if text.startswith("INSERT INTO records")]
    assert changed[-1] < recorded[-1]
