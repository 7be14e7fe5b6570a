"""Policies: the first match decides, lists mean one of, and every change shows."""

import hashlib
import json
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain import policy
from sweeper.domain.policy import Match, Policy

DAY = timedelta(days=1)
SUPPORT = Policy(
    name="support chats",
    match=Match(
        accounts=frozenset({"main"}),
        labels={"app": frozenset({"support"}), "env": frozenset({"staging", "prod"})},
    ),
    delete_after=14 * DAY,
)
EVERYTHING = Policy(name="everything", delete_after=None)

ACCOUNTS = st.sampled_from(["main", "other"])
VALUES = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(st.sampled_from(["app", "env"]), VALUES)
MATCHES = st.builds(
    Match,
    accounts=st.none() | st.frozensets(ACCOUNTS),
    labels=st.dictionaries(st.sampled_from(["app", "env"]), st.frozensets(VALUES)),
)
POLICIES = st.lists(
    st.builds(
        Policy,
        name=st.text("xyz", max_size=2),
        match=MATCHES,
        delete_after=st.none() | st.integers(1, 3).map(lambda n: n * DAY),
        deadline=st.integers(0, 2).map(lambda n: n * DAY),
    ),
    max_size=5,
)


@pytest.mark.parametrize(
    "account, labels, matched",
    [
        ("main", {"app": "support", "env": "prod"}, True),
        ("main", {"app": "support", "env": "staging", "model": "x"}, True),
        ("main", {"app": "support", "env": "dev"}, False),
        ("main", {"app": "support"}, False),
        ("main", {}, False),
        ("other", {"app": "support", "env": "prod"}, False),
        ("Main", {"app": "support", "env": "prod"}, False),
        ("main", {"app": "support ", "env": "prod"}, False),
    ],
)
def test_every_label_named_must_have_one_of_its_values(
    account: str, labels: dict[str, str], matched: bool
) -> None:
    assert policy.matches(SUPPORT.match, account, labels) is matched


def test_no_match_given_is_everything() -> None:
    assert policy.matches(Match(), "any", {})
    assert policy.matches(Match(), "any", {"app": "x"})


def test_labels_that_cannot_be_read_match_nothing() -> None:
    everything = replace(SUPPORT, match=Match())
    assert policy.deciding([everything], "any", None) is None
    assert policy.deciding([everything], "any", {}) is everything


def test_an_empty_list_matches_nothing() -> None:
    assert not policy.matches(Match(accounts=frozenset()), "main", {})
    assert not policy.matches(Match(labels={"app": frozenset()}), "main", {"app": "x"})


@given(POLICIES, ACCOUNTS, LABELS)
def test_the_first_match_decides(
    policies: list[Policy], account: str, labels: dict[str, str]
) -> None:
    found = policy.deciding(policies, account, labels)

    matching = [one for one in policies if policy.matches(one.match, account, labels)]
    assert found is (matching[0] if matching else None)


@given(POLICIES, POLICIES, ACCOUNTS, LABELS)
def test_a_policy_written_below_never_changes_what_one_above_decides(
    above: list[Policy], below: list[Policy], account: str, labels: dict[str, str]
) -> None:
    found = policy.deciding(above, account, labels)

    if found is not None:
        assert policy.deciding([*above, *below], account, labels) is found


@given(MATCHES, ACCOUNTS, LABELS)
def test_a_list_means_one_of(match: Match, account: str, labels: dict[str, str]) -> None:
    alternatives = [
        replace(match, labels={**match.labels, "app": frozenset({value})})
        for value in match.labels.get("app", ())
    ]
    if "app" in match.labels:
        assert policy.matches(match, account, labels) == any(
            policy.matches(one, account, labels) for one in alternatives
        )


def test_a_policy_promises_a_day_unless_it_says_otherwise() -> None:
    assert SUPPORT.deadline == DAY
    assert SUPPORT.unit is policy.Unit.RESPONSE


@pytest.mark.parametrize(
    "changed",
    [
        {"delete_after": timedelta(0)},
        {"delete_after": -DAY},
        {"delete_after": timedelta(microseconds=1)},
        {"deadline": -DAY},
        {"deadline": timedelta(microseconds=1)},
    ],
)
def test_a_policy_without_a_sound_length_cannot_be_made(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        replace(SUPPORT, **changed)


def test_a_policy_cannot_be_changed_from_outside() -> None:
    labels = {"app": frozenset({"support"})}
    match: Any = Match(labels=labels)
    labels["app"] = frozenset({"everything"})

    assert match.labels == {"app": frozenset({"support"})}
    with pytest.raises(TypeError):
        match.labels["app"] = frozenset()
    with pytest.raises(FrozenInstanceError):
        match.labels = {}
    assert len({match, Match(labels={"app": frozenset({"support"})}), Match()}) == 2


def test_the_canonical_text_is_plain() -> None:
    assert json.loads(policy.canonical([SUPPORT, EVERYTHING])) == [
        {
            "name": "support chats",
            "match": {
                "accounts": ["main"],
                "labels": {"app": ["support"], "env": ["prod", "staging"]},
            },
            "delete_after": 14 * 86_400,
            "deadline": 86_400,
            "unit": "response",
        },
        {
            "name": "everything",
            "match": {"accounts": None, "labels": {}},
            "delete_after": None,
            "deadline": 86_400,
            "unit": "response",
        },
    ]


def test_the_fingerprint_is_the_sha256_of_the_canonical_text() -> None:
    assert policy.fingerprint([]) == hashlib.sha256(b"[]").hexdigest()


@given(POLICIES, POLICIES)
def test_only_the_same_policies_in_the_same_order_have_one_fingerprint(
    one: list[Policy], other: list[Policy]
) -> None:
    assert (policy.fingerprint(one) == policy.fingerprint(other)) == (one == other)


def test_the_order_in_which_sets_were_written_leaves_the_fingerprint() -> None:
    again = replace(
        SUPPORT,
        match=Match(
            accounts=frozenset(["main"]),
            labels={"env": frozenset({"prod", "staging"}), "app": frozenset({"support"})},
        ),
    )

    assert policy.fingerprint([again]) == policy.fingerprint([SUPPORT])
