"""Sweep a test's ledger against the stand-in provider, both in the test's own loop."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config, KeyPlace, KeySource, LogFormat, LogSettings
from sweeper.domain import event
from sweeper.domain import labels as label_texts
from sweeper.domain.event import Event
from sweeper.domain.plan import Guards
from sweeper.domain.policy import Policy
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.domain.secret import Secret
from sweeper.engine.account import Account
from sweeper.engine.clock import ClockWatch
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.server import Sandbox
from sweeper.service import assembly
from sweeper.service.assembly import Workshop
from tests.support import canary, invariants, registered

DAY = timedelta(days=1)
TWO_WEEKS = Policy(name="two weeks", delete_after=14 * DAY)
OPEN = Guards(max_deletions_per_sweep=10**6, max_share_per_sweep=1, max_deletions_per_day=10**6)
FAST = 5000.0
_STEP = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Under what a sweep runs."""

    policies: tuple[Policy, ...] = (TWO_WEEKS,)
    guards: Guards = OPEN
    only: str | None = None
    most: int | None = None
    skew: timedelta = timedelta(minutes=2)
    trust_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A sweep that is under way."""

    sweep: Sweep
    accounts: Mapping[str, Account]
    watch: ClockWatch


Early = Callable[[Running], None]
_Kind = TypeVar("_Kind")


class Site:
    """A ledger, a provider, and everything that joins them; `events` are what was told."""

    def __init__(self, db: Database, sandbox: Sandbox) -> None:
        self.db = db
        self.sandbox = sandbox
        self.events = []
        canary.watch_keys(sandbox.keys)
        canary.watch_ledger(db.engine.url.render_as_string(hide_password=False))
        self.main = self.account("main")

    @property
    def events(self) -> list[Event]:
        return self._events

    @events.setter
    def events(self, events: list[Event]) -> None:
        canary.hear(events)
        self._events = events

    def account(
        self, name: str, *, key: str | None = None, base_url: str | None = None, **given: Any
    ) -> tuple[AccountConfig, Secret]:
        """An account as configured, with its key; the sandbox's own unless something is given."""
        values: dict[str, Any] = {
            "provider": "fireworks",
            "account_id": None,
            "rate_per_second": FAST,
            "max_in_flight": 4,
            "verify": True,
        }
        config = AccountConfig(
            name=AccountName(name),
            base_url=base_url or self.sandbox.base_url,
            key_source=KeySource(place=KeyPlace.VARIABLE, name="KEY"),
            **(values | given),
        )
        chosen = key or self.sandbox.key
        canary.watch(f"the key of {name}", chosen)
        return config, Secret(chosen)

    def store(
        self,
        count: int = 1,
        *,
        age: timedelta = 20 * DAY,
        at: str | None = None,
        labels: Mapping[str, str] | None = None,
        **given: Any,
    ) -> list[str]:
        """Let the provider store responses, and register them; `at` names another account there."""
        ids = self.sandbox.seed(count, age=age, account=at, metadata=dict(labels or {}))
        self.know(*ids, age=age, labels=labels, **given)
        return ids

    def know(
        self,
        *ids: str,
        age: timedelta = 20 * DAY,
        account: str = "main",
        labels: Mapping[str, str] | None = None,
        previous: str | None = None,
    ) -> None:
        """Register responses, whether they exist or not; each a millisecond younger."""
        now = datetime.now(UTC)
        self._admit(
            [
                _registration(name, account, now - age + index * _STEP, labels, previous)
                for index, name in enumerate(ids)
            ]
        )

    def chain(self, length: int, *, ages: Sequence[timedelta] = (20 * DAY,)) -> list[str]:
        """Store a chain, the root first; the last age holds for all further ones."""
        every = [ages[min(index, len(ages) - 1)] for index in range(length)]
        names = [self.sandbox.seed(1, age=age)[0] for age in every]
        now = datetime.now(UTC)
        self._admit(
            [
                _registration(name, "main", now - age, None, previous)
                for name, age, previous in zip(names, every, [None, *names], strict=False)
            ]
        )
        return names

    def _admit(self, batch: Sequence[Registration]) -> None:
        registered.admit(self.db, *batch, now=int(datetime.now(UTC).timestamp() * 1e6))

    def fault(self, **rule: Any) -> None:
        self.sandbox.faults.add(Fault.parse(rule))

    def mend(self) -> None:
        """End all faults."""
        self.sandbox.faults.replace([])

    async def sweep(
        self,
        *accounts: tuple[AccountConfig, Secret],
        early: Early | None = None,
        checked: bool = True,
        **rules: Any,
    ) -> Ended:
        """Sweep once and look whether the ledger is sound; `early` runs before it begins."""
        async with self.opened(*accounts, **rules) as running:
            if early is not None:
                early(running)
            ended = await running.sweep.run()
        if checked:
            invariants.check(self.db)
            self._agree(ended)
        return ended

    @asynccontextmanager
    async def opened(
        self, *accounts: tuple[AccountConfig, Secret], **rules: Any
    ) -> AsyncIterator[Running]:
        chosen, bounds = accounts or (self.main,), Rules(**rules)
        config = self._config(tuple(config for config, _ in chosen), bounds)
        watch = assembly.watch(config)
        shop = Workshop(db=self.db, watch=watch, emit=self.events.append)
        async with AsyncExitStack() as stack:
            recorder = Recorder(self.db)
            stack.callback(recorder.close)
            opened = []
            for each, key in chosen:
                opened.append(assembly.open_account(shop, each, key))
                stack.push_async_callback(opened[-1].aclose)
            scope = assembly.scope(config, only=bounds.only, most=bounds.most)
            sweep = assembly.sweep(shop, config, opened, scope, recorder)
            yield Running(sweep=sweep, accounts={one.name: one for one in opened}, watch=watch)

    def _config(self, accounts: tuple[AccountConfig, ...], rules: Rules) -> Config:
        return Config(
            path=Path("sweeper.toml"),
            ledger_url=str(self.db.engine.url),
            guards=rules.guards,
            max_clock_skew=rules.skew,
            trust_local_clock=rules.trust_local,
            accounts=accounts,
            policies=rules.policies,
            log=LogSettings(format=LogFormat.JSON, response_ids=True),
            warnings=(),
        )

    def _agree(self, ended: Ended) -> None:
        """The numbers of a sweep add up, and are those of its events and its row."""
        summary = ended.summary
        reasons = summary.remaining_by_reason
        assert summary.remaining == (None if reasons is None else sum(reasons.values()))
        last: dict[str, str] = {}
        for one in self.told(event.ResponseSettled):
            if one.sweep_id == summary.sweep_id and not one.late:
                last[one.response_id] = one.outcome.value
        assert summary.outcomes == dict(Counter(last.values()))
        row = registered.rows(self.db, tables.sweeps)
        mine = next(one for one in row if one["id"] == summary.sweep_id)
        if ended.fault is None:
            assert json.loads(mine["summary"]) == summary.as_json()
            assert mine["complete"] == int(summary.complete)

    def told(self, kind: type[_Kind]) -> list[_Kind]:
        return [one for one in self.events if isinstance(one, kind)]

    def deleted(self) -> list[str]:
        """The ids of all DELETEs that arrived, in order."""
        return [target.rpartition("/")[2] for target in self.sandbox.journal.targets("DELETE")]

    def looked_for(self) -> list[str]:
        """The ids of all GETs by id that arrived, in order."""
        targets = self.sandbox.journal.targets("GET")
        return [one.rpartition("/")[2] for one in targets if "/responses/" in one]

    def row(self, response_id: str) -> dict[str, Any]:
        return registered.by_id(self.db)[response_id]

    def states(self) -> dict[str, tuple[str, str | None]]:
        """State and outcome of every response."""
        return {name: (row["state"], row["outcome"]) for name, row in self.rows.items()}

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return registered.by_id(self.db)

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(row["body"]) for row in registered.rows(self.db, tables.records)]
        return [one for one in found if kind in (None, one["type"])]

    def breakers(self) -> list[str]:
        return [row["breaker"] for row in registered.rows(self.db, tables.breakers)]


