"""A key that is replaced, refused or another account's: read again, and trusted with nothing."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sweeper.config import load
from sweeper.domain import event
from sweeper.domain.event import Event
from sweeper.domain.secret import Secret
from sweeper.engine.recorder import Recorder
from sweeper.engine.sweep import Ended, Sweep
from sweeper.ledger import tables
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.journal import Arrival
from sweeper.service import assembly, sweeping
from sweeper.service.keyring import Keyring
from tests.daemon.conftest import Start
from tests.support import canary, command, invariants, truth
from tests.support import rehearsal as rehearsals
from tests.support.command import Run
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal

OLD = "fw_old_key_before_it_was_replaced"
NEW = KEY
THIRD = "fw_third_key_after_the_new_one"
DUE = 12
IN_FLIGHT = 2
DAILY = '[schedule]\nevery = "1d"\n'


@dataclass(slots=True)
class Sweeping:
    """Sweeps in this process, reading keys as the command does; `happened` is what was told."""

    rehearsal: Rehearsal
    happened: list[Event] = field(default_factory=list)
    redacted: list[Secret] = field(default_factory=list)
    when_read: Callable[[Secret], None] = lambda _: None
    sweep: Sweep | None = None

    async def once(self, meanwhile: Callable[[], None] | None = None, **bounds: Any) -> Ended:
        """Sweep once; `meanwhile` runs beside it, on a thread."""
        canary.hear(self.happened)
        beside = asyncio.create_task(asyncio.to_thread(meanwhile or (lambda: None)))
        config = load.load(self.rehearsal.config, {})
        keyring = Keyring(environ={}, redact=self._read)
        with self.rehearsal.database() as db:
            recorder = Recorder(db)
            try:
                shop = sweeping.workshop(config, db, self.happened.append, reread=keyring.reread)
                keys, scope = await keyring.read(config), assembly.scope(config, **bounds)
                async with sweeping.prepared(shop, config, keys, scope, recorder) as self.sweep:
                    ended = await self.sweep.run()
            finally:
                recorder.close()
                await beside
            invariants.check(db)
        assert truth.violations(self.rehearsal) == []
        return ended

    def _read(self, keys: Iterable[Secret]) -> None:
        for key in keys:
            self.redacted.append(key)
            self.when_read(key)

    def stop(self) -> None:
        assert self.sweep is not None
        self.sweep.stop("interrupted")

    def told(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.happened if isinstance(one, kind)]

    def records(self, kind: str) -> list[dict[str, Any]]:
        bodies = (json.loads(row["body"]) for row in self.rehearsal.rows(tables.records))
        return [body for body in bodies if body["type"] == kind]

    def breakers(self) -> list[str]:
        return [row["breaker"] for row in self.rehearsal.rows(tables.breakers)]


@pytest.fixture
def here(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """A sandbox, a configuration and an SQLite ledger, where the kind of database is all one."""
    with rehearsals.rehearsal(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def swept(here: Rehearsal) -> Sweeping:
    return prepared(here)


@pytest.fixture
def swept_on_either(rehearsal: Rehearsal) -> Sweeping:
    return prepared(rehearsal)


def prepared(rehearsal: Rehearsal) -> Sweeping:
    """Twelve responses are due, by the old key; each DELETE takes a moment."""
    rehearsal.let_in({OLD: "acme", OTHER_KEY: "other"})
    rehearsal.use_key(OLD)
    rehearsal.write(in_flight=IN_FLIGHT)
    rehearsal.responses(DUE)
    rehearsal.responses(2, age=timedelta(days=2))  # by which another key shows what it sees
    rehearsal.fault(method="DELETE", delay=0.02)
    return Sweeping(rehearsal)


def rotated(rehearsal: Rehearsal, keys: dict[str, str], file: str | None) -> Callable[[], None]:
    """After three DELETEs put a key into the file, and let the provider know only these."""

    def rotate() -> None:
        rehearsal.wait_for_deletes(3)
        if file is not None:
            rehearsal.use_key(file)
        rehearsal.let_in(keys)

    return rotate


def arrivals(rehearsal: Rehearsal, **given: object) -> list[Arrival]:
    entries = rehearsal.sandbox.call(lambda one: list(one.journal.entries))
    return [one for one in entries if all(getattr(one, name) == given[name] for name in given)]


def uncharged(rehearsal: Rehearsal) -> bool:
    """Nothing waits for a next try, and nothing was counted against any response."""
    rows = rehearsal.rows()
    return not any(row["failures"] or row["next_try_at"] or row["token"] for row in rows)


class TestReplacedInTheMiddleOfASweep:
    async def test_it_is_read_again_at_the_first_refusal_and_gone_on_with(
        self, swept_on_either: Sweeping
    ) -> None:
        swept = swept_on_either
        before = swept.rehearsal
        ended = await swept.once(rotated(before, {NEW: "acme"}, NEW))
        assert ended.summary.outcomes == {"deleted": DUE}
        assert (ended.summary.verified, ended.summary.complete) == (DUE, True)
        assert truth.unsettled(before) == []
        assert 1 <= len(arrivals(before, account=None)) <= IN_FLIGHT
        (replaced,) = swept.told(event.KeyReplaced)
        (changed,) = swept.records("credential.changed")
        assert changed["to"] == replaced.key_fingerprint
        assert swept.told(event.BreakerOpened) == swept.breakers() == []
        assert uncharged(before)
        assert Secret(NEW) in swept.redacted
        by_keys = {row["yes_key"][:8] for row in before.rows() if row["yes_key"]}
        assert by_keys == {changed["from"], changed["to"]}

    async def test_what_was_planned_counts_once(self, swept: Sweeping) -> None:
        swept.rehearsal.write(verify="none")
        ended = await swept.once(rotated(swept.rehearsal, {NEW: "acme"}, NEW), most=7)
        assert ended.summary.outcomes == {"deleted": 7}
        assert ended.summary.remaining_by_reason == {"capped": DUE - 7}
        done = {one.target for one in arrivals(swept.rehearsal, method="DELETE", status=200)}
        assert len(done) == 7

    async def test_without_another_key_it_stops_and_charges_nothing(self, swept: Sweeping) -> None:
        ended = await swept.once(rotated(swept.rehearsal, {NEW: "acme"}, None))
        assert ended.summary.stop_reason == "account:main:credential"
        assert len(arrivals(swept.rehearsal, account=None)) <= IN_FLIGHT
        assert swept.breakers() == ["credential"]
        assert uncharged(swept.rehearsal)
        swept.rehearsal.use_key(NEW)
        assert (await swept.once()).summary.complete
        assert swept.breakers() == []

    async def test_another_accounts_key_is_asked_whose_it_is_and_nothing_more(
        self, swept_on_either: Sweeping
    ) -> None:
        swept = swept_on_either
        kept = swept.rehearsal
        ended = await swept.once(rotated(kept, {OTHER_KEY: "other"}, OTHER_KEY))
        assert ended.summary.stop_reason == "account:main:identity"
        assert [one.target for one in arrivals(kept, account="other")] == ["/verifyApiKey"]
        assert swept.breakers() == ["identity"]
        assert uncharged(kept)
        kept.let_in({NEW: "acme"})
        kept.use_key(NEW)
        assert (await swept.once()).summary.complete
        assert truth.unsettled(kept) == []

    async def test_one_that_is_refused_too_is_tried_once(self, swept: Sweeping) -> None:
        ended = await swept.once(rotated(swept.rehearsal, {NEW: "acme"}, THIRD))
        assert ended.summary.stop_reason == "account:main:credential"
        refused = [one.target for one in arrivals(swept.rehearsal, account=None)]
        assert refused.count("/verifyApiKey") == 1
        assert len(refused) <= IN_FLIGHT + 1
        assert uncharged(swept.rehearsal)

    async def test_it_may_be_replaced_twice(self, swept: Sweeping) -> None:
        """The second comes while the first is being tried."""
        rehearsal = swept.rehearsal

        def twice() -> None:
            rehearsal.fault(path="verifyApiKey", delay=0.3, times=1)
            rotated(rehearsal, {NEW: "acme"}, THIRD)()
            wait_for_checks(rehearsal, 2)
            rehearsal.use_key(NEW)

        assert (await swept.once(twice)).summary.complete
        assert len(swept.told(event.KeyReplaced)) == 2

    @pytest.mark.parametrize("text", ["", f"{NEW}\n{OLD}\n", "fw_ünsendbar"])
    async def test_a_file_that_is_being_written_stops_it_until_the_next_sweep(
        self, swept: Sweeping, text: str
    ) -> None:
        rehearsal = swept.rehearsal

        def half() -> None:
            rehearsal.wait_for_deletes(3)
            rehearsal.write_key(text.encode())
            rehearsal.let_in({NEW: "acme"})

        ended = await swept.once(half)
        assert ended.summary.stop_reason == "account:main:credential"
        assert swept.told(event.KeyReplaced) == []
        rehearsal.use_key(NEW)
        assert (await swept.once()).summary.complete

    async def test_whoever_ends_the_sweep_before_is_heard(self, swept: Sweeping) -> None:
        """What is in flight is refused a moment later: then nobody reads the key any more."""
        here, loop = swept.rehearsal, asyncio.get_running_loop()
        here.mend()
        here.fault(method="DELETE", delay=0.5, status=403)

        def end() -> None:
            here.wait_for_deletes(1)
            here.use_key(NEW)
            loop.call_soon_threadsafe(swept.stop)

        ended = await swept.once(end)
        assert ended.summary.stop_reason == "interrupted"
        assert Secret(NEW) not in swept.redacted

    async def test_whoever_ends_the_sweep_while_the_key_is_read_is_heard(
        self, swept: Sweeping
    ) -> None:
        here = swept.rehearsal

        def end(key: Secret) -> None:
            if key == Secret(NEW):
                swept.stop()

        swept.when_read = end
        ended = await swept.once(rotated(here, {NEW: "acme"}, NEW))
        assert ended.summary.stop_reason == "interrupted"
        refused = max(one.seq for one in arrivals(here, account=None))
        assert [one for one in arrivals(here) if one.seq > refused] == []
        assert uncharged(here)

    async def test_another_stop_is_no_reason_to_read_the_key(self, swept: Sweeping) -> None:
        here = swept.rehearsal

        def suspend() -> None:
            here.wait_for_deletes(3)
            here.use_key(NEW)
            here.mend()
            here.fault(method="DELETE", status=402)

        ended = await swept.once(suspend)
        assert ended.summary.stop_reason == "account:main:payment"
        assert Secret(NEW) not in swept.redacted

    async def test_where_nobody_names_the_account_the_other_key_asks_nothing(
        self, openai: Rehearsal
    ) -> None:
        """Whose it is could only be guessed: a person must accept it, and then it goes on."""
        swept = Sweeping(openai)
        ended = await swept.once(rotated(openai, {NEW: "acme"}, NEW))
        assert ended.summary.stop_reason == "account:main:identity"
        refused = max(one.seq for one in arrivals(openai, account=None))
        assert [one for one in arrivals(openai) if one.seq > refused] == []
        assert uncharged(openai)
        accept = await asyncio.to_thread(
            command.process,
            *("-c", openai.config, "account", "accept", "main", "--reason", "rotated", "--json"),
        )
        assert accept.code == 0, accept.err
        openai.pass_time()
        await swept.once()
        rows = [row for row in openai.rows() if row["response_id"] in openai.due]
        assert {row["state"] for row in rows} <= {"gone", "verifying"}
        assert not openai.stored() & openai.due

    async def test_a_pause_that_the_provider_asked_for_binds_the_other_key_too(
        self, swept: Sweeping
    ) -> None:
        """The limit is the account's: another key is no reason for a burst."""
        here = swept.rehearsal

        def rotate() -> None:
            here.wait_for_deletes(3)
            here.use_key(NEW)
            refused = Fault(method="DELETE", times=1, delay=0.2, status=403)
            paused = Fault(method="DELETE", after=1, times=1, status=429, retry_after="1")
            here.sandbox.call(lambda one: one.faults.replace([refused, paused]))
            here.sandbox.call(lambda one: one.keys.update({NEW: "acme"}))

        await swept.once(rotate)
        assert len(swept.told(event.KeyReplaced)) == 1
        (paused,) = arrivals(here, status=429)
        after = [one.at for one in arrivals(here) if one.seq > paused.seq]
        assert after[0] > paused.at + 1

    async def test_a_file_that_could_not_be_read_when_the_sweep_began_is_looked_at_once_more(
        self, swept: Sweeping
    ) -> None:
        rehearsal = swept.rehearsal
        rehearsal.use_key("")

        class WrittenWhenItBegins(list[Event]):
            def append(self, happened: Event) -> None:
                if isinstance(happened, event.SweepStarted):
                    rehearsal.use_key(OLD)
                super().append(happened)

        swept.happened = WrittenWhenItBegins()
        assert (await swept.once()).summary.complete


