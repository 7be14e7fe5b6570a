"""Judge where the configuration stands: whoever may change it decides what is deleted."""

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from sweeper import errors
from sweeper.domain import permission


def check(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others may change, or put another in the place of.

    `status` is that of the file as it was opened. Raises ConfigurationError where everybody may
    write to it, or where it, a link to it or a folder above belongs to neither root nor us.
    """
    folders = sorted({*path.absolute().parents, *path.resolve().parents})
    _check_modes(path, status, folders)
    _check_owners(path, status, folders)


def _check_modes(path: Path, status: os.stat_result, folders: Iterable[Path]) -> None:
    places = [path] if permission.all_may_write(status.st_mode) else []
    places += [one for one in folders if permission.all_may_replace(one.stat().st_mode)]
    for place in places:
        raise errors.ConfigurationError(
            f"everybody may write to {place}, and so change the configuration {path}",
            hint=f"run: chmod o-w {shlex.quote(str(place))}",
        )


def _check_owners(path: Path, status: os.stat_result, folders: Iterable[Path]) -> None:
    ours = (permission.ROOT, os.geteuid())
    if status.st_uid not in ours:
        raise errors.ConfigurationError(
            f"the configuration {path} belongs to another user (uid {status.st_uid}), who so"
            " decides what is deleted",
            hint=f"look through it, then run: chown root {shlex.quote(str(path))}; or run sweeper"
            " as that user",
        )
    for one in (path.absolute(), *folders):  # the first may be a link
        owner = one.lstat().st_uid
        if owner not in ours:
            raise errors.ConfigurationError(
                f"{one} belongs to another user (uid {owner}), who may so put another file in the"
                f" place of the configuration {path}",
                hint="keep it where only root or you may write, as in /etc/sweeper; or run: chown"
                f" -h root {shlex.quote(str(one))}",
            )
