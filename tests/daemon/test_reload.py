"""SIGHUP takes up a configuration wholly, or keeps the one before."""

import signal

from tests.daemon.conftest import Start
from tests.support import daemon as daemons
from tests.support import truth
from tests.support.patience import wait_for
from tests.support.rehearsal import Rehearsal

NEVER = '[schedule]\ncron = "0 0 1 1 *"\n'


def test_a_valid_configuration_is_taken_up_at_once(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(NEVER)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    rehearsal.responses(2)
    rehearsal.write('[schedule]\nevery = "1s"\n')
    daemon.send(signal.SIGHUP)
    assert daemon.wait("configuration_reloaded")["changed"] == ["schedule"]
    wait_for(lambda: not rehearsal.stored() & rehearsal.due, "a sweep by the new schedule")
    assert daemon.end() == 0


def test_a_faulty_one_is_refused_with_every_fault_and_changes_nothing(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write('[schedule]\nevery = "1s"\n')
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    rehearsal.write('[schedule]\nevery = "soon"\n[http]\nlisten = "x"\n')
    daemon.send(signal.SIGHUP)
    refused = daemon.wait("configuration_refused")
    assert refused["level"] == "error"
    assert [fault.partition(":")[0] for fault in refused["faults"]] == [
        "schedule.every",
        "http.listen",
    ]
    seen = len(daemon.of("sweep_finished"))
    daemon.wait("sweep_finished", seen + 2)
    assert daemon.end() == 0


def test_a_file_that_is_gone_or_half_written_ends_nothing(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER)
    daemon = start(rehearsal.config)
    daemon.wait("sweep_finished")
    rehearsal.config.write_text("[ledger")
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_refused")
    rehearsal.config.unlink()
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_refused", 2)
    assert daemon.end() == 0


def test_a_policy_that_keeps_more_binds_while_a_sweep_runs(either: Rehearsal, start: Start) -> None:
    either.write(NEVER, in_flight=2)
    either.responses(40)
    either.fault(method="DELETE", delay=0.3)
    daemon = start(either.config)
    either.wait_for_deletes(4)
    kept = either.config.read_text().replace('delete_after = "14d"', 'delete_after = "forever"')
    either.config.write_text(kept)
    daemon.send(signal.SIGHUP)
    daemon.wait("configuration_reloaded")
    first = daemon.wait("sweep_finished")
    assert first["stop_reason"] == "interrupted"
    sent = either.requests("DELETE")
    second = daemon.wait("sweep_finished", 2)
    assert (second["due"], second["planned"]) == (0, 0)
    assert either.requests("DELETE") == sent < 40
    assert daemon.end() == 0
    assert truth.violations(either) == []


def test_a_change_that_cannot_delete_otherwise_lets_a_running_sweep_finish(
    rehearsal: Rehearsal, start: Start
) -> None:
    rehearsal.write(NEVER, in_flight=2)
    rehearsal.responses(8)
    rehearsal.fault(method="DELETE", delay=0.3)
    daemon = start(rehearsal.config)
    rehearsal.wait_for_deletes(1)
    rehearsal.write('[schedule]\nevery = "1h"\n', response_ids="false")
    daemon.send(signal.SIGHUP)
    assert daemon.wait("configuration_reloaded")["changed"] == ["log", "schedule"]
    assert daemon.wait("sweep_finished")["complete"]
    assert "response_id" not in daemon.of("response_settled")[-1]
    assert daemon.end() == 0


def test_a_key_that_was_exchanged_is_read_by_the_next_sweep_and_never_logged(
    rehearsal: Rehearsal, start: Start
) -> None:
    good = rehearsal.sandbox.key
    rehearsal.use_key("fw_first_key_that_is_wrong_00")
    rehearsal.responses(2)
    rehearsal.write('[schedule]\nevery = "1s"\n')
    daemon = start(rehearsal.config)
    daemon.wait("breaker_opened")
    rehearsal.use_key(good)
    wait_for(lambda: not rehearsal.stored() & rehearsal.due, "deletion by the new key")
    assert daemon.end() == 0
    assert good not in str(daemon.lines) + str(daemon.other)


def test_one_key_that_cannot_be_read_stops_its_account_and_no_other(
    rehearsal: Rehearsal, start: Start
) -> None:
    more = '[accounts.other]\nprovider = "openai"\napi_key_file = "/no/such/key"\n'
    rehearsal.responses(2)
    rehearsal.write(more + NEVER)
    daemon = start(rehearsal.config)
    opened = daemon.wait("breaker_opened")
    assert (opened["account"], opened["breaker"]) == ("other", "credential")
    finished = daemon.wait("sweep_finished")
    assert finished["stop_reason"] == "account:other:credential"
    assert not rehearsal.stored() & rehearsal.due
    assert daemon.end() == 0


def test_the_manager_hears_of_a_reload_and_of_its_end(rehearsal: Rehearsal, start: Start) -> None:
    rehearsal.write(NEVER)
    with daemons.manager(rehearsal.folder) as manager:
        daemon = start(rehearsal.config, NOTIFY_SOCKET=manager.address)
        daemon.wait("sweep_finished")
        rehearsal.config.write_text("[ledger")
        daemon.send(signal.SIGHUP)
        daemon.wait("configuration_refused")
        wait_for(lambda: manager.count("READY=1") >= 2, "a second READY=1")
        reloading = [one for one in manager.heard if "RELOADING=1" in one]
        assert [line.partition("=")[0] for line in reloading[0].splitlines()] == [
            "RELOADING",
            "MONOTONIC_USEC",
        ]
        assert "refused" in manager.heard[-1]
        assert daemon.end() == 0
