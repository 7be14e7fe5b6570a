"""Where the configuration stands: whoever may change it, or replace it, decides what is deleted."""

import os
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import place
from tests.support import strangers
from tests.support.strangers import STRANGER, as_root


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "conf").mkdir(0o755)
    path = tmp_path / "conf" / "config.toml"
    path.touch(0o600)
    return path


def refusal(path: Path, status: os.stat_result | None = None) -> errors.ConfigurationError:
    with pytest.raises(errors.ConfigurationError) as refused:
        place.check(path, path.stat() if status is None else status)
    return refused.value


def test_one_of_our_own_is_believed(config: Path) -> None:
    place.check(config, config.stat())


@pytest.mark.parametrize("us", [0, 1, STRANGER])
def test_one_of_roots_is_believed_by_everybody(us: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("/etc/passwd")
    assert path.stat().st_uid == 0
    monkeypatch.setattr(os, "geteuid", strangers.being(us))
    place.check(path, path.stat())


def test_one_of_another_user_is_refused(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whose = strangers.give_away(monkeypatch, config)
    refused = refusal(config)
    assert f"{config} belongs to another user (uid {whose})" in refused.message
    assert f"run: chown root {config};" in (refused.hint or "")


def test_it_is_judged_as_it_was_opened(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then another may stand in its place."""
    foreign = config.with_name("foreign.toml")
    foreign.touch(0o600)
    strangers.give_away(monkeypatch, foreign)
    assert "belongs to another user" in refusal(config, foreign.stat()).message
    foreign.chmod(0o666)
    assert "everybody may write" in refusal(config, foreign.stat()).message


@as_root
@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_of_another_user_above_it_is_refused(config: Path, depth: int) -> None:
    folder = config.parents[depth]
    os.chown(folder, STRANGER, -1)
    refused = refusal(config)
    assert refused.message.startswith(f"{folder} belongs to another user (uid {STRANGER})")
    assert f"run: chown -h root {folder}" in (refused.hint or "")


@as_root
def test_nor_is_the_link_of_another_user_followed(config: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    place.check(link, link.stat())
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert refusal(link).message.startswith(f"{link} belongs to another user")


@as_root
def test_a_folder_of_another_user_behind_a_link_is_refused(config: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(config)
    os.chown(config.parent, STRANGER, -1)
    assert refusal(link).message.startswith(f"{config.parent} belongs to another user")
