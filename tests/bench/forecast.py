"""Plan by the library alone, and print what the call took."""

import json
import os
import sys
import time
from pathlib import Path

from sweeper.config import load
from sweeper.service import assembly, inquiry


def main(configuration: Path) -> None:
    """The second call is measured: in the first, statements are compiled and modules loaded."""
    config = load.load(configuration, os.environ)
    bounds = assembly.scope(config)
    database = assembly.open_ledger(config)
    try:
        inquiry.forecast(config, database, bounds)
        began, cpu = time.perf_counter(), time.process_time()
        found = inquiry.forecast(config, database, bounds)
        told = {
            "planned": found.plan.planned,
            "wall": time.perf_counter() - began,
            "cpu": time.process_time() - cpu,
        }
    finally:
        database.close()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
