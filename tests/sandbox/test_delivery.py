import gzip
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import pytest

from sweeper.sandbox.clock import DateForm, http_date
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Drip, Ending, Manner, RetryAfter
from sweeper.sandbox.server import Sandbox
from sweeper.sandbox.shapes import CANARY_CONTENT
from tests.sandbox.rawclient import RawClient, Received

YES = b'{"message":"Response deleted successfully"}'


async def delete(sandbox: Sandbox, client: RawClient, fault: Fault) -> str:
    """Set the fault, send one deletion of an existing response, return the id."""
    (response_id,) = sandbox.seed(1)
    sandbox.faults.replace([fault])
    client.request("DELETE", f"/inference/v1/responses/{response_id}")
    return response_id


async def answered(sandbox: Sandbox, client: RawClient, **fault: Any) -> Received:
    await delete(sandbox, client, Fault(**fault))
    return await client.answer()


async def test_a_status_stands_in_for_the_answer_and_nothing_is_done(
    sandbox: Sandbox, client: RawClient
) -> None:
    answer = await answered(sandbox, client, status=503, body=b'{"error":"shed"}')
    assert (answer.status, answer.json()) == (503, {"error": "shed"})
    (entry,) = sandbox.journal.deletes()
    assert (entry.status, entry.carried_out, len(sandbox.kept())) == (503, False, 1)


async def test_a_wrong_answer_to_a_deletion_that_was_done(
    sandbox: Sandbox, client: RawClient
) -> None:
    answer = await answered(sandbox, client, status=504, carry_out=True)
    assert (answer.status, answer.json()) == (504, {"content": CANARY_CONTENT})
    assert sandbox.journal.deletes()[0].carried_out
    assert not sandbox.kept()


@pytest.mark.parametrize("fault", [{"status": 204}, {"status": 503, "body": b""}])
async def test_a_status_without_a_body_has_none(
    sandbox: Sandbox, client: RawClient, fault: dict[str, Any]
) -> None:
    answer = await answered(sandbox, client, **fault)
    assert (answer.status, answer.body) == (fault["status"], b"")
    assert "content-type" not in answer.headers


async def test_a_page_instead_of_json(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.seed(1)
    sandbox.faults.add(Fault.parse({"html": "Maintenance"}))
    answer = await client.ask("DELETE", "/inference/v1/responses/resp_x")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert CANARY_CONTENT.encode() in answer.body


async def test_a_lie_says_yes_and_keeps_the_response(sandbox: Sandbox, client: RawClient) -> None:
    answer = await answered(sandbox, client, do=Manner.LIE)
    assert (answer.status, answer.body) == (200, YES)
    assert len(sandbox.kept()) == 1
    assert not sandbox.journal.deletes()[0].carried_out


async def test_a_lie_to_a_creation_stores_nothing(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.faults.add(Fault(do=Manner.LIE))
    answer = await client.ask("POST", "/inference/v1/responses", {"model": "m", "input": "x"})
    assert answer.status == 200
    assert not sandbox.kept()


async def test_an_answer_comes_after_its_delay_while_the_deed_is_done_before(
    sandbox: Sandbox, client: RawClient
) -> None:
    started = monotonic()
    await delete(sandbox, client, Fault(delay=0.15))
    await sandbox.wait_until(lambda: not sandbox.kept())
    assert sandbox.journal.deletes()[0].status is None
    assert (await client.answer()).body == YES
    assert monotonic() - started >= 0.15


@pytest.mark.parametrize("carry_out", [False, True])
async def test_a_connection_is_closed_without_an_answer(
    sandbox: Sandbox, client: RawClient, carry_out: bool
) -> None:
    await delete(sandbox, client, Fault(do=Manner.CLOSE, carry_out=carry_out))
    assert await client.rest() == b""
    (entry,) = sandbox.journal.deletes()
    assert (entry.status, entry.carried_out) == (None, carry_out)
    assert len(sandbox.kept()) == (0 if carry_out else 1)


@pytest.mark.parametrize("carry_out", [False, True])
async def test_a_connection_is_reset_without_an_answer(
    sandbox: Sandbox, client: RawClient, carry_out: bool
) -> None:
    await delete(sandbox, client, Fault(do=Manner.RESET, carry_out=carry_out))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert sandbox.journal.deletes()[0].carried_out == carry_out


async def test_silence_lasts_until_the_client_leaves(sandbox: Sandbox, client: RawClient) -> None:
    await delete(sandbox, client, Fault(do=Manner.SILENCE))
    await sandbox.wait_until(sandbox.journal.deletes)
    assert not sandbox.journal.deletes()[0].done
    client.send(b"more")
    await client.leave()
    await sandbox.wait_until(lambda: not sandbox.open_connections)
    assert sandbox.journal.deletes()[0].status is None
    assert len(sandbox.kept()) == 1


@pytest.mark.parametrize("head", [False, True])
async def test_an_answer_drips(sandbox: Sandbox, client: RawClient, head: bool) -> None:
    started = monotonic()
    answer = await answered(sandbox, client, drip=Drip(bytes=20, seconds=0.02, head=head))
    assert answer.body == YES
    assert monotonic() - started >= (0.12 if head else 0.04)


async def test_a_truncated_body_is_shorter_than_it_says(
    sandbox: Sandbox, client: RawClient
) -> None:
    await delete(sandbox, client, Fault(truncate=7))
    _, headers = await client.head()
    assert int(headers["content-length"]) == len(YES)
    assert await client.rest() == YES[:7]
    assert sandbox.journal.deletes()[0].carried_out


async def test_truncation_counts_over_the_portions_of_a_large_body(
    sandbox: Sandbox, client: RawClient
) -> None:
    await delete(sandbox, client, Fault(size=200_000, truncate=70_000))
    await client.head()
    assert len(await client.rest()) == 70_000


async def test_a_body_is_filled_up_to_its_size(sandbox: Sandbox, client: RawClient) -> None:
    answer = await answered(sandbox, client, size=300_000)
    assert len(answer.body) == 300_000
    assert answer.body.rstrip() == YES
    assert len((await answered(sandbox, client, status=500, size=10)).body) == 10


async def test_a_small_packed_body_hides_a_large_one(sandbox: Sandbox, client: RawClient) -> None:
    answer = await answered(sandbox, client, gzip=True, size=5_000_000)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.body) < 10_000
    assert len(gzip.decompress(answer.body)) == 5_000_000


async def test_an_endless_body_ends_when_the_client_leaves(
    sandbox: Sandbox, client: RawClient
) -> None:
    await delete(sandbox, client, Fault(endless=True))
    _, headers = await client.head()
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert len(await client.some(1_000_000)) == 1_000_000
    await client.leave()
    await sandbox.wait_until(lambda: not sandbox.open_connections)


async def test_interim_answers_come_first(sandbox: Sandbox, client: RawClient) -> None:
    await delete(sandbox, client, Fault(interim=(100, 103)))
    assert [(await client.head())[0] for _ in range(2)] == [100, 103]
    assert (await client.answer()).body == YES


async def test_headers_are_added_replaced_and_removed(sandbox: Sandbox, client: RawClient) -> None:
    headers = (("Set-Cookie", "a=b"), ("Content-Type", "text/plain"), ("Date", None))
    answer = await answered(sandbox, client, headers=headers)
    assert answer.headers["set-cookie"] == "a=b"
    assert answer.headers["content-type"] == "text/plain"
    assert "date" not in answer.headers


async def test_a_redirect_leads_elsewhere(sandbox: Sandbox, client: RawClient) -> None:
    headers = (("Location", "http://127.0.0.1:1/"),)
    answer = await answered(sandbox, client, status=302, headers=headers)
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "wanted, told",
    [("soon", "soon"), (RetryAfter(seconds=90), "90"), (RetryAfter(seconds=0.5), "0.5")],
)
async def test_retry_after_is_told_as_it_is_wanted(
    sandbox: Sandbox, client: RawClient, wanted: str | RetryAfter, told: str
) -> None:
    answer = await answered(sandbox, client, status=429, retry_after=wanted)
    assert answer.headers["retry-after"] == told


