"""docs/faults.md lists every fault once, and each test that it names exists."""

import ast
import re
from functools import cache

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT

PAGE = pages.read("docs/faults.md")
ROWS = re.findall(r"^\| ([A-Z]\d+) \|(.*)\|$", PAGE, re.MULTILINE)
NUMBERS = [number for number, _ in ROWS]

# Checkpoints and anchors of a sealed log, which there are not yet.
NOT_YET = {f"F{number}" for number in (55, 56, 57, 58)}
EXPECTED = {f"F{number}" for number in range(1, 94)} - NOT_YET
EXPECTED |= {f"T{number}" for number in (1, 2, 3, 4, 7, 8, 13, 14, 15, 16, 17, 39)}


@cache
def named_in(path: str) -> frozenset[str]:
    """The tests of a file as they are named on a command line, classes before `::`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for one in inner:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + one.name)
    return frozenset(found)


def test_every_fault_stands_there_exactly_once() -> None:
    assert sorted(NUMBERS) == sorted(set(NUMBERS))
    assert EXPECTED - set(NUMBERS) == set()


@pytest.mark.parametrize("number,row", ROWS, ids=NUMBERS)
def test_each_is_told_in_words_with_tests_that_exist(number: str, row: str) -> None:
    wrong, happens, shown = re.split(r"(?<!\\)\|", row)
    assert wrong.strip(), number
    assert happens.strip(), number
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", shown)
    assert named, f"{number} names no test"
    for path, name in named:
        assert name in named_in(path), f"{path} has no {name}"
