"""Let a sweep fail at one chosen place of its work, from outside: the product has no hooks for it.

A trap is set in a process of its own (`tests/support/forked.py`), where it wraps the functions that
claim, send and settle, and the database's commit.
"""

import asyncio
import itertools
import json
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger import claims, outcomes
from sweeper.ledger.claims import Claim, Terms, Wanted
from sweeper.provider.connection import Connection
from sweeper.provider.fault import Fault
from sweeper.provider.reader import Reader
from sweeper.provider.reply import Reply

EXITED: Final = 70
"""The code with which `Act.EXIT` ends a process."""
_PATIENCE: Final = 10.0
_MUCH: Final = 2**20
_LITTLE: Final = 64


class Point(StrEnum):
    """A place of a sweep's work at which a trap may be set, in the order in which they come."""

    CLAIM_BEFORE_COMMIT = "claim.before_commit"
    CLAIM_AFTER_COMMIT = "claim.after_commit"
    HTTP_BEFORE_SEND = "http.before_send"
    HTTP_AFTER_SEND = "http.after_send"
    HTTP_AFTER_RESPONSE = "http.after_response"
    OUTCOME_MID = "outcome.mid"
    """The records are appended and the attempts answered, the responses are not changed yet."""
    OUTCOME_BEFORE_COMMIT = "outcome.before_commit"
    OUTCOME_COMMIT_LOST_FAIL = "outcome.commit_lost_fail"
    """The connection breaks at the commit, which is not done."""
    OUTCOME_COMMIT_LOST_OK = "outcome.commit_lost_ok"
    """The connection breaks at the commit, which is done all the same."""


class Act(StrEnum):
    """What happens there."""

    RAISE = "raise"
    CANCEL = "cancel"
    """The task of the whole sweep is cancelled."""
    TERMINATE = "terminate"
    EXIT = "exit"
    KILL = "kill"
    FREEZE = "freeze"
    STARVE = "starve"
    """The process has taken all that it could get, and from now on gets no more."""


class Step(StrEnum):
    """Whether claims and requests to delete are meant, or those to verify."""

    DELETE = "delete"
    VERIFY = "verify"


