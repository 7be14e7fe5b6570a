"""What is allowed but hardly meant is warned of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.config import lint, load, model
from sweeper.domain import policy
from sweeper.domain.policy import Match
from sweeper.provider import profile


def warnings(tmp_path: Path, text: str, **environ: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return "\n".join(load.load(path, environ).warnings)


ACCOUNT = '[accounts.main]\nprovider = "fireworks"\napi_key_env = "K"\n'
POLICY = '[[policies]]\nname = "{}"\ndelete_after = "1d"\nmatch = {}\n'


@pytest.mark.parametrize(
    "text,warning",
    [
        ("", "accounts: none is configured"),
        ("", "policies: none is given"),
        (
            ACCOUNT + 'rate = "6001/minute"',
            "accounts.main.rate: fireworks allows at most 6000/minute",
        ),
        ('[accounts.main]\nprovider = "openai"', "systemd credential main-api-key"),
        ("[guards]\nmax_deletions_per_sweep = 0", "guards.max_deletions_per_sweep: 0 blocks"),
        ("[guards]\nmax_share_per_sweep = 0", "guards.max_share_per_sweep: 0 blocks"),
        (
            ACCOUNT + POLICY.format("a", '{ account = ["mian", "main"] }'),
            "policies.0.match.account: mian is not configured; did you mean main?",
        ),
        (
            ACCOUNT + POLICY.format("a", '{ account = "elsewhere" }'),
            "policies.0.match.account: elsewhere is not configured",
        ),
        (
            ACCOUNT + POLICY.format("a", "{}") + POLICY.format("b", '{ account = "main" }'),
            "policies.1: never decides, for policies.0 matches all",
        ),
    ],
)
def test_a_warning_names_its_place(tmp_path: Path, text: str, warning: str) -> None:
    assert warning in warnings(tmp_path, text)


def test_what_is_sound_is_not_warned_of(tmp_path: Path) -> None:
    text = ACCOUNT + 'rate = "6000/minute"\n' + POLICY.format("a", '{ account = "main" }')
    assert warnings(tmp_path, text) == ""


SOUND = ACCOUNT + POLICY.format("a", "{}") + "[alarm]\ncommand = ['{}', 'argument']\n"


def test_an_alarm_that_nobody_can_run_is_warned_of(tmp_path: Path) -> None:
    program = tmp_path / "page"
    text = SOUND.replace("'{}'", f"'{program}'")
    missing = f"alarm.command: {program} is no file that can be found, so nobody is called"
    assert warnings(tmp_path, text) == missing
    program.mkdir()
    assert warnings(tmp_path, text) == missing
    program.rmdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o600)
    told = f"alarm.command: {program} may not be run, so nobody is called; run: chmod a+x"
    assert warnings(tmp_path, text) == told
    program.chmod(0o700)
    assert warnings(tmp_path, text) == ""


def test_the_name_of_a_program_turns_no_terminal_around(tmp_path: Path) -> None:
    text = SOUND.replace("'{}'", '"/no/\\u202e"')
    assert "alarm.command: /no/\\u202e is no file" in warnings(tmp_path, text)


def test_the_known_providers_and_their_limits_are_those_of_the_profiles() -> None:
    assert set(model.BASE_URLS) == set(profile.PROFILES)
    limits = {name: each.max_rate / 60 for name, each in profile.PROFILES.items() if each.max_rate}
    assert limits == lint._MOST_PER_SECOND


VALUES = st.sampled_from(["x", "y", "z"])
LABELS = st.dictionaries(st.sampled_from(["a", "b"]), VALUES)
MATCHES = st.builds(
    Match,
    accounts=st.none() | st.frozensets(VALUES, min_size=1),
    labels=st.dictionaries(st.sampled_from(["a", "b"]), st.frozensets(VALUES, min_size=1)),
)


@given(MATCHES, MATCHES, VALUES, LABELS)
def test_what_is_covered_never_decides(
    wide: Match, narrow: Match, account: str, labels: dict[str, str]
) -> None:
    if lint.covers(wide, narrow) and policy.matches(narrow, account, labels):
        assert policy.matches(wide, account, labels)


@given(MATCHES)
def test_every_match_covers_itself_and_is_covered_by_everything(match: Match) -> None:
    assert lint.covers(match, match)
    assert lint.covers(Match(accounts=None, labels={}), match)
