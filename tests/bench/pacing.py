"""How exactly a rate is kept, against a server that enforces the same rate."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from tests.bench import child, ledger
from tests.support import command

RATE: Final = 100
BURST: Final = 5
_CONTROLS: Final = 2
"""Requests that an account makes before its first claim: its name, and one response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one sweep made of its rate; `seconds` from the first request's arrival to the last."""

    requests: int
    refused: int
    seconds: float
    cpu_share: float

    @property
    def over_ideal(self) -> float:
        return self.seconds / ((self.requests - 1) / RATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The sandbox in a process of its own."""

    base_url: str
    key: str
    journal: Path

    def seed(self, count: int) -> list[str]:
        address = urlsplit(self.base_url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        wish = {"count": count, "created_at": time.time() - ledger.AGE_DAYS * 86400}
        try:
            connection.request("POST", "/_sandbox/seed", json.dumps(wish))
            told: dict[str, list[str]] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return told["ids"]

    def arrivals(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


def measure(folder: Path, *, seconds: int, rounds: int, tell: Callable[[str], None]) -> None:
    """Sweep so much that it takes `seconds` at the rate, and print how exactly it was kept."""
    found = []
    for number in range(rounds):
        place = folder / f"pacing-{number}"
        place.mkdir()
        kept = _once(place, seconds * RATE)
        found.append(kept)
        tell(f"  round {number + 1}: {kept.over_ideal:.4f} x ideal, {kept.refused} refused")
    tell(f"\npacing: {RATE}/s against a server that enforces it with a burst of {BURST}")
    tell(f"requests {found[0].requests:,}, n {len(found)}")
    tell(f"time / ideal: {median(one.over_ideal for one in found):.4f} (median)")
    tell(f"429s: {sum(one.refused for one in found)} (in all)")
    tell(f"CPU of one core: {median(one.cpu_share for one in found):.1%} (median)")


def _once(folder: Path, requests: int) -> Kept:
    with _serving(folder) as server:
        provider = ledger.Provider(
            base_url=server.base_url, key=server.key, rate=f"{RATE}/second", in_flight=8
        )
        configuration = ledger.configure(folder, provider)
        ledger.register(configuration, server.seed(requests - _CONTROLS))
        usage = child.run(
            ["-m", "sweeper", "-c", configuration, "sweep", "--json"],
            out=folder / "out",
            err=folder / "err",
        )
        arrivals = server.arrivals()
    at = [one["at"] for one in arrivals]
    return Kept(
        requests=len(arrivals),
        refused=sum(one["status"] == http.HTTPStatus.TOO_MANY_REQUESTS for one in arrivals),
        seconds=max(at) - min(at),
        cpu_share=usage.cpu / usage.wall,
    )


@contextmanager
def _serving(folder: Path) -> Iterator[Server]:
    journal = folder / "journal"
    limits = ["--rate", str(RATE), "--burst", str(BURST), "--journal", str(journal)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", "sandbox", "--json", *limits],
        stdout=subprocess.PIPE,
        env=command.environment(),
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Server(base_url=told["base_url"], key=next(iter(told["keys"])), journal=journal)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
