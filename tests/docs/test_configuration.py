"""docs/configuration.md and config.example.toml know every key, and no other."""

import re

import pytest

from sweeper.config import model
from tests.docs import pages

PAGE = pages.read("docs/configuration.md")
SECTIONS: dict[str, type[model.Section]] = {
    "[ledger]": model.LedgerSection,
    "[intake]": model.IntakeSection,
    "[schedule]": model.ScheduleSection,
    "[guards]": model.GuardsSection,
    "[accounts.NAME]": model.AccountSection,
    "[[policies]]": model.PolicySection,
    "[alarm]": model.AlarmSection,
    "[http]": model.HttpSection,
    "[log]": model.LogSection,
}


def _keys(section: type[model.Section]) -> set[str]:
    keys = set(section.model_fields)
    if section is model.PolicySection:
        keys |= {f"match.{key}" for key in model.MatchSection.model_fields}
    return keys


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_is_documented_and_no_other(heading: str) -> None:
    documented = {cell.strip("`") for cell in pages.first_cells(pages.section(PAGE, heading))}

    assert documented == _keys(SECTIONS[heading])


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_stands_in_the_example(heading: str) -> None:
    example = pages.read("config.example.toml")

    for key in SECTIONS[heading].model_fields:
        assert re.search(rf"^#? ?{key} = ", example, re.MULTILINE), key


def test_every_section_is_documented() -> None:
    built = {heading.strip("[]").partition(".")[0] for heading in SECTIONS}

    assert built == set(model.Document.model_fields)
    missing = pages.section(PAGE, "Sections that are not built yet")
    assert all(f"`[{name}]`" in missing for name in model.NOT_BUILT)


def test_the_documented_defaults_are_those_of_the_example() -> None:
    example = pages.read("config.example.toml")
    shown = dict(re.findall(r"^#([a-z_]+) = (.*)$", example, re.MULTILINE))

    rows = re.findall(r"^\| `([a-z_]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert rows
    assert {key: shown[key].strip('"') for key, _ in rows} == dict(rows)
