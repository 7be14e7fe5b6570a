"""docs/outcomes.md tells of every outcome when it is written, what it proves, and what to do."""

import re

import pytest

from sweeper.domain.outcome import TERMINAL, Outcome
from sweeper.engine.breaker import FAILURES_IN_A_ROW
from tests.docs import pages

PAGE = pages.read("docs/outcomes.md")


def headings(part: str) -> set[str]:
    return set(re.findall(r"^### (\w+)$", pages.section(PAGE, part), re.MULTILINE))


def test_every_outcome_stands_where_it_belongs_and_no_other() -> None:
    assert headings("Gone") == {each.value for each in TERMINAL}
    assert headings("Not gone") == {each.value for each in Outcome} - headings("Gone")


@pytest.mark.parametrize("outcome", Outcome)
def test_of_each_it_is_told_when_what_it_proves_and_what_to_do(outcome: Outcome) -> None:
    told = pages.section(PAGE, outcome.value)
    for part in ("**When:**", "**What it proves:**", "**What to do:**"):
        assert part in told


def test_the_number_of_failures_is_that_of_the_code() -> None:
    assert FAILURES_IN_A_ROW == 10
    assert "Ten requests in a row" in " ".join(pages.section(PAGE, "failing").split())
