"""Read the unit files as systemd does: sections, keys, and the values of each in their order."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/sweeper/bin/sweeper"
UNITS = ("sweeper.service", "sweeper-sweep.service", "sweeper-sweep.timer")

Unit = dict[str, list[tuple[str, str]]]


def read(name: str) -> Unit:
    found: Unit = {}
    for line in (FOLDER / name).read_text().splitlines():
        if section := re.fullmatch(r"\[(\w+)\]", line):
            found[section[1]] = []
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            list(found.values())[-1].append((key, value))
    return found


def values(unit: Unit, section: str, key: str) -> list[str]:
    return [value for each, value in unit[section] if each == key]


def value(unit: Unit, section: str, key: str) -> str:
    (found,) = values(unit, section, key)
    return found
