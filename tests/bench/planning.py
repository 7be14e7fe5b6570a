"""What a plan costs in a ledger of a million, beside one that holds only what is due of them."""

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import child, ledger

LIVE: Final = 1_000_000
DUE: Final = 10_000
_TURN: Final = 4
"""Responses that are registered one after the other with the same labels; every fifth such group
is one conversation."""
_CONVERSATIONS: Final = 5
_LABEL_SETS: Final = 400
_KEPT_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90, "forever": 365}
"""How long responses are kept, each for a quarter of the label sets; and how old the oldest are."""
_DAY: Final = 86_400
_HERE: Final = Path(__file__).parent
_POLICIES: Final = "".join(
    f"""
[[policies]]
name = "{kept}"
match = {{ labels = {{ kept = "{kept}" }} }}
delete_after = "{kept}"
"""
    for kept in _KEPT_DAYS
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one plan took, in seconds and MiB."""

    wall: float
    cpu: float
    peak_mib: float


def measure(folder: Path, *, rounds: int, tell: Callable[[str], None]) -> None:
    """Plan in both ledgers by turns: by the whole command, then by the call that it makes."""
    small, large = _prepare(folder)
    for name, plan in (("sweeper plan", _command), ("the call alone", _call)):
        found: dict[Path, list[Cost]] = {small: [], large: []}
        for number in range(rounds):
            for configuration in random.sample((small, large), 2):
                found[configuration].append(plan(configuration))
            walls = " and ".join(f"{costs[-1].wall:.3f} s" for costs in found.values())
            tell(f"  round {number + 1}: {name}: {walls}")
        _report(name, found[small], found[large], tell)


def _prepare(folder: Path) -> tuple[Path, Path]:
    """Two ledgers; what is due is the same in both, line by line."""
    small, large = (_place(folder, name) for name in ("plan-due", "plan-all"))
    files = [one.parent / "responses.jsonl" for one in (small, large)]
    with files[0].open("w") as due, files[1].open("w") as every:
        for row, is_due in _rows():
            line = json.dumps(row) + "\n"
            every.write(line)
            if is_due:
                due.write(line)
    for configuration, lines in zip((small, large), files, strict=True):
        ledger.import_lines(configuration, lines)
    return small, large


def _place(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return ledger.configure(place, ledger.NOBODY, _POLICIES)


def _rows() -> Iterator[tuple[dict[str, object], bool]]:
    """What is registered, and whether it is due; what is due lies strewn over all of it."""
    now, groups = int(time.time()), LIVE // _TURN
    due = set(random.sample(range(groups), DUE // _TURN))
    for group in range(groups):
        is_due = group in due
        # What is due is of a label set from which something is deleted.
        kept, days = list(_KEPT_DAYS.items())[group % (3 if is_due else 4)]
        age = days + random.uniform(0, 2) if is_due else random.uniform(0, days - 1)
        labels = {"kept": kept, "app": f"app-{group * 7 % (_LABEL_SETS // 4)}"}
        before: str | None = None
        for turn in range(_TURN):
            response_id = f"resp_{secrets.token_hex(16)}"
            row: dict[str, object] = {
                "id": response_id,
                "created_at": now - int(age * _DAY) + turn,
                "account": "main",
                "labels": labels,
            }
            if before is not None and group % _CONVERSATIONS == 0:
                row["previous_response_id"] = before
            before = response_id
            yield row, is_due


def _command(configuration: Path) -> Cost:
    folder = configuration.parent
    out = folder / "out"
    usage = child.run(
        ["-m", "sweeper", "-c", configuration, "plan", "--json"], out=out, err=folder / "err"
    )
    _check(json.loads(out.read_text())["planned"])
    return Cost(wall=usage.wall, cpu=usage.cpu, peak_mib=usage.peak_mib)


def _call(configuration: Path) -> Cost:
    folder = configuration.parent
    out = folder / "out"
    usage = child.run([_HERE / "forecast.py", configuration], out=out, err=folder / "err")
    told = json.loads(out.read_text())
    _check(told["planned"])
    return Cost(wall=told["wall"], cpu=told["cpu"], peak_mib=usage.peak_mib)


def _check(planned: int) -> None:
    if planned != DUE:
        raise child.Failed(f"{planned} were planned, not {DUE}")


def _report(
    name: str, small: Sequence[Cost], large: Sequence[Cost], tell: Callable[[str], None]
) -> None:
    tell(f"\n{name}: {DUE:,} due of {LIVE:,} beside {DUE:,} of {DUE:,}, median of {len(small)}")
    for what, unit, of in (
        ("time", "s", lambda cost: cost.wall),
        ("CPU", "s", lambda cost: cost.cpu),
        ("peak", "MiB", lambda cost: cost.peak_mib),
    ):
        one, other = median(map(of, large)), median(map(of, small))
        tell(f"{what:5} {one:8.3f} {unit:3} beside {other:8.3f} {unit:3}: {one / other:.2f}")
    tell("")
