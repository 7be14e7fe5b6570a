"""Reads a JSON object strictly: what two parsers could read differently is not read at all."""

import json
import re
from typing import NoReturn

DEPTH_LIMIT = 32
"""How deep arrays and objects may stand in one another."""

_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPENING, _CLOSING = "[{", "]}"


class _Ambiguous(ValueError):
    """The text is JSON to some parsers only."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Ambiguous
    return found


def _no_number(_: str) -> NoReturn:
    raise _Ambiguous


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def parsed(body: bytes) -> dict[str, object] | None:
    """Read one JSON object in UTF-8; None for anything else.

    Refused: a byte order mark, a key given twice, NaN and infinities, another type at the top,
    and whatever is deeper than `DEPTH_LIMIT`.
    """
    try:
        text = body.decode("utf-8")
        if _is_too_deep(text):
            return None
        found = _DECODER.decode(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_too_deep(text: str) -> bool:
    if sum(map(text.count, _OPENING)) <= DEPTH_LIMIT:
        return False
    depth = 0
    for sign in _TEXTS.sub("", text):
        if sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
        if depth > DEPTH_LIMIT:
            return True
    return False