@pytest.mark.parametrize("form", list(DateForm))
async def test_retry_after_as_a_date_is_of_the_sandboxs_clock(
    sandbox: Sandbox, client: RawClient, form: DateForm
) -> None:
    sandbox.clock.advance(-86_400 * 300)
    wanted = RetryAfter(seconds=90, form=form)
    answer = await answered(sandbox, client, status=429, retry_after=wanted)
    date = parsedate_to_datetime(answer.headers["date"]).timestamp()
    told = answer.headers["retry-after"]
    assert told in [http_date(date + 90 + slack, form) for slack in (0, 1)]


async def test_stray_bytes_follow_the_answer_at_once(sandbox: Sandbox, client: RawClient) -> None:
    answer = await answered(sandbox, client, stray=b"HTTP/1.1 200 OK\r\n\r\n")
    assert answer.body == YES
    assert (await client.head())[0] == 200


async def test_a_stray_answer_comes_on_an_idle_connection(
    sandbox: Sandbox, client: RawClient
) -> None:
    started = monotonic()
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    answer = await answered(sandbox, client, stray=stray, stray_delay=0.05)
    assert answer.body == YES
    assert (await client.answer()).status == 200
    assert monotonic() - started >= 0.05


async def test_raw_bytes_are_sent_as_they_are(sandbox: Sandbox, client: RawClient) -> None:
    fault = Fault(raw=b"HTTP/1.1 2OO \xff\r\n", then=Ending.CLOSE)
    await delete(sandbox, client, fault)
    assert await client.rest() == b"HTTP/1.1 2OO \xff\r\n"
    (entry,) = sandbox.journal.deletes()
    assert (entry.status, entry.carried_out) == (None, False)


async def test_a_connection_may_be_closed_after_a_good_answer(
    sandbox: Sandbox, client: RawClient
) -> None:
    answer = await answered(sandbox, client, then=Ending.CLOSE)
    assert answer.body == YES
    assert "connection" not in answer.headers
    assert await client.rest() == b""


async def test_a_connection_may_be_reset_after_an_answer(
    sandbox: Sandbox, client: RawClient
) -> None:
    await delete(sandbox, client, Fault(then=Ending.RESET))
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert sandbox.journal.deletes()[0].carried_out


async def test_an_unknown_status_has_no_reason(sandbox: Sandbox, client: RawClient) -> None:
    assert (await answered(sandbox, client, status=520)).status == 520
