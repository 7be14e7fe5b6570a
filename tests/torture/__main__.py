"""Kill sweeps at random: `python -m tests.torture --kills 300 --responses 20000`."""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.ledger import database as ledger_database
from sweeper.ledger import schema
from tests.support import postgres
from tests.support import rehearsal as rehearsals
from tests.torture import loop
from tests.torture.loop import Plan, Score, Untrue


def main() -> None:
    wanted = _arguments()
    plan = Plan(
        kills=wanted.kills,
        responses=wanted.responses,
        seed=wanted.seed,
        check_every=wanted.check_every,
    )
    for kind in ("sqlite", "postgresql") if wanted.database == "both" else (wanted.database,):
        _tell(f"{kind}: {plan.kills} kills over {plan.responses:,} responses, seed {plan.seed}")
        with (
            tempfile.TemporaryDirectory(prefix="sweeper-torture-") as folder,
            _ledger(kind, folder) as url,
            rehearsals.rehearsal(Path(folder), url) as rehearsal,
        ):
            try:
                _tell(_told(loop.run(rehearsal, plan, _tell)))
            except Untrue as found:
                sys.exit(f"not true:\n{found}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("--kills", type=int, default=300, help="sweeps that are killed")
    parser.add_argument("--responses", type=int, default=20_000, help="that are due")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and of the faults")
    parser.add_argument("--check-every", type=int, default=25, help="kills between two looks")
    return parser.parse_args()


@contextmanager
def _ledger(kind: str, folder: str) -> Iterator[str]:
    """The URL of a new ledger with the newest schema."""
    if kind == "sqlite":
        yield _made(f"sqlite:///{folder}/ledger.db")
        return
    with postgres.running() as server:
        server.create("torture")
        yield _made(server.url("torture"))


def _made(url: str) -> str:
    db = ledger_database.open_database(url)
    schema.upgrade(db)
    db.close()
    return url


def _told(score: Score) -> str:
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(score.outcomes.items()))
    return (
        f"{score.kills} kills ({score.idle} before anything was sent) in {score.sweeps} sweeps and"
        f" {score.seconds:.0f} s; {score.requests:,} requests, {score.resets:,} reset after the"
        f" deletion, {score.refusals:,} answered 503; {outcomes}; everything true, nothing left"
    )


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what the command is for


if __name__ == "__main__":
    main()
