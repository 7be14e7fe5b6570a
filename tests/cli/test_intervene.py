"""People decide about single responses from the command line, and are told what it means."""

import json
import os
import pwd
from datetime import UTC, datetime, timedelta

import pytest

from sweeper.ledger import tables
from tests.support import command, truth
from tests.support.command import Run
from tests.support.rehearsal import DUE, YOUNG, Rehearsal

FIELDS = {
    "type", "decision", "response_id", "account", "created_at", "labels", "subject",
    "previous_response_id", "state", "quarantine_reason", "next", "outcome", "verified",
    "attempts", "policy", "due_at", "deadline_at", "finished_at", "closed_by", "closed_because",
    "due_before", "record",
}  # fmt: skip


@pytest.fixture(autouse=True)
def either(rehearsal: Rehearsal, database_url: str) -> None:
    """A ledger of each kind."""
    rehearsal.url = database_url
    rehearsal.write()


def refused(run: Run, rehearsal: Rehearsal) -> str:
    """A response that is due and that the provider has refused."""
    (name,) = rehearsal.responses(1)
    rehearsal.fault(method="DELETE", id=name, status=422, times=1)
    assert run("-c", rehearsal.config, "sweep").code == 3
    return name


def disputed(run: Run, rehearsal: Rehearsal, age: timedelta = DUE) -> str:
    """A response that was registered twice, differently."""
    (name,) = rehearsal.responses(1, age=age)
    rehearsal.register({name: datetime.now(UTC) - timedelta(days=5)})
    run("-c", rehearsal.config, "plan")
    return name


def test_what_was_refused_is_deleted_after_a_retry(run: Run, rehearsal: Rehearsal) -> None:
    name = refused(run, rehearsal)
    assert run("-c", rehearsal.config, "sweep").code == 3
    assert rehearsal.requests("DELETE") == 1
    told = run("-c", rehearsal.config, "responses", "retry", name, "--reason", "mended", "--json")
    assert (told.code, told.err) == (0, "")
    (said,) = told.lines
    assert set(said) == FIELDS
    assert (said["type"], said["decision"], said["state"]) == ("decision", "retried", "live")
    assert (said["quarantine_reason"], said["next"]) == (None, None)
    assert said["due_before"] == said["due_at"]
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert rehearsal.rows()[0]["outcome"] == "deleted"
    assert truth.violations(rehearsal) == []


def test_what_is_corrected_is_kept_and_told_so(run: Run, rehearsal: Rehearsal) -> None:
    name = disputed(run, rehearsal)
    said = run(
        *("-c", rehearsal.config, "responses", "correct", name),
        *("--label", "app=contracts", "--label", "env=prod", "--subject", "u-1"),
        *("--reason", "the export mixed them up", "--json"),
    ).last
    assert (said["decision"], said["state"]) == ("corrected", "live")
    assert said["labels"] == {"app": "contracts", "env": "prod"}
    assert (said["subject"], said["policy"], said["due_at"]) == ("u-1", "contracts", None)
    assert said["due_before"] is not None
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert rehearsal.requests("DELETE") == 0


def test_what_is_corrected_to_be_due_is_deleted(run: Run, rehearsal: Rehearsal) -> None:
    name = disputed(run, rehearsal)
    result = run("-c", rehearsal.config, "responses", "correct", name, "--reason", "first is right")
    assert result.code == 0
    assert f"{name} (main) is corrected: due at " in result.out
    assert 'by policy "support"' in result.out
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert rehearsal.requests("DELETE") == 1


def test_what_no_policy_deletes_is_told_so(run: Run, rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1)
    result = run(
        *("-c", rehearsal.config, "responses", "correct", name),
        *("--label", "app=contracts", "--reason", "a contract"),
    )
    assert result.out == f"{name} (main) is corrected: no policy deletes it.\n"


