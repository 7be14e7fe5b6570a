"""Signals, lack of memory and faults of the program end a process soon, and its ledger is true."""

import ast
import itertools
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

import sweeper
from sweeper.ledger import database as ledger_database
from sweeper.ledger import schema
from tests.support import command, forked, invariants, truth
from tests.support.command import Result
from tests.support.failpoints import Act, Countdown, Point, Tick, Trap
from tests.support.patience import wait_for
from tests.support.rehearsal import YOUNG, Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'
DYING = {signal.SIGHUP, signal.SIGQUIT}
"""Signals that end a sweep by hand like a crash; the daemon takes the first to read anew."""


def call(rehearsal: Rehearsal) -> tuple[object, ...]:
    return ("-c", rehearsal.config, "-q", "sweep", "--json")


def go_on(rehearsal: Rehearsal) -> Result:
    """The next sweep ends everything."""
    rehearsal.mend()
    rehearsal.pass_time()
    done = forked.run(rehearsal.folder, *call(rehearsal))
    assert (done.code, done.last["complete"]) == (0, True), done
    truth.check(rehearsal)
    assert truth.unsettled(rehearsal) == []
    return done


class TestSignals:
    @pytest.mark.parametrize(
        "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL]
    )
    def test_whatever_signal_ends_a_sweep_the_next_one_ends_its_work(
        self, rehearsal: Rehearsal, number: signal.Signals
    ) -> None:
        rehearsal.responses(8)
        rehearsal.responses(1, age=YOUNG)
        rehearsal.fault(method="DELETE", delay=0.15)
        with forked.started(rehearsal.folder, *call(rehearsal)) as child:
            rehearsal.wait_for_deletes(3)
            child.send(number)
            done = child.ended()
        truth.check(rehearsal)
        in_order = number in (signal.SIGINT, signal.SIGTERM)
        assert done.code == (3 if in_order else -number), done
        claimed = [row for row in rehearsal.rows() if row["state"] == "claimed"]
        assert bool(claimed) != in_order
        ended = go_on(rehearsal).last["outcomes"]
        assert ("absent_after_attempt" in ended) != in_order

    def test_a_second_signal_waits_less_and_what_is_cut_short_counts_as_perhaps_done(
        self, rehearsal: Rehearsal
    ) -> None:
        rehearsal.responses(6)
        rehearsal.fault(method="DELETE", delay=8)
        with forked.started(rehearsal.folder, *call(rehearsal)) as child:
            rehearsal.wait_for_deletes(4)
            child.send(signal.SIGTERM)
            child.send(signal.SIGINT)  # another one: two alike may arrive as one
            done = child.ended(within=15)
        assert (done.code, done.last["stop_reason"]) == (3, "interrupted"), done
        assert done.last["outcomes"] == {"failing": 4}
        assert {row["ambiguous"] for row in rehearsal.rows() if row["attempts"]} == {1}
        assert truth.violations(rehearsal) == []

    def test_a_sweep_by_hand_dies_with_the_terminal_unless_it_was_told_not_to(
        self, rehearsal: Rehearsal
    ) -> None:
        """As `nohup` would have it: what is ignored at the start stays ignored."""
        rehearsal.responses(4)
        rehearsal.fault(method="DELETE", delay=0.3)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            child = command.start(*call(rehearsal))
        finally:
            signal.signal(signal.SIGHUP, before)
        rehearsal.wait_for_deletes(1)
        done = command.end(child, signal.SIGHUP)
        assert done.code == 0, done
        assert truth.unsettled(rehearsal) == []


class TestEveryStep:
    def test_whichever_commit_a_sweep_dies_before_the_next_one_goes_on(
        self, rehearsal: Rehearsal
    ) -> None:
        """Each sweep dies one commit later in its own work than the one before."""
        rehearsal.responses(1, age=YOUNG)
        assert forked.run(rehearsal.folder, *call(rehearsal)).code == 0
        rehearsal.responses(40)
        for nth in itertools.count(1):
            trap = Countdown(tick=Tick.COMMIT, nth=nth)
            done = forked.run(rehearsal.folder, *call(rehearsal), trap=trap)
            truth.check(rehearsal)
            rehearsal.pass_time()
            if done.code != -signal.SIGKILL:
                break
            rehearsal.responses(2)
        assert done.code == 0, done
        assert nth > 6
        assert truth.unsettled(rehearsal) == []

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_whichever_statement_an_upgrade_ends_before_the_next_one_does_it(
        self, tmp_path: Path, empty_url: str, number: signal.Signals
    ) -> None:
        """Each migration is made whole or not at all."""
        config = tmp_path / "config.toml"
        config.write_text(f'[ledger]\nurl = "{empty_url}"\n')
        config.chmod(0o600)
        found: set[str | None] = set()
        for nth in itertools.count(2, 7):
            trap = Countdown(tick=Tick.STATEMENT, nth=nth, number=number)
            done = forked.run(tmp_path, "-c", config, "db", "upgrade", trap=trap)
            if done.code == 0:
                break
            assert done.code == (3 if number is signal.SIGINT else -number), done
            found.add(_version(empty_url))
        assert done.code == 0, done
        assert nth > 20
        assert found == {None, "0001"}
        db = ledger_database.open_database(empty_url)
        schema.check(db)
        invariants.check(db)
        db.close()


