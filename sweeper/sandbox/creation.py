"""What a POST may ask for: a body read and checked field by field."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.sandbox.shapes import Mistake

_METADATA_PAIRS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    fits: Callable[[Any], bool]
    right: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


_STRING = _Rule(fits=lambda value: isinstance(value, str), right="a string")
_FLAG = _Rule(fits=lambda value: isinstance(value, bool), right="true or false")
_OBJECT = _Rule(fits=lambda value: isinstance(value, dict), right="an object")
_OBJECTS = _Rule(fits=_is_objects, right="a list of objects")
_COUNT = _Rule(fits=_is_whole, right="a whole number of at least 1")

_REQUIRED: Mapping[str, _Rule] = {
    "model": _STRING,
    "input": _Rule(
        fits=lambda value: isinstance(value, str) or _is_objects(value),
        right="a string or a list of objects",
    ),
}
_OPTIONAL: Mapping[str, _Rule] = {
    "previous_response_id": _STRING,
    "instructions": _STRING,
    "max_output_tokens": _COUNT,
    "max_tool_calls": _COUNT,
    "metadata": _Rule(
        fits=lambda value: isinstance(value, dict) and len(value) <= _METADATA_PAIRS,
        right=f"an object of at most {_METADATA_PAIRS} pairs",
    ),
    "parallel_tool_calls": _FLAG,
    "reasoning": _OBJECT,
    "store": _FLAG,
    "stream": _Rule(fits=lambda value: value is False, right="false: the sandbox does not stream"),
    "temperature": _Rule(
        fits=lambda value: _is_number(value) and 0 <= value <= 2, right="a number from 0 to 2"
    ),
    "text": _OBJECT,
    "tool_choice": _Rule(
        fits=lambda value: isinstance(value, str | dict), right="a string or an object"
    ),
    "tools": _OBJECTS,
    "top_p": _Rule(
        fits=lambda value: _is_number(value) and 0 <= value <= 1, right="a number from 0 to 1"
    ),
    "truncation": _STRING,
    "user": _STRING,
}
_SHOWN = {"model", *_OPTIONAL} - {"store", "stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A checked request: what the response will show of it, and whether to keep it."""

    given: Mapping[str, Any]
    store: bool

    @property
    def previous(self) -> str | None:
        previous: str | None = self.given.get("previous_response_id")
        return previous


def read(body: bytes) -> Creation | Mistake:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return Mistake(where=("body",), sort="json_invalid", message="the body should be JSON")
    if not isinstance(asked, dict):
        return Mistake(where=("body",), sort="object_type", message="the body should be an object")
    return _first_mistake(asked) or Creation(
        given={
            name: value for name, value in asked.items() if name in _SHOWN and value is not None
        },
        store=asked.get("store") is not False,
    )


def _first_mistake(asked: Mapping[str, Any]) -> Mistake | None:
    for name, rule in _REQUIRED.items():
        if name not in asked:
            return Mistake(where=("body", name), sort="missing", message=f"{name} is required")
        if not rule.fits(asked[name]):
            return _wrong(name, rule)
    for name, rule in _OPTIONAL.items():
        if asked.get(name) is not None and not rule.fits(asked[name]):
            return _wrong(name, rule)
    return None


def _wrong(name: str, rule: _Rule) -> Mistake:
    return Mistake(
        where=("body", name), sort="value_error", message=f"{name} should be {rule.right}"
    )
