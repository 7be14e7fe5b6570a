"""For every state of a response there is a sentence that says what holds for it, and why."""

import os
import pwd
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sweeper.cli import lookup
from sweeper.ledger import responses, tables
from sweeper.ledger.responses import Response
from sweeper.sandbox.manners import Manner
from tests.support.command import Run
from tests.support.rehearsal import KEY, YOUNG, Rehearsal

EXPLANATION = {
    "type", "response_id", "account", "state", "verdict", "sentence", "policy", "created_at",
    "due_at", "deadline_at", "waiting_for", "holds", "outcome", "verified", "finished_at",
    "next_try_at", "account_stopped", "attempts", "closed_by", "closed_because",
}  # fmt: skip
LISTED = ("responses", "list", "--state", "quarantined")
ATTEMPT = {"number", "sweep_id", "claimed_at", "sent", "answered_at", "answer", "status"}


def sentence(run: Run, rehearsal: Rehearsal, response_id: str) -> str:
    result = run("-c", rehearsal.config, "explain", response_id)
    assert result.code == 0, result.err
    return result.out.splitlines()[1]


def test_what_is_due_and_late_names_its_policy_and_its_times(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.url = database_url
    rehearsal.write()
    (one,) = rehearsal.responses(1)
    told = run("-c", rehearsal.config, "explain", one, "--json")
    (fields,) = told.lines
    assert set(fields) == EXPLANATION
    assert (fields["state"], fields["verdict"], fields["policy"]) == ("live", "due", "support")
    assert (fields["holds"], fields["waiting_for"], fields["attempts"]) == ([], [], [])
    assert fields["sentence"] == sentence(run, rehearsal, one)
    assert 'by policy "support" (14d after creation), late since' in fields["sentence"]
    assert fields["sentence"].endswith("the next sweep deletes it.")


def test_at_a_stopped_account_no_next_sweep_is_promised(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.use_key("fw_wrong_one")
    assert run("-c", rehearsal.config, "sweep").code == 12
    told = run("-c", rehearsal.config, "explain", one)
    assert "Account main is stopped since" in told.out
    assert "the next sweep deletes it" not in told.out
    assert sentence(run, rehearsal, one).endswith(
        '; nothing is deleted for it while the account "main" is stopped.'
    )
    fields = run("-c", rehearsal.config, "explain", one, "--json").last
    assert (fields["verdict"], fields["account_stopped"]) == ("due", ["credential"])
    rehearsal.use_key(KEY)
    assert run("-c", rehearsal.config, "account", "check", "main").code == 0
    assert sentence(run, rehearsal, one).endswith("the next sweep deletes it.")


def test_what_is_kept_says_why(run: Run, rehearsal: Rehearsal) -> None:
    (young,) = rehearsal.responses(1, age=YOUNG)
    (forever,) = rehearsal.responses(1, labels={"app": "contracts"})
    (unmatched,) = rehearsal.responses(1, labels={"app": "nobody's"})
    (elsewhere,) = rehearsal.responses(1, account="elsewhere", stored=False)
    assert sentence(run, rehearsal, young).startswith("Kept: due at 20")
    assert sentence(run, rehearsal, forever) == 'Kept: policy "contracts" keeps it for ever.'
    assert sentence(run, rehearsal, unmatched) == "Kept: no policy matches it."
    assert sentence(run, rehearsal, elsewhere).endswith(
        'nothing is deleted for it: the account "elsewhere" is not configured.'
    )


def test_a_parent_names_the_child_that_it_waits_for(run: Run, rehearsal: Rehearsal) -> None:
    (parent,) = rehearsal.responses(1)
    rehearsal.register({"resp_child": datetime.now(UTC) - YOUNG}, previous=parent)
    assert sentence(run, rehearsal, parent).endswith(
        "; waits for 1 response that continues it: resp_child."
    )
    told = run("-c", rehearsal.config, "explain", parent, "--json").last
    assert (told["verdict"], told["waiting_for"]) == ("waiting", ["resp_child"])


def test_what_was_set_aside_says_for_which_reason(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.register({one: datetime.now(UTC) - timedelta(days=1)})
    assert sentence(run, rehearsal, one) == "Set aside (conflicting): kept until a person decides."


def test_what_is_gone_says_by_which_policy_since_when_and_on_what_ground(
    run: Run, rehearsal: Rehearsal
) -> None:
    verified, unverified = rehearsal.responses(2)
    run("-c", rehearsal.config, "sweep", "--max", "1")
    rehearsal.write(verify="none")
    run("-c", rehearsal.config, "sweep")
    told = run("-c", rehearsal.config, "explain", verified, "--json").last
    assert (told["state"], told["verdict"], told["verified"]) == ("gone", "gone", True)
    since = f"{told['finished_at'][:19]}+00:00"
    assert told["sentence"] == (
        f'Gone since {since[:19]}Z by policy "support": the provider said that it deleted it,'
        " and it can no longer be read."
    )
    (attempt,) = told["attempts"]
    assert set(attempt) == ATTEMPT
    assert (attempt["sent"], attempt["answer"], attempt["status"]) == (True, "yes", 200)
    assert sentence(run, rehearsal, unverified).endswith("; that was not verified.")
    out = run("-c", rehearsal.config, "explain", verified).out.splitlines()
    assert out[0] == f"{verified} (main)"
    assert out[3].split() == ["TRY", "CLAIMED", "ANSWERED", "ANSWER", "STATUS"]
    assert out[4].split()[-2:] == ["yes", "200"]


def test_what_is_gone_keeps_the_policy_that_decided_then(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    run("-c", rehearsal.config, "sweep")
    before = run("-c", rehearsal.config, "explain", one, "--json").last
    text = rehearsal.config.read_text()
    rehearsal.config.write_text(text.replace('name = "support"', 'name = "renamed"'))
    after = run("-c", rehearsal.config, "explain", one, "--json").last
    assert after == before


@pytest.mark.parametrize(
    "outcome, words",
    [
        ("absent_after_attempt", "after a try that may have deleted it, which nobody confirmed"),
        ("already_absent", "no try of sweeper's can have deleted it"),
        ("expired_by_provider", "past the time for which the provider keeps it"),
    ],
)
def test_each_other_way_to_be_gone_has_its_own_words(
    run: Run, rehearsal: Rehearsal, outcome: str, words: str
) -> None:
    (one,) = rehearsal.responses(1)
    run("-c", rehearsal.config, "plan")
    rehearsal.change(
        tables.responses, state="gone", outcome=outcome, finished_at=1_780_000_000_000_000
    )
    told = sentence(run, rehearsal, one)
    assert told.startswith("Gone since 2026-05-28T20:26:40Z: ")
    assert words in told
    assert "the provider said" not in told


def test_what_a_person_closed_is_nowhere_said_to_be_gone(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """Nothing was proved: a DELETE that was refused may be all that was ever sent."""
    monkeypatch.setenv("SUDO_USER", "alice")
    rehearsal.url = database_url
    rehearsal.write()
    (tried,) = rehearsal.responses(1)
    rehearsal.fault(method="DELETE", id=tried, status=422)
    run("-c", rehearsal.config, "sweep")
    (untried,) = rehearsal.responses(1)
    me = pwd.getpwuid(os.getuid()).pw_name
    for name in (tried, untried):
        run("-c", rehearsal.config, "responses", "close", name, "--reason", "kept \x1bhere")
    lines = run("-c", rehearsal.config, "explain", tried).out.splitlines()
    assert lines[1].startswith("Closed since 20")
    assert lines[1].endswith(
        "Z by a person; that it is deleted is not proved. A DELETE was sent before."
    )
    assert lines[2] == f"closed by {me} (sudo by alice): kept \\x1bhere"
    assert sentence(run, rehearsal, untried).endswith("that it is deleted is not proved.")
    told = run("-c", rehearsal.config, "explain", tried, "--json").last
    assert (told["verdict"], told["closed_because"]) == ("closed", "kept \x1bhere")
    assert told["closed_by"] == f"{me} (sudo by alice)"
    shown = run("-c", rehearsal.config, "responses", "show", tried).out
    assert "state                 closed\n" in shown
    assert f"closed by             {me} (sudo by alice)\n" in shown
    assert "closed because        kept \\x1bhere\n" in shown
    listed = run("-c", rehearsal.config, "responses", "list", "--outcome", "closed")
    texts = (shown, listed.out, *lines)
    assert not [text for text in texts if "gone" in text.lower()]
    rows = run("-c", rehearsal.config, "responses", "list", "--json").lines[:-1]
    assert {row["closed_because"] for row in rows} == {"kept \x1bhere"}
    for verb in ("close", "retry", "correct"):
        again = run(
            "-c", rehearsal.config, "responses", verb, tried, "--reason", "x", "--json"
        ).error
        assert again["error"] == "decision_refused"
        assert "is closed already" in again["message"]


def test_what_nobody_closed_names_nobody(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    for verb in (("explain",), ("responses", "show")):
        told = run("-c", rehearsal.config, *verb, one, "--json").last
        assert (told["closed_by"], told["closed_because"]) == (None, None)
        assert "closed" not in run("-c", rehearsal.config, *verb, one).out


def test_an_incident_is_called_so_and_found_by_its_outcome(run: Run, rehearsal: Rehearsal) -> None:
    kept, other = rehearsal.responses(2)
    rehearsal.fault(method="DELETE", id=kept, do=Manner.LIE)
    run("-c", rehearsal.config, "sweep")
    told = run("-c", rehearsal.config, "explain", kept).out
    assert " An incident: the provider said that it deleted it" in told.splitlines()[1]
    status = run("-c", rehearsal.config, "status").out.splitlines()
    at = status.index("open: 1 still present")
    assert status[at + 1] == "  next: sweeper responses list --outcome still_present"
    listed = run("-c", rehearsal.config, *status[at + 1].split()[2:], "--json").lines
    assert [row.get("response_id") for row in listed] == [kept, None]
    listing = ("-c", rehearsal.config, "responses", "list", "--json", "--outcome", "still_present")
    for words, count in (
        (("--state", "live"), 1),
        (("--state", "gone"), 0),
        (("--account", "main"), 1),
        (("--limit", "1"), 1),
    ):
        assert run(*listing, *words).last["responses"] == count
    gone = run("-c", rehearsal.config, "responses", "list", "--outcome", "deleted", "--json").lines
    assert [row.get("response_id") for row in gone] == [other, None]
    assert run("-c", rehearsal.config, "responses", "list", "--outcome", "lost").code == 2


def test_what_was_found_last_is_listed_page_by_page(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(5)
    run("-c", rehearsal.config, "plan")
    rehearsal.change(tables.responses, outcome="failing")
    ids = [row["response_id"] for row in rehearsal.rows()]
    monkeypatch.setattr(lookup, "PAGE", 2)
    listing = ("-c", rehearsal.config, "responses", "list", "--json", "--outcome", "failing")
    *rows, summary = run(*listing).lines
    assert ([row["response_id"] for row in rows], summary["responses"]) == (ids, 5)
    # A sweep settles them between two pages: they are not what was asked for any more.
    by_keys = responses.by_keys

    def then_settled(connection: sa.Connection, keys: Iterable[int]) -> Sequence[Response]:
        connection.execute(sa.update(tables.responses).values(outcome=None))
        return by_keys(connection, keys)

    monkeypatch.setattr(responses, "by_keys", then_settled)
    assert run(*listing).last["responses"] == 0


def test_a_disputed_response_is_told_what_correct_needs(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.register({one: datetime.now(UTC) - timedelta(days=1)})
    words = "so alone it confirms what stands; --created-at, --label ... state what is right"
    assert words in run("-c", rehearsal.config, "explain", one).out
    assert words in run("-c", rehearsal.config, "status").out
    assert words in run("-c", rehearsal.config, *LISTED).err
    assert words not in run("-c", rehearsal.config, *LISTED, "--json").err
    # What is said is so: alone, with nothing stated, it is live again as it stood.
    assert run("-c", rehearsal.config, "responses", "correct", one, "--reason", "x").code == 0
    assert sentence(run, rehearsal, one).startswith("Due since")
    rehearsal.fault(method="DELETE", id=one, status=422)
    run("-c", rehearsal.config, "sweep")
    assert "SET ASIDE: 1 (rejected)" in run("-c", rehearsal.config, "status").out
    for verb in (("explain", one), ("status",), LISTED):
        result = run("-c", rehearsal.config, *verb)
        assert "confirms" not in result.out + result.err


def test_what_a_sweep_has_in_hand_says_so_and_what_was_tried(
    run: Run, rehearsal: Rehearsal
) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.fault(method="DELETE", status=500)
    run("-c", rehearsal.config, "sweep")
    told = run("-c", rehearsal.config, "explain", one, "--json").last
    assert (told["outcome"], told["attempts"][0]["answer"]) == ("failing", "unavailable")
    with rehearsal.database() as db, db.write() as connection:
        connection.execute(
            sa.insert(tables.attempts).values(
                response_pk=1,
                number=2,
                account_id=1,
                sweep_id="x",
                token="t",
                claimed_at=1,
                unsent=1,
            )
        )
        connection.execute(
            sa.insert(tables.attempts).values(
                response_pk=1, number=3, account_id=1, sweep_id="x", token="t", claimed_at=1
            )
        )
    rehearsal.change(tables.responses, state="claimed", token="t")
    out = run("-c", rehearsal.config, "explain", one).out.splitlines()
    assert out[1].startswith("A sweep is deleting it: due since")
    assert [line.split()[-2:] for line in out[4:]] == [
        ["unavailable", "500"],
        ["sent", "-"],
        ["unknown", "-"],
    ]


def test_a_response_waiting_for_its_next_try_says_when(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.fault(method="DELETE", status=500)
    run("-c", rehearsal.config, "sweep")
    rehearsal.change(tables.responses, next_try_at=4_000_000_000_000_000)
    assert "tried again at 2096-10-02T07:06:40Z (failing)" in sentence(run, rehearsal, one)


def test_a_yes_that_is_not_verified_yet_says_so(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.fault(method="GET", path="/v1/responses/", after=1, status=500)
    run("-c", rehearsal.config, "sweep")
    assert sentence(run, rehearsal, one).startswith("The provider said that it is deleted; next")


def test_a_stopped_account_is_named_with_what_was_seen(run: Run, rehearsal: Rehearsal) -> None:
    (one,) = rehearsal.responses(1)
    rehearsal.use_key("fw_wrong_one")
    run("-c", rehearsal.config, "sweep")
    out = run("-c", rehearsal.config, "explain", one).out.splitlines()
    assert out[2].startswith("Account main is stopped since 20")
    assert "(credential): the provider answered 40" in out[2]
    told = run("-c", rehearsal.config, "explain", one, "--json").last
    assert told["account_stopped"] == ["credential"]


def test_an_id_that_nobody_registered_or_that_two_accounts_have_is_refused(
    run: Run, rehearsal: Rehearsal
) -> None:
    unknown = run("-c", rehearsal.config, "explain", "resp_none", "--json")
    assert (unknown.code, unknown.out, unknown.error["error"]) == (1, "", "unknown_response")
    (one,) = rehearsal.responses(1)
    rehearsal.register({one: datetime.now(UTC) - YOUNG}, account="second")
    assert run("-c", rehearsal.config, "explain", one).code == 2
    chosen = run("-c", rehearsal.config, "explain", one, "--account", "second", "--json")
    assert chosen.last["account"] == "second"
