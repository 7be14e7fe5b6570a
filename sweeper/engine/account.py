"""One provider account while it is swept: its door, its pace, its breakers and its controls."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sweeper.domain import event, moment
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.control import Controls
from sweeper.domain.event import Event
from sweeper.domain.notfound import NotFound
from sweeper.domain.outcome import Breaker
from sweeper.domain.response import is_response_id
from sweeper.engine.breaker import Breakers
from sweeper.engine.clock import ClockWatch
from sweeper.engine.gate import Gate
from sweeper.engine.grant import Grant
from sweeper.engine.pace import Pace
from sweeper.engine.pulse import Pulse
from sweeper.ledger.accounts import AccountRow
from sweeper.provider.profile import Profile
from sweeper.provider.responses import Responses

Emit = Callable[[Event], None]
Measure = Callable[[str, str, Answer, float], None]
"""Hears of each request: the account, the method, the answer, and the seconds it took."""

_LONGEST_WAIT: Final = 300.0
"""Seconds that a look or a control waits for its slot: half as long as a control is good for."""
_HEARD: Final = frozenset({AnswerKind.YES, AnswerKind.PRESENT, AnswerKind.ABSENT})
"""Answers that only an API gives which knows the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why an account is stopped."""

    breaker: Breaker
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an account is configured. `verify` asks for a GET after each yes."""

    name: str
    provider: str
    base_url: str
    account_id: str | None
    max_in_flight: int
    verify: bool


