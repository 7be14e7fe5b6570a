"""The small string-to-string map that policies match, and its one canonical text."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from sweeper.domain.response import is_plain_text

MOST_LABELS: Final = 16

_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,64}", re.ASCII)
# 16 labels whose values are escaped to the full: a longer text cannot be within the limits.
_LONGEST_TEXT = 65_536


def check(labels: Mapping[Any, object]) -> dict[str, str]:
    """Return the labels as they came when all are within the limits; ValueError otherwise.

    At most 16 labels; keys of 1 to 64 of `A-Z a-z 0-9 _ . : / -`; values of 1 to 256
    characters without control characters or lone surrogates.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(f"{len(labels)} labels: at most {MOST_LABELS} are allowed")
    checked: dict[str, str] = {}
    for key, value in labels.items():
        if not isinstance(key, str) or _KEY.fullmatch(key) is None:
            raise ValueError("a label's key must be 1 to 64 characters of A-Z a-z 0-9 _ . : / -")
        if not is_plain_text(value):
            raise ValueError(
                f"the label {key} must have a text of 1 to 256 characters"
                " without control characters as its value"
            )
        checked[key] = value
    return checked


def canonical(labels: Mapping[str, str]) -> str:
    """Return the one text of labels that were checked: compact JSON with sorted keys."""
    return json.dumps(dict(labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def checked_text(labels: Mapping[Any, object]) -> str:
    """Return the canonical text of labels within the limits; ValueError otherwise.

    There are few distinct ones among many responses: those seen last are not judged again.
    """
    try:
        return _text(tuple(labels.items()))
    except TypeError:  # a value that cannot be looked up, such as a list: it is judged by itself
        return canonical(check(labels))


@lru_cache(maxsize=1024)
def _text(labels: tuple[tuple[Any, object], ...]) -> str:
    return canonical(check(dict(labels)))


def read(text: str) -> dict[str, str]:
    """Read a JSON object of labels, canonical or not; ValueError when it breaks the limits."""
    if len(text) > _LONGEST_TEXT:
        raise ValueError("the labels' text is too long")
    try:
        found = json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("the labels' text is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("the labels' text is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("labels must be a JSON object")  # noqa: TRY004 - the text has the wrong value
    return check(found)


def stored(text: str) -> dict[str, str] | None:
    """Read what stands in the ledger; None where it breaks the rules, so that no policy matches."""
    try:
        return read(text)
    except ValueError:
        return None


def _distinct(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    # Of a key that is given twice nobody can say which value was meant.
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError("a label is given twice")
        found[key] = value
    return found
