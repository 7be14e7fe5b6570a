"""A sweep deletes what is due, says what it did, and ends with the code that fits."""

import base64
import json
import sqlite3
from collections import Counter
from urllib.parse import quote

import pytest

from sweeper.ledger import faults, tables
from sweeper.sandbox.manners import Manner
from sweeper.sandbox.shapes import CANARY_CONTENT
from tests.support import command, terminal, truth
from tests.support.command import Run
from tests.support.logged import logged, of_event
from tests.support.rehearsal import KEY, YOUNG, Rehearsal

SUMMARY = {
    "type", "sweep_id", "dry_run", "due", "planned", "outcomes", "verified", "held", "remaining",
    "remaining_by_reason", "unread_spool_files", "complete", "stop_reason", "stops",
    "started_at", "finished_at",
}  # fmt: skip


def test_what_is_due_is_deleted_and_verified_and_nothing_else(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(5)
    rehearsal.responses(3, age=YOUNG)
    rehearsal.responses(2, labels={"app": "contracts"})
    rehearsal.responses(2, labels={"app": "nobody's"})
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 0
    (summary,) = result.lines
    assert set(summary) == SUMMARY
    assert {
        name: summary[name] for name in SUMMARY - {"sweep_id", "started_at", "finished_at"}
    } == {
        "type": "summary",
        "dry_run": False,
        "unread_spool_files": 0,
        "due": 5,
        "planned": 5,
        "outcomes": {"deleted": 5},
        "verified": 5,
        "held": 0,
        "remaining": 0,
        "remaining_by_reason": {},
        "complete": True,
        "stop_reason": None,
        "stops": [],
    }
    assert summary["started_at"] <= summary["finished_at"]
    assert truth.violations(rehearsal) == []
    assert truth.unsettled(rehearsal) == []


def test_every_log_line_is_json_and_tells_the_numbers_of_the_summary(
    run: Run, rehearsal: Rehearsal
) -> None:
    ids = rehearsal.responses(4)
    rehearsal.fault(method="DELETE", id=ids[0], status=422, body=b'{"error": {}}')
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 3
    lines = logged(result.err)
    settled = of_event(lines, "response_settled")
    assert Counter(line["outcome"] for line in settled) == {"deleted": 3, "rejected": 1}
    assert {line["response_id"] for line in settled} == set(ids)
    told = Counter((line["outcome"], line["verified"], line["status"]) for line in settled)
    assert told == {("deleted", True, 200): 3, ("rejected", False, 422): 1}
    (finished,) = of_event(lines, "sweep_finished")
    numbers = {key: value for key, value in result.last.items() if key != "type"}
    assert {key: finished[key] for key in numbers} == numbers
    assert result.last["remaining_by_reason"] == {"quarantined": 1}


def test_logs_name_no_response_when_they_are_told_not_to(run: Run, rehearsal: Rehearsal) -> None:
    ids = rehearsal.responses(3)
    rehearsal.write(response_ids="false")
    result = run("-c", rehearsal.config, "sweep")
    assert len(of_event(logged(result.err), "response_settled")) == 3
    assert not any(each in result.err + result.out for each in ids)


def test_no_key_and_no_content_appears_anywhere(rehearsal: Rehearsal) -> None:
    ids = rehearsal.responses(6)
    rehearsal.fault(method="DELETE", id=ids[0], status=500, body=CANARY_CONTENT.encode())
    rehearsal.fault(method="DELETE", id=ids[1], do=Manner.LIE)
    result = command.process("-v", "-c", rehearsal.config, "sweep", "--json")
    assert result.code == 3
    assert result.last["outcomes"] == {"deleted": 4, "failing": 1, "still_present": 1}
    written = [result.out.encode(), result.err.encode()]
    written += [path.read_bytes() for path in rehearsal.folder.glob("ledger.db*")]
    everything = b"".join(written)
    for secret in (KEY, CANARY_CONTENT):
        forms = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
        forms |= {base64.b64encode(b"\0" * n + secret.encode()).decode()[4:-4] for n in range(3)}
        assert [form for form in forms if form.encode() in everything] == []


def test_people_read_what_was_done_and_what_is_left(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    result = run("-c", rehearsal.config, "sweep", "--max", "2")
    assert result.code == 3
    assert result.out.splitlines() == [
        "2 of 3 due were planned: 2 deleted",
        "verified as gone: 2 of 2 deleted",
        "still due: 1 (1 beyond --max 2)",
        "not complete; see: sweeper status",
    ]
    assert run("-c", rehearsal.config, "sweep").out.splitlines()[-1] == "complete"
    assert run("-c", rehearsal.config, "sweep").out == "Nothing is due.\ncomplete\n"


def test_without_verification_the_providers_word_is_enough(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.write(verify="none")
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert (result.code, result.last["outcomes"], result.last["verified"]) == (0, {"deleted": 3}, 0)
    assert truth.violations(rehearsal) == []


def test_only_what_one_policy_decides_is_swept_when_it_is_named(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    assert run("-c", rehearsal.config, "sweep", "--policy", "contracts", "--json").last["due"] == 0
    result = run("-c", rehearsal.config, "sweep", "--policy", "support", "--json")
    assert result.last["outcomes"] == {"deleted": 2}
    unknown = run("-c", rehearsal.config, "sweep", "--policy", "nope", "--json")
    assert (unknown.code, unknown.error["error"]) == (2, "usage")
    assert unknown.error["hint"] == "configured are: support, contracts"


def test_a_dry_run_sends_nothing_and_claims_nothing(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.key_file.unlink()
    result = run("-c", rehearsal.config, "sweep", "-n", "--json")
    assert result.code == 0
    summary = result.last
    assert (summary["type"], summary["dry_run"], summary["planned"]) == ("summary", True, 3)
    assert (summary["outcomes"], summary["remaining"], summary["complete"]) == ({}, 3, False)
    assert rehearsal.requests() == 0
    assert rehearsal.rows(tables.attempts) == rehearsal.rows(tables.sweeps) == []
    assert {row["state"] for row in rehearsal.rows()} == {"live"}
    words = run("-c", rehearsal.config, "sweep", "--dry-run").out
    assert words == "dry run: 3 of 3 due would be deleted\n"


@pytest.mark.parametrize("how", [(), ("--dry-run",)])
def test_a_guard_refuses_before_any_call(
    run: Run, rehearsal: Rehearsal, how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(3)
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_DELETIONS_PER_SWEEP", "2")
    result = run("-c", rehearsal.config, "sweep", *how, "--json")
    assert result.code == 14
    assert (result.last["type"], result.last["stop_reason"]) == ("summary", "guard")
    assert result.last["remaining"] == 3
    assert rehearsal.requests() == 0
    words = run("-c", rehearsal.config, "sweep", *how).out
    assert 'Refused for account "main": 3 deletions are planned' in words
    assert "max_deletions_per_sweep allows 2" in words
    assert "next: if that is meant, sweep a part: sweeper sweep --max N (at most 2 now)" in words
    assert ("3 of 3 due were planned: none settled" in words) == (how == ())
    assert ("dry run: a guard refuses 3 of 3 due" in words) == (how != ())
    assert "would be deleted" not in words
    bounded = run("-c", rehearsal.config, "sweep", "--max", "2", "--json")
    assert (bounded.code, bounded.last["outcomes"]) == (3, {"deleted": 2})


def test_a_guard_of_zero_leaves_no_part_to_sweep(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(3)
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_SHARE_PER_SWEEP", "0")
    words = run("-c", rehearsal.config, "sweep").out.splitlines()
    assert "next: if that is meant, widen guards.max_share_per_sweep" in words


def test_a_large_backlog_is_swept_as_the_readme_says(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(250)
    rehearsal.responses(150, age=YOUNG)
    rehearsal.write(share=0.25, in_flight=32)
    refused = run("-c", rehearsal.config, "sweep", "--max", "110")
    assert refused.code == 14
    assert "(at most 100 now), or widen guards.max_share_per_sweep" in refused.out
    assert run("-c", rehearsal.config, "sweep", "--max", "10").code == 3
    assert run("-c", rehearsal.config, "sweep", "--max", "99", "--json").code == 3
    assert run("-c", rehearsal.config, "sweep").code == 14
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_SHARE_PER_SWEEP", "1.0")
    done = run("-c", rehearsal.config, "sweep", "--json")
    assert (done.code, done.last["outcomes"]) == (0, {"deleted": 141})


def test_what_the_day_allows_is_named_as_the_bound(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(3)
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_DELETIONS_PER_DAY", "1")
    assert "(2 beyond guards.max_deletions_per_day)" in run("-c", rehearsal.config, "sweep").out


def test_what_an_earlier_sweep_began_is_told_apart(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.fault(method="GET", path="/v1/responses/", after=1, status=503)
    run("-c", rehearsal.config, "sweep", "--max", "2")
    rehearsal.mend()
    rehearsal.pass_time()
    words = run("-c", rehearsal.config, "sweep").out.splitlines()
    assert words[0] == "1 of 1 due were planned: 3 deleted (2 of them begun by earlier sweeps)"


def test_a_wrong_key_stops_the_account_and_says_what_to_do(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.use_key("fw_wrong_one")
    result = run("-c", rehearsal.config, "sweep")
    assert result.code == 12
    assert "Account main is stopped (credential): the provider answered 40" in result.out
    assert "3 responses kept past their time there, the oldest since" in result.out
    assert "sweeper account check main" in result.out
    assert result.out.endswith("not complete: account main was stopped (credential)\n")
    assert rehearsal.requests("DELETE") == 0
    told = run("-c", rehearsal.config, "sweep", "--json")
    assert (told.code, told.last["stop_reason"]) == (12, "account:main:credential")
    rehearsal.use_key(KEY)
    assert run("-c", rehearsal.config, "sweep", "--json").last["complete"] is True


def test_a_provider_that_cannot_be_reached_stops_the_account_until_it_answers(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    rehearsal.write(base_url="http://127.0.0.1:1/inference")
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert (result.code, result.last["stop_reason"]) == (12, "account:main:unreachable")
    assert result.last["remaining_by_reason"] == {"stopped": 2}
    assert "every sweep asks once" in run("-c", rehearsal.config, "sweep").out
    status = run("-c", rehearsal.config, "status", "--json")
    assert (status.code, status.last["stopped"][0]["breaker"]) == (3, "unreachable")
    rehearsal.write(base_url=rehearsal.sandbox.base_url)
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert run("-c", rehearsal.config, "status").code == 0


def test_what_was_not_found_too_often_is_named_for_a_second_look(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(1)
    gone = rehearsal.responses(7)
    rehearsal.sandbox.call(
        lambda one: [one.store.delete(one.account, each, now=one.clock.now()) for each in gone]
    )
    rehearsal.write(in_flight=1)
    result = run("-c", rehearsal.config, "sweep")
    assert result.code == 12
    assert "Account main is stopped (not found)" in result.out
    assert "sweeper account reset main --expect-absent N" in result.out


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_key_that_cannot_be_read_is_a_fault_of_the_configuration(
    run: Run, rehearsal: Rehearsal, as_json: tuple[str, ...]
) -> None:
    rehearsal.key_file.unlink()
    result = run("-c", rehearsal.config, "sweep", *as_json)
    assert (result.code, result.out) == (10, "")
    assert "accounts.main: the API key in file" in result.err
    if as_json:
        assert result.error["error"] == "secret"


def test_one_key_that_cannot_be_read_stops_its_account_and_no_other(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    rehearsal.responses(1, account="other", stored=False)
    rehearsal.write('[accounts.other]\nprovider = "openai"\napi_key_file = "/no/such/key"\n')
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert result.code == 12, result.err
    assert result.last["stop_reason"] == "account:other:credential"
    assert result.last["outcomes"] == {"deleted": 2}
    assert result.last["remaining_by_reason"] == {"stopped": 1}
    (opened,) = of_event(logged(result.err), "breaker_opened")
    assert "/no/such/key" in opened["detail"]
    assert opened["kept_past_its_time"] == 1


def test_keys_of_several_accounts_that_cannot_be_read_are_told_at_once(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.key_file.unlink()
    rehearsal.write('[accounts.second]\nprovider = "openai"\napi_key_env = "NOT_SET_ANYWHERE"\n')
    told = run("-c", rehearsal.config, "sweep", "--json").error
    assert (told["exit_code"], told["message"]) == (10, "2 API keys cannot be used")
    assert [fault.partition(":")[0] for fault in told["faults"]] == [
        "accounts.main",
        "accounts.second",
    ]


@pytest.mark.parametrize(
    "change, hint",
    [
        ("UPDATE alembic_version SET version_num = '9999'", "install the sweeper"),
        ("DELETE FROM alembic_version", faults.NO_LEDGER),
    ],
    ids=["ahead", "behind"],
)
def test_a_schema_that_is_another_ends_with_13_and_the_command_to_run(
    run: Run, rehearsal: Rehearsal, change: str, hint: str
) -> None:
    connection = sqlite3.connect(rehearsal.folder / "ledger.db")
    connection.execute(change)
    connection.commit()
    connection.close()
    result = run("-c", rehearsal.config, "sweep", "--json")
    assert (result.code, result.out, result.error["error"]) == (13, "", "schema")
    assert result.error["hint"].startswith(hint)


def test_a_ledger_that_is_gone_is_missed_and_not_begun_anew(run: Run, rehearsal: Rehearsal) -> None:
    """Its disk is not mounted, or somebody moved it: an empty one would say that nothing is due."""
    rehearsal.responses(20)
    ledger, away = rehearsal.folder / "ledger.db", rehearsal.folder / "elsewhere.db"
    ledger.rename(away)
    for verb in (("sweep", "--json"), ("status", "--json")):
        told = command.process("-c", rehearsal.config, *verb)
        assert (told.code, told.out, told.error["error"]) == (1, "", "ledger")
        assert told.error["message"] == f"there is no ledger at {ledger}"
        assert told.error["hint"] == (
            "is its disk mounted, and is ledger.url right?"
            " only for a new installation: sweeper db upgrade"
        )
        assert not ledger.exists()
    away.rename(ledger)
    assert run("-c", rehearsal.config, "status", "--json").last["late"][0]["responses"] == 20
    assert run("-c", rehearsal.config, "sweep", "--json").last["outcomes"] == {"deleted": 20}


def test_a_second_sweep_at_the_same_time_ends_at_once_with_11(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.url = database_url
    rehearsal.write()
    rehearsal.responses(8)
    rehearsal.fault(method="DELETE", delay=1.5, times=1)
    first = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(1)
    second = run("-c", rehearsal.config, "sweep", "--json")
    assert (second.code, second.out, second.error["error"]) == (11, "", "ledger_busy")
    assert "another sweeper is at work" in second.error["message"]
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["outcomes"] == {"deleted": 8}
    assert truth.violations(rehearsal) == []


def test_a_ledger_that_fails_in_the_middle_ends_with_the_summary_and_the_error(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.responses(100)
    rehearsal.fault(method="DELETE", delay=0.2)
    child = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(1)
    connection = sqlite3.connect(rehearsal.folder / "ledger.db", timeout=30)
    connection.execute("ALTER TABLE records RENAME TO hidden")
    connection.commit()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 1
    summary = json.loads(out.splitlines()[-1])
    assert (summary["type"], summary["stop_reason"]) == ("summary", "ledger")
    assert (summary["remaining"], summary["complete"]) == (None, False)
    last = json.loads(err.splitlines()[-1])
    assert (last["type"], last["error"]) == ("error", "ledger")
    assert rehearsal.requests("DELETE") < 50
    connection.execute("ALTER TABLE hidden RENAME TO records")
    connection.commit()
    connection.close()
    rehearsal.mend()
    done = command.process("-c", rehearsal.config, "sweep", "--json")
    assert done.code == 0, done.err
    assert truth.violations(rehearsal) == []
    assert truth.unsettled(rehearsal) == []


def test_what_cannot_be_determined_is_said_to_people_too(
    rehearsal: Rehearsal, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(4)
    connection = sqlite3.connect(rehearsal.folder / "ledger.db")
    connection.execute(
        "CREATE TRIGGER full BEFORE UPDATE OF outcome ON responses WHEN NEW.outcome IS NOT NULL"
        " BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
    )
    connection.commit()
    connection.close()
    result = run("-c", rehearsal.config, "sweep")
    assert result.code == 1
    assert "what is left could not be determined" in result.out
    assert result.out.endswith("not complete: the ledger could not be read or written\n")
    assert result.err.splitlines()[-2].startswith("error: ")


def test_a_clock_that_is_wrong_deletes_nothing(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.sandbox.call(lambda one: one.clock.advance(600))
    result = run("-c", rehearsal.config, "sweep")
    assert result.code == 3
    assert result.out.endswith("not complete: the clock could not be trusted\n")
    assert rehearsal.requests("DELETE") == 0


def test_on_a_terminal_a_bar_shows_the_progress_and_none_of_it_is_a_result(
    rehearsal: Rehearsal,
) -> None:
    rehearsal.responses(6)
    rehearsal.fault(method="DELETE", delay=0.1)
    result, shown = terminal.run("-c", rehearsal.config, "sweep")
    assert result.code == 0, shown
    assert "deleting" in shown
    assert "6/6" in shown
    assert "response_settled" not in shown
    assert result.out.splitlines()[-1] == "complete"
    assert "\x1b" not in result.out
