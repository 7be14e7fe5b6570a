"""What the Dockerfile builds works for a user without rights, from a tree that it cannot change."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy import unitfile
from tests.deploy.conftest import Installation
from tests.support import patience

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

PR_SET_MDWE = 65
WITHOUT_WRITABLE_CODE = f"""
import ctypes, os, sys
if ctypes.CDLL(None).prctl({PR_SET_MDWE}, 1, 0, 0, 0) != 0:
    sys.exit(99)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def config(installation: Installation) -> Path:
    """A configuration without accounts, with a ledger, a spool and a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    path = installation.state / "config.toml"
    path.write_text(
        f'[ledger]\nurl = "sqlite:///{installation.state}/ledger.db"\n'
        f'[http]\nlisten = "127.0.0.1:{port}"\n'
        f'[schedule]\nevery = "1h"\n'
    )
    path.chmod(0o644)
    made = installation.run("-c", path, "db", "upgrade")
    assert made.code == 0, made.err
    return path


def test_nothing_of_it_can_be_written_by_its_user(installation: Installation) -> None:
    done = subprocess.run(
        ["find", str(installation.folder), "-writable", "!", "-type", "l"],
        capture_output=True,
        text=True,
        check=True,
        **installation.options(),
    )
    assert done.stdout == "" or os.geteuid() != 0


def test_it_does_the_whole_job(installation: Installation) -> None:
    shown = installation.run("--version")
    assert (shown.code, shown.err) == (0, "")
    demo = installation.run("demo", "--responses", "20", "--json")
    assert demo.code == 0, demo.err
    assert json.loads(demo.out.splitlines()[-1])["ok"] is True


def test_it_keeps_a_ledger_where_its_user_may_write(
    installation: Installation, config: Path
) -> None:
    made = installation.run("-c", config, "db", "upgrade")
    assert made.code == 0, made.err
    assert installation.run("-c", config, "db", "check").code == 0
    assert (installation.state / "ledger.db").stat().st_mode & 0o777 == 0o600


def live_and_end(installation: Installation, config: Path, *call: str) -> None:
    """Run the daemon until it is healthy, and end it as the image is ended."""
    child = subprocess.Popen(
        [*call, "sweeper", "-c", str(config), "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **installation.options(),
    )
    try:
        patience.wait_for(lambda: installation.run("-c", config, "health").code == 0, "health")
        child.send_signal(signal.SIGTERM)
        told, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0, told.decode()


def test_the_daemon_starts_is_healthy_and_ends_when_it_is_told(
    installation: Installation, config: Path
) -> None:
    assert installation.run("-c", config, "health").code == 1
    live_and_end(installation, config)
    assert installation.run("-c", config, "health").code == 1


def test_it_runs_where_memory_is_never_writable_and_executable(installation: Installation) -> None:
    python = f"{installation.folder}/bin/python"
    done = subprocess.run(
        [python, "-c", WITHOUT_WRITABLE_CODE, "sweeper", "demo", "--responses", "20"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **installation.options(),
    )
    if done.returncode == 99:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stderr


def _calls(name: str) -> set[str]:
    """The system calls of one of systemd's sets."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    ).stdout
    found: set[str] = set()
    for line in map(str.strip, shown.splitlines()[1:]):
        if line.startswith("@"):
            found |= _calls(line)
        elif line and not line.startswith("#"):
            found.add(line)
    return found


def _allowed() -> set[str]:
    """What the unit lets through: the sets that it names, less those behind a ~."""
    found: set[str] = set()
    for line in unitfile.values(unitfile.read("sweeper.service"), "Service", "SystemCallFilter"):
        named = set().union(*map(_calls, line.removeprefix("~").split()))
        found = found - named if line.startswith("~") else found | named
    return found


@pytest.fixture
def traced(installation: Installation) -> tuple[list[str], Callable[[], set[str]]]:
    """A call that notes every system call of what stands behind it, and what was noted."""
    strace = shutil.which("strace")
    assert strace is not None, "install strace"
    trace = installation.state / "trace"

    def noted() -> set[str]:
        patience.wait_for(lambda: "+++ exited with 0 +++" in trace.read_text()[-100:], "the end")
        return set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))

    # With -D the traced program is our child, so that it is the one which gets our signal.
    return [strace, "-D", "-f", "-o", str(trace)], noted


@pytest.mark.parametrize("what", ["demo", "daemon"])
def test_it_makes_no_system_call_that_the_units_forbid(
    installation: Installation,
    config: Path,
    traced: tuple[list[str], Callable[[], set[str]]],
    what: str,
) -> None:
    call, noted = traced
    if what == "daemon":
        live_and_end(installation, config, *call)
    else:
        demo = [*call, "sweeper", "demo", "--responses", "20"]
        subprocess.run(demo, capture_output=True, check=True, **installation.options())
    made = noted()
    assert {"execve", "openat", "flock", "pwrite64", "bind"} <= made
    assert made - _allowed() == set()
