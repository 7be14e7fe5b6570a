"""Read the Dockerfile as instructions, and the list of what stays out of the image."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = ROOT / "deploy" / "container" / "Dockerfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: its word, and all that stands behind it on one line."""

    word: str
    rest: str


def stages() -> list[list[Instruction]]:
    """The instructions before the first FROM, and those of each stage."""
    text = re.sub(r"^#.*\n", "", PATH.read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if word:
            found[-1].append(Instruction(word=word, rest=rest))
    return found


def all_of(stage: list[Instruction], word: str) -> list[str]:
    return [each.rest for each in stage if each.word == word]


def copied() -> list[str]:
    """What the first stage copies from the context."""
    return [
        name
        for rest in all_of(stages()[1], "COPY")
        for name in (rest.split()[:-1])
        if not name.startswith("--")
    ]


def is_ignored(name: str) -> bool:
    """Whether .dockerignore keeps this out: the last line that fits decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        anywhere, _, part = pattern.rpartition("**/")
        deep = pattern != part and not anywhere and part in name.split("/")
        if pattern == "*" or deep or name == pattern or name.startswith(f"{pattern}/"):
            ignored = not line.startswith("!")
    return ignored
