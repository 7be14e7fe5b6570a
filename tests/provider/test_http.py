import asyncio
import gzip
import logging
import re
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest

from sweeper import errors
from sweeper.provider import http
from tests.support import hostile
from tests.support.hostile import Peer, Script, Visit

FIRST = hostile.answer(200, b'{"message":"first"}')
SECOND = hostile.answer(200, b'{"message":"second"}')
STRAY = hostile.answer(200, b'{"message":"stray"}')
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n{"
SHORT = timedelta(seconds=0.2)
CANARY = "fw_canary5f2e"


@asynccontextmanager
async def talking(
    script: Script, *, total: timedelta = http.TOTAL_DEADLINE, idle: timedelta = http.IDLE_LIMIT
) -> AsyncIterator[tuple[Peer, "Client"]]:
    async with hostile.peer(script) as peer:
        transport = http.Transport(peer.url, total=total, idle=idle)
        try:
            yield peer, Client(peer.url, transport)
        finally:
            await transport.aclose()


class Client:
    def __init__(self, url: str, transport: http.Transport) -> None:
        self.url = url
        self.transport = transport

    async def delete(self, name: str = "resp_1") -> httpx.Response:
        return await self._ask("DELETE", name, {})

    async def get(self, name: str = "resp_1") -> httpx.Response:
        return await self._ask("GET", name, {"head_only": True})

    async def _ask(self, method: str, name: str, extensions: dict[str, bool]) -> httpx.Response:
        request = httpx.Request(
            method,
            f"{self.url}/v1/responses/{name}",
            headers={"Authorization": f"Bearer {CANARY}"},
            extensions=extensions,
        )
        async with asyncio.timeout(hostile.PATIENCE):
            return await self.transport.handle_async_request(request)


async def body(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.ByteStream)
    return b"".join([part async for part in response.stream])


def fixed(said: bytes, *, then_ends: bool = False) -> Script:
    async def script(visit: Visit) -> None:
        while await visit.question():
            visit.say(said)
            if then_ends:
                return

    return script


async def test_a_question_is_one_write_of_exactly_what_was_asked() -> None:
    async with talking(fixed(FIRST)) as (peer, client):
        await client.delete()
    assert peer.visits[0].reads == [
        b"DELETE /v1/responses/resp_1 HTTP/1.1\r\n"
        b"Host: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n\r\n" % (peer.port, CANARY.encode())
    ]


async def test_a_kept_alive_connection_is_used_again() -> None:
    async with talking(fixed(FIRST)) as (peer, client):
        for number in range(5):
            assert (await client.delete(f"resp_{number}")).status_code == 200
        assert len(peer.visits) == 1
        assert len(peer.questions) == 5


async def test_each_question_in_flight_has_its_own_connection_and_the_last_used_goes_first() -> (
    None
):
    arrived = asyncio.Barrier(4)

    async def script(visit: Visit) -> None:
        await visit.question()
        await arrived.wait()
        visit.say(FIRST)
        await fixed(SECOND)(visit)

    async with talking(script) as (peer, client):
        await asyncio.gather(*(client.delete() for _ in range(4)))
        for _ in range(3):
            await client.delete()
        assert len(peer.visits) == 4
        assert sorted(len(visit.questions) for visit in peer.visits) == [1, 1, 1, 4]


async def test_no_connection_asks_for_deletions_and_looks() -> None:
    async with talking(fixed(hostile.answer(404, b"{}"))) as (peer, client):
        for _ in range(3):
            await client.delete()
            await client.get()
        asked = [{question[:3] for question in visit.questions} for visit in peer.visits]
        assert asked == [{b"DEL"}, {b"GET"}]


async def test_a_connection_idle_for_too_long_is_closed_and_not_used_again() -> None:
    async with talking(fixed(FIRST), idle=timedelta(0)) as (peer, client):
        await client.delete()
        await client.delete()
        await peer.visits[0].gone.wait()
        assert len(peer.visits) == 2
    assert timedelta(seconds=15) == http.IDLE_LIMIT


async def test_refused_connections_were_certainly_not_sent_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    client = Client(url, http.Transport(url))
    with pytest.raises(httpx.ConnectError, match="refused"):
        await client.delete()
    await client.transport.aclose()


@pytest.mark.parametrize("host", ["nobody.invalid", f"{'a' * 70}.invalid"])
async def test_a_name_that_does_not_resolve_was_certainly_not_sent_to(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    if len(host) < 64:  # the other one fails before any resolver is asked
        monkeypatch.setattr(socket, "getaddrinfo", nobody)
    client = Client(f"http://{host}", http.Transport(f"http://{host}"))
    with pytest.raises(httpx.ConnectError, match="dns"):
        await client.delete()


async def test_an_unreachable_network_was_certainly_not_sent_to() -> None:
    url = "http://255.255.255.255:9"  # no connection can be made to a broadcast address
    with pytest.raises(httpx.ConnectError, match="unreachable"):
        await Client(url, http.Transport(url)).delete()


async def test_without_tls_nothing_is_written_that_leaves_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hostile.peer(hostile.silent) as peer:
        # The same machine by an address that is not counted as one of its own.
        elsewhere = ("::ffff:127.0.0.1", peer.port, 0, 0)
        found = [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", elsewhere)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        url = f"http://localhost:{peer.port}"
        client = Client(url, http.Transport(url))
        with pytest.raises(httpx.ConnectError, match="dns"):
            await client.delete()
        await peer.until_all_gone()
        assert [visit.reads for visit in peer.visits] == [[]]


@pytest.mark.parametrize(
    "connect, total", [(SHORT, SHORT * 50), (SHORT * 50, SHORT)], ids=["connect", "total"]
)
async def test_a_deadline_before_the_write_is_not_sent(
    connect: timedelta, total: timedelta
) -> None:
    async with hostile.peer(hostile.silent) as peer:  # accepts, and never shakes hands
        url = f"https://127.0.0.1:{peer.port}"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client = Client(url, http.Transport(url, tls=tls, connect=connect, total=total))
        with pytest.raises(httpx.ConnectTimeout, match="timeout"):
            await client.delete()
        await peer.until_all_gone()
        assert peer.questions == []
        await client.transport.aclose()


async def test_the_total_deadline_after_the_write_is_ambiguous_and_closes() -> None:
    async with talking(hostile.silent, total=SHORT) as (peer, client):
        with pytest.raises(httpx.ReadTimeout, match="timeout"):
            await client.delete()
        await peer.until_all_gone()
        assert len(peer.questions) == 1


async def test_a_question_in_haste_is_ambiguous_and_closes_well_before_its_deadline() -> None:
    heard = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.question()
        heard.set()
        await visit.until_gone()

    async with talking(script, total=timedelta(seconds=60)) as (peer, client):
        asked = asyncio.create_task(client.delete())
        await heard.wait()
        client.transport.hurry(0.05)
        with pytest.raises(httpx.ReadTimeout, match="timeout"):
            await asked
        await peer.until_all_gone()
        assert len(peer.questions) == 1


@pytest.mark.parametrize("start", [FIRST[:40], LONG], ids=["in the head", "in the body"])
async def test_a_drip_is_ended_by_the_total_deadline(start: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(start)
        for _ in range(1000):  # each byte comes well within any limit on one read
            await visit.say_all(b"a")
            await asyncio.sleep(0.02)

    async with talking(script, total=SHORT) as (peer, client):
        with pytest.raises(httpx.ReadTimeout, match="timeout"):
            await client.delete()
        await peer.until_all_gone()


async def test_a_drip_within_the_deadline_is_read() -> None:
    async def script(visit: Visit) -> None:
        await visit.question()
        for byte in FIRST:
            await visit.say_all(bytes([byte]))
            await asyncio.sleep(0)
        await visit.until_gone()

    async with talking(script) as (_, client):
        assert await body(await client.delete()) == b'{"message":"first"}'


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_kept_alive_connection_that_drops_as_we_send_is_ambiguous_and_sent_once(
    way: str,
) -> None:
    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(FIRST)
        await visit.question()
        if way == "reset":
            visit.reset()

    async with talking(script) as (peer, client):
        await client.delete("resp_1")
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)) as caught:
            await client.delete("resp_2")
        assert str(caught.value) == ("reset" if way == "reset" else "closed")
        await peer.until_all_gone()
        assert len(peer.visits) == 1
        assert [question.split()[1][-6:] for question in peer.questions] == [b"resp_1", b"resp_2"]


async def test_a_stray_answer_in_the_same_packet_settles_nothing() -> None:
    scripts = [fixed(FIRST + STRAY), fixed(SECOND)]
    async with talking(hostile.visiting(scripts)) as (peer, client):
        assert await body(await client.delete()) == b'{"message":"first"}'
        assert await body(await client.delete()) == b'{"message":"second"}'
        await peer.visits[0].gone.wait()
        assert [len(visit.questions) for visit in peer.visits] == [1, 1]


@pytest.mark.parametrize("stray", [STRAY, b"\r\n", b"x"])
async def test_any_byte_on_an_idle_connection_drops_it(stray: bytes) -> None:
    async with talking(hostile.visiting([fixed(FIRST), fixed(SECOND)])) as (peer, client):
        await client.delete()
        peer.visits[0].say(stray)
        async with asyncio.timeout(hostile.PATIENCE):
            await peer.visits[0].gone.wait()
        assert await body(await client.delete()) == b'{"message":"second"}'


async def test_a_stray_answer_not_yet_read_from_the_socket_settles_nothing() -> None:
    async with talking(hostile.visiting([fixed(FIRST), fixed(SECOND)])) as (peer, client):
        await client.delete()
        peer.visits[0].say(STRAY)  # the loop has had no turn to read it
        assert await body(await client.delete()) == b'{"message":"second"}'
        assert [len(visit.questions) for visit in peer.visits] == [1, 1]


async def test_of_several_idle_connections_only_one_on_which_nothing_came_is_asked() -> None:
    async def script(visit: Visit) -> None:
        while await visit.question():
            if len(visit.questions) > 1:
                visit.say(SECOND)

    async with talking(script) as (peer, client):
        asking = {asyncio.create_task(client.delete()) for _ in range(3)}
        while len(peer.questions) < 3:
            peer.asked.clear()
            await peer.asked.wait()
        for visit in peer.visits:
            visit.say(FIRST)  # the first one is idle first, and so is asked last
            _, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for visit in peer.visits[1:]:
            visit.say(STRAY)
        assert await body(await client.delete()) == b'{"message":"second"}'
        assert [len(visit.questions) for visit in peer.visits] == [2, 1, 1]


async def test_a_connection_that_the_server_ended_meanwhile_is_not_written_to() -> None:
    async with talking(hostile.visiting([fixed(FIRST), fixed(SECOND)])) as (peer, client):
        await client.delete()
        peer.visits[0].finish()
        assert await body(await client.delete()) == b'{"message":"second"}'
        assert [len(visit.questions) for visit in peer.visits] == [1, 1]


async def test_an_answer_that_came_before_the_question_settles_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def greet() -> socket.socket:
            while True:
                try:
                    met, _ = listener.accept()
                except BlockingIOError:
                    await asyncio.sleep(0)  # the very turn in which the client connects
                    continue
                met.send(STRAY)
                return met

        greeting = asyncio.create_task(greet())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(url, http.Transport(url))
        with pytest.raises(httpx.ConnectError, match="protocol"):
            await client.delete()
        await client.transport.aclose()
        with await greeting as met:
            met.settimeout(hostile.PATIENCE)
            with pytest.raises(ConnectionResetError):
                met.recv(100)


async def test_a_cancelled_question_drops_its_connection_and_its_late_answer() -> None:
    cancelled = asyncio.Event()

    async def late(visit: Visit) -> None:
        await visit.question()
        await cancelled.wait()
        visit.say(STRAY)
        await visit.until_gone()

    async with talking(hostile.visiting([late, fixed(SECOND)])) as (peer, client):
        asking = asyncio.create_task(client.delete())
        await peer.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        cancelled.set()
        assert await body(await client.delete()) == b'{"message":"second"}'
        async with asyncio.timeout(hostile.PATIENCE):
            await peer.visits[0].gone.wait()


async def test_an_answer_and_a_cancellation_in_one_turn_leave_no_connection_behind() -> None:
    async with talking(hostile.visiting([hostile.silent, fixed(SECOND)])) as (peer, client):
        asking = asyncio.create_task(client.delete())
        await peer.asked.wait()
        peer.visits[0].say(FIRST)
        asyncio.get_running_loop().call_soon(asking.cancel)
        await asyncio.gather(asking, return_exceptions=True)
        if asking.cancelled():
            await peer.until_all_gone()
        assert (await client.delete()).status_code == 200


async def test_closing_loses_what_is_in_flight_and_waits_for_the_end() -> None:
    async with talking(hostile.silent) as (peer, client):
        asking = asyncio.create_task(client.delete())
        await peer.asked.wait()
        await client.transport.aclose()
        with pytest.raises(httpx.RemoteProtocolError, match="closed"):
            await asking
        await client.transport.aclose()


BROKEN = {
    "garbage": b"SSH-2.0-OpenSSH\r\n\r\n",
    "another version": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no such status": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge headers": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    "a broken header": b"HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_breaks_the_protocol_is_ambiguous(said: bytes) -> None:
    async with talking(fixed(said)) as (peer, client):
        with pytest.raises(httpx.RemoteProtocolError, match="protocol"):
            await client.delete()
        await peer.until_all_gone()
        assert len(peer.questions) == 1


@pytest.mark.parametrize(
    "said",
    [b"", FIRST[:10], FIRST[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
    ids=["nothing", "in the head", "in the body", "in a chunk"],
)
async def test_an_answer_that_ends_early_is_ambiguous(said: bytes) -> None:
    async with talking(fixed(said, then_ends=True)) as (peer, client):
        with pytest.raises(httpx.RemoteProtocolError, match="closed"):
            await client.delete()
        assert len(peer.questions) == 1


async def test_a_storm_of_interim_answers_is_cut_off() -> None:
    async with talking(fixed(b"HTTP/1.1 103 Early\r\n\r\n" * 7000)) as (peer, client):
        with pytest.raises(httpx.RemoteProtocolError, match="too_large"):
            await client.delete()
        await peer.until_all_gone()


WHOLE = {
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + FIRST,
    "103 first": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + FIRST,
    "chunks and trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'13\r\n{"message":"first"}\r\n0\r\nX-Sum: 1\r\n\r\n',
    "in lower case": FIRST.replace(b"Content-Length", b"content-length"),
    "no reason": re.sub(rb"200 [^\r]*", b"200", FIRST, count=1),
}


@pytest.mark.parametrize("said", WHOLE.values(), ids=WHOLE.keys())
async def test_odd_but_proper_answers_are_read_and_the_connection_kept(said: bytes) -> None:
    async with talking(fixed(said)) as (peer, client):
        for _ in range(2):
            response = await client.delete()
            assert response.extensions["whole"]
            assert await body(response) == b'{"message":"first"}'
        assert len(peer.visits) == 1


@pytest.mark.parametrize(
    "said",
    [
        b'HTTP/1.1 200 OK\r\n\r\n{"message":"first"}',
        b'HTTP/1.0 200 OK\r\nContent-Length: 19\r\n\r\n{"message":"first"}',
        FIRST.replace(b"Date", b"Connection: close\r\nDate"),
    ],
    ids=["ended by the end", "1.0", "close"],
)
async def test_an_answer_that_ends_its_connection_is_read(said: bytes) -> None:
    async with talking(fixed(said, then_ends=True)) as (peer, client):
        for _ in range(2):
            assert await body(await client.delete()) == b'{"message":"first"}'
        assert len(peer.visits) == 2


async def test_an_answer_without_a_body_is_whole() -> None:
    async with talking(fixed(b"HTTP/1.1 204 No Content\r\n\r\n")) as (peer, client):
        for _ in range(2):
            response = await client.delete()
            assert (response.status_code, await body(response)) == (204, b"")
        assert len(peer.visits) == 1


@pytest.mark.parametrize("framing", ["chunks", "length", "end"])
async def test_an_endless_body_is_stopped(framing: str) -> None:
    heads = {
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n",
        "length": b"Content-Length: 1000000000\r\n\r\n",
        "end": b"\r\n",
    }

    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(b"HTTP/1.1 200 OK\r\n" + heads[framing])
        part = b"a" * 16384
        while True:
            await visit.say_all(b"4000\r\n%b\r\n" % part if framing == "chunks" else part)

    async with talking(script) as (peer, client):
        response = await client.delete()
        assert not response.extensions["whole"]
        assert await body(response) == b""
        await peer.until_all_gone()
        assert peer.visits[0].said < 16 * 1024 * 1024  # what the sockets' buffers took


@pytest.mark.parametrize("size", [65536, 65537])
async def test_a_body_is_kept_up_to_its_limit(size: int) -> None:
    async with talking(fixed(hostile.answer(200, b"a" * size))) as (_, client):
        response = await client.delete()
        assert response.extensions["whole"] is (size == 65536)
        assert len(await body(response)) == (65536 if size == 65536 else 0)


async def test_tiny_chunks_count_with_their_framing() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 30000
    async with talking(fixed(said)) as (peer, client):
        assert not (await client.delete()).extensions["whole"]
        await peer.until_all_gone()


async def test_a_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b"0" * 40_000_000, compresslevel=9)
    assert len(bomb) < 65536
    said = hostile.answer(200, bomb, "Content-Encoding: gzip")
    async with talking(fixed(said)) as (_, client):
        assert await body(await client.delete()) == bomb


async def test_of_a_200_to_a_get_only_the_head_is_read_and_the_connection_dropped() -> None:
    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(hostile.answer(200, b'{"content":"' + b"a" * 50_000_000))
        await visit.until_gone()

    async with talking(script) as (peer, client):
        response = await client.get()
        assert (response.status_code, await body(response)) == (200, b"")
        assert not response.extensions["whole"]
        await peer.until_all_gone()


async def test_of_a_404_to_a_get_the_body_is_read_and_the_connection_kept() -> None:
    async with talking(fixed(hostile.answer(404, b'{"detail":"gone"}'))) as (peer, client):
        for _ in range(2):
            assert await body(await client.get()) == b'{"detail":"gone"}'
        assert len(peer.visits) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with hostile.peer(hostile.silent) as elsewhere:
        said = hostile.answer(307, b"", f"Location: {elsewhere.url}/v1/responses/resp_1")
        async with talking(fixed(said)) as (peer, client):
            assert (await client.delete()).status_code == 307
            assert len(peer.questions) == 1
        assert elsewhere.visits == []


async def test_cookies_are_not_returned() -> None:
    said = hostile.answer(200, b"{}", "Set-Cookie: a=b; Path=/")
    async with talking(fixed(said)) as (peer, client):
        await client.delete()
        await client.delete()
        assert not any(b"cookie" in question.lower() for question in peer.questions)


async def test_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hostile.peer(hostile.silent) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with talking(fixed(FIRST)) as (peer, client):
            await client.delete()
            assert len(peer.questions) == 1
        assert proxy.visits == []


@pytest.mark.parametrize(
    "request_",
    [
        httpx.Request("DELETE", "http://127.0.0.2:9/v1"),
        httpx.Request("DELETE", "https://127.0.0.1:9/v1"),
        httpx.Request("DELETE", "http://127.0.0.1:10/v1"),
        httpx.Request("PATCH", "http://127.0.0.1:9/v1"),
        httpx.Request("DELETE", "http://127.0.0.1:9/v1", json={}),
        httpx.Request("DELETE", "http://127.0.0.1:9/v1", headers={"X-A": "b\r\nX-C: d"}),
        httpx.Request("DELETE", "http://127.0.0.1:9/v1", headers={"X A": "b"}),
        httpx.Request("DELETE", "http://127.0.0.1:9/v1", headers=[(b"X-A", b"\xc3\xa4")]),
        httpx.Request("DELETE", "http://127.0.0.1:9/", extensions={"target": b"/a b"}),
        httpx.Request("DELETE", "http://127.0.0.1:9/", extensions={"target": b"/a\r\nX-C: d"}),
    ],
    ids=[
        *("host", "scheme", "port", "method", "body", "line", "name", "not ascii"),
        *("blank in the target", "line in the target"),
    ],
)
async def test_what_is_none_of_its_questions_is_refused_unsent(request_: httpx.Request) -> None:
    transport = http.Transport("http://127.0.0.1:9")
    with pytest.raises((httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
        await transport.handle_async_request(request_)


@pytest.mark.parametrize("value", [f"{CANARY}\r\nX: y", f"{CANARY}ä", f" {CANARY}", "", "\n"])
def test_a_value_that_no_header_can_carry_is_refused_without_being_told(value: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        http.Door(origin="http://127.0.0.1:9", headers={"Authorization": value})
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "target",
    [
        *("/a/../b", "/a b", "/a#b", "/ä", "", "@127.0.0.2/x", ":10/", "/", "//b", "/a//b", "/a/"),
        *("/..", "/a/.", "/..?limit=1", "/a%2e%2e/b", "/a?b", "/a?b=1#c", "/a?b=1&c=2", "/a\n"),
    ],
)
async def test_the_door_sends_to_the_exact_address_or_not_at_all(target: str) -> None:
    door = http.Door(origin="http://127.0.0.1", headers={})
    with pytest.raises(errors.SweeperError, match="not sent"):
        await door.ask("DELETE", target)


async def test_the_key_appears_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(enabled=True)
    told: list[str] = []

    async def echo(visit: Visit) -> None:
        visit.say(await visit.question())

    for script in (echo, fixed(b"HTTP/1.1 200 " + CANARY.encode() + b"\0\r\n\r\n"), hostile.silent):
        async with talking(script, total=SHORT) as (_, client):
            with pytest.raises(httpx.TransportError) as caught:
                await client.delete()
            told += traceback.format_exception(caught.value)
            told += [repr(caught.value), repr(caught.value.args), repr(client.transport)]
    assert CANARY not in "".join(told) + caplog.text
