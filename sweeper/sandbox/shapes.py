"""The bodies of the stand-in's answers, in Fireworks' dialect and in OpenAI's.

Facts from the vendors' OpenAPI descriptions and the errors that people report.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from sweeper.sandbox.store import Page, Stored

CANARY_CONTENT = "canary content 5d1c: whoever finds this in a log has found a leak"
"""Part of every response and of every refusal, for a test to look for where it must not be.

What is documented to the letter has no room for it: the yes to a deletion, a list of nothing, and
the account check, whose answer has no body.
"""

Headers = tuple[tuple[str, str], ...]
JSON_TYPE: Headers = (("content-type", "application/json"),)


class Shape(StrEnum):
    """Whose API the sandbox speaks."""

    FIREWORKS = "fireworks"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer before it is written to a connection."""

    status: int
    headers: Headers = JSON_TYPE
    body: bytes = b""
    deleted: bool = False
    """Whether a response was really deleted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What is wrong with a request: where, of what sort, and what would be right."""

    where: tuple[str | int, ...]
    sort: str
    message: str


class Dialect(Protocol):
    """The answers in which the shapes differ."""

    base_path: str
    lists: bool
    names_account: bool
    names_unstored: bool
    """Whether a response that is not stored gets an id."""

    def deleted(self, response_id: str) -> bytes: ...
    def missing(self, response_id: str) -> Answer: ...
    def missing_previous(self, response_id: str) -> Answer: ...
    def unauthorized(self, *, key_given: bool) -> Answer: ...
    def throttled(self) -> Answer: ...
    def no_route(self, method: str, path: str) -> Answer: ...
    def wrong_method(self, method: str, allowed: str) -> Answer: ...
    def invalid(self, mistake: Mistake) -> Answer: ...


def json_answer(status: int, value: object, *extra: tuple[str, str]) -> Answer:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status=status, headers=JSON_TYPE + extra, body=body)


def refusal(status: int, value: Mapping[str, object], *extra: tuple[str, str]) -> Answer:
    """What a provider says instead of a yes, behind something that is nobody's business."""
    return json_answer(status, {"content": CANARY_CONTENT, **value}, *extra)


class Fireworks:
    base_path = "/inference/v1"
    lists = True
    names_account = True
    names_unstored = False

    def deleted(self, response_id: str) -> bytes:
        del response_id  # this dialect's yes names nothing
        return b'{"message":"Response deleted successfully"}'

    def missing(self, response_id: str) -> Answer:
        del response_id
        return refusal(404, {"detail": "Response not found"})

    def missing_previous(self, response_id: str) -> Answer:
        del response_id
        return refusal(404, {"detail": "Previous response not found"})

    def unauthorized(self, *, key_given: bool) -> Answer:
        return refusal(403 if key_given else 401, {"error": "unauthorized"})

    def throttled(self) -> Answer:
        problem = {"object": "error", "type": "invalid_request_error"}
        return refusal(429, {"error": {**problem, "message": "rate limit exceeded"}})

    def no_route(self, method: str, path: str) -> Answer:
        del method, path
        return refusal(404, {"detail": "Not Found"})

    def wrong_method(self, method: str, allowed: str) -> Answer:
        del method
        return refusal(405, {"detail": "Method Not Allowed"}, ("allow", allowed))

    def invalid(self, mistake: Mistake) -> Answer:
        entry = {"type": mistake.sort, "loc": mistake.where, "msg": mistake.message}
        return json_answer(422, {"detail": [{**entry, "input": CANARY_CONTENT}]})


class OpenAI:
    base_path = "/v1"
    lists = False
    names_account = False
    names_unstored = True

    def deleted(self, response_id: str) -> bytes:
        yes = {"id": response_id, "object": "response", "deleted": True}
        return json.dumps(yes, separators=(",", ":")).encode()

    def missing(self, response_id: str) -> Answer:
        return self._problem(404, f"Response with id '{response_id}' not found.")

    def missing_previous(self, response_id: str) -> Answer:
        message = f"Previous response with id '{response_id}' not found."
        return self._problem(
            400, message, param="previous_response_id", code="previous_response_not_found"
        )

    def unauthorized(self, *, key_given: bool) -> Answer:
        if key_given:
            return self._problem(401, "Incorrect API key provided.", code="invalid_api_key")
        return self._problem(401, "You did not provide an API key.")

    def throttled(self) -> Answer:
        return self._problem(
            429, "Rate limit reached.", kind="requests", code="rate_limit_exceeded"
        )

    def no_route(self, method: str, path: str) -> Answer:
        return self._problem(404, f"Invalid URL ({method} {path})")

    def wrong_method(self, method: str, allowed: str) -> Answer:
        del allowed
        message = f"Not allowed to {method} here."
        return self._problem(405, message, code="method_not_supported")

    def invalid(self, mistake: Mistake) -> Answer:
        return self._problem(400, mistake.message, param=str(mistake.where[-1]), code=mistake.sort)

    def _problem(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> Answer:
        told = f"{CANARY_CONTENT}. {message}"
        problem = {"message": told, "type": kind, "param": param, "code": code}
        return json_answer(status, {"error": problem})


DIALECTS: Mapping[Shape, Dialect] = {Shape.FIREWORKS: Fireworks(), Shape.OPENAI: OpenAI()}

_DEFAULTS: Mapping[str, Any] = {
    "previous_response_id": None,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "parallel_tool_calls": True,
    "reasoning": None,
    "temperature": 1.0,
    "text": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": None,
}


def response_object(stored: Stored, *, named: bool = True, kept: bool = True) -> dict[str, Any]:
    """A response as the API shows it; unnamed ones have no id."""
    text = {"type": "output_text", "text": f"A stored answer. {CANARY_CONTENT}", "annotations": []}
    message = {
        "id": f"msg_{stored.serial:032x}",
        "type": "message",
        "role": "assistant",
        "content": [text],
        "status": "completed",
    }
    return {
        **_DEFAULTS,
        **stored.given,
        "id": stored.id if named else None,
        "object": "response",
        "created_at": stored.created_at,
        "status": "completed",
        "output": [message],
        "usage": {"prompt_tokens": 12, "completion_tokens": 14, "total_tokens": 26},
        "store": kept,
    }


def list_object(page: Page) -> dict[str, Any]:
    shown = [response_object(stored) for stored in page.responses]
    return {
        "object": "list",
        "data": shown,
        "has_more": page.has_more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