def test_nothing_is_due_earlier_unless_that_is_meant(run: Run, rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1, age=YOUNG)
    given = ("-c", rehearsal.config, "responses", "correct", name, "--reason", "typed wrongly")
    earlier = ("--created-at", str(int((datetime.now(UTC) - DUE).timestamp())))
    result = run(*given, *earlier, "--json")
    assert (result.code, result.out) == (1, "")
    assert result.error["error"] == "decision_refused"
    assert "and was due at" in result.error["message"]
    assert result.error["hint"] == "if that is meant, add --earlier"
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert rehearsal.requests("DELETE") == 0
    result = run(*given, *earlier, "--earlier")
    assert result.code == 0
    assert "; before, it was due at 2" in result.out
    rehearsal.due.add(name)
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert rehearsal.requests("DELETE") == 1
    assert truth.violations(rehearsal) == []


def test_what_was_never_due_and_now_is_says_so(run: Run, rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1, labels={"app": "contracts"})
    result = run(
        *("-c", rehearsal.config, "responses", "correct", name, "--label", "app=support"),
        *("--reason", "no contract", "--earlier"),
    )
    assert result.code == 0
    assert result.out.endswith(' by policy "support"; it was never due before.\n')


def test_what_is_closed_is_not_deleted_and_says_so(run: Run, rehearsal: Rehearsal) -> None:
    name = refused(run, rehearsal)
    result = run("-c", rehearsal.config, "responses", "close", name, "--reason", "kept on purpose")
    assert result.code == 0
    assert result.out == (
        f"{name} (main) is closed: nothing more is sent for it, and that it is deleted is not"
        " proved; a DELETE was sent before.\n"
    )
    assert run("-c", rehearsal.config, "sweep").code == 0
    assert name in rehearsal.stored()
    assert rehearsal.requests("DELETE") == 1
    shown = run("-c", rehearsal.config, "responses", "show", name, "--json").last
    assert (shown["state"], shown["outcome"], shown["verified"]) == ("gone", "closed", False)
    explained = run("-c", rehearsal.config, "explain", name).out
    assert "Closed since 20" in explained
    assert "by policy" not in explained
    assert truth.violations(rehearsal) == []
    again = run("-c", rehearsal.config, "responses", "close", name, "--reason", "x", "--json")
    assert (again.code, again.error["error"]) == (1, "decision_refused")


def test_the_record_names_the_user_and_hides_the_reason(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    name = refused(run, rehearsal)
    said = run(
        *("-c", rehearsal.config, "responses", "close", name, "--reason", "böse Zeichen", "--json")
    ).last
    row = rehearsal.rows(tables.records)[said["record"]]
    told = json.loads(row["body"])
    assert told["actor"] == {"user": pwd.getpwuid(os.getuid()).pw_name, "sudo_user": "alice"}
    assert "Zeichen" not in row["body"]
    assert name not in row["body"]
    (reason,) = rehearsal.rows(tables.reasons)
    assert (reason["seq"], reason["text"]) == (said["record"], "böse Zeichen")


@pytest.mark.parametrize("verb", ["retry", "correct", "close"])
@pytest.mark.parametrize("reason", [(), ("--reason", " \t")])
def test_a_reason_is_asked_for(
    run: Run, rehearsal: Rehearsal, verb: str, reason: tuple[str, ...]
) -> None:
    (name,) = rehearsal.responses(1)
    result = run("-c", rehearsal.config, "responses", verb, name, *reason)
    assert (result.code, result.out) == (2, "")
    assert "--reason" in result.err


@pytest.mark.parametrize("verb", ["retry", "correct", "close"])
def test_an_unknown_response_or_account_is_told(run: Run, rehearsal: Rehearsal, verb: str) -> None:
    given = ("-c", rehearsal.config, "responses", verb, "resp_none", "--reason", "x", "--json")
    result = run(*given)
    assert (result.code, result.error["error"]) == (1, "unknown_response")
    result = run(*given, "--account", "nobody")
    assert (result.code, result.error["error"]) == (2, "unknown_account")


def test_the_account_decides_between_two_of_one_id(run: Run, rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1, age=YOUNG)
    rehearsal.register({name: datetime.now(UTC) - YOUNG}, account="other")
    given = ("-c", rehearsal.config, "responses", "close", name, "--reason", "x")
    assert run(*given).code == 2
    assert run(*given, "--account", "other").code == 0
    states = {row["account_id"]: row["state"] for row in rehearsal.rows()}
    assert sorted(states.values()) == ["gone", "live"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("--created-at", "1763769600000"), "not in milliseconds"),
        (("--created-at", "yesterday"), "RFC 3339"),
        (("--subject", ""), "bad_subject"),
        (("--previous", "a b"), "bad_previous"),
        (("--label", "app="), "bad_labels"),
    ],
)
def test_what_could_not_be_registered_is_refused_with_a_hint(
    run: Run, rehearsal: Rehearsal, words: tuple[str, str], message: str
) -> None:
    (name,) = rehearsal.responses(1, age=YOUNG)
    result = run(
        "-c", rehearsal.config, "responses", "correct", name, *words, "--reason", "x", "--json"
    )
    assert (result.code, result.error["error"]) == (1, "invalid_registration")
    assert message in result.error["message"]
    assert result.error["hint"]