def wait_for_checks(rehearsal: Rehearsal, count: int) -> None:
    """Return when the account check has been asked for so often."""
    rehearsal.sandbox.wait_until(
        lambda one: one.journal.targets().count("/verifyApiKey") >= count, within=30
    )


@pytest.fixture
def openai(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """A provider that names no account, where twelve responses are due by the old key."""
    keys = {OLD: "acme"}
    folder = tmp_path / "openai"
    folder.mkdir()
    with rehearsals.rehearsal(folder, sqlite_url, shape="openai", keys=keys) as made:
        made.use_key(OLD)
        made.write(provider="openai", in_flight=IN_FLIGHT)
        made.responses(DUE)
        made.responses(2, age=timedelta(days=2))
        made.fault(method="DELETE", delay=0.02)
        yield made


class TestTheCommand:
    def test_the_new_key_is_told_by_no_line_of_a_sweep_that_reads_it(self, here: Rehearsal) -> None:
        prepared(here)
        child = command.start("-c", here.config, "sweep", "--json")
        rotated(here, {NEW: "acme"}, NEW)()
        done = command.ended(child)
        assert done.code == 0, done.err
        assert done.last["complete"]
        assert "key_replaced" in done.err
        assert not [key for key in (OLD, NEW) if key in done.out + done.err]
        assert truth.violations(here) == truth.unsettled(here) == []


class TestTheDaemon:
    def test_each_replaced_file_is_noticed_without_a_restart_and_tried_once(
        self, here: Rehearsal, run: Run, start: Start
    ) -> None:
        """Nobody waits for the schedule either: the next sweep by it would be tomorrow's."""
        assert run("-c", here.config, "account", "check", "main").code == 0
        tried = {
            OTHER_KEY: "account:main:identity",
            "fw_no_such_key_at_all": "account:main:credential",
            "fw_neither_is_this_one": "account:main:credential",
            KEY: None,
        }
        here.responses(3)
        here.write(DAILY)
        here.use_key(next(iter(tried)))
        daemon = start(here.config)
        for count, (key, told) in enumerate(tried.items(), start=1):
            here.use_key(key)
            assert daemon.wait("sweep_finished", count)["stop_reason"] == told
        assert not here.stored() & here.due
        assert [one.target for one in arrivals(here, account=None)] == ["/verifyApiKey"] * 2
        assert [one.target for one in arrivals(here, account="other")] == ["/verifyApiKey"]
        assert daemon.end() == 0
        assert not [key for key in tried if key in str(daemon.lines) + str(daemon.other)]


FINE = {"one line": KEY, "a newline": KEY + "\n", "CRLF": KEY + "\r\n", "spaces": f"  {KEY} \n"}
DOUBTFUL: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "only a newline": (b"\n", "is empty"),
    "two lines": (f"{KEY}\n{OTHER_KEY}\n".encode(), "more than one line"),
    "an empty line behind it": (f"{KEY}\n\n".encode(), "more than one line"),
    "a byte order mark": (b"\xef\xbb\xbf" + KEY.encode(), "byte order mark"),
    "UTF-16": (KEY.encode("utf-16"), "not ASCII"),
    "characters that are not ASCII": (KEY.encode() + "é".encode(), "not ASCII"),
    "a NUL": (KEY.encode() + b"\0", "control characters"),
    "a header of its own": (KEY.encode() + b"\r\nX-Evil: 1", "more than one line"),
    "a blank inside": (KEY.encode() + b" " + KEY.encode(), "spaces"),
    "more than 4 KiB": (KEY.encode() * 300, "longer than 4 KiB"),
}


