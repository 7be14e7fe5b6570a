"""The stage of the demo: a sandbox with responses of several applications, and what is due."""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from sweeper.sandbox.thread import SandboxThread

if TYPE_CHECKING:
    from sweeper.config.settings import Config
    from sweeper.ledger.database import Database

_CONFIG: Final = """\
[ledger]
url = {url}

[guards]
max_share_per_sweep = 1.0

[accounts.main]
provider = "fireworks"
base_url = {base_url}
api_key_file = {key}
rate = "100/second"
max_in_flight = 8

[[policies]]
name = "support chats"
match = {{ labels = {{ app = "support", env = ["prod", "staging"] }} }}
delete_after = "14d"

[[policies]]
name = "search"
match = {{ labels = {{ app = "search" }} }}
delete_after = "7d"

[[policies]]
name = "contracts"
match = {{ labels = {{ app = "contracts" }} }}
delete_after = "forever"
"""
_KEPT_FOR: Final = {"support": timedelta(days=14), "search": timedelta(days=7)}
_TURNS: Final = 3
"""Every so many support chats continue the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application that creates responses: its labels and how old they are, in days."""

    labels: Mapping[str, str]
    ages: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """One response that the sandbox really stored."""

    id: str
    created_at: int
    labels: Mapping[str, str]
    previous: str | None

    def is_due(self, now: datetime) -> bool:
        keep = _KEPT_FOR.get(self.labels["app"])
        return keep is not None and self.created_at + keep.total_seconds() <= now.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the sandbox answers in the end.

    `kept` were not due and answer 200, `gone` were due and answer 404, `wrong` are all others,
    each with its status.
    """

    kept: Sequence[str]
    gone: Sequence[str]
    wrong: Mapping[str, int]


class Stage:
    """`with Stage(folder) as stage:` runs a sandbox; `create` fills it, `look` asks it."""

    apps: Final = (
        App(labels={"app": "support", "env": "prod"}, ages=(25, 20, 16, 10, 3)),
        App(labels={"app": "search"}, ages=(12, 9, 5, 1)),
        App(labels={"app": "contracts"}, ages=(25, 2)),
        App(labels={"app": "playground"}, ages=(24, 4)),
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "config.toml"
        self.ledger = folder / "ledger.db"
        self.created: list[Created] = []
        self.sandbox = SandboxThread()

    def __enter__(self) -> Self:
        self.sandbox.start()
        key = self.folder / "api-key"
        key.touch(mode=0o600)
        key.write_text(self.sandbox.key)
        self.config_path.write_text(
            _CONFIG.format(
                url=json.dumps(f"sqlite:///{self.ledger}"),
                base_url=json.dumps(self.sandbox.base_url),
                key=json.dumps(str(key)),
            )
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sandbox.stop()

    def config(self) -> "Config":
        from sweeper.config import load

        return load.load(self.config_path, {})

    def create(self, count: int) -> None:
        """Create responses by POST, oldest first, moving the sandbox's clock along."""
        now = datetime.now(UTC)
        wanted = [self.apps[index % len(self.apps)] for index in range(count)]
        turns = [
            (app.ages[index // len(self.apps) % len(app.ages)], app.labels)
            for index, app in enumerate(wanted)
        ]
        connection = self._connect()
        moved: int | None = None
        for days, labels in sorted(turns, key=lambda turn: -turn[0]):
            if days != moved:
                at = now - timedelta(days=days)
                self._set_clock(at)
                moved = days
            self.created.append(self._post(connection, labels))
        connection.close()
        self._set_clock(datetime.now(UTC))

    def register(self, config: "Config", database: "Database") -> int:
        """Register what was created, as `sweeper responses import` does."""
        from sweeper.service import intake
        from sweeper.service.lines import Line

        lines = (
            Line(
                number=number,
                value={
                    "id": one.id,
                    "created_at": one.created_at,
                    "account": "main",
                    "labels": dict(one.labels),
                    "previous_response_id": one.previous,
                },
            )
            for number, one in enumerate(self.created, 1)
        )
        return sum(batch.tally.added for batch in intake.register(database, lines, config=config))

    def look(self) -> "Sight":
        """Ask the sandbox for every response, and compare with what was due."""
        connection = self._connect()
        answers = {one.id: self._ask(connection, "GET", one.id)[0] for one in self.created}
        connection.close()
        now = datetime.now(UTC)
        due = {one.id for one in self.created if one.is_due(now)}
        right = {each: HTTPStatus.NOT_FOUND if each in due else HTTPStatus.OK for each in answers}
        return Sight(
            kept=[each for each in answers if each not in due and answers[each] == right[each]],
            gone=[each for each in answers if each in due and answers[each] == right[each]],
            wrong={each: status for each, status in answers.items() if status != right[each]},
        )

    def _set_clock(self, at: datetime) -> None:
        self.sandbox.call(lambda sandbox: sandbox.clock.set(at))

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.sandbox.port, timeout=10)

    def _post(self, connection: http.client.HTTPConnection, labels: Mapping[str, str]) -> Created:
        previous = self._continued(labels)
        body: dict[str, object] = {"model": "demo", "input": "Hello.", "metadata": dict(labels)}
        if previous is not None:
            body["previous_response_id"] = previous
        status, answer = self._ask(connection, "POST", "", json.dumps(body))
        assert status == HTTPStatus.OK, "the sandbox creates what it is asked to"
        return Created(
            id=answer["id"],
            created_at=answer["created_at"],
            labels=labels,
            previous=previous,
        )

    def _continued(self, labels: Mapping[str, str]) -> str | None:
        """The response that the next one continues: one of the same chat, on the same day."""
        if not self.created or len(self.created) % _TURNS == 0:
            return None
        latest = self.created[-1]
        now = self.sandbox.call(lambda sandbox: sandbox.clock.now())
        same_day = now - latest.created_at < timedelta(hours=12).total_seconds()
        return latest.id if same_day and latest.labels == labels else None

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        response_id: str,
        body: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.sandbox.key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = "/inference/v1/responses" + (f"/{response_id}" if response_id else "")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
