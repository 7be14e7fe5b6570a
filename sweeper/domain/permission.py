"""What a file's mode lets others do who are neither its owner nor of its group."""

import stat
from typing import Final

ROOT: Final = 0
"""The user who may change any file anyhow."""


def all_may_write(mode: int) -> bool:
    """Whether everybody may change a file, or make files in a folder."""
    return bool(mode & stat.S_IWOTH)


def all_may_replace(mode: int) -> bool:
    """Whether everybody may put other files in the place of those in a folder.

    In a sticky one, such as /tmp, only the owner of a file may.
    """
    return all_may_write(mode) and not mode & stat.S_ISVTX
