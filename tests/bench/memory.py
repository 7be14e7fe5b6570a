"""How much memory a sweep takes: one of many responses beside one of few, as whole commands."""

import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import peer
from tests.bench.child import Usage
from tests.bench.end_to_end import Bench

FEW: Final = 2_000
MANY: Final = 200_000


def measure(folder: Path, *, rounds: int, tell: Callable[[str], None]) -> None:
    """Sweep both in random order, round by round, and print their peaks and the ratio.

    The peak is the most that was resident at any moment, as the kernel keeps it.
    """
    with peer.serving(folder) as nginx:
        benches = {
            count: Bench(folder=_place(folder, count), peer=nginx, count=count)
            for count in (FEW, MANY)
        }
        for bench in benches.values():
            bench.prepare()
        found: dict[int, list[Usage]] = {count: [] for count in benches}
        for number in range(rounds):
            for count in random.sample(sorted(benches), len(benches)):
                usage = benches[count].sweep()
                found[count].append(usage)
                tell(f"  round {number + 1}: {count:,}: {usage.peak_mib:.1f} MiB")
    tell(f"\nmemory of a sweep: whole command, peak, median of {rounds}")
    peaks = {count: median(one.peak_mib for one in usages) for count, usages in found.items()}
    for count, peak in peaks.items():
        tell(f"sweep of {count:7,}: {peak:.1f} MiB")
    tell(f"{MANY:,} / {FEW:,}: {peaks[MANY] / peaks[FEW]:.2f}\n")


def _place(folder: Path, count: int) -> Path:
    place = folder / f"sweep-{count}"
    place.mkdir()
    return place
