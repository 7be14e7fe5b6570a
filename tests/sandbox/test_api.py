from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from sweeper.sandbox.server import Sandbox
from sweeper.sandbox.shapes import CANARY_CONTENT, Shape
from tests.sandbox.rawclient import RawClient, check

RESPONSES = "/inference/v1/responses"
ASKED = {"model": "accounts/a/models/m", "input": "hello"}


@pytest.fixture
async def openai() -> AsyncIterator[tuple[Sandbox, RawClient]]:
    async with (
        Sandbox(shape=Shape.OPENAI) as running,
        RawClient(running.port, running.key) as client,
    ):
        yield running, client


async def test_what_is_created_is_shown_listed_and_kept(
    sandbox: Sandbox, client: RawClient
) -> None:
    wish = {**ASKED, "metadata": {"app": "desk"}, "user": "u-1", "temperature": 0.5}
    created = (await client.ask("POST", RESPONSES, wish)).json()
    check("response", created)
    assert created["id"].startswith("resp_")
    assert len(created["id"]) == 37
    assert (created["metadata"], created["user"]) == ({"app": "desk"}, "u-1")
    assert created["created_at"] == pytest.approx(sandbox.clock.now(), abs=5)
    assert CANARY_CONTENT in created["output"][0]["content"][0]["text"]
    assert "input" not in created
    shown = await client.ask("GET", f"{RESPONSES}/{created['id']}")
    listed = (await client.ask("GET", RESPONSES)).json()
    check("list", listed)
    assert shown.json() == created == listed["data"][0]
    assert sandbox.kept() == {created["id"]}


async def test_a_deleted_response_is_gone_and_a_second_deletion_finds_nothing(
    sandbox: Sandbox, client: RawClient
) -> None:
    (response_id,) = sandbox.seed(1)
    deleted = await client.ask("DELETE", f"{RESPONSES}/{response_id}")
    check("deleted", deleted.json())
    assert (deleted.status, deleted.json()) == (200, {"message": "Response deleted successfully"})
    for method in ("GET", "DELETE"):
        absent = await client.ask(method, f"{RESPONSES}/{response_id}")
        assert (absent.status, absent.json()["detail"]) == (404, "Response not found")
    assert [entry.carried_out for entry in sandbox.journal.deletes()] == [True, False]
    assert sandbox.kept() == frozenset()


async def test_a_conversation_goes_on_only_from_what_is_there(
    sandbox: Sandbox, client: RawClient
) -> None:
    (parent,) = sandbox.seed(1)
    child = await client.ask("POST", RESPONSES, {**ASKED, "previous_response_id": parent})
    assert child.json()["previous_response_id"] == parent
    await client.ask("DELETE", f"{RESPONSES}/{parent}")
    orphan = await client.ask("POST", RESPONSES, {**ASKED, "previous_response_id": parent})
    assert (orphan.status, orphan.json()["detail"]) == (404, "Previous response not found")
    assert (await client.ask("GET", f"{RESPONSES}/{child.json()['id']}")).status == 200


async def test_what_is_not_to_be_stored_has_no_id_and_is_not_kept(
    sandbox: Sandbox, client: RawClient
) -> None:
    created = (await client.ask("POST", RESPONSES, {**ASKED, "store": False})).json()
    check("response", created)
    assert (created["id"], created["store"]) == (None, False)
    assert sandbox.kept() == frozenset()


async def test_another_accounts_response_is_not_there() -> None:
    keys = {"fw_a": "alpha", "fw_b": "beta"}
    async with Sandbox(keys=keys) as sandbox, RawClient(sandbox.port) as client:
        (theirs,) = sandbox.seed(1, account="beta")
        target = f"{RESPONSES}/{theirs}"
        assert (await client.ask("DELETE", target, key="fw_a")).status == 404
        assert (await client.ask("GET", RESPONSES, key="fw_a")).json()["data"] == []
        assert sandbox.kept("beta") == {theirs}
        assert (await client.ask("DELETE", target, key="fw_b")).status == 200
        assert sandbox.accounts == ("alpha", "beta")
        assert (sandbox.key, sandbox.account) == ("fw_a", "alpha")


