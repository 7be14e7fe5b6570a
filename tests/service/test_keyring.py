"""Keys are read again while a process runs, and nobody uses one that the log does not know."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load
from sweeper.config.settings import Config
from sweeper.domain.secret import Secret
from sweeper.service.keyring import Keyring
from tests.support import rehearsal as rehearsals
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal

MAIN = {"main"}


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def config(rehearsal: Rehearsal) -> Config:
    return load.load(rehearsal.config, {})


async def test_every_key_that_can_be_read_is_redacted_first(
    rehearsal: Rehearsal, config: Config
) -> None:
    redacted: list[Secret] = []
    keyring = Keyring(environ={}, redact=redacted.extend)
    assert await keyring.read(config) == {"main": Secret(KEY)}
    rehearsal.use_key(OTHER_KEY)
    assert await keyring.reread(config.accounts[0]) == Secret(OTHER_KEY)
    rehearsal.key_file.unlink()
    assert isinstance(await keyring.reread(config.accounts[0]), errors.SecretError)
    assert redacted == [Secret(KEY), Secret(OTHER_KEY)]


async def test_another_key_is_noticed_once_and_only_where_it_is_looked_for(
    rehearsal: Rehearsal, config: Config
) -> None:
    keyring = Keyring(environ={}, redact=lambda _: None)
    await keyring.read(config)
    assert not await keyring.notices(config, MAIN)
    rehearsal.key_file.write_text("")
    assert not await keyring.notices(config, MAIN)
    rehearsal.use_key(OTHER_KEY)
    assert not await keyring.notices(config, {"another"})
    assert await keyring.notices(config, MAIN)
    assert not await keyring.notices(config, MAIN)
    rehearsal.use_key(KEY)
    assert await keyring.notices(config, MAIN)


async def test_whoever_has_read_none_yet_notices_the_first(config: Config) -> None:
    assert await Keyring(environ={}, redact=lambda _: None).notices(config, MAIN)
