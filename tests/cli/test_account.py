"""What stops an account can be looked at and lifted, by whoever may, and with a reason."""

import json
import os
import pwd
import re
from datetime import timedelta

import pytest

from sweeper.ledger import leases, tables
from tests.support import command, truth
from tests.support.command import Run
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal

LISTED = {
    "type", "account", "configured", "provider", "base_url", "provider_account_id",
    "key_fingerprint", "stopped", "kept", "oldest_seconds", "expect_absent", "last_control",
    "last_control_at",
}  # fmt: skip
CHECKED = {
    "type", "account", "result", "provider_account_id", "key_fingerprint", "reads_by_id",
    "clock_off_seconds", "clock_doubt", "stopped", "detail", "waits_for_reset", "kept",
    "oldest_seconds",
}  # fmt: skip


def forget(rehearsal: Rehearsal, ids: list[str]) -> None:
    """Let somebody else delete these at the sandbox."""
    rehearsal.sandbox.call(
        lambda one: [one.store.delete(one.account, each, now=one.clock.now()) for each in ids]
    )


def decided(rehearsal: Rehearsal) -> list[str]:
    """The types of the records that a person's decision has written, each naming the person."""
    bodies = [json.loads(row["body"]) for row in rehearsal.rows(tables.records)]
    told = [body for body in bodies if "reason_sha256" in body]
    assert [body for body in bodies if "actor" in body] == told
    mine = {"user": pwd.getpwuid(os.getuid()).pw_name, "sudo_user": None}
    assert all(body["actor"] == mine for body in told)
    return [body["type"] for body in told]


