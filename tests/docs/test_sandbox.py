"""docs/sandbox.md knows every control and every field of a fault."""

import json
import re

from sweeper.sandbox import faults, script
from sweeper.sandbox.manners import Ending, Manner
from tests.docs import pages

PAGE = pages.read("docs/sandbox.md")


def test_every_field_of_a_fault_is_told() -> None:
    told = pages.words(pages.section(PAGE, "Faults"))

    assert set(script._FIELDS) <= told
    assert {each.value for each in (*Manner, *Ending)} <= told


def test_every_control_is_told() -> None:
    source = pages.read("sweeper/sandbox/controls.py")
    verbs = re.findall(r'\("(GET|POST)", "(\w+)"\)', source)

    assert verbs
    for method, name in verbs:
        assert f"`{method} /_sandbox/{name}`" in PAGE


def test_the_rules_that_are_shown_are_rules() -> None:
    section = pages.section(PAGE, "Faults")
    shown = "\n".join(re.findall(r"^ {4}(.*)$", section, re.MULTILINE))

    assert len(faults.read(shown)) == len(json.loads(shown)) == 3
