"""Make the configuration and the ledger that a measured sweep starts from."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import child
from tests.bench.child import Usage

AGE_DAYS: Final = 20
"""Past the policy's fourteen days, within the provider's thirty."""

_CONFIGURATION: Final = """
[ledger]
url = "sqlite:///{ledger}"

[guards]
max_deletions_per_sweep = 100000000
max_share_per_sweep = 1.0
max_deletions_per_day = 100000000

[accounts.main]
provider = "fireworks"
base_url = "{base_url}"
api_key_file = "{key}"
rate = "{rate}"
max_in_flight = {in_flight}
verify = "none"
"""
EVERYTHING: Final = """
[[policies]]
name = "everything"
delete_after = "14d"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where a sweep is to delete, and how fast it may."""

    base_url: str
    key: str
    rate: str
    in_flight: int


NOBODY: Final = Provider(
    base_url="http://127.0.0.1:9", key="bench-key-that-nobody-asks", rate="1/second", in_flight=1
)
"""For what sends nothing."""


def configure(folder: Path, provider: Provider, more: str = EVERYTHING) -> Path:
    """Write a configuration whose ledger is `folder`/ledger.db; `more` are its other sections."""
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(provider.key)
    file = folder / "sweeper.toml"
    file.write_text(
        _CONFIGURATION.format(
            ledger=folder / "ledger.db",
            base_url=provider.base_url,
            key=key,
            rate=provider.rate,
            in_flight=provider.in_flight,
        )
        + more
    )
    return file


def register(configuration: Path, ids: Iterable[str]) -> None:
    """Import responses that are due, a second apart, of four label sets."""
    lines = configuration.parent / "responses.jsonl"
    created_at = int(time.time()) - AGE_DAYS * 86400
    write_lines(
        lines,
        (
            {
                "id": response_id,
                "created_at": created_at + index % 86400,
                "account": "main",
                "labels": {"app": f"app-{index % 4}"},
            }
            for index, response_id in enumerate(ids)
        ),
    )
    import_lines(configuration, lines)


def write_lines(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with file.open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def import_lines(configuration: Path, lines: Path) -> Usage:
    """Run `sweeper responses import` on them, and see that each line was new."""
    folder = configuration.parent
    usage = child.run(
        ["-m", "sweeper", "-c", configuration, "responses", "import", lines, "--json"],
        out=folder / "import.out",
        err=folder / "import.err",
    )
    told = summary(folder / "import.out")
    if told["added"] != told["read"]:
        raise child.Failed(f"the import ended with {told}")
    return usage


def summary(out: Path) -> dict[str, object]:
    """The summary that `--json` ended with."""
    found: dict[str, object] = json.loads(out.read_text().splitlines()[-1])
    return found