async def test_after_thirty_days_a_response_is_gone_by_itself(
    sandbox: Sandbox, client: RawClient
) -> None:
    (old,) = sandbox.seed(1, age=timedelta(days=29))
    (young,) = sandbox.seed(1)
    assert (await client.ask("GET", f"{RESPONSES}/{old}")).status == 200
    sandbox.clock.advance(timedelta(days=1, seconds=1))
    assert (await client.ask("GET", f"{RESPONSES}/{old}")).status == 404
    assert (await client.ask("DELETE", f"{RESPONSES}/{old}")).status == 404
    assert sandbox.kept() == {young}


async def test_without_a_lifetime_nothing_goes_by_itself() -> None:
    async with Sandbox(lifetime=None) as sandbox:
        sandbox.seed(1, age=timedelta(days=400))
        assert len(sandbox.kept()) == 1


async def test_pages_lead_from_the_newest_to_the_oldest(
    sandbox: Sandbox, client: RawClient
) -> None:
    newest_first = sandbox.seed(45, age=timedelta(hours=1), spacing=timedelta(seconds=1))[::-1]
    seen: list[str] = []
    after = ""
    for _ in range(3):
        page = (await client.ask("GET", f"{RESPONSES}?limit=20{after}")).json()
        check("list", page)
        seen += [entry["id"] for entry in page["data"]]
        assert (page["first_id"], page["last_id"]) == (
            page["data"][0]["id"],
            page["data"][-1]["id"],
        )
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert seen == newest_first
    assert len((await client.ask("GET", RESPONSES)).json()["data"]) == 20
    assert len((await client.ask("GET", f"{RESPONSES}?limit=100")).json()["data"]) == 45


async def test_an_empty_list_has_no_first_and_no_last(client: RawClient) -> None:
    page = (await client.ask("GET", RESPONSES)).json()
    check("list", page)
    assert page == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None
    }  # fmt: skip


async def test_pages_before_a_cursor_are_the_ones_next_to_it(
    sandbox: Sandbox, client: RawClient
) -> None:
    oldest, *_, second, newest = sandbox.seed(5, spacing=timedelta(seconds=1))
    page = (await client.ask("GET", f"{RESPONSES}?limit=3&before={oldest}")).json()
    assert (page["has_more"], len(page["data"]), page["first_id"]) == (True, 3, second)
    page = (await client.ask("GET", f"{RESPONSES}?before={second}")).json()
    assert ([entry["id"] for entry in page["data"]], page["has_more"]) == ([newest], False)
    between = await client.ask("GET", f"{RESPONSES}?after={newest}&before={oldest}")
    assert len(between.json()["data"]) == 3


@pytest.mark.parametrize("name", ["after", "before"])
async def test_a_cursor_that_names_nothing_is_refused(
    sandbox: Sandbox, client: RawClient, name: str
) -> None:
    (response_id,) = sandbox.seed(1)
    await client.ask("DELETE", f"{RESPONSES}/{response_id}")
    assert (await client.ask("GET", f"{RESPONSES}?{name}={response_id}")).status == 400


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "", "1.5", "000000005000", "%C2%B2"])
async def test_a_limit_out_of_range_is_invalid(client: RawClient, limit: str) -> None:
    answer = await client.ask("GET", f"{RESPONSES}?limit={limit}")
    assert answer.status == 422
    check("invalid", answer.json())
    assert answer.json()["detail"][0]["loc"] == ["query", "limit"]