@dataclass(slots=True, kw_only=True)
class Account:
    """The one way to a provider account; every request passes `ask` and takes a slot.

    `seen` are the label sets of which this key has seen a response. `pinned` is the provider's
    account that this name stands for. `heard` says that the API has answered this
    key about responses, whatever it said of one. `gate` keeps requests back while the ledger cannot
    take what comes of them.
    """

    settings: Settings
    profile: Profile
    door: Responses
    pace: Pace
    watch: ClockWatch
    row: AccountRow
    key_fingerprint: str
    emit: Emit
    seen: set[int]
    pulse: Pulse = field(default_factory=Pulse)
    gate: Gate = field(default_factory=Gate)
    measure: Measure | None = None
    pinned: str | None = None
    newly_seen: set[int] = field(default_factory=set)
    get_seen: bool = False
    heard: bool = False
    not_found: NotFound = field(default_factory=NotFound)
    stopped: Stop | None = None
    controls: Controls = field(init=False)
    last_yes_at: int | None = None
    lifted: Sequence[Breaker] = ()
    _breakers: Breakers = field(default_factory=Breakers)
    _halted: bool = False

    def __post_init__(self) -> None:
        self.controls = Controls(pinned=self.profile.names_accounts)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def key(self) -> str:
        """The API key by its fingerprint, the base URL and the provider's account.

        What one of these has seen proves nothing about another.
        """
        whose = "" if self.pinned is None else f"#{self.pinned}"
        return f"{self.key_fingerprint}@{self.settings.base_url}{whose}"

    def is_of_this_account(self, key: str | None) -> bool:
        """Whether a key, told as `key` tells it, reached the account that the provider names."""
        if key is None or self.pinned is None or not self.profile.names_accounts:
            return False
        return key.partition("@")[2] == self.key.partition("@")[2]

    @property
    def was_answered(self) -> bool:
        """Whether the provider itself has answered something."""
        return self._breakers.reached

    @property
    def on_trial(self) -> bool:
        """Whether the next request that fails stops the account again."""
        return self._breakers.on_trial

    def try_again(self) -> None:
        """Ask once whether a stopped account may go on: the first failure stops it again."""
        self._breakers.on_trial = True

    @property
    def may_send(self) -> bool:
        return self.stopped is None and not self._halted

    def pin(self, row: AccountRow) -> None:
        """Take up which account this name stands for: what is configured, else what was learnt."""
        self.pinned = self.settings.account_id or row.pinned_account_id

    def recall(self, row: AccountRow, seen: set[int]) -> None:
        """Take up what the ledger knows, now that nobody else sweeps the account."""
        self.row = row
        self.not_found = row.not_found
        self.get_seen = row.get_seen_key == self.key
        self.seen = seen

    def halt(self) -> None:
        """Send nothing more, without anything being wrong: the sweep was told to end."""
        self._halted = True
        self.pace.stop()

    def hurry(self, seconds: float) -> None:
        """Wait no longer than so many seconds for the answers that are still to come."""
        self.door.hurry(seconds)

    def stop(self, breaker: Breaker, detail: str) -> None:
        """Send nothing more; requests in flight come to their end."""
        if self.stopped is None:
            self.stopped = Stop(breaker=breaker, detail=detail)
            self.pace.stop()

    async def delete(self, response_id: str, grant: Grant) -> Answer | None:
        """Send one DELETE; None when the grant ran out, or the account stopped, before that."""
        return self._noted("DELETE", grant, await self.door.delete(response_id, grant))

    def now(self) -> float:
        """Seconds on the boot clock, by which controls are dated."""
        return self.watch.clock.boot()

    def may_ask_for(self, response_id: str) -> bool:
        """Whether this id may stand in a path; a row in the ledger can hold any text."""
        return is_response_id(response_id, self.profile.id_length)

    async def get(
        self, response_id: str, label_set_id: int, *, within: float = _LONGEST_WAIT
    ) -> Answer | None:
        """Look whether a response can be read; None when no slot came or the account stopped."""
        grant = self._grant(within)
        answer = self._noted("GET", grant, await self.door.get(response_id, grant))
        if answer is not None and answer.kind is AnswerKind.PRESENT:
            self.get_seen = True
            self.saw(label_set_id, grant.asked_at)
        return answer

    def saw(self, label_set_id: int, asked: float) -> None:
        """Note that this key saw a response of a label set when it asked at that moment."""
        if self.controls.sight_at is None or asked > self.controls.sight_at:
            self.controls = self.controls.sighted(asked)
        if label_set_id not in self.seen:
            self.seen.add(label_set_id)
            self.newly_seen.add(label_set_id)

    def yes(self, label_set_id: int, asked: float, at: datetime) -> None:
        """Note the provider's yes to a DELETE."""
        self.saw(label_set_id, asked)
        self.not_found = self.not_found.yes()
        self.last_yes_at = moment.to_us(at)

    def missed(self) -> None:
        """Note that something was not found which no attempt of ours can have taken away."""
        self.not_found = self.not_found.absent()
        self.stop_if_tripped()

    def stop_if_tripped(self) -> None:
        """Stop where too much was not found, also by an earlier sweep that could not say so."""
        if self.not_found.tripped:
            self.stop(
                Breaker.NOT_FOUND,
                "too much of what should exist was not found: a wrong key, account or base URL,"
                " or responses that somebody else deleted",
            )

    async def identify(self) -> Answer | None:
        """Ask which account the key belongs to; None when the account stopped meanwhile.

        Another account than the pinned one stops everything. Whether the answer is a control
        is judged here, so that no control is ever taken from an account that is not ours.
        """
        grant = self._grant()
        told = await self.door.account(grant)
        answer = self._noted("GET", grant, told, of_responses=False)
        if answer is None:
            return None
        if answer.kind is AnswerKind.PRESENT and answer.account_id is not None:
            if self.pinned is None:
                self.pinned = answer.account_id
            if answer.account_id == self.pinned:
                self.controls = self.controls.confirmed(grant.asked_at)
            else:
                self.stop(
                    Breaker.IDENTITY,
                    f"the key belongs to account {answer.account_id!r}, not {self.pinned!r}",
                )
        return answer

    async def look_at_collection(self) -> None:
        """Take the list for sight of the collection, where the account is named."""
        if not self.profile.names_accounts:
            return
        grant = self._grant()
        answer = self._noted("GET", grant, await self.door.collection(grant))
        if answer is not None and answer.kind is AnswerKind.PRESENT:
            self.controls = self.controls.sighted(grant.asked_at)
        if answer is not None and answer.kind is AnswerKind.MISPLACED:
            where = f"{self.settings.base_url}{self.profile.responses_path}"
            self.stop(Breaker.CONFIGURATION, f"there is no Responses API at {where}")

    async def look_at(self, rows: Sequence[tuple[str, int]]) -> bool:
        """GET responses until one can be read; says whether one could."""
        for response_id, label_set_id in rows:
            if not self.may_ask_for(response_id):
                continue
            answer = await self.get(response_id, label_set_id)
            if answer is None:
                return False
            if answer.kind is AnswerKind.PRESENT:
                return True
        return False

    def _grant(self, within: float = _LONGEST_WAIT) -> Grant:
        return Grant(self, self.now() + within)

    def _noted(
        self, method: str, grant: Grant, answer: Answer, *, of_responses: bool = True
    ) -> Answer | None:
        if answer.was_withdrawn:
            return None
        self.pulse.beat()
        took = self.now() - grant.asked_at
        if self.measure is not None:
            self.measure(self.name, method, answer, took)
        self.watch.saw(self.name, answer.date)
        self.heard = self.heard or (of_responses and answer.kind in _HEARD)
        self._paced(answer, took)
        opened = self._breakers.note(answer, to_delete=method == "DELETE")
        if opened is not None:
            self.stop(*opened)
        return answer

    def _paced(self, answer: Answer, took: float) -> None:
        """Let the account's rate follow an answer, which `took` so many seconds to come."""
        if answer.kind is not AnswerKind.THROTTLED:
            if answer.status is not None:
                self.pace.recovered(took)
            return
        if self.pace.throttled(answer.retry_after, took):
            pause = answer.retry_after.total_seconds() if answer.retry_after else None
            self.emit(
                event.Throttled(
                    account=self.name, pause_seconds=pause, rate_per_second=self.pace.rate
                )
            )

    async def aclose(self) -> None:
        await asyncio.shield(self.door.aclose())
