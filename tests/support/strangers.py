"""Make files another user's: given away by root, and by anybody else by being somebody else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

STRANGER = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def give_away(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> int:
    """Let all of these be a stranger's to whoever looks now; returns the stranger's number."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, STRANGER, -1, follow_symlinks=False)
        return STRANGER
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", being(own + 1))
    return own


def being(uid: int) -> Callable[[], int]:
    """What `os.geteuid` tells to that user."""
    return lambda: uid
