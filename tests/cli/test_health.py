"""`sweeper health` asks the daemon, believes nobody else, and waits for nobody long."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeper.cli import health as command
from sweeper.config import load
from sweeper.ledger import database as ledger_database
from sweeper.service.daemon.health import Health
from sweeper.service.daemon.vitals import STALLED_AFTER, Role, Vitals
from sweeper.telemetry.metrics import Metrics
from sweeper.web import app
from tests.support import asking
from tests.support.command import Result, Run


@pytest.fixture
def vitals() -> Vitals:
    return Vitals(role=Role.ACTIVE)


@pytest.fixture
def daemon(config: Path, sqlite_url: str, vitals: Vitals) -> Iterator[None]:
    """What a daemon answers, at the address that the configuration names."""
    db = ledger_database.open_database(sqlite_url)
    health = Health(load.load(config, {}), db, vitals, Metrics("1.2.3"))
    with asking.serving_in_a_thread(app.application(health)) as port:
        listen(config, f"127.0.0.1:{port}")
        yield
    db.close()


def listen(config: Path, address: str, more: str = "") -> None:
    config.write_text(config.read_text() + f'\n[http]\nlisten = "{address}"\n{more}\n')


def test_a_daemon_that_is_alive_is_well(run: Run, config: Path, daemon: None) -> None:
    result = run("-c", config, "health")
    assert (result.code, result.out, result.err) == (0, "alive (active)\n", "")

    told = run("-c", config, "health", "--json")
    assert (told.code, told.lines) == (
        0,
        [{"type": "health", "ok": True, "status": "ok", "role": "active"}],
    )


def test_one_whose_sweep_does_not_get_on_is_not(
    run: Run, config: Path, daemon: None, vitals: Vitals
) -> None:
    vitals.sweeping = True
    vitals.pulse._last = time.monotonic() - STALLED_AFTER - 1

    result = run("-c", config, "health")
    assert (result.code, result.out) == (1, "the sweep does not get on (active)\n")

    told = run("-c", config, "health", "--json").last
    assert (told["ok"], told["status"]) == (False, "stalled")


def test_one_that_cannot_do_its_duty_is_alive_and_not_ready(
    run: Run, config: Path, daemon: None, vitals: Vitals
) -> None:
    vitals.failing, vitals.unread_spool_files = "why", None

    assert run("-c", config, "health").code == 0
    result = run("-c", config, "health", "--ready")
    assert (result.code, result.out.splitlines()) == (
        1,
        ["not ready (active)", "  sweep_failing", "  spool", "next: sweeper status"],
    )
    told = run("-c", config, "health", "--ready", "--json")
    assert (told.code, told.last) == (
        1,
        {
            "type": "health",
            "ok": False,
            "ready": False,
            "role": "active",
            "failing": ["sweep_failing", "spool"],
        },
    )


def test_one_that_can_do_its_duty_is_ready(run: Run, config: Path, daemon: None) -> None:
    result = run("-c", config, "health", "--ready")
    assert (result.code, result.out) == (0, "ready (active)\n")


def test_nobody_there_is_an_error_that_says_what_to_do(run: Run, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listen(config, f"127.0.0.1:{port}")

    result = run("-c", config, "health", "--json")

    assert (result.code, result.out) == (1, "")
    assert result.error["error"] == "no_answer"
    assert f"127.0.0.1:{port}" in result.error["message"]
    assert "refused" in result.error["message"]
    assert "sweeper run" in result.error["hint"]


@pytest.mark.parametrize("more", ["", '\n[http]\nlisten = "127.0.0.1:0"\n'])
def test_without_an_address_nobody_can_be_asked(run: Run, config: Path, more: str) -> None:
    config.write_text(config.read_text() + more)

    result = run("-c", config, "health", "--json")

    assert (result.code, result.error["error"]) == (10, "configuration")
    assert "[http] listen" in result.error["hint"]


@contextmanager
def somebody(*pieces: bytes) -> Iterator[int]:
    """Somebody else at the port: it says these pieces, then nothing, and never hangs up."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(65536)
                for piece in pieces:
                    caller.sendall(piece)
                over.wait(20)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def ok(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def asked(run: Run, config: Path, port: int, *options: str) -> Result:
    listen(config, f"127.0.0.1:{port}")
    return run("-c", config, "health", "--json", *options)


@pytest.mark.parametrize(
    "said",
    [
        ok(b"<html>welcome</html>"),
        ok(b"[]"),
        ok(b"null"),
        ok(b'"ok"'),
        ok(b'{"ready": true}'),
        ok(b"[" * 100_000),
        ok(b"\xff\xfe"),
        ok(b'{"status":"ok","more":"' + b"x" * 1_000_000 + b'"}'),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        ok(b"", "302 Found"),
    ],
    ids=["html", "list", "null", "text", "other", "deep", "bytes", "long", "ssh", "redirect"],
)
def test_somebody_else_at_that_port_is_no_daemon(run: Run, config: Path, said: bytes) -> None:
    with somebody(said) as port:
        result = asked(run, config, port)

    assert (result.code, result.out) == (1, "")
    assert result.error["error"] == "no_answer"
    assert "is not sweeper run" in result.error["message"]


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"], ids=["nothing", "half"]
)
def test_nobody_is_waited_for_longer_than_told(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(command, "_TIME_OUT", 0.3)
    with somebody(said) as port:
        began = time.monotonic()
        result = asked(run, config, port)

        assert time.monotonic() - began < 3
    assert (result.code, result.error["error"]) == (1, "no_answer")


def test_somebody_who_says_a_byte_now_and_then_is_not_waited_for(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_TIME_OUT", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            caller, _ = listener.accept()
            with caller:
                while not over.wait(0.1):
                    try:
                        caller.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        result = asked(run, config, listener.getsockname()[1])
        took = time.monotonic() - began
        over.set()
        thread.join()

    assert took < 3
    assert "within" in result.error["message"]


def test_a_daemon_that_listens_everywhere_is_asked_on_this_machine(
    run: Run, config: Path, sqlite_url: str, vitals: Vitals
) -> None:
    db = ledger_database.open_database(sqlite_url)
    health = Health(load.load(config, {}), db, vitals, Metrics("1.2.3"))
    with asking.serving_in_a_thread(app.application(health), "0.0.0.0") as port:
        listen(config, f"0.0.0.0:{port}", "behind_proxy = true")

        assert run("-c", config, "health").code == 0
    db.close()


def test_the_environments_proxies_are_not_asked(
    run: Run, config: Path, daemon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert run("-c", config, "health").code == 0
