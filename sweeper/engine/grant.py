"""The leave to send one request: a slot of the rate, an account that may send, a claim in time."""

from typing import Protocol

from sweeper.domain.control import Controls
from sweeper.engine.pace import Pace


class Sender(Protocol):
    """What a grant must know of an account; `now` is in seconds of the boot clock."""

    pace: Pace
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
        if not self.holds() or not await sender.pace.slot(self._until - sender.now()):
            return False
        return self.holds()

    def holds(self) -> bool:
        sender = self._sender
        self.asked_at, self.before = sender.now(), sender.controls
        return sender.may_send and self.asked_at < self._until
