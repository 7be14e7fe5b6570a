"""Find the project's pages, their parts, and the files that are handed on."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def all_pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def section(text: str, heading: str) -> str:
    """What stands under a heading, to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"there is no heading {heading!r}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest if following is None else rest[: following.start()]


def own_section(text: str, heading: str) -> str:
    """What stands under a heading before any other heading."""
    return re.split(r"^#+ ", section(text, heading), maxsplit=1, flags=re.MULTILINE)[0]


def code(text: str, language: str) -> str:
    """The one block of code in this language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(block)


def words(text: str) -> set[str]:
    """Every word that is set as code, and those that lists of fields are made of."""
    spans = re.findall(r"`([^`]+)`", text) + re.findall(r"^ {4,}(.*)$", text, re.MULTILINE)
    return {word for span in spans for word in re.findall(r"[A-Za-z0-9_.:-]+", span)}


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables, without the heads."""
    rows = re.findall(r"^\|([^|]*)\|", text, re.MULTILINE)
    return [row.strip() for row in rows if "`" in row]


def tracked_files() -> list[Path]:
    """What a clone holds; outside of a clone, what is not hidden or built."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.decode().split("\0")
        return [ROOT / name for name in names if name and (ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts
        )
    ]
