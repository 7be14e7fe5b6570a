"""Lay environment variables named SWEEPER__SECTION__KEY over what the file says."""

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sweeper.config import fault, model

PREFIX: Final = "SWEEPER__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaid:
    """The document with the variables laid over it, and which variable stands at which path."""

    document: dict[str, Any]
    sources: dict[fault.Path, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def lay(document: Mapping[str, Any], environ: Mapping[str, str]) -> Overlaid:
    """Return a copy of the document with every variable in its place.

    A value is read as TOML where it is TOML and its key is not a text, and as text otherwise.
    Names of accounts and labels are found whatever their case, `-` being written `_`.
    """
    result = Overlaid(document=copy.deepcopy(dict(document)))
    for name in sorted(each for each in environ if each.startswith(PREFIX)):
        parts = name.removeprefix(PREFIX).split("__")
        if all(parts):
            _place(result, name, parts, environ[name])
        else:
            result.faults.append(f"{name}: write it as SWEEPER__SECTION__KEY")
    return result


def _place(result: Overlaid, name: str, parts: list[str], value: str) -> None:
    node: Any = result.document
    path: fault.Path = ()
    for part in parts[:-1]:
        key = _found(node, part)
        if key is None:
            result.faults.append(f"{name}: {fault.written(path) or 'it'} has no {part.lower()!r}")
            return
        path = (*path, key)
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    key = _found(node, parts[-1])
    if key is None:
        result.faults.append(f"{name}: {fault.written(path)} has no {parts[-1].lower()!r}")
        return
    path = (*path, key)
    node[key] = _value(path, value)
    result.sources[path] = name


def _found(node: object, part: str) -> int | str | None:
    if isinstance(node, list):
        index = int(part) if part.isascii() and part.isdecimal() else len(node)
        return index if index < len(node) else None
    if not isinstance(node, dict):
        return None
    plain = part.lower()
    if part in node:
        return part
    same = [key for key in node if key.lower().replace("-", "_") == plain.replace("-", "_")]
    return str(same[0]) if len(same) == 1 else plain


def _value(path: fault.Path, value: str) -> object:
    section = model.section_at(path[:-1])
    known = section.model_fields.get(str(path[-1])) if section else None
    if known is not None and known.annotation in (str, str | None):
        return value
    try:
        read = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return value
    return read["value"] if len(read) == 1 else value
