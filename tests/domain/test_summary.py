"""A sweep is complete only when all that could be due is known, and is gone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sweeper.domain.summary import Summary

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DONE = Summary(
    sweep_id="s",
    dry_run=False,
    due=3,
    planned=2,
    outcomes={"deleted": 2},
    verified=2,
    held=1,
    remaining=1,
    remaining_by_reason={"held": 1},
    stop_reason=None,
    started_at=NOW,
    finished_at=NOW,
)


def test_what_is_held_alone_keeps_no_sweep_from_being_complete() -> None:
    assert DONE.complete


@pytest.mark.parametrize(
    "change",
    [
        {"stop_reason": "interrupted"},
        {"remaining": None},
        {"remaining": 2},
        {"unread_spool_files": 1},
        {"unread_spool_files": None},
    ],
)
def test_a_sweep_is_not_complete_while(change: dict[str, object]) -> None:
    assert not replace(DONE, **change).complete  # type: ignore[arg-type]  # the types differ


def test_a_file_that_was_not_read_is_told_in_json() -> None:
    assert replace(DONE, unread_spool_files=None).as_json()["unread_spool_files"] is None
    assert DONE.as_json()["unread_spool_files"] == 0
