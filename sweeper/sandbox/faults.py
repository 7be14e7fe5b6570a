"""A fault: which requests it meets, and what goes wrong with their answers."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.sandbox import script
from sweeper.sandbox.api import Request
from sweeper.sandbox.manners import Drip, Ending, Manner, RetryAfter


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule: the requests it meets, and what goes wrong with them.

    A request fits if it fits everything that is given of `method`, `path` (a regular
    expression looked for in the raw target), `id` and `account`; of those that fit, the
    first `after` pass and the next `times` (None: all) are met.
    """

    method: str | None = None
    path: str | None = None
    id: str | None = None
    account: str | None = None
    after: int = 0
    times: int | None = None

    do: Manner = Manner.ANSWER
    carry_out: bool | None = None
    """Whether the request is carried out. Unsaid, it is if the API's own answer is sent."""

    status: int | None = None
    body: bytes | None = None
    content_type: str = "application/json"
    headers: tuple[tuple[str, str | None], ...] = ()
    """Added to the answer's headers in the place of those of the same name; None only removes."""
    retry_after: str | RetryAfter | None = None
    gzip: bool = False
    size: int | None = None
    """A body of so many bytes: what there is, filled up with spaces."""
    endless: bool = False
    """A chunked body that never ends."""
    raw: bytes | None = None
    """Sent in the place of a whole answer, as it is."""

    delay: float = 0.0
    """Seconds between carrying out and the first byte of the answer."""
    interim: tuple[int, ...] = ()
    """1xx answers that come first."""
    drip: Drip | None = None
    truncate: int | None = None
    """Only so many bytes of the body are sent, then the connection is closed."""
    stray: bytes | None = None
    """Bytes after the answer that nobody asked for."""
    stray_delay: float = 0.0
    """0 sends the stray bytes together with the answer, else so many seconds later."""
    then: Ending = Ending.KEEP

    @classmethod
    def parse(cls, rule: Mapping[str, Any], *, where: str = "fault") -> "Fault":
        """From a JSON or TOML table; `script.Mistake` names the field and what would be right."""
        return cls(**script.fields(rule, where=where))

    @property
    def replaces(self) -> bool:
        """Whether something else than the API's own answer is sent."""
        said = (self.status, self.body, self.raw)
        return any(part is not None for part in said) or self.do not in (
            Manner.ANSWER,
            Manner.LIE,
        )

    @property
    def carries_out(self) -> bool:
        if self.do is Manner.LIE:
            return False
        return not self.replaces if self.carry_out is None else self.carry_out

    def fits(self, request: Request, account: str | None) -> bool:
        return (
            self.method in (None, request.method)
            and self.account in (None, account)
            and (self.id is None or self.id == request.response_id)
            and (self.path is None or re.search(self.path, request.target) is not None)
        )

    def meets(self, count: int) -> bool:
        """Whether the count-th request that fits (from 1) is met."""
        return count > self.after and (self.times is None or count <= self.after + self.times)


def read(text: str | bytes) -> list[Fault]:
    """A fault file: a JSON list of rules. Raises `script.Mistake`."""
    try:
        rules = json.loads(text)
    except ValueError as problem:
        raise script.Mistake(f"faults: should be JSON; {problem}") from None
    return read_rules(rules)


def read_rules(rules: object) -> list[Fault]:
    if not isinstance(rules, list):
        raise script.Mistake("faults: should be a list of rules")
    return [Fault.parse(rule, where=f"faults[{index}]") for index, rule in enumerate(rules)]


@dataclass(slots=True)
class _Counted:
    rule: Fault
    count: int = 0


class Faults:
    """The rules at work: each counts what fits it, and the first that meets a request wins."""

    def __init__(self, rules: Iterable[Fault] = ()) -> None:
        self._rules = [_Counted(rule) for rule in rules]

    def __len__(self) -> int:
        return len(self._rules)

    def add(self, *rules: Fault) -> None:
        self._rules += [_Counted(rule) for rule in rules]

    def replace(self, rules: Iterable[Fault]) -> None:
        """Other rules from now on, their counts at zero; none at all ends all faults."""
        self._rules = [_Counted(rule) for rule in rules]

    def choose(self, request: Request, account: str | None) -> Fault | None:
        chosen: Fault | None = None
        for counted in self._rules:
            if counted.rule.fits(request, account):
                counted.count += 1
                if chosen is None and counted.rule.meets(counted.count):
                    chosen = counted.rule
        return chosen
