"""Take a stream of registered responses apart, JSON lines or CSV, one value for each line."""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from sweeper import errors
from sweeper.domain.registration import Fault

LONGEST: Final = 65_536
"""Bytes in one line; a longer one is rejected without being kept in memory."""

_COLUMNS: Final = frozenset(
    {"id", "created_at", "account", "labels", "subject", "previous_response_id", "store"}
)
_LABEL: Final = "label."


class Line(NamedTuple):
    """One line by its number, from 1, and what stands there or why it cannot be read.

    `start` is the byte at which it begins, where that is known.
    """

    number: int
    value: object
    start: int = 0


class JsonLines:
    """Reads JSON lines; `position` and `number` are the bytes and the lines behind it.

    The stream must stand at `position`. Empty lines have a number and are left out.
    """

    def __init__(self, stream: BinaryIO, *, position: int = 0, number: int = 0) -> None:
        self._stream = stream
        self.position = position
        self.number = number

    def __iter__(self) -> Iterator[Line]:
        while data := self._next():
            line = self._read(*data)
            if line is not None:
                yield line

    def page(self, *, lines: int, size: int) -> list[Line]:
        """Read on for so many lines, or for so many bytes and the line in which they end."""
        found: list[Line] = []
        last, end = self.number + lines, self.position + size
        while self.number < last and self.position < end and (data := self._next()):
            line = self._read(*data)
            if line is not None:
                found.append(line)
        return found

    def _next(self) -> tuple[int, bytes] | None:
        """Where the next line begins, and as much of it as is ever looked at."""
        start = self.position
        data = part = self._stream.readline(LONGEST + 1)
        while part:
            self.position += len(part)
            part = b"" if part.endswith(b"\n") else self._stream.readline(LONGEST)
        self.number += bool(data)
        return (start, data) if data else None

    def _read(self, start: int, data: bytes) -> Line | None:
        if len(data) > LONGEST:
            fault = Fault(reason="too_long", detail=f"more than {LONGEST} bytes")
            return Line(number=self.number, value=fault, start=start)
        if self.number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        if data.isspace() or not data:
            return None
        return Line(number=self.number, value=_json(data), start=start)


def of_json(stream: BinaryIO) -> Iterator[Line]:
    """Read JSON lines; empty lines do not count."""
    return iter(JsonLines(stream))


def _json(data: bytes) -> object:
    try:
        return _DECODER.decode(data.decode())
    except UnicodeDecodeError:
        return Fault(reason="not_json", detail="it is not UTF-8 text")
    except json.JSONDecodeError as error:
        return Fault(reason="not_json", detail=f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError):
        detail = "a key stands twice, a number is too long or it is nested too deeply"
        return Fault(reason="not_json", detail=detail)


def _distinct(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    # Which of two values of one key was meant, nobody can say.
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError
    return table


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_distinct)


def of_csv(stream: BinaryIO) -> Iterator[Line]:
    """Read CSV with a header; `labels` is a JSON object, `label.X` the value of label X.

    Raises InvalidRegistration for a header that cannot be used. An empty cell is an absent value.
    """
    # What is no UTF-8 becomes lone surrogates, which no value of a registration may hold.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        rows = csv.reader(text, strict=True)
        read = (values for values in _rows(rows) if values)
        header = _header(next(read, ()))
        for values in read:
            number = rows.line_num
            if isinstance(values, Fault):
                yield Line(number=number, value=values)
            else:
                yield Line(number=number, value=_row(header, values))
    finally:
        text.detach()


def _rows(rows: Iterator[list[str]]) -> Iterable[list[str] | Fault]:
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Fault(reason="not_csv", detail=str(error))


def _header(names: Sequence[str] | Fault) -> Sequence[str]:
    if isinstance(names, Fault):
        raise errors.InvalidRegistration(f"the header is no CSV: {names.detail}")
    if not names:
        return names
    unknown = [name for name in names if name not in _COLUMNS and not name.startswith(_LABEL)]
    if unknown:
        raise errors.InvalidRegistration(
            f"unknown column {unknown[0]!r} in the header",
            hint=f"known are {', '.join(sorted(_COLUMNS))} and label.NAME",
        )
    if len(set(names)) != len(names) or not {"id", "created_at"} <= set(names):
        raise errors.InvalidRegistration(
            "the first line must be a header with id and created_at, and no column twice"
        )
    return names


def _row(header: Sequence[str], values: Sequence[str]) -> object:
    if len(values) != len(header):
        detail = f"{len(values)} values under a header of {len(header)} columns"
        return Fault(reason="bad_row", detail=detail)
    cells = {name: value for name, value in zip(header, values, strict=True) if value}
    line: dict[str, object] = {name: cells[name] for name in _COLUMNS & cells.keys()}
    if "created_at" in cells:
        line["created_at"] = timestamp(cells["created_at"])
    if "store" in cells:
        flags = {"true": True, "false": False}
        line["store"] = flags.get(cells["store"].lower(), cells["store"])
    labels = {
        name.removeprefix(_LABEL): value for name, value in cells.items() if name not in _COLUMNS
    }
    if "labels" not in cells:
        return {**line, "labels": labels}
    given = _json(cells["labels"].encode("utf-8", "surrogateescape"))
    if not isinstance(given, dict):
        return Fault(reason="bad_labels", detail="labels must be a JSON object")
    if labels.keys() & given.keys():
        return Fault(reason="bad_labels", detail="a label stands in labels and in a column")
    return {**line, "labels": {**given, **labels}}


def timestamp(text: str) -> object:
    """Read a text as Unix seconds where it is a number; otherwise leave it as it is."""
    try:
        return int(text) if text.isascii() and text.isdecimal() else float(text)
    except ValueError:
        return text
