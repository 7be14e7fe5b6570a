"""The doctor looks at everything, hides nothing behind a fault, and sends no DELETE."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sweeper.domain.outcome import Breaker
from sweeper.ledger import accounts, faults, leases, tables
from sweeper.ledger.leases import Duty
from sweeper.service.doctor.findings import Check, guarded
from tests.support import command
from tests.support.command import Run
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal

FIELDS = {"check", "subject", "level", "message", "next"}
LOCAL = {
    "libraries", "configuration", "schema", "database", "invariants", "permissions", "daemon",
    "sweeps", "schedule", "disk", "alarm", "key",
}  # fmt: skip


def use(rehearsal: Rehearsal, url: str, more: str = "", **values: object) -> None:
    rehearsal.url = url
    rehearsal.write(more, url=url, rate="50/second", **values)
    rehearsal.config.chmod(0o600)
    rehearsal.folder.chmod(0o700)


def examined(run: Run, rehearsal: Rehearsal, *words: str) -> tuple[int, list[dict[str, Any]]]:
    result = run("-c", rehearsal.config, "doctor", "--json", *words)
    told = result.last
    findings: list[dict[str, Any]] = told["findings"]
    levels = Counter(one["level"] for one in findings)
    assert set(told) == {"type", "ok", "faults", "warnings", "findings"}
    assert (told["faults"], told["warnings"]) == (levels["fault"], levels["warning"])
    assert (result.code, told["ok"]) == ((1, False) if levels["fault"] else (0, True))
    for one in findings:
        assert set(one) == FIELDS
        assert (one["next"] is None) == (one["level"] == "ok")
    return result.code, findings


def of(findings: list[dict[str, Any]], check: str) -> list[dict[str, Any]]:
    return [one for one in findings if one["check"] == check]


def only(findings: list[dict[str, Any]], check: str) -> dict[str, Any]:
    (one,) = of(findings, check)
    return one


def test_a_sound_installation_has_no_fault_and_everything_was_looked_at(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.responses(2)
    code, found = examined(run, rehearsal)
    assert code == 0
    assert {one["check"] for one in found} == LOCAL | {"reach", "clock", "account"}
    assert only(found, "account")["message"].startswith("the key belongs to acme")
    assert only(found, "reach")["subject"] == "main"


def test_a_database_of_postgresql_is_looked_at_as_it_runs(
    run: Run, rehearsal: Rehearsal, postgresql_url: str
) -> None:
    """The tests' own server would lose what it wrote: it is made for speed."""
    spool = rehearsal.folder / "spool"
    spool.mkdir(0o700)
    use(rehearsal, postgresql_url, f'[intake]\nspool = "{spool}"')
    code, found = examined(run, rehearsal)
    assert (code, [one["check"] for one in found if one["level"] == "fault"]) == (1, ["database"])
    assert "fsync off" in only(found, "database")["message"]
    assert {one["check"] for one in found} == (
        (LOCAL | {"reach", "clock", "account", "spool"}) - {"permissions"}
    )
    assert only(found, "disk")["message"].endswith(f" free in {spool}")


