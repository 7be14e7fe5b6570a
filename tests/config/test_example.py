"""The example is whole, true and usable."""

import re
import tomllib
from pathlib import Path

import pytest

from sweeper.config import load, model

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
WITHOUT_DEFAULT = {
    ("accounts", "account_id"),
    ("accounts", "api_key_env"),
    ("accounts", "api_key_file"),
    ("accounts", "provider"),
    ("policies", "delete_after"),
    ("policies", "match"),
    ("policies", "name"),
}


def uncommented() -> str:
    return re.sub(r"^#(?=[a-z])", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_loads_as_it_stands() -> None:
    config = load.load(EXAMPLE, {})
    assert [account.name for account in config.accounts] == ["main"]
    assert not [warning for warning in config.warnings if "others may write" not in warning]


def test_every_shown_default_is_the_default(tmp_path: Path) -> None:
    text = uncommented().replace('account_id = "acme"', "")
    path = tmp_path / "config.toml"
    path.write_text(text)
    shown, plain = load.load(path, {}), load.load(EXAMPLE, {})
    for name in ("ledger_url", "guards", "max_clock_skew", "trust_local_clock", "log"):
        assert getattr(shown, name) == getattr(plain, name)
    assert shown.accounts == plain.accounts
    assert shown.policies == plain.policies


@pytest.mark.parametrize(
    "place,section",
    [
        ("ledger", model.LedgerSection),
        ("guards", model.GuardsSection),
        ("accounts", model.AccountSection),
        ("policies", model.PolicySection),
        ("log", model.LogSection),
    ],
)
def test_every_key_that_is_built_stands_in_the_example(
    place: str, section: type[model.Section]
) -> None:
    table = tomllib.loads(uncommented())[place]
    table = {"accounts": lambda: table["main"], "policies": lambda: table[0]}.get(
        place, lambda: table
    )()
    assert set(section.model_fields) - set(table) <= {"api_key_env"}
    assert set(table) <= set(section.model_fields)
    assert "# api_key_env = " in EXAMPLE.read_text()
    required = {name for name, field in section.model_fields.items() if field.is_required()}
    assert {(place, name) for name in required} <= WITHOUT_DEFAULT


def test_the_example_shows_no_section_that_is_not_built() -> None:
    assert not model.NOT_BUILT & set(tomllib.loads(uncommented()))
