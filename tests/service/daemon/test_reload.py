"""A new configuration is taken up wholly or not at all."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load
from sweeper.config.settings import Config, Listen
from sweeper.domain.schedule import Schedule
from sweeper.service.daemon import reload
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import Rehearsal


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def old(rehearsal: Rehearsal) -> Config:
    return load.load(rehearsal.config, {})


def loading(config: Config) -> Callable[[], Config]:
    return lambda: config


def test_a_valid_configuration_is_taken_up_with_its_changes_named(old: Config) -> None:
    new = replace(
        old,
        schedule=Schedule(every=timedelta(hours=1)),
        policies=old.policies[:1],
        path=old.path / "x",
        warnings=("w",),
    )
    assert reload.take_up(old, loading(new), {}) is new
    assert reload.changed(old, new) == ("policies", "schedule")
    assert reload.changed(old, old) == ()


@pytest.mark.parametrize(
    "change,name",
    [
        ({"ledger_url": "sqlite:////other.db"}, "ledger.url"),
        ({"listen": Listen(host="127.0.0.1", port=1)}, "http.listen"),
        ({"behind_proxy": True}, "http"),
    ],
)
def test_what_a_running_daemon_cannot_change_refuses_the_whole(
    old: Config, change: dict[str, object], name: str
) -> None:
    new = replace(old, **change)  # type: ignore[arg-type]  # the fields differ in their types
    with pytest.raises(errors.ConfigurationError) as refused:
        reload.take_up(old, loading(new), {})
    assert refused.value.faults == (f"{name}: cannot change while sweeper runs; restart it",)


def test_a_key_that_cannot_be_read_refuses_the_whole(old: Config, rehearsal: Rehearsal) -> None:
    rehearsal.key_file.unlink()
    with pytest.raises(errors.ConfigurationError) as refused:
        reload.take_up(old, loading(old), {})
    assert "accounts.main: the API key in file" in refused.value.faults[0]


def test_only_what_might_delete_otherwise_ends_a_running_sweep() -> None:
    assert reload.binds_a_running_sweep(("policies", "log"))
    assert reload.binds_a_running_sweep(("accounts",))
    assert reload.binds_a_running_sweep(("guards",))
    assert not reload.binds_a_running_sweep(("alarm", "intake", "log", "schedule"))
