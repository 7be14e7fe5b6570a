"""What the wheel and the source archive hold."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _built(target: str, folder: Path) -> Path:
    """Build with the backend that pip would call, without fetching it anew."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in the wheel."""
    with zipfile.ZipFile(_built("wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_migrations_and_says_that_it_is_typed(wheel: set[str]) -> None:
    migrations = {path.name for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py")}

    assert migrations
    assert {f"sweeper/_migrations/versions/{name}" for name in migrations} <= wheel
    assert {"sweeper/_migrations/env.py", "sweeper/py.typed"} <= wheel


def test_the_wheel_holds_every_module(wheel: set[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "sweeper").rglob("*.py")}

    assert modules <= wheel


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel: set[str]) -> None:
    folders = {name.partition("/")[0] for name in wheel}

    assert {name.partition("-")[0] for name in folders} == {"sweeper"}
    assert len(folders) == 2
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)
    assert not [name for name in wheel if "__pycache__" in name]


def test_the_source_archive_holds_what_tests_and_docs_need(tmp_path: Path) -> None:
    with tarfile.open(_built("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    wanted = {"README.md", "LICENSE", "config.example.toml", "docs/architecture.md", ".ci/run"}
    assert wanted <= names
    assert {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith(".venv")]
