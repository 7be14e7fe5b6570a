"""A plan says what a sweep would delete now, why, and how long it takes."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from sweeper.cli import plan
from sweeper.ledger import tables
from tests.support.command import Run
from tests.support.rehearsal import YOUNG, Rehearsal

PLAN = {
    "type", "made_at", "due", "planned", "held", "capped", "waiting", "backing_off", "no_account",
    "no_account_by", "unmatched", "not_admitted_because", "accounts",
}  # fmt: skip
ACCOUNT = {
    "account", "live", "due", "planned", "ids_sha256", "refused", "requests", "takes_seconds",
    "label_sets",
}  # fmt: skip
LABEL_SET = {
    "policy", "labels", "created_until", "due", "planned", "waiting", "backing_off", "capped",
}  # fmt: skip


WAY_ON = (
    "next: if that is meant, sweep a part: sweeper sweep --max N (at most 2 now), or widen"
    " guards.max_deletions_per_sweep"
)


def test_a_plan_counts_what_is_due_by_account_and_label_set(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    rehearsal.url = database_url
    due = rehearsal.responses(3)
    rehearsal.responses(2, age=YOUNG)
    rehearsal.responses(4, labels={"app": "nobody's"})
    rehearsal.responses(2, account="elsewhere", stored=False)
    rehearsal.write(rate="60/minute")
    result = run("-c", rehearsal.config, "plan", "--json")
    assert (result.code, result.err) == (0, "")
    (made,) = result.lines
    assert set(made) == PLAN
    assert (made["due"], made["planned"], made["unmatched"]) == (5, 3, 4)
    assert made["not_admitted_because"] is None
    assert (made["no_account"], made["no_account_by"]) == (2, {"elsewhere": 2})
    (account,) = made["accounts"]
    assert set(account) == ACCOUNT
    assert (account["live"], account["due"], account["planned"]) == (9, 3, 3)
    assert (
        account["ids_sha256"] == hashlib.sha256("".join(f"{i}\n" for i in due).encode()).hexdigest()
    )
    # Three DELETEs, three GETs that verify, and at most six for the control, at 99 % of 1/s.
    assert (account["requests"], account["takes_seconds"]) == (12, pytest.approx(12 / 0.99, 0.01))
    (label_set,) = account["label_sets"]
    assert set(label_set) == LABEL_SET
    assert (label_set["policy"], label_set["labels"]) == ("support", {"app": "support"})
    assert rehearsal.requests() == 0
    assert rehearsal.rows(tables.attempts) == []


def test_people_see_a_table_and_every_reason(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    rehearsal.responses(1, labels={"app": "nobody's"})
    rehearsal.responses(1, account="elsewhere", stored=False)
    out = run("-c", rehearsal.config, "plan", "--max", "2").out.splitlines()
    assert out[0].split() == [
        "POLICY", "ACCOUNT", "LABELS", "DUE", "PLANNED", "CAPPED", "CREATED", "UNTIL",
    ]  # fmt: skip
    assert out[1].split()[:6] == ["support", "main", "app=support", "3", "2", "1"]
    assert out[2].startswith("main: 2 of 4 live responses, at most 10 requests, less than a second")
    assert out[3] == "1 more due response beyond --max 2."
    assert out[4] == "1 response more due at account elsewhere, which is not configured."
    assert out[5] == "1 live response matches no policy: never deleted."


def test_an_empty_ledger_has_nothing_due(run: Run, rehearsal: Rehearsal) -> None:
    assert run("-c", rehearsal.config, "plan").out == "Nothing is due.\n"
    made = run("-c", rehearsal.config, "plan", "--json").last
    assert (made["due"], made["accounts"][0]["requests"]) == (0, 0)


def test_a_refusing_guard_is_told_and_planning_is_no_failure(
    run: Run, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal.responses(3)
    monkeypatch.setenv("SWEEPER__GUARDS__MAX_DELETIONS_PER_SWEEP", "2")
    result = run("-c", rehearsal.config, "plan")
    sentence = (
        'Refused for account "main": 3 deletions are planned, but max_deletions_per_sweep allows 2.'
    )
    assert (result.code, result.out.splitlines()[-2:]) == (
        0,
        [
            sentence,
            WAY_ON,
        ],
    )
    told = run("-c", rehearsal.config, "plan", "--json").last
    assert told["accounts"][0]["refused"] == sentence


def test_only_one_policy_is_planned_when_it_is_named(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(3)
    assert run("-c", rehearsal.config, "plan", "--policy", "contracts").out == "Nothing is due.\n"
    unknown = run("-c", rehearsal.config, "plan", "--policy", "supprt")
    assert unknown.code == 2
    assert unknown.err == (
        "error: no policy is called 'supprt'\nhint: configured are: support, contracts\n"
    )


def test_a_response_waits_for_one_that_continues_it_and_is_kept(
    run: Run, rehearsal: Rehearsal
) -> None:
    (parent,) = rehearsal.responses(1)
    rehearsal.register({"resp_child": datetime.now(UTC) - YOUNG}, previous=parent)
    made = run("-c", rehearsal.config, "plan", "--json").last
    assert (made["due"], made["planned"], made["waiting"]) == (1, 0, 1)


def test_while_the_clock_is_known_to_be_wrong_nothing_is_admitted(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(3)
    rehearsal.change(tables.ledger, last_good_at=4_000_000_000_000_000)
    made = run("-c", rehearsal.config, "plan", "--json").last
    assert made["due"] == 0
    why = made["not_admitted_because"]
    assert why.endswith("behind the last time at which it was right.")
    nothing, told = run("-c", rehearsal.config, "plan").out.splitlines()
    assert nothing == "Nothing is due."
    assert told.startswith("What is registered was not admitted and not planned, because the clock")
    assert told.endswith("behind the last time at which it was right.")
    assert len(rehearsal.rows(tables.registrations)) == 3


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.2, "less than a second"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3600 * 26 + 5, "1 d 2 h"),
        (3600 * 24 * 400, "400 d"),
    ],
)
def test_a_length_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert plan.length_text(timedelta(seconds=seconds)) == text
