"""How fast responses are registered, beside bare inserts of the same rows."""

import json
import os
import random
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import child, ledger

LINES: Final = 1_000_000
_LABEL_SETS: Final = 400
_DAYS: Final = 30
_SUBJECTS: Final = 10
_CONTINUED: Final = 20
"""Every tenth line has a subject, every twentieth continues the one before."""
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Wall and CPU seconds."""

    wall: float
    cpu: float


def measure(folder: Path, *, rounds: int, tell: Callable[[str], None]) -> None:
    """Import into an empty ledger, then insert what stands in it into another, round by round.

    Of the import the whole command counts; of the inserts neither the start of a process, nor
    the reading and checking of lines, nor any record.
    """
    place = folder / "import"
    place.mkdir()
    configuration = ledger.configure(place, ledger.NOBODY)
    lines = place / "responses.jsonl"
    ledger.write_lines(lines, _rows())
    _empty(configuration)
    shutil.copy(place / "ledger.db", place / "empty.db")
    imports, inserts = [], []
    for number in range(rounds):
        imports.append(_import(configuration, lines))
        inserts.append(_insert(place))
        tell(f"  round {number + 1}: {imports[-1].wall:.2f} s, bare {inserts[-1].wall:.2f} s")
    tell(f"\nimport of {LINES:,} lines beside sqlite3's executemany, median of {rounds}")
    wall, cpu = _medians(imports)
    bare_wall, bare_cpu = _medians(inserts)
    for name, seconds, processor in (("import", wall, cpu), ("bare", bare_wall, bare_cpu)):
        tell(f"{name:7} {LINES / seconds:9,.0f} rows/s {processor / LINES * 1e6:7.1f} CPU us/row")
    tell(f"rows/s, import / bare: {bare_wall / wall:.2f}; by CPU time: {bare_cpu / cpu:.2f}\n")


def _rows() -> Iterator[dict[str, object]]:
    first = int(time.time()) - _DAYS * 86_400
    before = ""
    for index in range(LINES):
        response_id = f"resp_{secrets.token_hex(16)}"
        number = random.randrange(_LABEL_SETS)
        row: dict[str, object] = {
            "id": response_id,
            "created_at": first + index * _DAYS * 86_400 // LINES,
            "account": "main",
            "labels": {"app": f"app-{number % 10}", "env": "prod", "tenant": f"t-{number}"},
        }
        if index % _SUBJECTS == 0:
            row["subject"] = f"user-{random.randrange(LINES)}"
        if before and index % _CONTINUED == 0:
            row["previous_response_id"] = before
        before = response_id
        yield row


def _empty(configuration: Path) -> None:
    folder = configuration.parent
    child.run(
        ["-m", "sweeper", "-c", configuration, "db", "upgrade"],
        out=folder / "out",
        err=folder / "err",
    )


def _import(configuration: Path, lines: Path) -> Took:
    folder = configuration.parent
    shutil.copy(folder / "empty.db", folder / "ledger.db")
    os.sync()
    usage = ledger.import_lines(configuration, lines)
    return Took(wall=usage.wall, cpu=usage.cpu)


def _insert(folder: Path) -> Took:
    shutil.copy(folder / "empty.db", folder / "bare.db")
    os.sync()
    child.run(
        [_HERE / "raw_import.py", folder / "ledger.db", folder / "bare.db"],
        out=folder / "out",
        err=folder / "err",
    )
    told = json.loads((folder / "out").read_text())
    return Took(wall=told["wall"], cpu=told["cpu"])


def _medians(found: list[Took]) -> tuple[float, float]:
    return median(one.wall for one in found), median(one.cpu for one in found)
