"""Variables stand above the file, and are told of when they are at fault."""

from typing import Any

import pytest

from sweeper import errors
from sweeper.config import load, overlay


def laid(document: dict[str, Any], **environ: str) -> dict[str, Any]:
    result = overlay.lay(document, {f"SWEEPER__{name}": value for name, value in environ.items()})
    assert result.faults == []
    return result.document


def test_the_file_itself_is_left_alone() -> None:
    document = {"log": {"format": "json"}}
    assert laid(document, LOG__FORMAT="console") == {"log": {"format": "console"}}
    assert document == {"log": {"format": "json"}}


@pytest.mark.parametrize(
    "name,value,path,expected",
    [
        ("GUARDS__MAX_DELETIONS_PER_SWEEP", "5", ("guards", "max_deletions_per_sweep"), 5),
        ("GUARDS__MAX_SHARE_PER_SWEEP", "0.5", ("guards", "max_share_per_sweep"), 0.5),
        ("GUARDS__TRUST_LOCAL_CLOCK", "true", ("guards", "trust_local_clock"), True),
        ("GUARDS__MAX_CLOCK_SKEW", "2m", ("guards", "max_clock_skew"), "2m"),
        ("LEDGER__URL", "sqlite:////x", ("ledger", "url"), "sqlite:////x"),
        ("ACCOUNTS__MAIN__ACCOUNT_ID", "123", ("accounts", "main", "account_id"), "123"),
        ("ACCOUNTS__MAIN__API_KEY_ENV", "true", ("accounts", "main", "api_key_env"), "true"),
        ("LOG", '{ format = "json" }', ("log",), {"format": "json"}),
        ("LOG__FORMAT", "1\nx = 2", ("log", "format"), "1\nx = 2"),
    ],
)
def test_a_value_is_toml_where_it_can_be_and_text_where_it_must(
    name: str, value: str, path: tuple[str, ...], expected: object
) -> None:
    node: Any = laid({}, **{name: value})
    for part in path:
        node = node[part]
    assert node == expected


def test_names_are_found_whatever_their_case() -> None:
    document = {"accounts": {"EU-west": {"rate": "1/minute"}, "a": {}, "A": {}}}
    result = laid(document, ACCOUNTS__EU_WEST__RATE="2/minute", ACCOUNTS__A__RATE="3/minute")
    assert result["accounts"] == {
        "EU-west": {"rate": "2/minute"},
        "a": {},
        "A": {"rate": "3/minute"},
    }


def test_a_policy_is_named_by_its_place() -> None:
    document = {"policies": [{"name": "a"}, {"name": "b", "match": {"labels": {"App": "x"}}}]}
    result = laid(document, POLICIES__1__MATCH__LABELS__APP="y", POLICIES__0__NAME="c")
    assert result["policies"] == [{"name": "c"}, {"name": "b", "match": {"labels": {"App": "y"}}}]


@pytest.mark.parametrize(
    "name,fault",
    [
        ("", "write it as SWEEPER__SECTION__KEY"),
        ("LOG__", "write it as SWEEPER__SECTION__KEY"),
        ("POLICIES__7__NAME", "policies has no '7'"),
        ("POLICIES__X__NAME", "policies has no 'x'"),
        ("LOG__FORMAT__X", "log.format has no 'x'"),
        ("LOG__FORMAT__X__Y", "log.format has no 'x'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(name: str, fault: str) -> None:
    document = {"policies": [{"name": "a"}], "log": {"format": "json"}}
    result = overlay.lay(document, {f"SWEEPER__{name}": "1"})
    assert result.faults == [f"SWEEPER__{name}: {fault}"]


def test_faults_name_the_variable_and_never_its_value(tmp_path: Any) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[accounts.main]\nprovider = "openai"\n')
    environ = {
        "SWEEPER__ACCOUNTS__MAIN__API_KEY": "fw_hush",
        "SWEEPER__ACCOUNTS__MAIN__RATE": "hush",
        "SWEEPER__LOGS__FORMAT": "hush",
        "SWEEPER_CONFIG": "no overlay",
    }
    with pytest.raises(errors.ConfigurationError) as caught:
        load.load(path, environ)
    told = "\n".join(caught.value.faults)
    assert "accounts.main.api_key (from SWEEPER__ACCOUNTS__MAIN__API_KEY): secrets" in told
    assert "accounts.main.rate (from SWEEPER__ACCOUNTS__MAIN__RATE): write" in told
    assert "logs (from SWEEPER__LOGS__FORMAT): unknown key; did you mean log?" in told
    assert "hush" not in told
