"""For every state of a response there is a sentence that says what holds for it, and why."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sweeper.ledger import tables
from tests.support.command import Run
from tests.support.rehearsal import YOUNG, Rehearsal

EXPLANATION = {
    "type", "response_id", "account", "state", "verdict", "sentence", "policy", "created_at",
    "due_at", "deadline_at", "waiting_for", "holds", "outcome", "verified", "finished_at",
    "next_try_at", "account_stopped", "attempts",
}  # fmt: skip
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
        ("closed", "a person closed it"),
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
