"""Moving the sandbox from another process: JSON under `/_sandbox/`, for loopback clients only.

    GET  /_sandbox/journal   {"entries": [..]}                       what really arrived
    GET  /_sandbox/state     {"now": iso, "accounts": {name: count}}  the clock, what is kept
    POST /_sandbox/clock     {"now": iso} or {"advance": seconds}     move the clock
    POST /_sandbox/faults    [rule, ..]                               these rules from now on
    POST /_sandbox/seed      {"count": n, "created_at": iso, "spacing": seconds,
                              "account": name, "labels": {..}}        create responses: {"ids": []}

Of a seed only `count` is needed. These requests are no traffic of the provider's: they need no
key, meet no fault, and stand in no journal. What is wrong is answered 400 with {"error": text}.
"""

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sweeper.sandbox import faults, shapes
from sweeper.sandbox.api import Request
from sweeper.sandbox.clock import Clock
from sweeper.sandbox.faults import Faults
from sweeper.sandbox.journal import Journal
from sweeper.sandbox.shapes import Answer
from sweeper.sandbox.store import Store

PREFIX = "/_sandbox/"
_SEED_FIELDS = {"count", "created_at", "spacing", "account", "labels"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    clock: Clock
    faults: Faults
    journal: Journal
    keys: Mapping[str, str]
    store: Store

    def answer(self, request: Request, *, peer: str) -> Answer:
        if not ipaddress.ip_address(peer).is_loopback:
            return shapes.json_answer(403, {"error": "only a client on loopback may control"})
        verbs: Mapping[tuple[str, str], Callable[[bytes], object]] = {
            ("GET", "journal"): self._show_journal,
            ("GET", "state"): self._show_state,
            ("POST", "clock"): self._move_clock,
            ("POST", "faults"): self._replace_faults,
            ("POST", "seed"): self._seed,
        }
        verb = verbs.get((request.method, request.path.removeprefix(PREFIX)))
        if verb is None:
            known = ", ".join(f"{method} {PREFIX}{name}" for method, name in verbs)
            return shapes.json_answer(404, {"error": f"there are {known}"})
        try:
            return shapes.json_answer(200, verb(request.body))
        except (ValueError, OverflowError) as problem:
            return shapes.json_answer(400, {"error": str(problem)})

    def _show_journal(self, body: bytes) -> object:
        del body
        return {"entries": self.journal.as_json()}

    def _show_state(self, body: bytes) -> object:
        del body
        now = self.clock.now()
        accounts = dict.fromkeys(self.keys.values())
        counts = {account: self.store.count(account, now=now) for account in accounts}
        return {"now": self.clock.moment().isoformat(), "accounts": counts}

    def _move_clock(self, body: bytes) -> object:
        match json.loads(body):
            case {"now": str(moment)}:
                self.clock.set(datetime.fromisoformat(moment))
            case {"advance": int() | float() as seconds}:
                self.clock.advance(seconds)
            case _:
                raise ValueError('the body should be {"now": iso} or {"advance": seconds}')
        return {"now": self.clock.moment().isoformat()}

    def _replace_faults(self, body: bytes) -> object:
        rules = faults.read(body)
        self.faults.replace(rules)
        return {"rules": len(rules)}

    def _seed(self, body: bytes) -> object:
        wish = json.loads(body)
        if not isinstance(wish, dict) or not isinstance(wish.get("count"), int):
            raise ValueError('the body should be {"count": number, ..}')  # noqa: TRY004 - one kind
        if unknown := sorted(wish.keys() - _SEED_FIELDS):
            raise ValueError(
                f"{unknown[0]} is unknown; there are {', '.join(sorted(_SEED_FIELDS))}"
            )
        ids = self.store.create_directly(
            self._account(wish),
            count=wish["count"],
            created_at=self._created_at(wish),
            spacing=_seconds(wish.get("spacing", 0)),
            given={"metadata": _labels(wish.get("labels"))},
        )
        return {"ids": ids}

    def _account(self, wish: Mapping[str, Any]) -> str:
        accounts = list(dict.fromkeys(self.keys.values()))
        account = wish.get("account", accounts[0])
        if account not in accounts:
            raise ValueError(f"account should be one of {', '.join(accounts)}")
        return str(account)

    def _created_at(self, wish: Mapping[str, Any]) -> float:
        match wish.get("created_at"):
            case None:
                return self.clock.now()
            case str(moment):
                created_at = datetime.fromisoformat(moment)
                if created_at.tzinfo is None:
                    raise ValueError("created_at should have a zone")
                return created_at.timestamp()
            case other:
                return _seconds(other)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a time should be a number of seconds")  # noqa: TRY004 - one kind
    return float(value)


def _labels(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("labels should be a table")
    return value
