"""The unit files, read: what they start, when they give up, and what they keep out."""

import re
import shlex

import pytest

from sweeper import errors
from sweeper.cli import main
from sweeper.config import settings
from sweeper.provider import http
from tests.deploy import unitfile
from tests.deploy.unitfile import PROGRAM, values
from tests.docs import pages

DAEMON, SWEEP, TIMER = map(unitfile.read, unitfile.UNITS)
SERVICES = {"sweeper.service": DAEMON, "sweeper-sweep.service": SWEEP}


def value(unit: unitfile.Unit, key: str) -> str:
    return unitfile.value(unit, "Service", key)


def test_they_start_verbs_that_exist_where_the_readme_installs_them() -> None:
    assert value(DAEMON, "ExecStart") == f"{PROGRAM} run"
    assert value(SWEEP, "ExecStart") == f"{PROGRAM} sweep"
    assert {"run", "sweep"} <= set(main.VERBS)
    assert f"{PROGRAM.removesuffix('/sweeper')}/pip install" in pages.read("README.md")


def test_what_a_person_must_put_right_is_not_tried_again() -> None:
    hopeless = {
        errors.UsageError.exit_code,
        errors.ConfigurationError.exit_code,
        errors.SchemaMismatch.exit_code,
    }
    assert set(map(int, value(DAEMON, "RestartPreventExitStatus").split())) == hopeless
    assert value(DAEMON, "Restart") == "on-failure"
    assert unitfile.value(DAEMON, "Unit", "StartLimitIntervalSec") == "0"


def test_the_daemon_is_watched_and_reloaded_by_the_signals_that_it_hears() -> None:
    assert (value(DAEMON, "Type"), value(DAEMON, "NotifyAccess")) == ("notify", "main")
    assert int(value(DAEMON, "WatchdogSec")) > 0
    assert value(DAEMON, "ExecReload") == "/bin/kill -HUP $MAINPID"


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_in_flight_may_finish(name: str) -> None:
    unit = SERVICES[name]
    assert value(unit, "KillMode") == "mixed"
    assert int(value(unit, "TimeoutStopSec")) > http.TOTAL_DEADLINE.total_seconds() + 15
    assert not values(unit, "Service", "KillSignal")


def test_a_sweep_beside_another_sweeper_is_no_failure_and_one_that_is_not_complete_is() -> None:
    assert value(SWEEP, "Type") == "oneshot"
    assert value(SWEEP, "SuccessExitStatus") == str(errors.LedgerBusy.exit_code)
    assert value(SWEEP, "TimeoutStartSec") == "infinity"


def test_both_are_confined_alike() -> None:
    ours = {"Type", "NotifyAccess", "ExecStart", "ExecReload", "TimeoutStartSec", "WatchdogSec"}
    ours |= {"Restart", "RestartSec", "RestartPreventExitStatus", "SuccessExitStatus"}
    daemon, sweep = (
        [each for each in unit["Service"] if each[0] not in ours] for unit in (DAEMON, SWEEP)
    )
    assert daemon == sweep


@pytest.mark.parametrize("name", SERVICES)
def test_no_key_stands_in_a_unit_and_none_is_read_from_the_environment(name: str) -> None:
    unit = SERVICES[name]
    assert not values(unit, "Service", "Environment")
    assert not values(unit, "Service", "EnvironmentFile")
    credential, _, path = value(unit, "LoadCredential").partition(":")
    assert credential == "main-api-key"
    assert path == "/etc/sweeper/credentials/main-api-key"


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_ledger_and_the_spool_may_be_written(name: str) -> None:
    unit = SERVICES[name]
    assert value(unit, "ProtectSystem") == "strict"
    assert value(unit, "StateDirectory") == "sweeper"
    assert value(unit, "StateDirectoryMode") == "0700"
    assert value(unit, "ReadWritePaths") == "-/var/spool/sweeper"
    assert (value(unit, "User"), value(unit, "UMask")) == ("sweeper", "0077")


def test_the_timer_keeps_the_default_schedule_and_catches_up() -> None:
    (calendar,) = values(TIMER, "Timer", "OnCalendar")
    assert settings.DEFAULT_SCHEDULE.every is not None
    minutes = settings.DEFAULT_SCHEDULE.every.total_seconds() / 60
    assert calendar == f"*-*-* *:00/{minutes:.0f}:00 UTC"
    assert unitfile.value(TIMER, "Timer", "Persistent") == "yes"


def test_the_page_says_of_every_file_what_it_is_for() -> None:
    page = pages.read("docs/deploy.md")
    for path in sorted(unitfile.FOLDER.iterdir()):
        assert f"`{path.name}`" in page or f"/{path.name}" in page, path.name


def test_the_page_copies_files_that_exist() -> None:
    page = pages.read("docs/deploy.md")
    named = set(re.findall(r"deploy/[\w./-]+\w", page))
    assert named
    assert {name for name in named if not (pages.ROOT / name).exists()} == set()


def test_the_commands_of_the_page_are_ours() -> None:
    page = pages.read("docs/deploy.md")
    shown = re.findall(r"sudo -u sweeper /opt/sweeper/bin/sweeper (.*)$", page, re.MULTILINE)
    assert shown
    for call in shown:
        assert shlex.split(call)[0] in main.VERBS, call
