"""The service manager hears the truth, and nothing that goes wrong there ends a sweep."""

import os
from pathlib import Path

import pytest

from sweeper.service.daemon.systemd import Notifier
from tests.support import daemon
from tests.support.patience import wait_for


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_arrives_on_a_path_and_on_an_abstract_socket(
    tmp_path: Path, abstract: bool
) -> None:
    with daemon.manager(tmp_path, abstract=abstract) as manager:
        notifier = Notifier({"NOTIFY_SOCKET": manager.address})
        notifier.ready("at work")
        notifier.status("two\nlines")
        notifier.alive()
        notifier.reloading()
        notifier.stopping("ending")
        wait_for(lambda: len(manager.heard) == 5, "five messages")
    ready, status, alive, reloading, stopping = manager.heard
    assert ready == "READY=1\nSTATUS=at work"
    assert status == "STATUS=two lines"
    assert alive == "WATCHDOG=1"
    word, monotonic = reloading.split("\n")
    assert word == "RELOADING=1"
    assert int(monotonic.removeprefix("MONOTONIC_USEC=")) > 0
    assert stopping == "STOPPING=1\nSTATUS=ending"


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("at work")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready("at work")
    Notifier({"NOTIFY_SOCKET": "x" * 500}).ready("at work")


def test_programs_that_are_started_later_cannot_speak_for_the_daemon(tmp_path: Path) -> None:
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = Notifier(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.interval == 10.0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_where_no_sign_of_life_is_asked_of_this_process_a_slow_one_is_enough(
    environ: dict[str, str],
) -> None:
    assert Notifier(environ).interval == 10.0


def test_a_sign_of_life_comes_three_times_as_often_as_it_is_wanted() -> None:
    assert Notifier({"WATCHDOG_USEC": "600000"}).interval == pytest.approx(0.2)
