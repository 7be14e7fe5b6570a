"""An installation as the Dockerfile makes it: read-only, for a user that is neither root nor we."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import dockerfile
from tests.support import command

NOBODY = 65532


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Where it is, and a folder that its user may write to."""

    folder: Path
    state: Path

    @property
    def program(self) -> str:
        return str(self.folder / "bin" / "sweeper")

    def options(self) -> dict[str, Any]:
        """How a process of the image is started: by number, with nothing of our environment."""
        path = f"{self.folder}/bin:/usr/local/bin:/usr/bin:/bin"
        return {"cwd": self.state, "env": {"PATH": path, "HOME": str(self.state)}, **_who()}

    def run(self, *arguments: object) -> command.Result:
        done = subprocess.run(
            ["sweeper", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self.options(),
        )
        return command.Result(code=done.returncode, out=done.stdout, err=done.stderr)


def _who() -> dict[str, Any]:
    """The user of the image where we are root, ourselves elsewhere."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _python() -> str:
    """A Python that this user may run, wherever the one that runs the tests lies."""
    for path in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3"):
        with suppress(OSError):
            call = [path, "-c", "import ensurepip, venv"]
            if subprocess.run(call, cwd="/", check=False, **_who()).returncode == 0:
                return str(path)
    raise AssertionError("install python3-venv")


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that other users can come to, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sweeper-deploy-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def installed(open_folder: Path) -> Path:
    """Do what the Dockerfile does: copy what it copies, and run what it runs."""
    source, target = open_folder / "src", open_folder / "sweeper"
    source.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in dockerfile.copied():
        path = dockerfile.ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=ignore)
        else:
            shutil.copy(path, source / name)
    (build,) = dockerfile.all_of(dockerfile.stages()[1], "RUN")
    made = build.replace("/opt/sweeper", str(target)).replace("python -m", f"{_python()} -m", 1)
    subprocess.run(["/bin/sh", "-euc", made], cwd=source, check=True, timeout=600)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)
    return target


@pytest.fixture
def installation(installed: Path, open_folder: Path) -> Installation:
    state = Path(tempfile.mkdtemp(dir=open_folder))
    if os.geteuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    return Installation(folder=installed, state=state)
