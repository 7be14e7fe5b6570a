"""The leave to send one request: a slot of the rate, an account that may send, a claim in time."""

from typing import Final, Protocol

from sweeper.domain.control import Controls
from sweeper.engine.gate import Gate
from sweeper.engine.pace import Pace

_GLANCE: Final = 1.0
"""Seconds after which whoever waits for the ledger looks whether the account still may send."""


class Sender(Protocol):
    """What a grant must know of an account; `now` is in seconds of the boot clock."""

    pace: Pace
    gate: Gate
    controls: Controls

    @property
    def may_send(self) -> bool: ...

    def now(self) -> float: ...


class Grant:
    """Good until `until`, in seconds of the boot clock; asked for when a connection stands ready.

    `asked_at` and `before` are the moment at which the request was written, and the controls that
    had been made by then.
    """

    __slots__ = ("_sender", "_until", "asked_at", "before")

    def __init__(self, sender: Sender, until: float) -> None:
        self._sender = sender
        self._until = until
        self.asked_at = sender.now()
        self.before = sender.controls

    async def granted(self) -> bool:
        sender = self._sender
        while self.holds():
            if not await sender.gate.passed(min(_GLANCE, self._until - sender.now())):
                continue
            if not await sender.pace.slot(self._until - sender.now()):
                return False
            if sender.gate.is_open:
                return self.holds()
        return False

    def holds(self) -> bool:
        sender = self._sender
        self.asked_at, self.before = sender.now(), sender.controls
        return sender.may_send and self.asked_at < self._until
