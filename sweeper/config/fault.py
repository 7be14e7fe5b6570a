"""Say what is wrong with a configuration, each fault with its path and what would be right."""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import ErrorDetails

from sweeper.config import model

Path = tuple[int | str, ...]

NOT_BUILT: Final = "is not built yet in this version of sweeper; leave it out"
_SECRET_KEYS: Final = frozenset({"api_key", "apikey", "key", "token", "password", "secret"})
_SHAPES: Final = {
    "dict_type": "write tables below it, for example [accounts.main]",
    "model_type": "must be a table",
    "list_type": "write it as [[policies]], once for each policy",
    "missing": "is missing",
}


def written(path: Path) -> str:
    """Write a path of keys as one text: `accounts.main.rate`."""
    return ".".join(_key(part) for part in path)


def _key(part: int | str) -> str:
    if isinstance(part, int) or re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part, re.ASCII):
        return str(part)
    return json.dumps(part[:64])


def told(path: Path, what: str, sources: Mapping[Path, str], *, below: bool = False) -> str:
    """Compose one fault; a value that a variable laid over the file names that variable.

    With `below` variables that lead further down are named too: they made the section.
    """
    names = sorted(
        {
            name
            for at, name in sources.items()
            if at == path[: len(at)] or (below and path == at[: len(path)])
        }
    )
    origin = f" (from {', '.join(names)})" if names else ""
    return f"{written(path)}{origin}: {what}"


def of_error(error: ErrorDetails, sources: Mapping[Path, str]) -> str:
    """Turn one of pydantic's errors into our words; the value itself is never repeated."""
    path = error["loc"]
    if error["type"] == "extra_forbidden":
        return told(path, _unknown(path), sources, below=True)
    if error["type"] == "value_error":
        reason = error["ctx"]["error"]
        what = NOT_BUILT if isinstance(reason, model.NotBuilt) else str(reason)
        return told(path, what, sources)
    return told(path, _SHAPES.get(error["type"], error["msg"]), sources)


def _unknown(path: Path) -> str:
    name = str(path[-1])
    if len(path) == 1 and name in model.NOT_BUILT:
        return NOT_BUILT
    if path[0] == "accounts" and name.lower() in _SECRET_KEYS:
        return "secrets never stand here; put the key into a file and name it with api_key_file"
    section = model.section_at(path[:-1])
    known = sorted(section.model_fields) if section else []
    near = difflib.get_close_matches(name.lower(), known, n=1)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known here: {', '.join(known)}"
