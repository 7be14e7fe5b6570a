"""The log of what really arrived, and waiting until something has."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from sweeper.sandbox.api import Request


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One request; what became of it is filled in when it is known, so this is not frozen."""

    seq: int
    at: float
    """Monotonic seconds at which the whole request had arrived."""
    connection: int
    method: str
    target: str
    account: str | None
    body_bytes: int
    authorization: bool
    """Whether an Authorization header came; its value is kept nowhere."""
    headers: Mapping[str, str] = field(repr=False)
    """The other headers, names in lower case."""
    status: int | None = None
    """The status that was sent; None if nothing was, or not yet."""
    carried_out: bool = False
    """Whether a stored response was really deleted for it."""
    done: bool = False
    """Whether the sandbox has finished with it, answered or not."""


class Journal:
    """Entries in the order of arrival; `wait_until` wakes at every change."""

    def __init__(self, *, file: TextIO | None = None) -> None:
        self.entries: list[Arrival] = []
        self._file = file
        self._waiting: set[asyncio.Event] = set()

    def arrived(self, request: Request, *, connection: int, account: str | None) -> Arrival:
        headers = dict(request.headers)
        authorization = headers.pop("authorization", None) is not None
        arrival = Arrival(
            seq=len(self.entries),
            at=time.monotonic(),
            connection=connection,
            method=request.method,
            target=request.target,
            account=account,
            body_bytes=len(request.body),
            authorization=authorization,
            headers=headers,
        )
        self.entries.append(arrival)
        self.changed()
        return arrival

    def finished(self, arrival: Arrival) -> None:
        arrival.done = True
        if self._file is not None:
            self._file.write(json.dumps(dataclasses.asdict(arrival)) + "\n")
            self._file.flush()
        self.changed()

    def requests(self, method: str | None = None) -> list[Arrival]:
        """All of one method, or all."""
        return [entry for entry in self.entries if method in (None, entry.method)]

    def deletes(self) -> list[Arrival]:
        return self.requests("DELETE")

    def targets(self, method: str | None = None) -> list[str]:
        return [entry.target for entry in self.requests(method)]

    def as_json(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(entry) for entry in self.entries]

    def changed(self) -> None:
        """Something happened that somebody may be waiting for."""
        for event in self._waiting:
            event.set()

    async def wait_until(self, predicate: Callable[[], object], *, within: float) -> None:
        """Return as soon as the predicate holds; TimeoutError after `within` seconds."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(within):
                while not predicate():
                    event.clear()
                    await event.wait()
        finally:
            self._waiting.discard(event)