def test_a_label_is_written_as_elsewhere(run: Run, rehearsal: Rehearsal) -> None:
    (name,) = rehearsal.responses(1)
    result = run(
        "-c", rehearsal.config, "responses", "correct", name, "--label", "app", "--reason", "x"
    )
    assert result.code == 2
    assert "write KEY=VALUE" in result.err


def test_what_the_provider_refused_stays_aside_after_a_correction(
    run: Run, rehearsal: Rehearsal
) -> None:
    name = refused(run, rehearsal)
    result = run(
        "-c", rehearsal.config, "responses", "correct", name, "--subject", "u-1", "--reason", "x"
    )
    assert result.out.splitlines()[1] == (
        f"It stays set aside (rejected). next: sweeper responses retry {name} --reason ..."
    )


def test_what_is_set_aside_is_listed_with_what_to_do(run: Run, rehearsal: Rehearsal) -> None:
    first = refused(run, rehearsal)
    second = disputed(run, rehearsal)
    rehearsal.register({"../x": datetime.now(UTC)})
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(tables.registrations.update().values(response_id="../x y"))
    run("-c", rehearsal.config, "plan")
    *lines, summary = run(
        "-c", rehearsal.config, "responses", "list", "--state", "quarantined", "--json"
    ).lines
    assert summary["responses"] == 3
    assert {line["quarantine_reason"]: line["next"].split()[2] for line in lines} == {
        "rejected": "retry",
        "conflicting": "correct",
        "malformed:bad_id": "close",
    }
    table = run("-c", rehearsal.config, "responses", "list", "--state", "quarantined").out
    assert table.split("\n")[0].split() == [
        *("RESPONSE", "ACCOUNT", "CREATED", "SET", "ASIDE", "LABELS", "NEXT")
    ]
    assert f"sweeper responses retry {first} --reason ..." in table
    assert f"sweeper responses correct {second} --reason ..." in table
    words = run("-c", rehearsal.config, "explain", second).out
    assert f"next: sweeper responses correct {second} --reason ..." in words.splitlines()
    # What is printed can be typed: a shell reads the odd name as one word.
    odd = next(line for line in lines if line["next"].split()[2] == "close")
    assert odd["response_id"].startswith("../x y~")
    assert f"'{odd['response_id']}'" in odd["next"]
    assert (
        run("-c", rehearsal.config, "responses", "close", odd["response_id"], "--reason", "x").code
        == 0
    )


def test_what_is_in_a_dead_sweepers_hands_is_told_how_it_comes_back(
    run: Run, rehearsal: Rehearsal
) -> None:
    (name,) = rehearsal.responses(1)
    rehearsal.fault(method="DELETE", delay=5)
    child = command.start("-c", rehearsal.config, "-q", "sweep")
    rehearsal.wait_for_deletes(1)
    child.kill()
    child.communicate(timeout=60)
    result = run("-c", rehearsal.config, "responses", "close", name, "--reason", "x", "--json")
    assert (result.code, result.error["error"]) == (1, "decision_refused")
    assert "the next sweep takes back" in result.error["hint"]
