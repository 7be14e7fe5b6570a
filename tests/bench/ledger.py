"""Make the configuration and the ledger that a measured sweep starts from."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import child

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


def configure(folder: Path, provider: Provider) -> Path:
    """Write a configuration whose ledger is `folder`/ledger.db."""
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
    )
    return file


def register(configuration: Path, ids: Iterable[str]) -> None:
    """Import responses that are due, a second apart, of four label sets."""
    folder = configuration.parent
    lines = folder / "responses.jsonl"
    created_at = int(time.time()) - AGE_DAYS * 86400
    with lines.open("w") as file:
        for index, response_id in enumerate(ids):
            row = {
                "id": response_id,
                "created_at": created_at + index % 86400,
                "account": "main",
                "labels": {"app": f"app-{index % 4}"},
            }
            file.write(json.dumps(row) + "\n")
    child.run(
        ["-m", "sweeper", "-c", configuration, "responses", "import", lines, "--json"],
        out=folder / "import.out",
        err=folder / "import.err",
    )


def summary(out: Path) -> dict[str, object]:
    """The summary that `sweep --json` ended with."""
    found: dict[str, object] = json.loads(out.read_text().splitlines()[-1])
    return found
