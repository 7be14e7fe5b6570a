"""A ledger with policies, and people who decide about what stands in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sweeper.config.settings import Account as AccountConfig
from sweeper.config.settings import Config, KeyPlace, KeySource, LogFormat, LogSettings
from sweeper.domain import labels as label_texts
from sweeper.domain import moment
from sweeper.domain.correction import Stated
from sweeper.domain.policy import Match, Policy
from sweeper.domain.registration import Registration
from sweeper.domain.response import AccountName, ResponseId
from sweeper.ledger import registrations, tables
from sweeper.ledger.database import Database
from sweeper.service import inquiry, interventions
from sweeper.service.interventions import Decided
from sweeper.service.operator import Who
from tests.support import invariants, registered
from tests.support.sweeping import OPEN

DAY = timedelta(days=1)
WHO = Who(reason="the export was wrong", user="alice", sudo_user="bob")


def rule(name: str, days: int | None) -> Policy:
    """A policy for the label `app=NAME`; without days it keeps for ever."""
    keep = None if days is None else days * DAY
    return Policy(name=name, match=Match(labels={"app": frozenset({name})}), delete_after=keep)


RULES = (rule("support", 14), rule("long", 60), rule("contracts", None))


def config(url: str, base_url: str = "http://127.0.0.1:9") -> Config:
    return Config(
        path=Path("sweeper.toml"),
        ledger_url=url,
        guards=OPEN,
        max_clock_skew=timedelta(minutes=2),
        trust_local_clock=False,
        accounts=(
            AccountConfig(
                name=AccountName("main"),
                provider="fireworks",
                base_url=base_url,
                account_id=None,
                key_source=KeySource(place=KeyPlace.VARIABLE, name="KEY"),
                rate_per_second=1000.0,
                max_in_flight=4,
                verify=True,
            ),
        ),
        policies=RULES,
        log=LogSettings(format=LogFormat.JSON, response_ids=True),
        warnings=(),
    )


@dataclass(slots=True, kw_only=True)
class Desk:
    """Where people decide; every decision leaves a ledger in which all fits together.

    That is looked at after each, as long as they are `alone`: nothing else writes.
    """

    db: Database
    config: Config
    alone: bool = True
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def know(
        self,
        response_id: str,
        *,
        age: float = 20,
        app: str | None = "support",
        account: str = "main",
        **given: Any,
    ) -> None:
        """Register a response, so many days old; whatever becomes of that."""
        labels = {} if app is None else {"app": app}
        registered.admit(
            self.db,
            Registration(
                account=AccountName(account),
                response_id=ResponseId(response_id),
                created_at=self.now - age * DAY,
                labels=label_texts.canonical(labels),
                **given,
            ),
            now=moment.to_us(self.now),
        )

    def dispute(self, response_id: str, **given: Any) -> None:
        """Register it again with another subject than anybody gave before."""
        self.know(response_id, **{"subject": f"another-{len(self.records())}", **given})

    def write_row(self, **values: object) -> None:
        """Write a registration into the table, as anybody may."""
        row = {
            "received_at": 1,
            "account": "main",
            "response_id": "resp_1",
            "created_at": moment.to_us(self.now - 20 * DAY),
            "labels": '{"app":"support"}',
        }
        with self.db.write() as connection:
            connection.execute(tables.registrations.insert().values(**{**row, **values}))

    def break_rules(self, **values: object) -> str:
        """Let a row against the rules be admitted; the name under which it is set aside."""
        before = {row["id"] for row in registered.rows(self.db)}
        self.write_row(**values)
        assert inquiry.admit(self.config, self.db) is None
        (row,) = (row for row in registered.rows(self.db) if row["id"] not in before)
        assert row["quarantine_reason"].startswith("malformed:")
        return str(row["response_id"])

    def retry(self, response_id: str, account: str | None = None) -> Decided:
        return self._sound(interventions.retry(self.config, self.db, response_id, account, WHO))

    def close(self, response_id: str, account: str | None = None) -> Decided:
        return self._sound(interventions.close(self.config, self.db, response_id, account, WHO))

    def correct(
        self,
        response_id: str,
        *,
        age: float | None = None,
        labels: Mapping[str, str] | None = None,
        app: str | None = None,
        subject: str | None = None,
        previous: str | None = None,
        earlier: bool = False,
        account: str | None = None,
    ) -> Decided:
        stated = Stated(
            created_at=None if age is None else self.now - age * DAY,
            labels=labels if app is None else {"app": app},
            subject=subject,
            previous_response_id=previous,
        )
        return self._sound(
            interventions.correct(
                self.config,
                self.db,
                response_id,
                account,
                WHO,
                stated=stated,
                earlier=earlier,
            )
        )

    def under(self, *rules: Policy) -> None:
        """From now on these policies stand in the configuration."""
        self.config = replace(self.config, policies=rules)

    def row(self, response_id: str) -> dict[str, Any]:
        return registered.by_id(self.db)[response_id]

    def rows(self) -> dict[str, dict[str, Any]]:
        return registered.by_id(self.db)

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(row["body"]) for row in registered.rows(self.db, tables.records)]
        return [one for one in found if kind in (None, one["type"])]

    def waiting(self) -> int:
        with self.db.read() as connection:
            return registrations.waiting(connection)

    def everything(self) -> list[list[dict[str, Any]]]:
        """All that a refused decision must leave as it was."""
        every = (
            *(tables.responses, tables.label_sets, tables.records, tables.reasons),
            *(tables.ledger, tables.attempts, tables.registrations),
        )
        return [registered.rows(self.db, table) for table in every]

    def _sound(self, decided: Decided) -> Decided:
        if self.alone:
            invariants.check(self.db)
        return decided
