"""Fault rules as they stand in a file: each field read, or refused with what would be right."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sweeper.sandbox.clock import DateForm
from sweeper.sandbox.manners import Drip, Ending, Manner, RetryAfter
from sweeper.sandbox.shapes import CANARY_CONTENT


class Mistake(ValueError):
    """A rule that does not say what it should; the text names the field and what would be right."""


class _Field(NamedTuple):
    read: Callable[[Any], Any]
    right: str


def fields(rule: object, *, where: str) -> dict[str, Any]:
    """The arguments of a fault. `html` and `body_base64` are other ways to write `body`."""
    table = _table(rule, _FIELDS, where=where)
    read = {name: _read(_FIELDS[name], table[name], where=f"{where}.{name}") for name in table}
    bodies = [name for name in ("body", "body_base64", "html") if name in read]
    if len(bodies) > 1:
        raise Mistake(f"{where}: should have one of {', '.join(bodies)}, not several")
    if "html" in read:
        read["body"] = read.pop("html")
        read.setdefault("content_type", "text/html; charset=utf-8")
    if "body_base64" in read:
        read["body"] = read.pop("body_base64")
    return read


def _table(value: object, known: Mapping[str, _Field], *, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mistake(f"{where}: should be a table of {', '.join(sorted(known))}")
    if unknown := [name for name in value if name not in known]:
        raise Mistake(f"{where}.{unknown[0]}: is unknown; there are {', '.join(sorted(known))}")
    return value


def _read(field: _Field, value: Any, *, where: str) -> Any:
    try:
        return field.read(value)
    except Mistake as problem:
        raise Mistake(f"{where}{problem}") from None
    except ValueError:
        raise Mistake(f"{where}: should be {field.right}") from None


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - every reader refuses alike
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError
    return float(value)


def _whole(least: int, most: float = float("inf")) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return read


def _pattern(value: Any) -> str:
    try:
        re.compile(_string(value))
    except re.error:
        raise ValueError from None
    return _string(value)


def _choice(choices: type[StrEnum]) -> _Field:
    return _Field(choices, f"one of {', '.join(choices)}")


def _body(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict | list):
        return json.dumps(value).encode()
    raise ValueError


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except binascii.Error:
        raise ValueError from None


def _html(value: Any) -> bytes:
    page = f"<title>{_string(value)}</title><h1>{value}</h1>"
    return f"<!doctype html><!-- {CANARY_CONTENT} -->{page}\n".encode()


def _headers(value: Any) -> tuple[tuple[str, str | None], ...]:
    """A table, or a list of pairs where a name comes twice."""
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise ValueError  # noqa: TRY004 - every reader refuses alike
    return tuple(_header(pair) for pair in pairs)


def _header(pair: Any) -> tuple[str, str | None]:
    match pair:
        case (str(name), str() | None as text):
            return name, text
        case _:
            raise ValueError


def _interim(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - every reader refuses alike
    return tuple(_whole(100, 199)(status) for status in value)


def _retry_after(value: Any) -> str | RetryAfter:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return RetryAfter(**_inner(value, _RETRY_AFTER, needed=("seconds",)))
    return RetryAfter(seconds=_number(value))


def _drip(value: Any) -> Drip:
    return Drip(**_inner(value, _DRIP, needed=("bytes", "seconds")))


def _inner(value: Any, known: Mapping[str, _Field], *, needed: tuple[str, ...]) -> dict[str, Any]:
    table = _table(value, known, where="")
    if lacking := [name for name in needed if name not in table]:
        raise Mistake(f".{lacking[0]}: is missing; it should be {known[lacking[0]].right}")
    return {name: _read(known[name], table[name], where=f".{name}") for name in table}


_TEXT = _Field(_string, "a string that is not empty")
_YES_OR_NO = _Field(_flag, "true or false")
_SECONDS = _Field(_number, "a number of seconds, not negative")
_COUNT = _Field(_whole(0), "a whole number, not negative")
_ONE_OR_MORE = _Field(_whole(1), "a whole number of at least 1")
_BYTES = _Field(lambda value: _string(value).encode("latin-1"), "a string of Latin-1 characters")

_RETRY_AFTER: Mapping[str, _Field] = {
    "seconds": _SECONDS,
    "form": _choice(DateForm),
}
_DRIP: Mapping[str, _Field] = {
    "bytes": _ONE_OR_MORE,
    "seconds": _SECONDS,
    "head": _YES_OR_NO,
}
_FIELDS: Mapping[str, _Field] = {
    "method": _TEXT,
    "path": _Field(_pattern, "a regular expression"),
    "id": _TEXT,
    "account": _TEXT,
    "after": _COUNT,
    "times": _ONE_OR_MORE,
    "do": _choice(Manner),
    "carry_out": _YES_OR_NO,
    "status": _Field(_whole(200, 999), "a final status, 200 to 999"),
    "body": _Field(_body, "a string, sent as it is, or an object or a list, sent as JSON"),
    "body_base64": _Field(_base64, "the body's bytes in base64"),
    "html": _Field(_html, "the heading of the page, a string that is not empty"),
    "content_type": _TEXT,
    "headers": _Field(_headers, "a table or a list of pairs: names, and strings or null"),
    "retry_after": _Field(
        _retry_after, f"a string, a number, or a table of {', '.join(_RETRY_AFTER)}"
    ),
    "gzip": _YES_OR_NO,
    "size": _COUNT,
    "endless": _YES_OR_NO,
    "raw": _BYTES,
    "delay": _SECONDS,
    "interim": _Field(_interim, "a list of statuses from 100 to 199"),
    "drip": _Field(_drip, f"a table of {', '.join(_DRIP)}"),
    "truncate": _COUNT,
    "stray": _BYTES,
    "stray_delay": _SECONDS,
    "then": _choice(Ending),
}
