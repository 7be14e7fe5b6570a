"""A sandbox, a ledger and a configuration that belong together, and the command over them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sweeper.config import rate
from sweeper.domain import labels as label_texts
from sweeper.domain import moment
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.ledger import database as ledger_database
from sweeper.ledger import registrations, tables
from sweeper.ledger.database import Database
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.server import Sandbox
from sweeper.sandbox.thread import SandboxThread
from tests.support import canary

KEY = "fw_canarykey/77+q?8"
"""Has characters that look otherwise in JSON, in base64 and in a URL."""
OTHER_KEY = "fw_otherkey991"
SUPPORT = {"app": "support"}
DUE = timedelta(days=20)
YOUNG = timedelta(days=2)

_DOCUMENT = """
[ledger]
url = "{url}"

[guards]
max_share_per_sweep = {share}

[accounts.main]
provider = "{provider}"
base_url = "{base_url}"
api_key_file = "{key_file}"
rate = "{rate}"
max_in_flight = {in_flight}
verify = "{verify}"

[[policies]]
name = "support"
match = {{ labels = {{ app = "support" }} }}
delete_after = "14d"
deadline = "1d"

[[policies]]
name = "contracts"
match = {{ labels = {{ app = "contracts" }} }}
delete_after = "forever"

[log]
response_ids = {response_ids}
"""


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """`config` is the configuration's path; `write` changes what stands in it."""

    folder: Path
    sandbox: SandboxThread
    url: str
    ids: set[str] = field(default_factory=set)
    due: set[str] = field(default_factory=set)
    fastest: float = 0.0
    """The highest rate, in requests per second, that any configuration allowed."""
    _values: dict[str, object] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def key_file(self) -> Path:
        return self.folder / "api-key"

    def use_key(self, key: str) -> None:
        canary.watch("the key", key)
        self.write_key(f"{key}\n".encode())

    def write_key(self, data: bytes) -> None:
        """Put anything into the key's file; what could be a part of a key must not leave it."""
        for word in data.decode(errors="replace").split():
            if word.startswith("fw_"):
                canary.watch("a part of the key's file", word)
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(data)

    def let_in(self, keys: Mapping[str, str]) -> None:
        """From now on these are the provider's keys."""
        canary.watch_keys(keys)

        def exchange(sandbox: Sandbox) -> None:
            sandbox.keys.clear()
            sandbox.keys.update(keys)

        self.sandbox.call(exchange)

    def write(self, more: str = "", **values: object) -> None:
        """Write the configuration with these values instead of the ones before."""
        self._values.update(values)
        given = {
            "url": self.url,
            "base_url": self.sandbox.base_url,
            "key_file": self.key_file,
            "provider": "fireworks",
            "share": "1.0",
            "rate": "1000/second",
            "in_flight": 4,
            "verify": "all",
            "response_ids": "true",
            **self._values,
        }
        canary.watch_ledger(str(given["url"]))
        self.fastest = max(self.fastest, rate.parse(given["rate"]))
        self.config.write_text(_DOCUMENT.format(**given) + more)

    def responses(
        self,
        count: int,
        *,
        age: timedelta = DUE,
        labels: Mapping[str, str] = SUPPORT,
        account: str = "main",
        stored: bool = True,
    ) -> list[str]:
        """Create responses at the sandbox, a second apart, and register them; oldest first."""
        first = datetime.now(UTC) - age
        spacing = timedelta(seconds=1)
        ids = self.sandbox.call(
            lambda sandbox: sandbox.seed(
                count, created_at=first, spacing=spacing, metadata=dict(labels)
            )
        )
        if not stored:
            ids = [f"resp_never{len(self.ids) + index}" for index in range(count)]
        self.register({each: first + spacing * n for n, each in enumerate(ids)}, labels, account)
        self.ids.update(ids)
        if age >= timedelta(days=14) and labels == SUPPORT and account == "main":
            self.due.update(ids)
        return ids

    def register(
        self,
        ids: Mapping[str, datetime],
        labels: Mapping[str, str] = SUPPORT,
        account: str = "main",
        previous: str | None = None,
    ) -> None:
        batch = [
            Registration(
                account=AccountName(account),
                response_id=ResponseId(each),
                created_at=created_at.replace(microsecond=0),
                labels=label_texts.canonical(labels),
                subject=None,
                previous_response_id=None if previous is None else ResponseId(previous),
            )
            for each, created_at in ids.items()
        ]
        with self.database() as db, db.write() as connection:
            registrations.append(connection, batch, moment.to_us(datetime.now(UTC)))

    def fault(self, **rule: Any) -> None:
        """Add a rule for what goes wrong at the sandbox."""
        self.sandbox.call(lambda sandbox: sandbox.faults.add(Fault(**rule)))

    def mend(self) -> None:
        """From now on nothing goes wrong at the sandbox."""
        self.sandbox.call(lambda sandbox: sandbox.faults.replace(()))

    def wait_for_deletes(self, count: int) -> None:
        """Return when so many DELETEs have arrived in all."""
        self.sandbox.wait_until(lambda one: len(one.journal.deletes()) >= count, within=30)

    def requests(self, method: str | None = None) -> int:
        return self.sandbox.call(lambda one: len(one.journal.requests(method)))

    def stored(self) -> frozenset[str]:
        """What the sandbox still has."""
        return self.sandbox.call(
            lambda one: one.store.ids(one.account, now=one.clock.now()),
        )

    @contextmanager
    def database(self) -> Iterator[Database]:
        opened = ledger_database.open_database(self.url)
        try:
            yield opened
        finally:
            opened.close()

    def rows(self, table: sa.Table = tables.responses) -> list[dict[str, Any]]:
        with self.database() as db, db.read() as connection:
            found = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
            return [dict(row) for row in found]

    def change(self, table: sa.Table, **values: object) -> None:
        """Set columns of all rows, as time or somebody with a database client would."""
        with self.database() as db, db.write() as connection:
            connection.execute(sa.update(table).values(**values))

    def age_sweeps(self, by: timedelta) -> None:
        """Let everything that the ledger remembers of sweeps have happened earlier."""
        us = moment.length_us(by)
        sweeps, schedules = tables.sweeps, tables.schedules
        with self.database() as db, db.write() as connection:
            connection.execute(
                sa.update(sweeps).values(
                    started_at=sweeps.c.started_at - us, finished_at=sweeps.c.finished_at - us
                )
            )
            connection.execute(sa.update(schedules).values(since=schedules.c.since - us))

    def pass_time(self) -> None:
        """Let every next try have come and every lease have run out."""
        with self.database() as db, db.write() as connection:
            table = tables.responses
            connection.execute(
                sa.update(table).where(table.c.next_try_at.is_not(None)).values(next_try_at=1)
            )
            connection.execute(
                sa.update(table).where(table.c.verify_at.is_not(None)).values(verify_at=1)
            )
            connection.execute(sa.update(tables.leases).values(expires_at=0))


@contextmanager
def rehearsal(folder: Path, url: str, **sandbox: Any) -> Iterator[Rehearsal]:
    """Start a sandbox for a ledger that has the newest schema."""
    keys = {KEY: "acme", OTHER_KEY: "other"}
    with SandboxThread(**{"keys": keys, **sandbox}) as running:
        canary.watch_keys(running.sandbox.keys)
        made = Rehearsal(folder=folder, sandbox=running, url=url)
        made.use_key(KEY)
        made.write()
        yield made


def copied(template: Path, folder: Path) -> str:
    """A ledger of its own, copied from a file that has the newest schema; its URL."""
    path = folder / "ledger.db"
    shutil.copy(template, path)
    return f"sqlite:///{path}"
