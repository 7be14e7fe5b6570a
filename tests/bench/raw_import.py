"""Insert the rows of one ledger into another with nothing but sqlite3, and print what it took."""

import json
import sys
import time
from contextlib import closing
from pathlib import Path

from sweeper.ledger import database
from sweeper.service.intake import BATCH

_COLUMNS = (
    *("id", "account_id", "response_id", "item", "salt", "label_set_id", "created_at"),
    *("first_created_at", "registered_at", "registered_seq", "subject", "previous_response_id"),
    "parent_id",
)
"""What a registration fills; the others have their defaults."""


def main(source: Path, target: Path) -> None:
    """In the order in which they stand there, so that neighbours in an index come together.

    The connection is one of ours, so its settings are the same; only the inserts are measured.
    """
    db = database.open_database(f"sqlite:///{target}", create=False)
    wall = cpu = 0.0
    # Read through another file handle than the one that is written.
    reading = database.open_database(f"sqlite:///{source}", create=False)
    with (
        closing(reading.engine.raw_connection()) as old,
        closing(db.engine.raw_connection()) as new,
    ):
        for table in ("accounts", "label_sets"):
            rows = old.cursor().execute(f"SELECT * FROM {table}").fetchall()
            places = ", ".join("?" * len(rows[0]))
            new.cursor().executemany(f"INSERT INTO {table} VALUES ({places})", rows)
        read = old.cursor().execute(f"SELECT {', '.join(_COLUMNS)} FROM responses ORDER BY id")
        places = ", ".join("?" * len(_COLUMNS))
        insert = f"INSERT INTO responses ({', '.join(_COLUMNS)}) VALUES ({places})"
        cursor = new.cursor()
        while rows := read.fetchmany(BATCH):
            began, cpu_began = time.perf_counter(), time.process_time()
            cursor.execute("BEGIN IMMEDIATE")
            cursor.executemany(insert, rows)
            cursor.execute("COMMIT")
            wall += time.perf_counter() - began
            cpu += time.process_time() - cpu_began
    sys.stdout.write(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
