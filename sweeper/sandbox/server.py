"""The stand-in provider on a port: what tests, the demo and rehearsals start and ask."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TextIO

from sweeper.sandbox.api import Api
from sweeper.sandbox.clock import Clock
from sweeper.sandbox.connection import Connection, Exchange
from sweeper.sandbox.controls import Controls
from sweeper.sandbox.faults import Fault, Faults
from sweeper.sandbox.journal import Journal
from sweeper.sandbox.limit import Limit
from sweeper.sandbox.shapes import DIALECTS, Shape
from sweeper.sandbox.store import Store, View

DEFAULT_KEY = "fw_sandbox_key"
DEFAULT_ACCOUNT = "sandbox"
LIFETIME = timedelta(days=30)
_BACKLOG = 1024
_PATIENCE = 10.0


def _new_id() -> str:
    return f"resp_{os.urandom(16).hex()}"


class Sandbox:
    """`async with Sandbox() as sandbox:` serves until the block ends, in the loop that entered.

    `keys` maps keys to accounts, the first being the default one. Two accounts may share one
    port; a response of the one is not there for the other. `views` bounds what keys see of their
    account, to responses that carry such metadata. Without a `rate` nothing is limited,
    without a `lifetime` responses are kept until they are deleted. A mistake of the sandbox's
    own looks like a lost connection to its client, so it is raised at the end of the block.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Mapping[str, str] | None = None,
        views: Mapping[str, View] | None = None,
        shape: Shape = Shape.FIREWORKS,
        rate: float | None = None,
        burst: int = 1,
        lifetime: timedelta | None = LIFETIME,
        faults: Iterable[Fault] = (),
        journal_file: TextIO | None = None,
    ) -> None:
        self.keys = dict(keys or {DEFAULT_KEY: DEFAULT_ACCOUNT})
        """May be changed while it serves: a key taken out is refused from then on."""
        self.views = dict(views or {})
        """May be changed while it serves, too."""
        self.key, self.account = next(iter(self.keys.items()))
        self.clock = Clock()
        self.faults = Faults(faults)
        self.journal = Journal(file=journal_file)
        self.store = Store(
            lifetime=None if lifetime is None else lifetime.total_seconds(), new_id=_new_id
        )
        self.open_connections = 0
        self._host, self._asked_port = host, port
        self._shape = Shape(shape)
        self._exchange = self._assemble(Limit(rate=rate, burst=burst))
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._connections = 0
        self._mistakes: list[Exception] = []

    def _assemble(self, limit: Limit) -> Exchange:
        controls = Controls(
            clock=self.clock,
            faults=self.faults,
            journal=self.journal,
            keys=self.keys,
            store=self.store,
        )
        api = Api(
            dialect=DIALECTS[self._shape],
            keys=self.keys,
            views=self.views,
            store=self.store,
            clock=self.clock,
            limit=limit,
        )
        return Exchange(
            api=api, clock=self.clock, controls=controls, faults=self.faults, journal=self.journal
        )

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, self._host, self._asked_port, backlog=_BACKLOG
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        talks = dict(self._talks)
        for talk, writer in talks.items():
            writer.transport.abort()
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await self._server.wait_closed()
        if self._mistakes and error is None:
            raise ExceptionGroup("the sandbox itself went wrong", self._mistakes)

    @property
    def port(self) -> int:
        assert self._server is not None, "the sandbox serves only inside its `async with`"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def origin(self) -> str:
        """Scheme, host and port; `/verifyApiKey` and `/_sandbox/` are found here."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What a configuration names: `/v1/responses` follows it."""
        return self.origin + DIALECTS[self._shape].base_path.removesuffix("/v1")

    @property
    def accounts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.keys.values()))

    @property
    def connections(self) -> int:
        """How many connections have been accepted so far."""
        return self._connections

    def seed(
        self,
        count: int,
        *,
        account: str | None = None,
        created_at: datetime | None = None,
        age: timedelta = timedelta(),
        spacing: timedelta = timedelta(),
        **given: Any,
    ) -> list[str]:
        """Create responses past the API; their ids, oldest first.

        The first is created at `created_at` or at the sandbox's now, less `age`, each further
        one `spacing` later. `given` are fields of a creation such as `model`, `metadata`,
        `user`, `previous_response_id`.
        """
        first = self.clock.now() if created_at is None else created_at.timestamp()
        return self.store.create_directly(
            account or self.account,
            count=count,
            created_at=first - age.total_seconds(),
            spacing=spacing.total_seconds(),
            given=given,
        )

    def kept(self, account: str | None = None) -> frozenset[str]:
        """The ids that the account still has."""
        return self.store.ids(account or self.account, now=self.clock.now())

    async def wait_until(self, predicate: Callable[[], object], *, within: float = 10.0) -> None:
        """Return when the predicate holds; TimeoutError after `within` seconds.

        It is asked at each change of the journal or of the connections.
        """
        await self.journal.wait_until(predicate, within=within)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.open_connections += 1
        connection = Connection(
            number=self._connections, exchange=self._exchange, reader=reader, writer=writer
        )
        talk = asyncio.get_running_loop().create_task(connection.converse())
        self._talks[talk] = writer
        talk.add_done_callback(self._forget)

    def _forget(self, talk: asyncio.Task[None]) -> None:
        del self._talks[talk]
        self.open_connections -= 1
        self.journal.changed()
        mistake = None if talk.cancelled() else talk.exception()
        if isinstance(mistake, Exception):
            self._mistakes.append(mistake)
