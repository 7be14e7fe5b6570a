from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sweeper.sandbox.api import Request
from sweeper.sandbox.server import Sandbox
from tests.sandbox.rawclient import RawClient


async def test_the_clock_is_set_and_advanced_from_outside(
    sandbox: Sandbox, client: RawClient
) -> None:
    told = await client.ask("POST", "/_sandbox/clock", {"now": "2030-01-01T00:00:00Z"})
    assert told.json()["now"].startswith("2030-01-01T00:00:0")
    await client.ask("POST", "/_sandbox/clock", {"advance": 86_400})
    late = sandbox.clock.moment() - datetime(2030, 1, 2, tzinfo=UTC)
    assert timedelta() <= late < timedelta(seconds=5)


async def test_responses_are_seeded_from_outside(sandbox: Sandbox, client: RawClient) -> None:
    at = (sandbox.clock.moment() - timedelta(days=2)).isoformat()
    seed = {"count": 2, "created_at": at, "spacing": 60, "labels": {"app": "x"}}
    ids = (await client.ask("POST", "/_sandbox/seed", seed)).json()["ids"]
    assert sandbox.kept() == set(ids)
    newest, oldest = (await client.ask("GET", "/inference/v1/responses")).json()["data"]
    assert newest["created_at"] - oldest["created_at"] == 60
    assert oldest["metadata"] == {"app": "x"}
    await client.ask("POST", "/_sandbox/seed", {"count": 1})
    await client.ask("POST", "/_sandbox/seed", {"count": 1, "created_at": sandbox.clock.now()})
    state = (await client.ask("GET", "/_sandbox/state")).json()
    assert state["accounts"] == {sandbox.account: 4}
    assert datetime.fromisoformat(state["now"]).tzinfo is not None


async def test_faults_are_replaced_from_outside_and_controls_meet_none(
    sandbox: Sandbox, client: RawClient
) -> None:
    assert (await client.ask("POST", "/_sandbox/faults", [{"status": 503}])).json() == {"rules": 1}
    assert (await client.ask("GET", "/verifyApiKey")).status == 503
    assert (await client.ask("POST", "/_sandbox/faults", [])).json() == {"rules": 0}
    assert (await client.ask("GET", "/verifyApiKey")).status == 200


async def test_the_journal_is_shown_outside_and_holds_no_controls(client: RawClient) -> None:
    await client.ask("GET", "/verifyApiKey")
    entries = (await client.ask("GET", "/_sandbox/journal", key="")).json()["entries"]
    assert [entry["target"] for entry in entries] == ["/verifyApiKey"]


@pytest.mark.parametrize(
    "name, body, complaint",
    [("clock", {"now": 5}, "the body should be"), ("clock", {"now": "noon"}, "Invalid isoformat"),
     ("clock", {"now": "2030-01-01T00:00:00"}, "with a zone"), ("clock", b"{", "Expecting"),
     ("faults", [{"status": 1}], "faults[0].status: should be"), ("faults", {}, "a list of rules"),
     ("seed", [], "the body should be"), ("seed", {"count": "1"}, "the body should be"),
     ("seed", {"count": 1, "colour": 1}, "colour is unknown"),
     ("seed", {"count": 1, "account": "x"}, "account should be one of sandbox"),
     ("seed", {"count": 1, "created_at": "2030-01-01T00:00:00"}, "should have a zone"),
     ("seed", {"count": 1, "created_at": True}, "a number of seconds"),
     ("seed", {"count": 1, "labels": "x"}, "labels should be a table")],
)  # fmt: skip
async def test_a_wrong_control_is_refused_with_what_would_be_right(
    sandbox: Sandbox, client: RawClient, name: str, body: Any, complaint: str
) -> None:
    answer = await client.ask("POST", f"/_sandbox/{name}", body)
    assert answer.status == 400
    assert complaint in answer.json()["error"]
    assert not sandbox.kept()


async def test_an_unknown_control_is_answered_with_the_known_ones(client: RawClient) -> None:
    answer = await client.ask("DELETE", "/_sandbox/journal")
    assert answer.status == 404
    assert "POST /_sandbox/seed" in answer.json()["error"]


def test_a_client_from_elsewhere_controls_nothing() -> None:
    sandbox = Sandbox()
    request = Request(method="GET", target="/_sandbox/journal", headers={}, body=b"")
    controls = sandbox._exchange.controls
    assert controls.answer(request, peer="192.0.2.7").status == 403
    assert controls.answer(request, peer="::1").status == 200