def test_no_delete_is_ever_sent_and_nothing_is_claimed(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.responses(3)
    examined(run, rehearsal)
    assert rehearsal.requests() > 0
    assert rehearsal.requests("DELETE") == 0
    assert rehearsal.requests() == rehearsal.requests("GET") + rehearsal.requests("HEAD")
    assert len(rehearsal.stored()) == 3
    assert rehearsal.rows(tables.attempts) == []


def test_offline_nobody_is_asked(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    code, found = examined(run, rehearsal, "--offline")
    assert code == 0
    assert rehearsal.requests() == 0
    assert {one["check"] for one in found} == LOCAL


def test_people_are_told_each_finding_with_the_next_step(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.key_file.chmod(0o644)
    result = run("-c", rehearsal.config, "doctor")
    assert result.code == 1
    lines = result.out.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("FAULT    key main: "))
    assert lines[place + 1] == f"         next: run: chmod 600 {rehearsal.key_file}"
    assert lines[-1].startswith("1 fault, ")
    assert lines[0].startswith("ok       libraries: Python 3.")


def test_a_broken_configuration_is_told_fault_by_fault(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.config.write_text("[ledger]\nurll = 3\n[guards]\nmax_clock_skew = 7\n")
    code, found = examined(run, rehearsal)
    assert code == 1
    assert [one["level"] for one in of(found, "configuration")] == ["fault", "fault"]
    assert {one["check"] for one in found} == {"libraries", "configuration"}
    missing = run("-c", rehearsal.folder / "none.toml", "doctor", "--json")
    assert missing.code == 1
    assert "cannot be read" in only(missing.last["findings"], "configuration")["message"]


def test_what_the_configuration_may_hardly_mean_is_a_warning(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.write(rate="1000/second")
    code, found = examined(run, rehearsal, "--offline")
    one = only(found, "configuration")
    assert (code, one["level"]) == (0, "warning")
    assert one["next"] == f"edit {rehearsal.config}, then sweeper check"


def test_without_a_ledger_everything_else_is_still_looked_at(
    run: Run, rehearsal: Rehearsal, tmp_path: Path
) -> None:
    use(rehearsal, f"sqlite:///{tmp_path / 'elsewhere.db'}")
    code, found = examined(run, rehearsal)
    assert (code, only(found, "database")["next"]) == (1, faults.NO_LEDGER)
    assert not (tmp_path / "elsewhere.db").exists()
    assert only(found, "key")["level"] == "ok"
    assert only(found, "account")["level"] == "warning"
    assert rehearsal.requests() == 0


def test_a_configuration_that_others_may_change_is_one_fault_with_its_step(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.config.chmod(0o664)
    code, found = examined(run, rehearsal, "--offline")
    (one,) = [each for each in found if each["level"] == "fault"]
    assert (code, one["check"]) == (1, "permissions")
    assert one["next"] == f"run: chmod go-w {rehearsal.config}"
    assert only(found, "configuration")["level"] == "ok"


def test_a_credential_of_the_service_is_no_fault_elsewhere(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand the key is nowhere: that says nothing about the service's."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    use(rehearsal, rehearsal.url)
    text = rehearsal.config.read_text()
    rehearsal.config.write_text(text.replace("api_key_file", "# api_key_file"))
    code, found = examined(run, rehearsal)
    one = only(found, "key")
    assert (code, one["level"], one["subject"]) == (0, "warning", "main")
    assert "given to the service alone" in one["message"]
    assert "systemd-run" in one["next"]
    assert "docs/deploy.md" in one["next"]
    assert only(found, "configuration")["level"] == "ok"
    assert rehearsal.requests() == 0
    # The service itself has a folder of credentials: there a missing one is a fault.
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(rehearsal.folder))
    code, found = examined(run, rehearsal)
    assert (code, only(found, "key")["level"]) == (1, "fault")


def test_a_schema_that_is_ahead_is_a_fault(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    with rehearsal.database() as db, db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    _, found = examined(run, rehearsal)
    one = only(found, "schema")
    assert (one["level"], "does not know" in one["message"]) == ("fault", True)
    assert "no ledger" not in str(found)
    assert only(found, "account")["next"] == "mend the ledger first"


def test_a_wrong_key_a_dead_provider_and_a_clock_that_is_off_are_told_apart(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.use_key("fw_wrong_one")
    _, found = examined(run, rehearsal)
    one = only(found, "account")
    assert one["level"] == "fault"
    assert one["next"].startswith("put a key that is valid where accounts.main says")
    assert only(found, "reach")["level"] == "ok"

    rehearsal.use_key(KEY)
    rehearsal.sandbox.call(lambda sandbox: sandbox.clock.advance(timedelta(hours=1)))
    _, found = examined(run, rehearsal)
    one = only(found, "clock")
    assert (one["level"], one["next"]) == ("fault", "mend the time service")
    assert one["message"].endswith("behind the provider's Date, so nothing is deleted")

    use(rehearsal, rehearsal.url, base_url="http://127.0.0.1:9/inference")
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(sa.update(tables.accounts).values(identity=None))
    _, found = examined(run, rehearsal)
    assert only(found, "reach")["level"] == "fault"
    assert of(found, "clock") == of(found, "account") == []


def test_a_clock_that_is_half_too_far_off_is_a_warning(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.sandbox.call(lambda sandbox: sandbox.clock.advance(timedelta(seconds=90)))
    code, found = examined(run, rehearsal)
    assert (code, only(found, "clock")["level"]) == (0, "warning")


def test_a_key_that_has_not_seen_anything_yet_is_a_warning(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.fault(method="GET", path="/responses", status=404, body=b'{"detail":"no"}')
    code, found = examined(run, rehearsal)
    assert (code, only(found, "account")["level"]) == (0, "warning")


def test_a_lock_that_cannot_be_looked_at_is_a_fault_and_hides_nothing(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    (rehearsal.folder / "ledger.db.daemon.lock").symlink_to("/dev/null")
    _, found = examined(run, rehearsal, "--offline")
    one = only(found, "daemon")
    assert (one["level"], one["next"]) == ("fault", "run this as the user who owns the ledger")
    assert {each["check"] for each in found} == LOCAL


def test_a_pin_that_does_not_fit_is_told_without_asking(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.responses(1)
    examined(run, rehearsal)
    rehearsal.use_key(OTHER_KEY)
    _, found = examined(run, rehearsal)
    one = only(found, "account")
    assert one["level"] == "fault"
    assert "sweeper account accept main" in one["next"]


def test_a_breaker_that_waits_for_a_person_is_a_fault(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    with rehearsal.database() as db, db.write() as connection:
        accounts.ensure(connection, ["main"])
        row = accounts.get(connection, "main")
        assert row is not None
        accounts.open_breaker(connection, row, Breaker.NOT_FOUND, "seen", now=1)
    _, found = examined(run, rehearsal)
    one = only(found, "account")
    assert (one["level"], one["message"]) == (
        "fault", "stopped (not found) until a person decides",
    )  # fmt: skip
    assert "sweeper account reset main" in one["next"]


def test_a_provider_without_a_date_is_a_fault_unless_the_clock_is_trusted(
    run: Run, rehearsal: Rehearsal
) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.fault(headers=(("Date", None),))
    _, found = examined(run, rehearsal)
    one = only(found, "clock")
    assert (one["level"], "sends no Date" in one["message"]) == ("fault", True)
    text = rehearsal.config.read_text().replace("[guards]", "[guards]\ntrust_local_clock = true")
    rehearsal.config.write_text(text)
    code, found = examined(run, rehearsal)
    assert (code, of(found, "clock")) == (0, [])


def test_the_spool_and_the_alarm_are_looked_at_where_they_are_configured(
    run: Run, rehearsal: Rehearsal, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    more = f'[intake]\nspool = "{spool}"\n[alarm]\ncommand = ["{tmp_path}/page"]\n'
    use(rehearsal, rehearsal.url, more)
    _, found = examined(run, rehearsal, "--offline")
    assert [only(found, check)["level"] for check in ("spool", "alarm")] == ["fault", "fault"]
    spool.mkdir()
    (spool / "one.jsonl").write_text("{}\n")
    (tmp_path / "page").touch(0o755)
    code, found = examined(run, rehearsal, "--offline")
    assert code == 0
    assert [only(found, check)["level"] for check in ("spool", "alarm")] == ["ok", "ok"]
    assert (spool / "one.jsonl").exists()


def test_a_running_daemon_is_seen(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    with rehearsal.database() as db, leases.file_lock(db, Duty.DAEMON):
        _, found = examined(run, rehearsal, "--offline")
    assert only(found, "daemon")["level"] == "ok"


WITHOUT_RIGHTS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Begins a command that may do no more than its user's files allow, whoever the user is."""


@pytest.mark.parametrize("name, mode, rights", [("ledger.db", 0o400, "u+rw"), ("", 0o500, "u+rwx")])
def test_what_is_ours_and_closed_to_us_is_opened_by_its_mode(
    rehearsal: Rehearsal, name: str, mode: int, rights: str
) -> None:
    use(rehearsal, rehearsal.url)
    place = rehearsal.folder / name
    place.chmod(mode)
    verb = ("-m", "sweeper", "-c", str(rehearsal.config), "doctor", "--json", "--offline")
    done = subprocess.run(
        [*WITHOUT_RIGHTS, sys.executable, *verb],
        env=command.environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    place.chmod(0o700)
    told = json.loads(done.stdout)
    (one,) = [each for each in of(told["findings"], "permissions") if each["level"] == "fault"]
    assert (done.returncode, one["next"]) == (1, f"run: chmod {rights} {place}")


def test_nobody_is_told_that_a_key_never_did_what_it_did(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.responses(3)
    assert run("-c", rehearsal.config, "sweep", "--json").last["verified"] == 3
    _, found = examined(run, rehearsal)
    one = only(found, "account")
    assert one["level"] == "ok"
    assert one["message"] == "the key belongs to acme; none was read by its id just now"


def test_a_fault_that_nobody_foresaw_hides_no_other_and_tells_nothing(
    run: Run, rehearsal: Rehearsal
) -> None:
    """A schedule that no release of ours has written: the text of such an error may hold it."""
    use(rehearsal, rehearsal.url)
    with rehearsal.database() as db, db.write() as connection:
        row = {"since": 1, "every": None, "cron": f"* * * * {KEY}"}
        connection.execute(sa.insert(tables.schedules).values(**row))
    result = run("-c", rehearsal.config, "doctor", "--json", "--offline")
    one = only(result.last["findings"], "schedule")
    assert (result.code, one["level"]) == (1, "fault")
    assert one["message"] == "it could not be looked at: ValueError, a fault of sweeper's"
    assert KEY not in result.out + result.err
    assert {each["check"] for each in result.last["findings"]} == LOCAL


def test_what_the_system_refuses_is_told_with_its_place() -> None:
    def refused() -> list[Any]:
        raise PermissionError(13, "Permission denied", "/some/place")

    def bare() -> list[Any]:
        raise OSError

    (one,) = guarded(Check.DISK, refused)
    assert one.message == "/some/place: Permission denied"
    (two,) = guarded(Check.DISK, bare)
    assert two.message == "OSError"


@pytest.mark.parametrize("key", [KEY, f"{KEY}\n{KEY}", f"{KEY} with spaces", "fw_wrong_canarykey"])
def test_no_key_is_ever_printed(rehearsal: Rehearsal, key: str) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.use_key(key)
    result = command.process("-v", "-c", rehearsal.config, "doctor")
    assert "key main" in result.out
    assert "canarykey" not in result.out + result.err
    assert "Traceback" not in result.err


def test_a_backup_can_be_examined_as_it_is(run: Run, rehearsal: Rehearsal, tmp_path: Path) -> None:
    use(rehearsal, rehearsal.url)
    copy = tmp_path / "copy.db"
    run("-c", rehearsal.config, "db", "backup", copy)
    use(rehearsal, f"sqlite:///{copy}")
    _, found = examined(run, rehearsal, "--offline")
    assert [one["level"] for one in of(found, "schema")] == ["ok", "warning"]


def test_configuration_that_others_may_replace_is_a_fault(run: Run, rehearsal: Rehearsal) -> None:
    use(rehearsal, rehearsal.url)
    rehearsal.folder.chmod(0o777)
    code, found = examined(run, rehearsal, "--offline")
    one = only(found, "configuration")
    assert (code, one["level"]) == (1, "fault")
    assert one["next"] == f"run: chmod o-w {rehearsal.folder}"
