"""Print results: for people on a terminal, plain for pipes, JSON for programs."""

import itertools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TextIO

from sweeper.domain import display

_GAP = "  "
_BOLD = ("\x1b[1m", "\x1b[0m")


def line(text: str = "") -> None:
    """Print one line of a result; what is unsafe on a terminal is escaped."""
    sys.stdout.write(display.escape(text) + "\n")


def note(text: str) -> None:
    """Print one line for the person at the terminal, apart from the results."""
    sys.stderr.write(display.escape(text) + "\n")


def json_line(kind: str, fields: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own; `kind` becomes its `type`."""
    sys.stdout.write(json.dumps({"type": kind, **fields}, separators=(",", ":")) + "\n")


def instant(moment: datetime | int | None) -> str | None:
    """Write a moment, or microseconds since 1970, as RFC 3339 in UTC for programs."""
    if isinstance(moment, int):
        from sweeper.domain import moment as moments

        moment = moments.from_us(moment)
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def short_instant(moment: datetime | int | None) -> str:
    """Write a moment for people, to the second; none is a dash."""
    text = instant(moment)
    return "-" if text is None else f"{text[:10]} {text[11:19]}Z"


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[str] = (),
    fold: Collection[str] = (),
    unless_zero: Collection[str] = (),
) -> None:
    """Print a table; the columns named in `right` are set to the right, as numbers are.

    Where a terminal is too narrow the columns in `fold` are broken between words, and all others
    stay whole, beyond the edge if need be. Of those in `unless_zero` the ones that hold nothing
    but zeros are left out.
    """
    taken = list(rows)
    kept = [
        place
        for place, name in enumerate(columns)
        if name not in unless_zero or any(str(row[place]) != "0" for row in taken)
    ]
    names = [columns[place] for place in kept]
    cells = [[_cell(row[place]) for place in kept] for row in taken]
    if sys.stdout.isatty():
        _terminal_table(names, cells, right, fold)
    else:
        _plain_table(names, cells, right)


def _cell(value: object) -> str:
    return "-" if value is None else display.escape(str(value))


def pairs(fields: Mapping[str, object]) -> None:
    """Print names with their values, one to a line."""
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        line(f"{name:<{width}}{_GAP}{'-' if value is None else value}")


def _plain_table(
    columns: Sequence[str], cells: Sequence[Sequence[str]], right: Collection[str]
) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in (columns, *cells):
        aligned = (
            f"{cell:>{width}}" if name in right else f"{cell:<{width}}"
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        sys.stdout.write(_GAP.join(aligned).rstrip() + "\n")


def _terminal_table(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    right: Collection[str],
    fold: Collection[str],
) -> None:
    from rich.cells import cell_len

    widths = _widths(columns, cells, fold)
    bold, plain = ("", "") if os.environ.get("TERM", "dumb") == "dumb" else _BOLD
    for number, row in enumerate((columns, *cells)):
        broken = [
            _broken(text, width) if name in fold else [text]
            for name, text, width in zip(columns, row, widths, strict=True)
        ]
        for texts in itertools.zip_longest(*broken, fillvalue=""):
            aligned = []
            for name, text, width in zip(columns, texts, widths, strict=True):
                space = " " * (width - cell_len(text))
                aligned.append(space + text if name in right else text + space)
            shown = _GAP.join(aligned).rstrip()
            sys.stdout.write(f"{bold}{shown}{plain}\n" if number == 0 else f"{shown}\n")


def _widths(
    columns: Sequence[str], cells: Sequence[Sequence[str]], fold: Collection[str]
) -> list[int]:
    """As wide as the texts are; what is too much is taken from those that may be broken."""
    from rich.cells import cell_len

    table = list(zip(columns, *cells, strict=True))
    widths = [max(map(cell_len, column)) for column in table]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - shutil.get_terminal_size().columns
    for place, column in enumerate(table):
        if columns[place] in fold and over > 0:
            longest = max(cell_len(word) for text in column for word in text.split())
            shrunk = min(over, widths[place] - longest)
            widths[place] -= shrunk
            over -= shrunk
    return widths


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def survive_odd_encodings(*streams: TextIO) -> None:
    """Let characters that a stream cannot hold be written as escapes instead of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
