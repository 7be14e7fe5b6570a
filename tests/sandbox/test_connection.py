import pytest

from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient

HELLO = b"GET /verifyApiKey HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer fw_sandbox_key\r\n"


async def test_a_connection_serves_one_request_after_another(
    sandbox: Sandbox, client: RawClient
) -> None:
    for _ in range(3):
        assert (await client.ask("GET", "/verifyApiKey")).status == 200
    assert {entry.connection for entry in sandbox.journal.entries} == {1}
    assert sandbox.connections == 1


async def test_requests_that_come_in_one_packet_are_answered_in_order(
    sandbox: Sandbox, client: RawClient
) -> None:
    client.send((HELLO + b"\r\n") * 2 + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert [(await client.answer()).status for _ in range(3)] == [200, 200, 404]


@pytest.mark.parametrize(
    "request_bytes",
    [HELLO + b"Connection: close\r\n\r\n", HELLO.replace(b"1.1", b"1.0") + b"\r\n"],
)
async def test_a_client_that_wants_one_answer_only_gets_it_and_the_end(
    client: RawClient, request_bytes: bytes
) -> None:
    client.send(request_bytes)
    assert (await client.answer()).status == 200
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "garbage, status",
    [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400),
     (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000, 431),
     (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 4_200_000, 413)],
    ids=["nonsense", "no host", "large headers", "large body"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_and_stands_in_no_journal(
    sandbox: Sandbox, client: RawClient, garbage: bytes, status: int
) -> None:
    client.send(garbage)
    assert (await client.head())[0] == status
    assert sandbox.journal.entries == []


async def test_a_client_may_leave_in_the_middle_of_a_request(
    sandbox: Sandbox, client: RawClient
) -> None:
    client.send(b"DELETE /inference")
    await sandbox.wait_until(lambda: sandbox.open_connections == 1)
    await client.leave()
    await sandbox.wait_until(lambda: sandbox.open_connections == 0)
    assert sandbox.journal.entries == []


async def test_a_client_that_asks_first_is_told_to_go_on(client: RawClient) -> None:
    client.send(b"POST /inference/v1/responses HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
    client.send(b"Authorization: Bearer fw_sandbox_key\r\nContent-Length: 25\r\n\r\n")
    assert (await client.head())[0] == 100
    client.send(b'{"model":"m","input":"x"}')
    assert (await client.answer()).status == 200
