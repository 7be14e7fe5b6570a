import json

import pytest

from sweeper.sandbox import creation
from sweeper.sandbox.creation import Creation
from sweeper.sandbox.shapes import Mistake
from tests.sandbox.rawclient import RawClient, check

ASKED = {"model": "m", "input": "hello"}


def read(**fields: object) -> Creation | Mistake:
    return creation.read(json.dumps({**ASKED, **fields}).encode())


@pytest.mark.parametrize(
    "name, value",
    [("model", 1), ("input", 7), ("input", ["text"]), ("previous_response_id", 1),
     ("max_output_tokens", 0), ("max_output_tokens", True), ("max_tool_calls", 1.5),
     ("metadata", {str(n): "x" for n in range(17)}), ("metadata", "x"), ("store", "yes"),
     ("stream", True), ("temperature", 2.1), ("temperature", True), ("top_p", -0.1),
     ("tool_choice", 1), ("tools", ["t"]), ("truncation", 1), ("user", 1), ("text", []),
     ("parallel_tool_calls", 1), ("model", None)],
)  # fmt: skip
def test_a_wrong_field_is_named(name: str, value: object) -> None:
    mistake = read(**{name: value})
    assert isinstance(mistake, Mistake)
    assert mistake.where == ("body", name)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert isinstance(creation.read(body), Mistake)


@pytest.mark.parametrize("name", ["model", "input"])
def test_a_missing_field_is_named(name: str) -> None:
    mistake = creation.read(json.dumps({k: v for k, v in ASKED.items() if k != name}).encode())
    assert isinstance(mistake, Mistake)
    assert (mistake.where, mistake.sort) == (("body", name), "missing")


def test_the_largest_allowed_values_pass_and_null_means_unsaid() -> None:
    metadata = {str(n): "x" for n in range(16)}
    wish = read(
        input=[{"role": "user"}], metadata=metadata, temperature=2, top_p=1, max_tool_calls=1,
        stream=False, store=None, user=None, tool_choice={"type": "none"}, tools=[{}], extra=1,
    )  # fmt: skip
    assert isinstance(wish, Creation)
    assert wish.store
    assert wish.previous is None
    assert wish.given == {
        "model": "m", "metadata": metadata, "temperature": 2, "top_p": 1, "max_tool_calls": 1,
        "tool_choice": {"type": "none"}, "tools": [{}],
    }  # fmt: skip


async def test_a_refused_creation_has_the_validation_shape(client: RawClient) -> None:
    answer = await client.ask("POST", "/inference/v1/responses", {**ASKED, "stream": True})
    assert answer.status == 422
    check("invalid", answer.json())
