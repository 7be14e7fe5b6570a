"""The example is whole, true and usable."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from sweeper.config import load, model
from sweeper.config.settings import Listen
from sweeper.domain.schedule import Schedule

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
ALTERNATIVES = {"api_key_env", "cron"}
"""Keys that exclude the one which is shown above them."""
EXAMPLES = ("account_id", "spool", "command", "listen")
"""Keys that have no default: what is shown is an example."""
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
    text = re.sub(rf"^({'|'.join(EXAMPLES)}) = .*$", "", uncommented(), flags=re.MULTILINE)
    path = tmp_path / "config.toml"
    path.write_text(text)
    shown, plain = load.load(path, {}), load.load(EXAMPLE, {})
    assert dataclasses.replace(shown, path=EXAMPLE, accounts=()) == dataclasses.replace(
        plain, path=EXAMPLE, accounts=(), warnings=shown.warnings
    )
    assert shown.accounts == plain.accounts


def test_every_shown_example_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(uncommented())
    config = load.load(path, {})
    assert config.spool == Path("/var/spool/sweeper")
    assert config.alarm == ("/usr/local/bin/page-oncall", "sweeper")
    assert config.listen == Listen(host="127.0.0.1", port=8787)
    text = uncommented().replace("# cron", "cron")
    path.write_text(re.sub(r"^every = .*$", "", text, flags=re.MULTILINE))
    assert load.load(path, {}).schedule == Schedule(cron="17 */2 * * mon-fri")


@pytest.mark.parametrize(
    "place,section",
    [
        ("ledger", model.LedgerSection),
        ("intake", model.IntakeSection),
        ("schedule", model.ScheduleSection),
        ("guards", model.GuardsSection),
        ("accounts", model.AccountSection),
        ("policies", model.PolicySection),
        ("alarm", model.AlarmSection),
        ("http", model.HttpSection),
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
    assert set(section.model_fields) - set(table) <= ALTERNATIVES
    assert set(table) <= set(section.model_fields)
    for key in ALTERNATIVES & set(section.model_fields):
        assert f"# {key} = " in EXAMPLE.read_text()
    required = {name for name, field in section.model_fields.items() if field.is_required()}
    assert {(place, name) for name in required} <= WITHOUT_DEFAULT


def test_the_example_shows_no_section_that_is_not_built() -> None:
    assert not model.NOT_BUILT & set(tomllib.loads(uncommented()))
