import asyncio
import io

import pytest

from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Manner
from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient


async def test_it_knows_where_it_is(sandbox: Sandbox) -> None:
    assert sandbox.origin == f"http://127.0.0.1:{sandbox.port}"
    assert sandbox.base_url == f"{sandbox.origin}/inference"


async def test_an_address_of_version_six_stands_in_brackets() -> None:
    sandbox = Sandbox(host="::1")
    try:
        async with sandbox:
            assert sandbox.origin == f"http://[::1]:{sandbox.port}"
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


async def test_leaving_ends_every_connection_even_one_that_never_reads() -> None:
    async with Sandbox(faults=[Fault(endless=True)]) as sandbox:
        client = RawClient(sandbox.port, sandbox.key)
        await client.__aenter__()
        client.request("GET", "/verifyApiKey")
        await client.head()
        assert sandbox.open_connections == 1
    assert sandbox.open_connections == 0
    await client.leave()


async def test_leaving_ends_a_request_that_waits() -> None:
    async with Sandbox(faults=[Fault(do=Manner.SILENCE)]) as sandbox:
        client = RawClient(sandbox.port, sandbox.key)
        await client.__aenter__()
        client.request("GET", "/verifyApiKey")
        await sandbox.wait_until(lambda: sandbox.journal.entries)
    assert sandbox.journal.entries[0].done
    await client.leave()


async def test_what_goes_wrong_inside_it_is_raised_at_the_end() -> None:
    file = io.StringIO()
    sandbox = Sandbox(journal_file=file)
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="closed file")):
        async with sandbox, RawClient(sandbox.port, sandbox.key) as client:
            file.close()
            client.request("GET", "/verifyApiKey")
            await client.rest()


async def test_a_taken_port_is_an_error(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="address already in use"):
        async with Sandbox(port=sandbox.port):
            pass


async def test_many_clients_are_served_at_once(sandbox: Sandbox) -> None:
    ids = sandbox.seed(400)

    async def work(share: list[str]) -> None:
        async with RawClient(sandbox.port, sandbox.key) as client:
            for response_id in share:
                answer = await client.ask("DELETE", f"/inference/v1/responses/{response_id}")
                assert answer.status == 200

    await asyncio.gather(*(work(ids[start::16]) for start in range(16)))
    assert not sandbox.kept()
    assert sum(entry.carried_out for entry in sandbox.journal.deletes()) == 400
    assert sandbox.connections == 16