class Deliberate(RuntimeError):
    """What a trap raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """Where, what and when: at the nth time that the point is passed.

    `mark` is the file that says which responses were concerned, once the trap has sprung.
    `meanwhile` is done right before the act, in the same thread.
    """

    point: Point
    act: Act
    mark: Path
    step: Step = Step.DELETE
    nth: int = 1

    def install(self) -> None:
        """Set the trap in this process, for good."""
        made = _Set(self)
        _watch_sweeps(made)
        _watch_claims(made)
        _watch_settlements(made)
        _watch_commits(made)
        _watch_requests(made)

    def sprung(self) -> list[str]:
        """The ids of the responses that were concerned; empty as long as it has not sprung."""
        try:
            found: list[str] = json.loads(self.mark.read_text())
        except FileNotFoundError:
            return []
        return found


class Tick(StrEnum):
    """What counts as one step of a command."""

    COMMIT = "commit"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Countdown:
    """Sends its process a signal right before the nth step of whatever command it is."""

    tick: Tick
    nth: int
    number: signal.Signals = signal.SIGKILL

    def install(self) -> None:
        steps = itertools.count(1)

        def step(*_: Any) -> None:
            if next(steps) == self.nth:
                os.kill(os.getpid(), self.number)

        if self.tick is Tick.STATEMENT:
            sa.event.listen(sa.Engine, "before_cursor_execute", step)
            return
        commit: Any = DefaultDialect.do_commit

        def committing(dialect: DefaultDialect, connection: Any) -> None:
            step()
            commit(dialect, connection)

        DefaultDialect.do_commit = committing  # type: ignore[method-assign]  # from outside


@dataclass(slots=True)
class _Set:
    """A trap at work in this process. What is pending belongs to the transaction under way."""

    trap: Trap
    passed: int = 0
    claimed: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    verifying: set[str] = field(default_factory=set)
    sweep: asyncio.Task[Any] | None = None
    taken: list[bytes] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)

    def at(self, point: Point, ids: Sequence[str]) -> None:
        """Pass a point; spring if it is the one."""
        if point is not self.trap.point or not ids:
            return
        self.passed += 1
        if self.passed != self.trap.nth:
            return
        whole = self.trap.mark.with_suffix(".part")
        whole.write_text(json.dumps(list(ids)))
        whole.rename(self.trap.mark)
        self._act()

    def is_next(self, point: Point) -> bool:
        return point is self.trap.point and self.passed + 1 == self.trap.nth

    def _act(self) -> None:
        match self.trap.act:
            case Act.RAISE:
                raise Deliberate
            case Act.CANCEL:
                self._cancel()
            case Act.TERMINATE:
                os.kill(os.getpid(), signal.SIGTERM)
                if threading.current_thread() is not threading.main_thread():
                    assert self.told.wait(_PATIENCE), "the signal was not heard"
            case Act.EXIT:
                os._exit(EXITED)
            case Act.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Act.FREEZE:
                # Sent to this very thread, which would otherwise run on for a moment.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case Act.STARVE:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                most = pages * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
                self._take_all()

    def _take_all(self) -> None:
        """What was free already counts too: return when not even a little can be had."""
        size = _MUCH
        while size >= _LITTLE:
            try:
                self.taken.append(bytes(size))
            except MemoryError:
                size //= 2

    def _cancel(self) -> None:
        task = self.sweep
        assert task is not None, "no sweep runs"
        if threading.current_thread() is threading.main_thread():
            task.cancel()
            return
        done = threading.Event()

        def cancel() -> None:
            task.cancel()
            done.set()

        task.get_loop().call_soon_threadsafe(cancel)
        assert done.wait(_PATIENCE), "the loop does not turn"


def _watch_sweeps(made: _Set) -> None:
    run, stop = Sweep.run, Sweep.stop

    async def noted(sweep: Sweep) -> Ended:
        made.sweep = asyncio.current_task()
        return await run(sweep)

    def heard(sweep: Sweep, reason: str, *, hurry: bool = False) -> None:
        stop(sweep, reason, hurry=hurry)
        made.told.set()

    Sweep.run = noted  # type: ignore[assignment, method-assign]  # from outside
    Sweep.stop = heard  # type: ignore[assignment, method-assign]  # likewise


def _watch_claims(made: _Set) -> None:
    take, verify = claims.take, claims.take_verifications

    def taken(connection: sa.Connection, wanted: Sequence[Wanted], terms: Terms) -> list[Claim]:
        found = take(connection, wanted, terms)
        if made.trap.step is Step.DELETE:
            made.claimed += [one.response_id for one in found]
        return found

    def verified(connection: sa.Connection, limit: int, terms: Terms) -> list[Claim]:
        found = verify(connection, limit, terms)
        made.verifying.update(one.response_id for one in found)
        if made.trap.step is Step.VERIFY:
            made.claimed += [one.response_id for one in found]
        return found

    claims.take, claims.take_verifications = taken, verified


def _watch_settlements(made: _Set) -> None:
    settle = outcomes.settle

    def settled(connection: sa.Connection, batch: Any, **given: Any) -> outcomes.Written:
        verify = made.trap.step is Step.VERIFY
        made.settled = [
            one.claim.response_id
            for one in batch
            if one.claim.is_verification == verify and (verify or one.answer is not None)
        ]
        return settle(connection, batch, **given)

    def executing(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE responses SET state="):
            made.at(Point.OUTCOME_MID, made.settled)

    outcomes.settle = settled
    sa.event.listen(sa.Engine, "before_cursor_execute", executing)


def _watch_commits(made: _Set) -> None:
    commit: Any = DefaultDialect.do_commit
    rollback: Any = DefaultDialect.do_rollback

    def committing(dialect: DefaultDialect, connection: Any) -> None:
        claimed, settled = made.claimed, made.settled
        made.claimed, made.settled = [], []
        made.at(Point.CLAIM_BEFORE_COMMIT, claimed)
        made.at(Point.OUTCOME_BEFORE_COMMIT, settled)
        for point in (Point.OUTCOME_COMMIT_LOST_FAIL, Point.OUTCOME_COMMIT_LOST_OK):
            if settled and made.is_next(point):
                _lose(dialect, connection, committed=point is Point.OUTCOME_COMMIT_LOST_OK)
                if made.trap.act is Act.RAISE:
                    made.trap.mark.write_text(json.dumps(settled))
                    made.passed += 1
                else:
                    made.at(point, settled)
                raise _broken(dialect)
        commit(dialect, connection)
        made.at(Point.CLAIM_AFTER_COMMIT, claimed)

    def rolling_back(dialect: DefaultDialect, connection: Any) -> None:
        made.claimed, made.settled = [], []
        rollback(dialect, connection)

    DefaultDialect.do_commit = committing  # type: ignore[method-assign]  # from outside
    DefaultDialect.do_rollback = rolling_back  # type: ignore[method-assign]  # likewise


def _lose(dialect: DefaultDialect, connection: Any, *, committed: bool) -> None:
    """Do the commit or do it not; the connection is gone in either case."""
    if committed:
        connection.commit()
    else:
        connection.rollback()
    if dialect.name == "postgresql":
        connection.close()


def _broken(dialect: DefaultDialect) -> Exception:
    if dialect.name == "postgresql":
        return psycopg.OperationalError("server closed the connection unexpectedly")
    fault = sqlite3.OperationalError("disk I/O error")
    fault.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return fault


class _Wire:
    """A socket's transport that says when a question has been written."""

    def __init__(self, transport: asyncio.Transport, written: Callable[[], None]) -> None:
        self._transport = transport
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        self._written()


def _watch_requests(made: _Set) -> None:
    exchange = Connection.exchange

    async def exchanged(connection: Connection, question: bytes, reader: Reader) -> Reply | Fault:
        ids = _asked_for(made, question)
        made.at(Point.HTTP_BEFORE_SEND, ids)
        whole = connection._transport
        wire: Any = _Wire(whole, lambda: made.at(Point.HTTP_AFTER_SEND, ids))
        connection._transport = wire
        try:
            told = await exchange(connection, question, reader)
        finally:
            connection._transport = whole
        made.at(Point.HTTP_AFTER_RESPONSE, ids)
        return told

    Connection.exchange = exchanged  # type: ignore[assignment, method-assign]  # from outside


def _asked_for(made: _Set, question: bytes) -> list[str]:
    """The response that this question is about, if it is one of the trap's step."""
    method, target, _ = question.split(b" ", 2)
    name = target.rpartition(b"/")[2].decode()
    if made.trap.step is Step.DELETE:
        return [name] if method == b"DELETE" else []
    return [name] if method == b"GET" and name in made.verifying else []