def _registration(
    name: str,
    account: str,
    created_at: datetime,
    labels: Mapping[str, str] | None,
    previous: str | None,
) -> Registration:
    return Registration(
        account=AccountName(account),
        response_id=ResponseId(name),
        created_at=created_at,
        labels=label_texts.canonical(labels or {}),
        subject=None,
        previous_response_id=None if previous is None else ResponseId(previous),
    )


def hurry(db: Database) -> None:
    """Let SQLite not wait for the disk: no test here takes the power away."""
    if db.is_sqlite:
        db.engine.dispose()
        sa.event.listen(
            db.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF").close()
        )


@asynccontextmanager
async def serving(db: Database, **sandbox: Any) -> AsyncIterator[Site]:
    """A site whose provider serves until the block ends."""
    async with Sandbox(**sandbox) as running:
        yield Site(db, running)


class Listening(list[Event]):
    """Events, with something to be done at each."""

    def __init__(self, react: Callable[[Event], None]) -> None:
        super().__init__()
        self._react = react

    def append(self, happened: Event) -> None:
        super().append(happened)
        self._react(happened)


def refuse(site: Site, verb: str, table: str, condition: str) -> None:
    """Make a statement fail from now on."""
    with site.db.write() as connection:
        if site.db.is_sqlite:
            connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE {verb} ON {table} WHEN {condition}"
                " BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
            return
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'refused'; END $$"
        )
        connection.exec_driver_sql(
            f"CREATE TRIGGER refuse BEFORE {verb} ON {table} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION refuse()"
        )


def allow(site: Site, table: str) -> None:
    on = "" if site.db.is_sqlite else f" ON {table}"
    with site.db.write() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER refuse{on}")