def test_every_account_is_listed_configured_or_known(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(1)
    rehearsal.responses(1, account="elsewhere", stored=False)
    run("-c", rehearsal.config, "sweep")
    result = run("-c", rehearsal.config, "account", "list", "--json")
    *accounts, summary = result.lines
    assert (result.code, summary) == (0, {"type": "summary", "accounts": 2})
    assert all(set(each) == LISTED for each in accounts)
    elsewhere, main = accounts
    assert (main["configured"], main["provider_account_id"]) == (True, "acme")
    assert (main["last_control"], main["stopped"]) == ("passed", [])
    assert (elsewhere["configured"], elsewhere["provider"]) == (False, None)
    lines = run("-c", rehearsal.config, "account", "list").out.splitlines()
    assert lines[0].split()[:2] == ["ACCOUNT", "PROVIDER"]
    assert lines[1].split()[:3] == ["elsewhere", "not", "configured"]
    assert lines[2].split()[:3] == ["main", "fireworks", "acme"]


def test_a_check_says_whose_account_it_is_and_sends_no_delete(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    run("-c", rehearsal.config, "plan")
    result = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (result.code, result.err) == (0, "")
    (told,) = result.lines
    assert set(told) == CHECKED
    assert (told["result"], told["provider_account_id"], told["reads_by_id"]) == (
        "passed",
        "acme",
        True,
    )
    assert abs(told["clock_off_seconds"]) < 60
    assert (told["stopped"], told["detail"], told["waits_for_reset"]) == (None, None, [])
    assert rehearsal.requests("DELETE") == 0
    words = run("-c", rehearsal.config, "account", "check", "main").out
    lines = [line.split(maxsplit=1) for line in words.splitlines()]
    assert ["result", "passed"] in lines
    assert "reads by id        yes" in words
    assert "pinned to          acme" in words


def test_a_check_by_a_wrong_clock_says_that_nothing_is_deleted(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2)
    sound = run("-c", rehearsal.config, "account", "check", "main", "--json").last
    assert sound["clock_doubt"] is None
    rehearsal.sandbox.call(lambda one: one.clock.advance(3600))
    result = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (result.code, result.last["result"], result.last["stopped"]) == (3, "passed", None)
    assert re.fullmatch(
        r"The wall clock is 3[56]\d\d s behind the provider's Date\.", result.last["clock_doubt"]
    )
    words = run("-c", rehearsal.config, "account", "check", "main").out.splitlines()
    assert words[-1] == "next: mend the time service; until then nothing is deleted"
    assert run("-c", rehearsal.config, "sweep").code == 3
    assert rehearsal.requests("DELETE") == 0
    rehearsal.use_key("fw_wrong_one")
    stopped = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (stopped.code, stopped.last["stopped"]) == (12, "credential")
    assert stopped.last["clock_doubt"] is not None


def test_a_check_without_a_date_says_what_helps(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.fault(headers=(("Date", None),))
    result = run("-c", rehearsal.config, "account", "check", "main")
    assert result.code == 3
    assert result.out.splitlines()[-1].endswith("kept right: [guards] trust_local_clock = true")
    text = rehearsal.config.read_text().replace("[guards]", "[guards]\ntrust_local_clock = true")
    rehearsal.config.write_text(text)
    assert run("-c", rehearsal.config, "account", "check", "main").code == 0


def test_a_wrong_key_stops_and_a_good_control_lifts(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2)
    rehearsal.use_key("fw_wrong_one")
    assert run("-c", rehearsal.config, "sweep").code == 12
    result = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (result.code, result.last["stopped"]) == (12, "credential")
    assert result.last["waits_for_reset"] == []
    words = run("-c", rehearsal.config, "account", "check", "main").out.splitlines()
    assert words[-1].startswith("next: put a key that is valid where accounts.main says")
    listed = run("-c", rehearsal.config, "account", "list").out
    kept = r"; 2 responses kept past their time there, the oldest by 6 d( [0-9]+ s)?"
    assert re.search(rf"  credential since 20\d\d-.*Z{kept}  credential 20\d\d-.*Z\n", listed)
    rehearsal.use_key(KEY)
    lifted = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (lifted.code, lifted.last["result"]) == (0, "passed")
    assert rehearsal.rows(tables.breakers) == []
    types = [row["type"] for row in rehearsal.rows(tables.records)]
    assert types.count("breaker.opened") == types.count("breaker.closed") == 1


def test_another_accounts_key_is_refused_until_a_person_accepts_it(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(3)
    run("-c", rehearsal.config, "sweep", "--max", "1")
    rehearsal.use_key(OTHER_KEY)
    stopped = run("-c", rehearsal.config, "sweep", "--json")
    assert (stopped.code, stopped.last["stop_reason"]) == (12, "account:main:identity")
    assert rehearsal.requests("DELETE") == 1
    assert run("-c", rehearsal.config, "account", "check", "main").code == 12
    unreset = run("-c", rehearsal.config, "account", "reset", "main", "--reason", "r", "--json")
    assert (unreset.code, unreset.out, unreset.error["error"]) == (12, "", "account_stopped")
    assert "the key belongs to account 'other', not 'acme'" in unreset.error["message"]
    accepted = run(
        "-c", rehearsal.config, "account", "accept", "main", "--reason", "moved", "--json"
    )
    assert (accepted.code, set(accepted.last)) == (0, CHECKED)
    assert accepted.last["provider_account_id"] == "other"
    assert rehearsal.rows(tables.breakers) == []
    assert [row["text"] for row in rehearsal.rows(tables.reasons)] == ["moved"] * 2
    assert decided(rehearsal) == ["account.pinned", "breaker.closed"]
    assert run("-c", rehearsal.config, "account", "check", "main").code == 0


def test_another_base_url_is_told_without_asking_anybody(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(1)
    run("-c", rehearsal.config, "sweep")
    before = rehearsal.requests()
    rehearsal.write(base_url=rehearsal.sandbox.origin + "/elsewhere")
    result = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (result.code, result.last["result"]) == (12, "identity")
    assert "is not the one pinned" in result.last["detail"]
    assert rehearsal.requests() == before


def test_an_account_that_another_name_stands_for_is_not_accepted(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(1)
    run("-c", rehearsal.config, "sweep")
    again = rehearsal.config.read_text().replace("[accounts.main]", "[accounts.twin]")
    rehearsal.config.write_text(again)
    result = run("-c", rehearsal.config, "account", "accept", "twin", "--reason", "r", "--json")
    assert (result.code, result.error["error"]) == (10, "configuration")
    assert "already known to the ledger as 'main'" in result.error["message"]


def test_too_much_that_was_not_found_waits_for_a_reset_with_a_number(
    run: Run, rehearsal: Rehearsal
) -> None:
    kept = rehearsal.responses(1)
    run("-c", rehearsal.config, "sweep")
    gone = rehearsal.responses(9)
    forget(rehearsal, gone)
    rehearsal.write(in_flight=1)
    stopped = run("-c", rehearsal.config, "sweep", "--json")
    assert (stopped.code, stopped.last["stop_reason"]) == (12, "account:main:not_found")
    checked = run("-c", rehearsal.config, "account", "check", "main", "--json")
    assert (checked.code, checked.last["result"]) == (12, "passed")
    assert checked.last["waits_for_reset"] == ["not_found"]
    words = run("-c", rehearsal.config, "account", "check", "main").out.splitlines()
    assert "sweeper account reset main --expect-absent N" in words[-1]
    assert run("-c", rehearsal.config, "sweep").code == 12
    reset = run(
        "-c", rehearsal.config,
        *("account", "reset", "main", "--expect-absent", "9", "--reason", "old job", "--json"),
    )  # fmt: skip
    assert (reset.code, set(reset.last)) == (0, CHECKED | {"lifted"})
    assert (reset.last["lifted"], reset.last["waits_for_reset"]) == (["not_found"], [])
    assert decided(rehearsal) == ["breaker.closed"]
    rehearsal.pass_time()
    done = run("-c", rehearsal.config, "sweep", "--json")
    assert done.code == 0, done.err
    # The key has seen a response of the same labels, so that these 404s settle.
    assert done.last["outcomes"] == {"already_absent": done.last["planned"]}
    outcomes = {row["response_id"]: row["outcome"] for row in rehearsal.rows()}
    assert outcomes == dict.fromkeys(gone, "already_absent") | dict.fromkeys(kept, "deleted")
    assert truth.violations(rehearsal) == []


def test_what_a_person_still_expects_to_be_missing_is_told_until_it_is_ended(
    run: Run, rehearsal: Rehearsal
) -> None:
    """It lets a wrong key look right for so many responses: nobody may forget it."""
    reset = ("-c", rehearsal.config, "account", "reset", "main", "--reason", "r")
    assert run(*reset, "--expect-absent", "955").code == 0
    told = run("-c", rehearsal.config, "account", "list").out
    assert "main: 955 more may be missing" in told
    assert run("-c", rehearsal.config, "account", "list", "--json").lines[0]["expect_absent"] == 955
    assert run(*reset).code == 0
    assert "may be missing" not in run("-c", rehearsal.config, "account", "list").out


def test_a_reset_of_what_is_not_stopped_lifts_nothing(run: Run, rehearsal: Rehearsal) -> None:
    result = run("-c", rehearsal.config, "account", "reset", "main", "--reason", "r")
    assert result.code == 0
    assert "lifted             -" in result.out


@pytest.mark.parametrize("verb", ["check", "reset", "accept"])
def test_an_account_that_is_not_configured_is_refused_by_name(
    run: Run, rehearsal: Rehearsal, verb: str
) -> None:
    more = () if verb == "check" else ("--reason", "r")
    result = run("-c", rehearsal.config, "account", verb, "nope", *more, "--json")
    assert (result.code, result.out) == (2, "")
    assert (result.error["message"], result.error["hint"]) == (
        "no account 'nope' is configured",
        "configured are: main",
    )


@pytest.mark.parametrize("verb", ["reset", "accept"])
def test_a_decision_needs_a_reason(run: Run, rehearsal: Rehearsal, verb: str) -> None:
    result = run("-c", rehearsal.config, "account", verb, "main")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: Missing option '--reason'.")
    blank = run("-c", rehearsal.config, "account", verb, "main", "--reason", " \t", "--json")
    assert (blank.code, blank.error["error"]) == (2, "usage")
    assert "say why" in blank.error["message"]
    assert rehearsal.requests() == 0


def test_an_account_that_never_passed_is_not_said_to_be_the_pinned_one(
    run: Run, rehearsal: Rehearsal
) -> None:
    run("-c", rehearsal.config, "account", "check", "main")
    rehearsal.use_key("fw_wrong_one")
    words = run("-c", rehearsal.config, "account", "check", "main").out
    assert "pinned to          acme" in words
    assert "account id" not in words


def test_nobody_is_accepted_who_cannot_be_reached(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.write(base_url="http://127.0.0.1:1/inference")
    result = run("-c", rehearsal.config, "account", "accept", "main", "--reason", "r", "--json")
    assert (result.code, result.error["error"]) == (12, "account_stopped")
    assert "account main cannot be accepted" in result.error["message"]
    assert rehearsal.rows(tables.accounts)[0]["identity"] is None


@pytest.mark.parametrize("verb", ["reset", "accept"])
def test_nothing_is_decided_while_a_sweep_runs(run: Run, rehearsal: Rehearsal, verb: str) -> None:
    rehearsal.responses(3)
    rehearsal.fault(method="DELETE", delay=1.5, times=1)
    sweep = command.start("-c", rehearsal.config, "sweep", "--json")
    rehearsal.wait_for_deletes(1)
    result = run("-c", rehearsal.config, "account", verb, "main", "--reason", "r", "--json")
    assert (result.code, result.out, result.error["error"]) == (11, "", "ledger_busy")
    checked = run("-c", rehearsal.config, "account", "check", "main")
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, err
    assert json.loads(out)["outcomes"] == {"deleted": 3}
    assert checked.code == 0


def test_on_postgresql_the_accounts_lease_decides(
    run: Run, rehearsal: Rehearsal, postgresql_url: str
) -> None:
    rehearsal.url = postgresql_url
    rehearsal.write()
    accept = ("-c", rehearsal.config, "account", "accept", "main", "--reason", "r", "--json")
    with rehearsal.database() as db:
        with db.write() as connection:
            lease = leases.acquire(connection, "main")
        assert run(*accept).code == 11
        assert rehearsal.requests() == 0
        with db.write() as connection:
            leases.release(connection, lease)
    assert run(*accept).code == 0
    assert run("-c", rehearsal.config, "account", "reset", "main", "--reason", "r").code == 0
    rehearsal.responses(1, age=timedelta(days=20))
    assert run("-c", rehearsal.config, "sweep").code == 0


def test_an_openai_account_is_known_by_its_key(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.write(provider="openai")
    check = ("-c", rehearsal.config, "account", "check", "main", "--json")
    assert run(*check).last["result"] == "no_sight"
    rehearsal.responses(1)
    run("-c", rehearsal.config, "plan")
    seen = run(*check).last
    assert (seen["result"], seen["provider_account_id"]) == ("passed", None)
    rehearsal.use_key(OTHER_KEY)
    other = run(*check)
    assert (other.code, other.last["stopped"]) == (12, "identity")
    assert "the API key is another one" in other.last["detail"]
    assert run("-c", rehearsal.config, "account", "accept", "main", "--reason", "new").code == 0
    assert run(*check).code == 0
