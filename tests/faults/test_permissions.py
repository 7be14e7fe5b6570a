"""Files that others may write, replace or lead elsewhere are not believed, and nothing is sent."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeper import errors
from sweeper.config import load, secret
from sweeper.ledger import database as ledger_database
from sweeper.ledger import leases, schema
from sweeper.ledger.leases import Duty
from tests.support import canary
from tests.support.command import Run
from tests.support.rehearsal import KEY, Rehearsal
from tests.support.rehearsal import rehearsal as rehearsed
from tests.support.strangers import STRANGER, as_root


@pytest.fixture
def rehearsal(tmp_path: Path, sqlite_url: str) -> Iterator[Rehearsal]:
    """An SQLite ledger, a configuration and a key, in a folder of their own."""
    with rehearsed(tmp_path, sqlite_url) as made:
        made.responses(2)
        yield made


def refused(run: Run, rehearsal: Rehearsal, code: int, *said: str) -> str:
    """Sweep; nothing is sent, for the reason given. Returns what helps."""
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == code, result.err
    told = result.err.splitlines()[-1] if not result.out else result.err + result.out
    assert all(word in told for word in said), told
    assert rehearsal.requests() == 0
    assert KEY not in result.out + result.err
    return str(result.error["hint"]) if not result.out else ""


def sweeps(run: Run, rehearsal: Rehearsal) -> None:
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.last["outcomes"] == {"deleted": 2}, result.err


def faults_by_doctor(run: Run, rehearsal: Rehearsal) -> list[tuple[str, str]]:
    """Of what, and what to do."""
    found = run("-c", rehearsal.config, "doctor", "--offline", "--json").last["findings"]
    return [(one["check"], one["next"]) for one in found if one["level"] == "fault"]


class TestTheConfiguration:
    @pytest.mark.parametrize("mode", [0o602, 0o646, 0o666, 0o777])
    def test_one_that_everybody_may_write_deletes_nothing(
        self, run: Run, rehearsal: Rehearsal, mode: int
    ) -> None:
        rehearsal.config.chmod(mode)
        hint = refused(run, rehearsal, 10, "everybody may write", str(rehearsal.config))
        assert hint == f"run: chmod o-w {rehearsal.config}"
        rehearsal.config.chmod(mode & ~0o022)
        sweeps(run, rehearsal)

    def test_one_that_a_group_may_write_is_warned_of(self, run: Run, rehearsal: Rehearsal) -> None:
        rehearsal.config.chmod(0o660)
        assert "others may write" in run("-c", rehearsal.config, "check").out
        sweeps(run, rehearsal)

    @as_root
    def test_one_of_another_user_deletes_nothing(self, run: Run, rehearsal: Rehearsal) -> None:
        os.chown(rehearsal.config, STRANGER, STRANGER)
        rehearsal.config.chmod(0o644)
        hint = refused(run, rehearsal, 10, "belongs to another user", str(rehearsal.config))
        assert f"run: chown root {rehearsal.config};" in hint
        assert ("configuration", hint) in faults_by_doctor(run, rehearsal)
        os.chown(rehearsal.config, 0, 0)
        sweeps(run, rehearsal)

    @pytest.mark.parametrize("depth", [0, 1])
    def test_one_that_everybody_may_replace_deletes_nothing(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path, depth: int
    ) -> None:
        """Whoever may write in a folder may also put another in the place of one in it."""
        folders = [tmp_path / "conf", tmp_path / "conf" / "inner"]
        folders[1].mkdir(parents=True)
        rehearsal.config.rename(folders[1] / "config.toml")
        config = folders[1] / "config.toml"
        open_one = folders[1 - depth]
        open_one.chmod(0o777)
        with pytest.raises(errors.ConfigurationError, match="everybody may write") as refusal:
            load.load(config, {})
        assert refusal.value.hint == f"run: chmod o-w {open_one}"
        open_one.chmod(0o1777)
        assert load.load(config, {}).path == config
        open_one.chmod(0o775)
        assert load.load(config, {}).path == config

    def test_one_behind_a_link_counts_by_where_it_really_stands(
        self, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(0o755)
        real = elsewhere / "config.toml"
        rehearsal.config.rename(real)
        rehearsal.config.symlink_to(real)
        assert load.load(rehearsal.config, {}).path == rehearsal.config
        elsewhere.chmod(0o777)
        with pytest.raises(errors.ConfigurationError, match="everybody may write"):
            load.load(rehearsal.config, {})

    def test_what_was_read_is_what_was_looked_at(
        self, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        """The file is exchanged all the while: what is taken never came from the open one."""
        own, foreign = tmp_path / "own", tmp_path / "foreign"

        def make(path: Path, name: str, mode: int) -> Path:
            path.write_text(rehearsal.config.read_text().replace("contracts", name))
            path.chmod(mode)
            return path

        config = tmp_path / "exchanged.toml"
        make(own, "own", 0o600).rename(config)
        with exchanging(
            config, lambda: make(own, "own", 0o600), lambda: make(foreign, "foreign", 0o666)
        ):
            taken, refusals = what_comes(lambda: load.load(config, {}).policies[1].name)
        assert taken == {"own"}
        assert all("everybody may write" in one for one in refusals)


def what_comes(read: Callable[[], str]) -> tuple[set[str], list[str]]:
    """Read until it was taken once and refused six times: what was taken, why it was refused."""
    taken: set[str] = set()
    refusals: list[str] = []
    while not taken or len(refusals) < 6:
        try:
            taken.add(read())
        except errors.SweeperError as refusal:
            refusals.append(refusal.message)
    return taken, refusals


@contextmanager
def exchanging(place: Path, *makers: Callable[[], Path]) -> Iterator[None]:
    """Rename one file after the other to a place, again and again, until the block ends."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for make in makers:
                make().rename(place)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class TestTheKey:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
    def test_one_that_others_may_read_or_write_sends_nothing(
        self, run: Run, rehearsal: Rehearsal, mode: int
    ) -> None:
        rehearsal.key_file.chmod(mode)
        refused(run, rehearsal, 10, "may be read or written by others")
        rehearsal.key_file.chmod(0o600)
        sweeps(run, rehearsal)

    def test_a_link_to_one_is_not_followed(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        rehearsal.key_file.rename(tmp_path / "real-key")
        rehearsal.key_file.symlink_to(tmp_path / "real-key")
        refused(run, rehearsal, 10, "cannot be read")

    @as_root
    def test_one_of_another_user_sends_nothing(self, run: Run, rehearsal: Rehearsal) -> None:
        os.chown(rehearsal.key_file, STRANGER, STRANGER)
        refused(run, rehearsal, 10, "belongs to another user")

    def test_it_may_lie_in_a_sticky_folder(self, run: Run, rehearsal: Rehearsal) -> None:
        rehearsal.folder.chmod(0o1777)
        sweeps(run, rehearsal)

    def test_what_was_read_is_what_was_looked_at(
        self, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        config = load.load(rehearsal.config, {})

        def write(name: str, mode: int) -> Path:
            path = tmp_path / name
            path.touch(0o600)
            canary.watch("the key", f"fw_{name}")
            path.write_text(f"fw_{name}\n")
            path.chmod(mode)
            return path

        write("own-key", 0o600).rename(rehearsal.key_file)
        with exchanging(
            rehearsal.key_file, lambda: write("own-key", 0o600), lambda: write("open-key", 0o644)
        ):
            taken, refusals = what_comes(lambda: secret.read_key(config.accounts[0], {}).reveal())
        assert taken == {"fw_own-key"}
        assert all("may be read or written" in one for one in refusals)


class TestTheLedger:
    def test_one_that_everybody_may_write_deletes_nothing(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        ledger = tmp_path / "ledger.db"
        ledger.chmod(0o666)
        hint = refused(run, rehearsal, 1, "everybody may write", str(ledger))
        assert hint == f"run: chmod o-w {ledger}"
        ledger.chmod(0o660)
        sweeps(run, rehearsal)

    @as_root
    def test_one_of_another_user_deletes_nothing(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        ledger = tmp_path / "ledger.db"
        os.chown(ledger, STRANGER, STRANGER)
        hint = refused(run, rehearsal, 1, f"uid {STRANGER}", str(ledger))
        assert hint.endswith(f"run: chown 0 {ledger}")
        assert ("database", hint) in faults_by_doctor(run, rehearsal)
        os.chown(ledger, 0, 0)
        sweeps(run, rehearsal)

    @as_root
    def test_that_of_a_service_in_its_own_folder_is_used_by_root(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        state = tmp_path / "state"
        state.mkdir(0o700)
        (tmp_path / "ledger.db").rename(state / "ledger.db")
        for path in (state, state / "ledger.db"):
            os.chown(path, STRANGER, STRANGER)
        rehearsal.write(url=f"sqlite:///{state}/ledger.db")
        assert run("-c", rehearsal.config, "status").code in {0, 3}
        sweeps(run, rehearsal)

    def test_one_that_everybody_may_replace_is_not_opened(self, tmp_path: Path) -> None:
        folder = tmp_path / "open"
        folder.mkdir()
        folder.chmod(0o777)
        for create in (True, False):
            with pytest.raises(errors.LedgerError):
                ledger_database.open_database(f"sqlite:///{folder}/ledger.db", create=create)
        folder.chmod(0o1777)
        made = ledger_database.open_database(f"sqlite:///{folder}/ledger.db")
        made.close()
        folder.chmod(0o777)
        with pytest.raises(errors.LedgerError, match="everybody may write") as refusal:
            ledger_database.open_database(f"sqlite:///{folder}/ledger.db")
        assert refusal.value.hint == f"run: chmod o-w {folder}"
        # A link from elsewhere leads to the same file.
        (tmp_path / "link.db").symlink_to(folder / "ledger.db")
        with pytest.raises(errors.LedgerError, match="everybody may write"):
            ledger_database.open_database(f"sqlite:///{tmp_path}/link.db")

    def test_it_is_made_for_its_owner_only_whatever_the_umask(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            made = ledger_database.open_database(f"sqlite:///{tmp_path}/new.db")
            schema.upgrade(made)
            schema.backup(made, tmp_path / "copy.db")
            made.close()
        finally:
            os.umask(before)
        for name in ("new.db", "copy.db"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600

    def test_a_link_that_leads_nowhere_makes_no_file_elsewhere(self, tmp_path: Path) -> None:
        target = tmp_path / "elsewhere" / "made.db"
        target.parent.mkdir()
        (tmp_path / "linked.db").symlink_to(target)
        with pytest.raises(errors.LedgerError, match="link to a file that does not exist"):
            ledger_database.open_database(f"sqlite:///{tmp_path}/linked.db")
        assert not target.exists()

    @pytest.mark.parametrize("duty", Duty)
    def test_a_link_in_the_place_of_its_lock_is_not_followed(
        self, sqlite_url: str, tmp_path: Path, duty: Duty
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_text("kept")
        (tmp_path / f"ledger.db.{duty.value}").symlink_to(victim)
        opened = ledger_database.open_database(sqlite_url)
        try:
            with (
                pytest.raises(errors.LedgerError, match="cannot be opened"),
                leases.file_lock(opened, duty),
            ):
                pass
        finally:
            opened.close()
        assert victim.read_text() == "kept"

    def test_a_copy_is_never_written_through_a_link(
        self, run: Run, rehearsal: Rehearsal, tmp_path: Path
    ) -> None:
        (tmp_path / "copy.db").symlink_to(tmp_path / "victim")
        result = run("-c", rehearsal.config, "db", "backup", tmp_path / "copy.db")
        assert result.code == 2
        assert not (tmp_path / "victim").exists()


class TestTheSpool:
    @pytest.fixture
    def spool(self, rehearsal: Rehearsal, tmp_path: Path) -> Path:
        folder = tmp_path / "spool"
        folder.mkdir(0o700)
        rehearsal.write(f'\n[intake]\nspool = "{folder}"\n')
        return folder

    def test_a_link_is_not_followed_and_its_file_not_moved(
        self, run: Run, rehearsal: Rehearsal, spool: Path, tmp_path: Path
    ) -> None:
        line = (
            '{"id":"resp_x","created_at":1763769600,"account":"main","labels":{"app":"support"}}\n'
        )
        (tmp_path / "outside.jsonl").write_text(line)
        (spool / "in.jsonl").symlink_to(tmp_path / "outside.jsonl")
        result = run("-c", rehearsal.config, "sweep", "--json")
        assert '"event":"spool_file_left"' in result.err
        assert "resp_x" not in {row["response_id"] for row in rehearsal.rows()}
        assert (tmp_path / "outside.jsonl").read_text() == line
        assert (spool / "in.jsonl").is_symlink()

    def test_a_link_in_the_place_of_done_takes_nothing_in(
        self, run: Run, rehearsal: Rehearsal, spool: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        (spool / "done").symlink_to(tmp_path / "elsewhere")
        (spool / "in.jsonl").write_text(
            '{"id":"resp_x","created_at":1763769600,"account":"main"}\n'
        )
        result = run("-c", rehearsal.config, "sweep", "--json")
        assert result.code != 0
        assert list((tmp_path / "elsewhere").iterdir()) == []
        assert (spool / "in.jsonl").exists()

    def test_one_that_everybody_may_write_is_told_by_doctor(
        self, run: Run, rehearsal: Rehearsal, spool: Path
    ) -> None:
        spool.chmod(0o777)
        found = run("-c", rehearsal.config, "doctor", "--offline", "--json").last["findings"]
        (one,) = [each for each in found if each["check"] == "spool" and each["level"] != "ok"]
        assert "everybody may write" in one["message"]
