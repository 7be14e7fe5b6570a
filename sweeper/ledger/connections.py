"""Connections to a database that end with their ledger, and that wait for no answer for ever."""

import time
from collections.abc import Callable, Generator
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, pool

ANSWER_WITHIN: Final = 130.0
"""Seconds for one answer of PostgreSQL, which itself ends every statement after 120."""


class Pool(pool.QueuePool):
    """Keeps connections until it is retired; one that comes back later is closed at once.

    Without that, whoever still read when the ledger was closed would leave his connection behind
    in a pool that nobody has any more, and with it a process of PostgreSQL.
    """

    is_retired = False
    _sqla_logger_namespace = "sqlalchemy.pool"  # what it tells is the library's, and as quiet

    def retire(self) -> None:
        self.is_retired = True
        self.dispose()

    def _do_return_conn(self, record: pool.ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        if self.is_retired:
            self.dispose()


def bound(engine: sa.Engine) -> None:
    """Let no statement of this PostgreSQL engine wait longer than `ANSWER_WITHIN`.

    The server's own limits end nothing when it is gone without a word: its machine, or the network
    between. Keep-alives find that out, unless something between answers them.
    """

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, given: Any, named: Any) -> Any:
        return _bounded(dialect.loaded_dbapi).connect(*given, **named)


@cache
def _bounded(psycopg: Any) -> Any:
    """The driver's connection, which ends itself when an answer takes too long."""

    class Bounded(psycopg.Connection):  # type: ignore[misc]  # the driver is an extra
        def wait(self, gen: Any, *given: Any, **named: Any) -> Any:
            def give_up() -> Exception:
                self.pgconn.finish()
                fault: Exception = psycopg.OperationalError(
                    f"PostgreSQL did not answer within {ANSWER_WITHIN:g} s"
                )
                return fault

            return super().wait(_within(gen, ANSWER_WITHIN, give_up), *given, **named)

    return Bounded


def _within(
    gen: Generator[Any, Any, Any], seconds: float, give_up: Callable[[], Exception]
) -> Generator[Any, Any, Any]:
    """Pass on what the driver waits for; it looks up several times a second."""
    until = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            came = yield wanted
            if not came and time.monotonic() > until:
                raise give_up()
            wanted = gen.send(came)
    except StopIteration as done:
        return done.value
