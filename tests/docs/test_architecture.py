"""docs/architecture.md tells what the code is."""

import ast
import re

from sweeper.domain.outcome import TERMINAL, Outcome
from sweeper.domain.response import State
from sweeper.evidence.record import RecordType
from tests.docs import modules, pages

PAGE = pages.read("docs/architecture.md")


def test_every_module_stands_there_with_its_sentence() -> None:
    told = "run: python -m tests.docs.modules"

    assert modules.BEGIN in PAGE
    assert modules.listed() in PAGE, told
    assert modules.replaced(PAGE) == PAGE, told


def test_every_state_is_in_the_diagram() -> None:
    diagram = re.findall(r"^```mermaid\n(stateDiagram.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

    (states,) = (set(re.findall(r"[a-z]+(?= -->)|(?<=--> )[a-z]+", text)) for text in diagram)
    assert states == {state.value for state in State}


def test_every_outcome_is_told_and_whether_it_is_gone() -> None:
    table = pages.section(PAGE, "Outcomes")
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| (yes|no)", table, re.MULTILINE))

    assert rows == {each.value: "yes" if each in TERMINAL else "no" for each in Outcome}


def test_every_type_of_record_is_told_and_no_other() -> None:
    cells = " ".join(pages.first_cells(pages.section(PAGE, "The log")))

    assert set(re.findall(r"`([^`]+)`", cells)) == {each.value for each in RecordType}


def _residue_reasons() -> set[str]:
    """The words under which the reckoning counts, besides the outcomes that stay open."""
    source = ast.parse(pages.read("sweeper/engine/reckoning.py"))
    words = {
        str(node.value)
        for node in ast.walk(source)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[a-z_]+", node.value)
    }
    return words | {"quarantined", "verifying"}


def test_every_reason_of_the_residue_is_told() -> None:
    cells = " ".join(pages.first_cells(pages.section(PAGE, "Complete, and what is left")))
    told = set(re.findall(r"`(\w+)`", cells))
    open_outcomes = {each.value for each in Outcome} - {each.value for each in TERMINAL}

    assert told == _residue_reasons() | (open_outcomes - {"rejected"})


def test_the_layers_are_those_that_are_enforced() -> None:
    text = " ".join(pages.section(PAGE, "Layers").split())
    project = pages.read("pyproject.toml")
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    names = [line.strip(' ",').replace("sweeper.", "") for line in layers.splitlines()]

    assert " → ".join(f"`{name}`" for name in names) in text
    assert " → ".join(f"`{name}`" for name in names) in " ".join(
        pages.read("CONTRIBUTING.md").split()
    )
