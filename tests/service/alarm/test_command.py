"""The alarm command hears everything, sees no secret, and can keep nobody waiting for ever."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from sweeper.service.alarm import command as alarm_command
from tests.support import command as called
from tests.support import patience

# Neither this shell nor the one that it starts ends when it is asked to.
STUBBORN = """trap '' TERM
sh -c 'echo $$ > {folder}/child; while :; do sleep 0.05; done' &
echo $$ > {folder}/leader
while :; do sleep 0.05; done
"""


def environment(**more: str) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], **more}


async def tell(
    script: str,
    document: bytes = b"{}\n",
    *,
    environ: Mapping[str, str] | None = None,
    longest: float = 20,
    grace: float = 0.2,
) -> str | None:
    return await alarm_command.tell(
        ["/bin/sh", "-c", script, "alarm", "first", "second one"],
        document,
        environ=environ or environment(),
        longest=longest,
        grace=grace,
    )


def is_at_work(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not fetched yet does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in "ZX"


def number(path: Path) -> int:
    """The number in a file, as soon as it is there."""
    written = patience.wait_for(
        lambda: path.exists() and path.read_text().endswith("\n"), f"line in {path.name}"
    )
    assert written
    return int(path.read_text())


async def stubborn(folder: Path) -> tuple[int, int]:
    leader = await asyncio.to_thread(number, folder / "leader")
    return leader, await asyncio.to_thread(number, folder / "child")


def wait_for_the_end(*pids: int) -> None:
    patience.wait_for(lambda: not any(map(is_at_work, pids)), "end of what was started")


async def test_it_gets_the_document_whole_and_its_arguments(tmp_path: Path) -> None:
    document = b'{"summary":"' + b"x" * 300_000 + b'"}\n'
    script = f'cat > {tmp_path}/in; pwd > {tmp_path}/at; echo "$#:$1:$2" > {tmp_path}/arguments'
    assert await tell(script, document) is None
    assert (tmp_path / "in").read_bytes() == document
    assert (tmp_path / "at").read_text() == "/\n"
    assert (tmp_path / "arguments").read_text() == "2:first:second one\n"


async def test_it_sees_no_variable_in_which_a_secret_may_stand(tmp_path: Path) -> None:
    kept = {"HOME": "/var/empty", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC", "USER": "s"}
    secret = {
        "FIREWORKS_API_KEY": "fw_secret",
        "SWEEPER__LEDGER__URL": "postgresql://u:secret@h/db",
        "CREDENTIALS_DIRECTORY": "/run/credentials/sweeper",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "PGPASSWORD": "secret",
        "MY_LC_SECRET": "secret",
    }
    given = environment(**kept, **secret)
    script = f"tr '\\0' '\\n' < /proc/$$/environ > {tmp_path}/environ"
    assert await tell(script, environ=given) is None
    seen = dict(line.split("=", 1) for line in (tmp_path / "environ").read_text().splitlines())
    assert seen == {"PATH": given["PATH"], **kept}


async def test_it_gets_none_of_our_files(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        assert await tell(f"ls -l /proc/$$/fd | cat > {tmp_path}/files") is None
    finally:
        os.close(descriptor)
    files = (tmp_path / "files").read_text()
    assert "-> /dev/null" in files
    assert str(tmp_path) not in files


async def test_it_has_a_session_of_its_own(tmp_path: Path) -> None:
    assert await tell(f"cut -d ' ' -f 1,6 /proc/$$/stat > {tmp_path}/session") is None
    pid, session = (tmp_path / "session").read_text().split()
    assert pid == session


async def test_what_it_writes_goes_nowhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert await tell("echo loud; echo louder >&2") is None
    assert capfd.readouterr() == ("", "")


async def test_one_that_does_not_listen_may_have_told_somebody_all_the_same() -> None:
    assert await tell("exec true", b"x" * 1_000_000) is None


@pytest.mark.parametrize(
    "script, told",
    [("exit 7", "it ended with code 7"), ("kill -9 $$", "it was ended by signal 9")],
)
async def test_how_it_failed_is_told(script: str, told: str) -> None:
    assert await tell(script) == told


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda _: None, "it could not be started: No such file or directory"),
        (lambda path: path.touch(0o600), "it could not be started: Permission denied"),
        (lambda path: path.mkdir(), "it could not be started: Permission denied"),
    ],
)
async def test_why_it_could_not_be_started_is_told(
    make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    program = tmp_path / "page"
    make(program)
    assert await alarm_command.tell([str(program)], b"{}\n", environ=environment()) == told


async def test_one_that_takes_too_long_is_asked_to_end(tmp_path: Path) -> None:
    script = f"trap 'echo asked > {tmp_path}/asked; exit 0' TERM; while :; do sleep 0.02; done"
    assert await tell(script, longest=1.5, grace=20) == "it took longer than 1.5 s"
    assert (tmp_path / "asked").exists()


async def test_one_that_never_listens_takes_too_long_as_well() -> None:
    assert await tell("exec sleep 60", b"x" * 1_000_000, longest=0.2) == "it took longer than 0.2 s"


async def test_one_that_will_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    telling = asyncio.create_task(tell(STUBBORN.format(folder=tmp_path), longest=3))
    pids = await stubborn(tmp_path)
    assert all(map(is_at_work, pids))
    assert await telling == "it took longer than 3 s"
    wait_for_the_end(*pids)


async def test_when_telling_is_given_up_the_command_is_ended(tmp_path: Path) -> None:
    telling = asyncio.create_task(tell(STUBBORN.format(folder=tmp_path)))
    pids = await stubborn(tmp_path)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    wait_for_the_end(*pids)


async def test_when_telling_is_given_up_twice_the_command_is_ended_at_once(
    tmp_path: Path,
) -> None:
    telling = asyncio.create_task(tell(STUBBORN.format(folder=tmp_path), grace=60))
    pids = await stubborn(tmp_path)
    began = time.monotonic()
    telling.cancel()
    await asyncio.sleep(0)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling
    wait_for_the_end(*pids)
    assert time.monotonic() - began < 30


async def test_what_it_leaves_at_work_in_the_background_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    script = f"sh -c 'echo $$ > {tmp_path}/left; exec sleep 60' & exit 0"
    began = time.monotonic()
    assert await tell(script) is None
    assert time.monotonic() - began < 20
    pid = await asyncio.to_thread(number, tmp_path / "left")
    assert is_at_work(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


FOREIGN = """
import os, signal, types
from sweeper.service.alarm import command
theirs = types.SimpleNamespace(pid=os.getpgid(os.getppid()))
os.setuid(65534)
try:
    os.killpg(theirs.pid, 0)
except PermissionError:
    command._signal(theirs, 0)
    print("left")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_one_that_runs_as_another_user_is_left_and_ends_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN],
        env=called.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        start_new_session=True,
    )
    assert done.stdout == "left\n"
