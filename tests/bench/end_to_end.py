"""Deletions per second of the whole command, beside two loops that keep no ledger."""

import os
import random
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench import child, ledger, peer
from tests.bench.child import Usage
from tests.bench.peer import Peer

IN_FLIGHT: Final = 32
SWEEPER: Final = "sweeper"
OPENAI: Final = "AsyncOpenAI"
AIOHTTP: Final = "aiohttp"
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all runs share: `count` responses, registered once in a ledger that is copied."""

    folder: Path
    peer: Peer
    count: int

    @property
    def ids(self) -> Path:
        return self.folder / "ids"

    def prepare(self) -> None:
        with self.ids.open("w") as file:
            file.writelines(f"resp_{secrets.token_hex(16)}\n" for _ in range(self.count))
        with self.ids.open() as file:
            ledger.register(self._configuration(), (line.rstrip("\n") for line in file))
        shutil.copy(self.folder / "ledger.db", self.folder / "prepared.db")

    def sweep(self) -> Usage:
        configuration = self._configuration()
        shutil.copy(self.folder / "prepared.db", self.folder / "ledger.db")
        os.sync()
        usage = self._run("-m", "sweeper", "-c", configuration, "sweep", "--json")
        outcomes = ledger.summary(self.folder / "out")["outcomes"]
        if outcomes != {"deleted": self.count}:
            raise child.Failed(f"the sweep ended with {outcomes}, not {self.count} deleted")
        return usage

    def loop(self, program: str) -> Usage:
        os.sync()
        return self._run(_HERE / program, self.peer.base_url, self.ids, IN_FLIGHT)

    def _run(self, *arguments: object) -> Usage:
        before = self.peer.requests()
        usage = child.run(arguments, out=self.folder / "out", err=self.folder / "err")
        sent = self.peer.requests() - before - 1
        if sent < self.count:
            raise child.Failed(f"only {sent} requests of {self.count} arrived")
        return usage

    def _configuration(self) -> Path:
        provider = ledger.Provider(
            base_url=self.peer.base_url,
            key="bench-key-that-nobody-checks",
            rate="1000000/second",
            in_flight=IN_FLIGHT,
        )
        return ledger.configure(self.folder, provider)


def measure(folder: Path, *, count: int, rounds: int, tell: Callable[[str], None]) -> None:
    """Run the three in random order, round by round, and print their medians and ratios."""
    with peer.serving(folder) as nginx:
        bench = Bench(folder=folder, peer=nginx, count=count)
        bench.prepare()
        variants: dict[str, Callable[[], Usage]] = {
            SWEEPER: bench.sweep,
            OPENAI: lambda: bench.loop("openai_loop.py"),
            AIOHTTP: lambda: bench.loop("aiohttp_loop.py"),
        }
        found: dict[str, list[Usage]] = {name: [] for name in variants}
        for number in range(rounds):
            for name in random.sample(sorted(variants), len(variants)):
                usage = variants[name]()
                found[name].append(usage)
                tell(f"  round {number + 1}: {name:12} {usage.wall:8.2f} s")
    _report(found, count, tell)


def _report(found: dict[str, list[Usage]], count: int, tell: Callable[[str], None]) -> None:
    tell(f"\nend to end: {count:,} deletions, {IN_FLIGHT} in flight, whole command, median of n")
    tell(f"{'':12} {'n':>3} {'seconds':>9} {'del/s':>8} {'CPU us/del':>11} {'peak MiB':>9}")
    speed = {}
    for name, usages in found.items():
        wall = median(one.wall for one in usages)
        speed[name] = count / wall
        cpu = median(one.cpu for one in usages) / count * 1e6
        peak = median(one.peak_mib for one in usages)
        tell(f"{name:12} {len(usages):3} {wall:9.2f} {speed[name]:8,.0f} {cpu:11.0f} {peak:9.0f}")
    for other in (OPENAI, AIOHTTP):
        tell(f"{SWEEPER} / {other}: {speed[SWEEPER] / speed[other]:.2f}")
