"""The server lives in the daemon's loop: it opens, costs nothing idle, and ends when told."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest
import sqlalchemy as sa

from sweeper import errors
from sweeper.ledger.database import Database
from sweeper.service.daemon.health import Health
from sweeper.web import app, server
from tests.support import patience
from tests.support.asking import ask, serving


async def _opened(health: Health) -> tuple[asyncio.Task[None], int]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answering = app.application(health)
    task = asyncio.create_task(server.serve(answering, "127.0.0.1", 0, told=port.set_result))
    return task, await port


async def _cancelled(task: "asyncio.Task[None]") -> float:
    """Cancel the server and tell how many seconds its end took."""
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began


async def test_it_tells_which_port_it_was_given(health: Health) -> None:
    task, port = await _opened(health)

    assert port > 0
    assert (await ask(port, "/healthz")).status == 200
    await _cancelled(task)


async def test_told_where_to_listen_it_listens_there(health: Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    task = asyncio.create_task(server.serve(app.application(health), "localhost", port))

    while not task.done() and not await _answers(port):
        pass

    assert not task.done()
    await _cancelled(task)
    assert not await _answers(port)


async def _answers(port: int) -> bool:
    try:
        return (await ask(port, "/healthz")).status == 200
    except OSError:
        return False


async def test_it_listens_on_ipv6_too(health: Health) -> None:
    async with serving(app.application(health), "::1") as port:
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n".encode())

        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()


async def test_an_address_that_is_taken_is_an_error_with_a_hint(health: Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.CannotListen, match=f"127.0.0.1:{port}: Address.*in use") as told:
            await server.serve(app.application(health), "127.0.0.1", port)

    assert told.value.exit_code == 1
    assert "[http] listen" in (told.value.hint or "")


async def test_it_ends_at_once_though_a_client_stays(health: Health) -> None:
    task, port = await _opened(health)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readline()
    half, half_writer = await asyncio.open_connection("127.0.0.1", port)
    half_writer.write(b"GET /healthz HTTP/1.1\r\nHost: loc")

    assert await _cancelled(task) < 1.9

    assert await _ended(half)
    for each in (writer, half_writer):
        each.close()


async def test_it_ends_though_it_is_not_open_yet(health: Health) -> None:
    opened: list[int] = []
    answering = app.application(health)
    task = asyncio.create_task(server.serve(answering, "127.0.0.1", 0, told=opened.append))
    await asyncio.sleep(0)

    assert await _cancelled(task) < 1.9
    assert opened == []


async def test_it_ends_soon_though_the_ledger_keeps_a_probe_waiting(
    health: Health, sqlite_database: Database
) -> None:
    task, port = await _opened(health)
    with sqlite_database.engine.connect() as blocker:
        blocker.execute(sa.text("SELECT 1"))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.to_thread(patience.wait_for, _reads, "thread that reads")

        assert await _cancelled(task) < 1.9
    writer.close()
    # Nothing may read a ledger that is closed.
    await asyncio.to_thread(patience.wait_for, lambda: not _reads(), "end of what is being read")


def _reads() -> bool:
    return any(each.name == "reading" for each in threading.enumerate())


class _Silent:
    """Never comes to an answer."""

    behind_proxy = False
    role = "active"
    is_stalled = False
    stopped: Sequence[Mapping[str, object]] = ()

    async def ready(self) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def metrics(self) -> bytes:
        raise NotImplementedError


async def test_it_ends_though_an_answer_never_comes() -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answering = app.application(_Silent())
    task = asyncio.create_task(server.serve(answering, "127.0.0.1", 0, told=port.set_result))
    reader, writer = await asyncio.open_connection("127.0.0.1", await port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    second, second_writer = await asyncio.open_connection("127.0.0.1", await port)
    second_writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await second.readline()

    assert await asyncio.wait_for(_cancelled(task), 10) < 5

    assert await _ended(reader)
    for each in (writer, second_writer):
        each.close()


async def test_the_processs_signals_stay_the_daemons(health: Health) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving(app.application(health)) as port:
        await ask(port, "/healthz")

        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


async def test_while_nobody_asks_no_timer_runs(health: Health) -> None:
    loop = asyncio.get_running_loop()
    async with serving(app.application(health)):
        waiting = [each for each in loop._scheduled if not each.cancelled()]  # type: ignore[attr-defined]  # asyncio's own list

        assert waiting == []


async def test_what_strangers_send_leaves_no_line_in_the_log(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(app.application(health)) as port:
        for sent in (b"\x16\x03\x01 nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()
        await ask(port, "/healthz")

    assert [each.getMessage() for each in caplog.records if each.name != "asyncio"] == []


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: l"])
async def test_a_connection_that_brings_no_request_is_dropped(
    health: Health, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    async with serving(app.application(health)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)

        assert await _ended(reader)
        writer.close()


async def test_a_connection_that_brings_half_of_a_second_request_is_dropped(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    async with serving(app.application(health)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.readuntil(b"}") != b""
        writer.write(b"GET /he")

        assert await _ended(reader)
        writer.close()


async def test_a_connection_that_goes_on_asking_is_kept(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.3)
    async with serving(app.application(health)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        last = time.monotonic() + 1.2
        while time.monotonic() < last:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        writer.close()


async def test_more_connections_than_it_has_room_for_are_dropped(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 3)
    async with serving(app.application(health)) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        assert await _ended(reader)
        assert not kept[0][0].at_eof()
        for each in (writer, *(one for _, one in kept)):
            each.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            await reader.read()
    return True