async def test_of_a_limit_given_twice_the_last_counts(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.seed(3)
    page = (await client.ask("GET", f"{RESPONSES}?limit=9&limit=2")).json()
    assert len(page["data"]) == 2


async def test_a_key_names_its_account(sandbox: Sandbox, client: RawClient) -> None:
    answer = await client.ask("GET", "/verifyApiKey")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-fireworks-account-id"] == sandbox.account


@pytest.mark.parametrize("method_target", ["GET /verifyApiKey", f"DELETE {RESPONSES}/resp_x"])
async def test_no_key_and_a_wrong_key_differ(sandbox: Sandbox, method_target: str) -> None:
    method, target = method_target.split(" ")
    async with RawClient(sandbox.port) as client:
        without = await client.ask(method, target)
        wrong = await client.ask(method, target, key="fw_wrong")
        basic = await client.ask(method, target, extra="Authorization: Basic eDp5\r\n")
    assert [answer.status for answer in (without, wrong, basic)] == [401, 403, 401]
    assert without.json()["error"] == wrong.json()["error"] == "unauthorized"


async def test_a_key_taken_out_is_refused_from_then_on(sandbox: Sandbox, client: RawClient) -> None:
    sandbox.keys["fw_new"] = sandbox.keys.pop(sandbox.key)
    assert (await client.ask("GET", RESPONSES)).status == 403
    assert (await client.ask("GET", RESPONSES, key="fw_new")).status == 200


@pytest.mark.parametrize(
    "target",
    ["/", "/v1/responses", "/v1/responses/resp_x", f"{RESPONSES}/a/b", f"{RESPONSES}/a%2Fb",
     f"{RESPONSES}/a/b/", "/inference/v1/responsesx", "/verifyapikey"],
)  # fmt: skip
async def test_a_path_that_leads_nowhere_gets_the_routers_404(
    client: RawClient, target: str
) -> None:
    answer = await client.ask("DELETE", target)
    assert (answer.status, answer.json()["detail"]) == (404, "Not Found")


@pytest.mark.parametrize(
    "method, target, allowed",
    [("DELETE", RESPONSES, "GET, POST"), ("PUT", f"{RESPONSES}/resp_x", "GET, DELETE"),
     ("POST", "/verifyApiKey", "GET")],
)  # fmt: skip
async def test_a_wrong_method_is_named_as_such(
    client: RawClient, method: str, target: str, allowed: str
) -> None:
    answer = await client.ask(method, target)
    assert (answer.status, answer.json()["detail"]) == (405, "Method Not Allowed")
    assert answer.headers["allow"] == allowed


async def test_a_deletion_without_an_id_is_led_to_the_collection(
    sandbox: Sandbox, client: RawClient
) -> None:
    answer = await client.ask("DELETE", f"{RESPONSES}/")
    assert (answer.status, answer.headers["location"]) == (307, f"{sandbox.base_url}/v1/responses")
    answer = await client.ask("DELETE", f"{RESPONSES}/resp_x/?q=1")
    assert answer.headers["location"] == f"{sandbox.base_url}/v1/responses/resp_x"


async def test_an_id_may_be_percent_encoded(sandbox: Sandbox, client: RawClient) -> None:
    given = {"model": "m"}
    now = sandbox.clock.now()
    sandbox.store.create(sandbox.account, created_at=now, given=given, response_id="a b?c")
    assert (await client.ask("DELETE", f"{RESPONSES}/a%20b%3Fc")).status == 200
    assert sandbox.kept() == frozenset()


async def test_the_limit_is_each_accounts_own_and_ends_in_429() -> None:
    keys = {"fw_a": "alpha", "fw_b": "beta"}
    async with (
        Sandbox(keys=keys, rate=0.001, burst=2) as sandbox,
        RawClient(sandbox.port) as client,
    ):
        answers = [await client.ask("GET", RESPONSES, key="fw_a") for _ in range(3)]
        other = await client.ask("GET", RESPONSES, key="fw_b")
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["message"] == "rate limit exceeded"
    assert other.status == 200


async def test_an_ordinary_http_client_is_content(sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {sandbox.key}"}
    async with httpx.AsyncClient(base_url=sandbox.base_url, headers=headers) as client:
        created = (await client.post("/v1/responses", json=ASKED)).json()
        assert (await client.delete(f"/v1/responses/{created['id']}")).status_code == 200
    assert sandbox.connections == 1


async def test_the_openai_shape_deletes_by_its_own_words(
    openai: tuple[Sandbox, RawClient],
) -> None:
    sandbox, client = openai
    created = (await client.ask("POST", "/v1/responses", ASKED)).json()
    deleted = await client.ask("DELETE", f"/v1/responses/{created['id']}")
    check("openai_deleted", deleted.json())
    assert deleted.json()["id"] == created["id"]
    absent = await client.ask("DELETE", f"/v1/responses/{created['id']}")
    assert absent.status == 404
    check("openai_problem", absent.json())
    assert sandbox.base_url == sandbox.origin


@pytest.mark.parametrize(
    "method, target, key, status",
    [("GET", "/v1/responses", None, 405), ("GET", "/verifyApiKey", None, 404),
     ("DELETE", "/inference/v1/responses/resp_x", None, 404),
     ("DELETE", "/v1/responses/resp_x", "", 401), ("DELETE", "/v1/responses/resp_x", "no", 401),
     ("POST", "/v1/responses", None, 400)],
)  # fmt: skip
async def test_the_openai_shape_refuses_in_one_form(
    openai: tuple[Sandbox, RawClient], method: str, target: str, key: str | None, status: int
) -> None:
    answer = await openai[1].ask(method, target, key=key)
    assert answer.status == status
    check("openai_problem", answer.json())


async def test_the_openai_shape_names_what_it_does_not_store(
    openai: tuple[Sandbox, RawClient],
) -> None:
    sandbox, client = openai
    created = (await client.ask("POST", "/v1/responses", {**ASKED, "store": False})).json()
    assert created["id"].startswith("resp_")
    assert sandbox.kept() == frozenset()
    wish = {**ASKED, "previous_response_id": created["id"]}
    orphan = await client.ask("POST", "/v1/responses", wish)
    assert (orphan.status, orphan.json()["error"]["code"]) == (400, "previous_response_not_found")


async def test_the_openai_shape_is_limited_too() -> None:
    async with (
        Sandbox(shape=Shape.OPENAI, rate=0.001) as sandbox,
        RawClient(sandbox.port, sandbox.key) as client,
    ):
        await client.ask("GET", "/v1/responses/resp_x")
        answer = await client.ask("GET", "/v1/responses/resp_x")
    assert answer.status == 429
    check("openai_problem", answer.json())


async def test_a_key_with_a_view_finds_nothing_else_of_its_account() -> None:
    keys, views = {"all": "a", "part": "a"}, {"part": {"app": "desk"}}
    async with Sandbox(keys=keys, views=views) as sandbox:
        (seen,) = sandbox.seed(1, metadata={"app": "desk", "env": "prod"})
        hidden = [*sandbox.seed(1, metadata={"app": "mail"}), *sandbox.seed(1)]
        async with RawClient(sandbox.port, "part") as client:
            for name in hidden:
                for method in ("GET", "DELETE"):
                    assert (await client.ask(method, f"{RESPONSES}/{name}")).status == 404
                after = await client.ask("GET", f"{RESPONSES}?after={name}")
                assert after.status == 400
                wish = {**ASKED, "previous_response_id": name}
                assert (await client.ask("POST", RESPONSES, wish)).status == 404
            listed = (await client.ask("GET", RESPONSES)).json()
            assert [one["id"] for one in listed["data"]] == [seen]
            assert (await client.ask("DELETE", f"{RESPONSES}/{seen}")).status == 200
        assert sandbox.kept() == frozenset(hidden)
        async with RawClient(sandbox.port, "all") as client:
            for name in hidden:
                assert (await client.ask("DELETE", f"{RESPONSES}/{name}")).status == 200


@pytest.mark.parametrize(
    "asked",
    ["DELETE /responses/resp_x", "GET /responses/resp_x", "GET /responses?after=resp_x",
     "GET /responses?limit=0", "POST /responses", "PUT /responses", "DELETE /nowhere/resp_x"],
)  # fmt: skip
@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("key", ["fw_known", "fw_wrong", None])
async def test_every_refusal_holds_content_that_nobody_may_tell(
    shape: Shape, asked: str, key: str | None
) -> None:
    method, path = asked.split(" ")
    async with Sandbox(shape=shape, keys={"fw_known": "a"}) as sandbox:
        target = f"{sandbox.base_url.removeprefix(sandbox.origin)}/v1{path}"
        async with RawClient(sandbox.port, key) as client:
            answer = await client.ask(method, target)
    assert answer.status >= 400
    assert CANARY_CONTENT in str(answer.json())
