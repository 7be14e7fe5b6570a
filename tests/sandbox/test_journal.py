import io
import json

import pytest

from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient


async def test_the_journal_says_what_arrived_and_never_the_key(
    sandbox: Sandbox, client: RawClient
) -> None:
    (response_id,) = sandbox.seed(1)
    target = f"/inference/v1/responses/{response_id}?x=%41"
    await client.ask("DELETE", target, b"12", extra="Accept: a/b\r\n")
    await client.ask("GET", "/inference/v1/responses", key="fw_wrong")
    await client.ask("GET", "/verifyApiKey", key="")
    first, second, third = sandbox.journal.entries
    assert [entry.seq for entry in sandbox.journal.entries] == [0, 1, 2]
    assert first.at <= second.at <= third.at
    assert (first.method, first.target, first.body_bytes) == ("DELETE", target, 2)
    assert (first.account, first.authorization) == (sandbox.account, True)
    assert (first.status, first.carried_out, first.done) == (200, True, True)
    assert first.headers["accept"] == "a/b"
    assert (second.account, second.authorization, second.status) == (None, True, 403)
    assert (third.account, third.authorization, third.status) == (None, False, 401)
    assert sandbox.key not in repr(sandbox.journal.as_json())
    assert "fw_wrong" not in repr(sandbox.journal.as_json())


async def test_the_journal_answers_questions(sandbox: Sandbox, client: RawClient) -> None:
    await client.ask("DELETE", "/inference/v1/responses/resp_a")
    await client.ask("GET", "/inference/v1/responses/resp_a")
    assert sandbox.journal.targets("DELETE") == ["/inference/v1/responses/resp_a"]
    assert len(sandbox.journal.deletes()) == len(sandbox.journal.requests("GET")) == 1
    assert len(sandbox.journal.requests()) == len(sandbox.journal.targets()) == 2


async def test_waiting_ends_when_the_fact_is_there_or_in_time(
    sandbox: Sandbox, client: RawClient
) -> None:
    client.request("DELETE", "/inference/v1/responses/resp_a")
    await sandbox.wait_until(lambda: len(sandbox.journal.deletes()) == 1)
    with pytest.raises(TimeoutError):
        await sandbox.wait_until(lambda: len(sandbox.journal.deletes()) == 2, within=0.01)


async def test_each_finished_request_is_a_line_in_the_file() -> None:
    file = io.StringIO()
    async with (
        Sandbox(journal_file=file) as sandbox,
        RawClient(sandbox.port, sandbox.key) as client,
    ):
        await client.ask("GET", "/verifyApiKey")
        await client.ask("GET", "/nowhere")
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [(line["target"], line["status"]) for line in lines] == [
        ("/verifyApiKey", 200),
        ("/nowhere", 404),
    ]
