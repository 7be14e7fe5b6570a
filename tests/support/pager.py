"""An alarm command for tests: a shell script that keeps what it was told."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCRIPT = """#!/bin/sh
here={folder}
number=$$
cat > "$here/$number.part"
{then}
mv "$here/$number.part" "$here/$(date +%s%N)-$number.told"
exit {code}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager:
    """`then` is what the script does before it counts as told, `code` how it ends."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "page"

    def write(self, then: str = "", *, code: int = 0) -> None:
        """Make the script do this from now on."""
        text = _SCRIPT.format(folder=self.folder, then=then, code=code)
        new = self.folder / "page.new"
        new.write_text(text)
        new.chmod(0o700)
        new.replace(self.program)

    @property
    def texts(self) -> list[str]:
        """What was told, in the order in which it was."""
        return [path.read_text() for path in sorted(self.folder.glob("*.told"))]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    @property
    def states(self) -> list[tuple[str, str]]:
        """The id and state of each alarm that was told."""
        return [(one["id"], one["state"]) for one in self.told]

    @property
    def section(self) -> str:
        """What stands in a configuration that has this pager."""
        return f'\n[alarm]\ncommand = ["{self.program}"]\n'


def pager(folder: Path) -> Pager:
    """A pager in this folder that hears everything."""
    folder.mkdir()
    made = Pager(folder=folder)
    made.write()
    return made