def _version(url: str) -> str | None:
    db = ledger_database.open_database(url)
    try:
        return schema.current(db)
    finally:
        db.close()


class TestLackOfMemory:
    @pytest.mark.parametrize("point", [Point.CLAIM_AFTER_COMMIT, Point.HTTP_AFTER_RESPONSE])
    def test_a_sweep_that_gets_no_more_memory_ends_and_claims_nothing_that_is_not_so(
        self, rehearsal: Rehearsal, point: Point
    ) -> None:
        rehearsal.write(in_flight=16)
        rehearsal.responses(200)
        trap = Trap(point=point, act=Act.STARVE, mark=rehearsal.folder / "sprung")
        with forked.started(rehearsal.folder, *call(rehearsal), trap=trap) as child:
            done = child.ended(within=20)
        assert trap.sprung()
        self._ended(rehearsal, done)

    def test_so_does_a_daemon(self, rehearsal: Rehearsal) -> None:
        rehearsal.write(NEVER, in_flight=16)
        rehearsal.responses(200)
        mark = rehearsal.folder / "sprung"
        trap = Trap(point=Point.HTTP_AFTER_RESPONSE, act=Act.STARVE, mark=mark)
        with forked.started(rehearsal.folder, "-c", rehearsal.config, "run", trap=trap) as daemon:
            wait_for(trap.sprung, "lack of memory")
            self._ended(rehearsal, daemon.ended(within=20))

    def _ended(self, rehearsal: Rehearsal, done: Result) -> None:
        """By a fault that was told, or at once; not all that was due can be gone."""
        assert done.code == 1, done
        assert re.search("no more memory|MemoryError", done.err), done
        assert Counter(row["state"] for row in rehearsal.rows())["gone"] < 200
        truth.check(rehearsal)
        go_on(rehearsal)


class TestFaultsOfTheProgram:
    @pytest.mark.parametrize("point", [Point.HTTP_AFTER_RESPONSE, Point.OUTCOME_MID])
    def test_a_daemon_whose_sweep_fails_in_an_unforeseen_way_ends_soon(
        self, rehearsal: Rehearsal, point: Point
    ) -> None:
        rehearsal.write(NEVER)
        rehearsal.responses(8)
        trap = Trap(point=point, act=Act.RAISE, mark=rehearsal.folder / "sprung")
        with forked.started(rehearsal.folder, "-c", rehearsal.config, "run", trap=trap) as daemon:
            wait_for(trap.sprung, "fault")
            done = daemon.ended(within=20)
        assert done.code == 1, done
        assert "fault of sweeper's" in done.err
        truth.check(rehearsal)
        go_on(rehearsal)


class TestForks:
    def test_nothing_forks_while_the_ledger_is_open(self) -> None:
        """A child that has the descriptors of a database ruins its locks: programs are spawned."""
        forking = {"fork", "forkpty", "multiprocessing", "ProcessPoolExecutor", "preexec_fn", "pty"}
        root = Path(next(iter(sweeper.__path__)))
        found = [
            f"{path.name}: {name}"
            for path in root.rglob("*.py")
            for name in _names(ast.parse(path.read_text()))
            if name in forking
        ]
        assert found == []

    def test_a_program_that_is_called_gets_no_descriptor_of_the_ledger(
        self, rehearsal: Rehearsal
    ) -> None:
        program, told = rehearsal.folder / "page", rehearsal.folder / "told"
        program.write_text(f"#!/bin/sh\ncat > {told}.part\nls -l /proc/$$/fd >> {told}.part\n")
        program.chmod(0o700)
        with program.open("a") as script:
            script.write(f"mv {told}.part {told}\n")
        rehearsal.write(f'[alarm]\ncommand = ["{program}"]\n')
        rehearsal.responses(1)
        rehearsal.fault(method="DELETE", status=402, body=b'{"error":"pay"}')
        done = forked.run(rehearsal.folder, *call(rehearsal))
        assert done.code == 12, done
        text = wait_for(lambda: told.exists() and told.read_text(), "alarm")
        assert isinstance(text, str)
        links = [line.split(" -> ") for line in text.splitlines() if " -> " in line]
        opened = {int(left.rsplit(" ", 1)[1]): target for left, target in links}
        ours = {0, 1, 2}
        assert ours <= opened.keys()
        assert not [target for target in opened.values() if "ledger" in target]
        # A shell has its script open; a database would be a socket.
        assert not [n for n, target in opened.items() if "socket" in target and n not in ours]


def _names(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found.update(part for one in names for part in one.name.split("."))
            case _:
                pass
    return found