class TestTheFile:
    @pytest.mark.parametrize("how", FINE)
    def test_one_end_of_line_is_no_part_of_the_key(
        self, here: Rehearsal, run: Run, how: str
    ) -> None:
        here.write_key(FINE[how].encode())
        assert run("-c", here.config, "account", "check", "main").code == 0

    @pytest.mark.parametrize("what", DOUBTFUL)
    def test_what_may_not_be_the_key_is_refused_without_being_told(
        self, here: Rehearsal, run: Run, what: str
    ) -> None:
        data, reason = DOUBTFUL[what]
        here.responses(1)
        here.write_key(data)
        for verb in (("sweep",), ("account", "check", "main"), ("run",)):
            told = run("-c", here.config, *verb, "--json")
            assert (told.code, told.out, told.error["error"]) == (10, "", "secret")
            assert reason in told.error["message"]
            assert told.error["hint"]
        assert here.requests() == 0
        assert here.rows() == []


class TestWhatChanged:
    def test_it_stops_the_account_until_a_person_accepts_it(
        self, here: Rehearsal, run: Run
    ) -> None:
        """Another account behind the key: told everywhere, nothing sent, and taken over by word."""
        to = ("-c", here.config)
        here.responses(2)
        assert run(*to, "sweep").code == 0
        before = here.responses(3)
        here.use_key(OTHER_KEY)
        for _ in range(3):
            stopped = run(*to, "sweep", "--json")
            assert (stopped.code, stopped.last["stop_reason"]) == (12, "account:main:identity")
        assert [one.target for one in arrivals(here, account="other")] == ["/verifyApiKey"] * 3
        assert {row["state"] for row in here.rows() if row["response_id"] in before} == {"live"}
        refused = run(*to, "account", "reset", "main", "--reason", "please", "--json")
        assert (refused.code, refused.error["error"]) == (12, "account_stopped")
        assert run(*to, "account", "accept", "main", "--reason", "moved").code == 0
        gone_on = run(*to, "sweep", "--json")
        assert gone_on.last["stop_reason"] != "account:main:identity"
        # What is stored at the account before is not there: nothing claims that it was deleted.
        assert gone_on.last["outcomes"] == {"not_visible": 3}
        assert truth.violations(here) == []

    def test_what_was_missed_and_expected_at_the_account_before_counts_no_more(
        self, here: Rehearsal, run: Run
    ) -> None:
        to = ("-c", here.config)
        assert run(*to, "account", "check", "main").code == 0
        here.change(tables.accounts, not_found_recent="AAAA", expect_absent=100)
        here.use_key(OTHER_KEY)
        assert run(*to, "account", "accept", "main", "--reason", "moved").code == 0
        (row,) = here.rows(tables.accounts)
        assert (row["not_found_recent"], row["expect_absent"]) == ("", 0)

    @pytest.mark.parametrize("how", ["refused", "unreachable"])
    def test_a_key_that_reaches_nobody_is_not_accepted(
        self, openai: Rehearsal, run: Run, how: str
    ) -> None:
        """Where no account is named either, somebody must have answered."""
        to = ("-c", openai.config)
        assert run(*to, "plan").code == 0
        if how == "refused":
            openai.use_key("fw_no_such_key_at_all")
        else:
            openai.write(base_url="http://127.0.0.1:1")
        told = run(*to, "account", "accept", "main", "--reason", "r", "--json")
        assert (told.code, told.error["error"]) == (12, "account_stopped")
        assert openai.rows(tables.accounts)[0]["identity"] is None
