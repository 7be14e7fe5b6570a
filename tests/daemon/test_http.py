"""The daemon answers while it sweeps, says what is wrong, and keeps the port to itself."""

import socket
from collections.abc import Callable
from datetime import timedelta

import pytest

from sweeper.sandbox.manners import Manner
from tests.support import asking, command, figures
from tests.support.daemon import Daemon
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

Start = Callable[..., Daemon]


def listening(rehearsal: Rehearsal) -> int:
    """Let the daemon listen at a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    rehearsal.write(f'\n[http]\nlisten = "127.0.0.1:{port}"\n')
    return port


def is_open(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def figure(port: int, name: str, **labels: str) -> float | None:
    return figures.figure(asking.ask_now(port, "/metrics").body, name, **labels)


def failing(port: int) -> list[str]:
    found: list[str] = asking.ask_now(port, "/readyz").json["failing"]
    return found


def test_it_tells_that_it_is_well_and_what_it_has_done(either: Rehearsal, start: Start) -> None:
    due = either.responses(7, age=timedelta(days=14, hours=1))
    port = listening(either)
    daemon = start(either.config)
    daemon.wait("sweep_finished")

    assert asking.ask_now(port, "/healthz").json == {"status": "ok", "role": "active"}
    assert wait_for(lambda: failing(port) == [], "readiness")
    deleted = figure(
        port, "sweeper_deletions_total", account="main", policy="support", outcome="deleted"
    )
    assert deleted == len(due)
    assert (
        figure(port, "sweeper_provider_requests_total", account="main", method="DELETE", code="200")
        == 7
    )
    assert figure(port, "sweeper_sweeps_total", result="complete") == 1
    assert (figure(port, "sweeper_next_sweep_timestamp_seconds") or 0) > 0
    assert command.process("-c", either.config, "health").code == 0
    assert command.process("-c", either.config, "health", "--ready").code == 0

    assert daemon.end() == 0
    with pytest.raises(ConnectionRefusedError):
        asking.ask_now(port, "/healthz")
    assert command.process("-c", either.config, "health").code == 1


def test_an_account_that_stops_is_named_until_it_goes_on(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.responses(3)
    rehearsal.use_key("fw_nobodys_key")
    port = listening(rehearsal)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")

    assert asking.ask_now(port, "/healthz").status == 200
    wanted = {"account_stopped:main:credential", "overdue:support"}
    assert wait_for(lambda: set(failing(port)) == wanted, f"{wanted}")
    assert figure(port, "sweeper_overdue_responses", policy="support") == 3
    assert figure(port, "sweeper_breaker_open", account="main", breaker="credential") == 1


def test_it_answers_while_a_sweep_waits_for_the_provider(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.responses(2, age=timedelta(days=14, hours=1))
    rehearsal.fault(method="DELETE", do=Manner.SILENCE)
    port = listening(rehearsal)
    start(rehearsal.config)
    rehearsal.wait_for_deletes(1)

    for path in ("/healthz", "/readyz", "/metrics"):
        assert asking.ask_now(port, path).status == 200


def test_a_standby_answers_too_and_is_ready(rehearsal: Rehearsal, start: Start) -> None:
    listening(rehearsal)
    start(rehearsal.config).wait("daemon_started")
    port = listening(rehearsal)
    start(rehearsal.config).wait("daemon_stands_by")

    wait_for(lambda: is_open(port), "listener")
    told = asking.ask_now(port, "/readyz")
    assert (told.status, told.json) == (200, {"ready": True, "role": "standby", "failing": []})


def test_a_port_that_is_taken_ends_it_with_what_to_do(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.responses(2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rehearsal.write(f'\n[http]\nlisten = "127.0.0.1:{port}"\n')
        daemon = start(rehearsal.config)

        assert daemon.ended() == 1
    assert any("[http] listen" in line for line in daemon.other), daemon.other
    assert rehearsal.requests("DELETE") == 0
