"""Write rows as CSV that no spreadsheet takes for anything but text and numbers."""

import csv
import sys
from collections.abc import Iterable, Sequence
from typing import Final

# What makes a spreadsheet read a cell as a formula, also in the wide forms of East Asian text.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

Cell = str | int | None


def write(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a header and rows as RFC 4180 says; every text is quoted, and none is a formula."""
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([harmless(cell) for cell in row] for row in rows)


def harmless(cell: Cell) -> str | int:
    """Put an apostrophe before a text that a spreadsheet would calculate; nothing is empty."""
    if cell is None:
        return ""
    if isinstance(cell, int):
        return cell
    # Some programs drop spaces before they look.
    return f"'{cell}" if cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA) else cell
