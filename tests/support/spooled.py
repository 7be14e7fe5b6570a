"""A spool with a ledger behind it: files are put into it, and what became of them is looked at."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sweeper.config import load
from sweeper.config.settings import Config
from sweeper.domain.event import Event, SpoolFileLeft, SpoolFileRegistered
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.service import assembly, intake
from sweeper.service.spool.spool import Spool
from tests.support import registered

CREATED = 1_763_769_600
NAMELESS = b'{"created_at":1763769600}\n'

_DOCUMENT = """
[ledger]
url = "{url}"

[intake]
spool = "{spool}"

[accounts.main]
provider = "fireworks"
api_key_env = "NO_SUCH_KEY"
"""


def line(response_id: str, **more: object) -> bytes:
    """A good line, unless told otherwise."""
    return json.dumps({"id": response_id, "created_at": CREATED, **more}).encode() + b"\n"


def nothing() -> None:
    pass


def configured(folder: Path, url: str, spool: Path) -> Config:
    path = folder / "spooled.toml"
    path.write_text(_DOCUMENT.format(url=url, spool=spool))
    return load.load(path, {})


@dataclass(slots=True, kw_only=True)
class Spooled:
    """`happened` gathers the events of each look into the spool."""

    folder: Path
    config: Config
    db: Database
    happened: list[Event] = field(default_factory=list)
    unread: int | None = None

    @property
    def done(self) -> Path:
        return self.folder / "done"

    def put(self, name: str, *data: bytes) -> Path:
        """Rename a file into the spool, as an application does."""
        written = self.folder.parent / f"{name}.part"
        written.write_bytes(b"".join(data))
        return written.rename(self.folder / name)

    def spool(self, batch: int = 3, patience: float = 0.0) -> Spool:
        desk = intake.desk(self.config, self.db, assembly.watch(self.config))
        return Spool(self.folder, desk, batch=batch, patience=patience)

    def take(
        self, spool: Spool | None = None, *, got_on: Callable[[], None] = nothing
    ) -> Sequence[Event]:
        taken = (spool or self.spool()).take(got_on)
        self.unread = taken.unread
        self.happened += taken.happened
        return taken.happened

    def names(self) -> list[str]:
        """What lies in the spool."""
        return sorted(each.name for each in self.folder.iterdir() if each.name != "done")

    def finished(self) -> list[str]:
        """What lies in `done/`."""
        if not self.done.is_dir():
            return []
        return sorted(each.name for each in self.done.iterdir() if each.name != ".spool")

    def rejected(self, name: str) -> list[dict[str, Any]]:
        text = (self.done / f"{name}.rejected").read_text()
        return [json.loads(each) for each in text.splitlines()]

    def ids(self) -> set[str]:
        return set(registered.by_id(self.db))

    def counted(self) -> int:
        """The responses that the log's records say were registered."""
        bodies = [json.loads(row["body"]) for row in registered.rows(self.db, tables.records)]
        return sum(body["count"] for body in bodies if body["type"] == "item.registered")

    def remembered(self) -> int:
        """Rows that the ledger keeps of the spool."""
        found = [tables.spool_files, tables.spool_rejects]
        return sum(len(registered.rows(self.db, each)) for each in found)


def tallies(happened: Iterable[Event]) -> dict[str, dict[str, int]]:
    """What was told of each file that was taken in."""
    told = {}
    for one in happened:
        if isinstance(one, SpoolFileRegistered):
            numbers = asdict(one)
            assert one.file not in told, "told twice"
            told[numbers.pop("file")] = numbers
    return told


def left(happened: Iterable[Event]) -> dict[str, tuple[str, bool]]:
    """What was told of each file that was left, and whether it is unread."""
    found = [one for one in happened if isinstance(one, SpoolFileLeft)]
    assert len({one.file for one in found}) == len(found), "told twice"
    return {one.file: (one.reason, one.unread) for one in found}


def tally(**numbers: int) -> dict[str, int]:
    names = ("read", "added", "completed", "known", "skipped", "rejected", "no_account")
    return {name: numbers.get(name, 0) for name in names}
