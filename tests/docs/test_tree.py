"""What is handed on is whole: links lead somewhere, and nothing of a machine or secret is in it."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs import pages

# Written so that none of them finds itself.
_UNWANTED = {
    "a path of somebody's machine": r"/hom[e]/[a-z]|/User[s]/[A-Za-z]|/wor[k]/|/roo[t]/",
    "a registry's host": r"py[p]i\.org|python[h]osted|np[m]js|registr[y]\.|deb\.debia[n]",
    "a private key": r"BEGIN [A-Z ]*PRIVAT[E] KEY",
    "a key of a provider": r"\b(?:fw|sk|sk-proj)[_-][A-Za-z0-9]{24,}|\bAKI[A][0-9A-Z]{16}",
}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize("what", _UNWANTED)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(_UNWANTED[what])

    found = [str(path) for path in pages.tracked_files() if pattern.search(_text(path))]

    assert found == []


def test_the_scan_finds_what_it_looks_for() -> None:
    samples = ("/home" + "/ada", "pypi" + ".org", "BEGIN " + "PRIVATE KEY", "sk-" + "a1" * 12)

    for sample in samples:
        assert any(re.search(pattern, sample) for pattern in _UNWANTED.values()), sample


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _text(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", pages.all_pages(), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"\s+", " ", _text(page))
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else page.parent / name
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    text = pages.read("README.md")

    for page in pages.all_pages():
        name = page.relative_to(pages.ROOT).as_posix()
        assert name == "README.md" or f"({name}" in text, name


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads(pages.read("pyproject.toml"))["project"]["version"]

    assert f"## [{version}]" in pages.read("CHANGELOG.md")


def test_what_the_pages_name_as_files_exists() -> None:
    named = {
        name
        for page in pages.all_pages()
        for name in re.findall(r"`((?:sweeper|tests|migrations|docs)/[\w/.]+)`", _text(page))
    }

    assert named
    assert {
        name for name in named if "NNNN" not in name and not (pages.ROOT / name).exists()
    } == set()


def test_ci_can_be_run() -> None:
    assert os.access(pages.ROOT / ".ci" / "run", os.X_OK)
