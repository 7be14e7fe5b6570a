"""Who may write is told by a file's mode; a sticky folder protects what lies in it."""

import stat

import pytest

from sweeper.domain import permission


@pytest.mark.parametrize(
    "mode, may", [(0o600, False), (0o660, False), (0o602, True), (0o777, True)]
)
def test_everybody_may_write_where_the_last_bits_say_so(mode: int, may: bool) -> None:
    assert permission.all_may_write(stat.S_IFREG | mode) is may


@pytest.mark.parametrize(
    "mode, may", [(0o700, False), (0o775, False), (0o777, True), (0o1777, False), (0o1775, False)]
)
def test_everybody_may_replace_files_unless_the_folder_is_sticky(mode: int, may: bool) -> None:
    assert permission.all_may_replace(stat.S_IFDIR | mode) is may
