"""The list of modules in docs/architecture.md; `python -m tests.docs.modules` writes it anew."""

import ast
from pathlib import Path

from tests.docs import pages

PAGE = pages.ROOT / "docs" / "architecture.md"
BEGIN = "<!-- modules: written by `python -m tests.docs.modules` -->"
END = "<!-- /modules -->"


def sentence(module: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert text, f"{module} says nothing of what it is for"
    return " ".join(text.partition("\n\n")[0].split())


def listed() -> str:
    """A table for each package, a row for each module that holds anything."""
    package = pages.ROOT / "sweeper"
    blocks = [_table(package)]
    blocks += [_table(folder) for folder in sorted(package.iterdir()) if _modules(folder)]
    return "\n".join(blocks)


def replaced(page: str) -> str:
    """The page with the list as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{listed()}\n{END}{after}"


def _table(folder: Path) -> str:
    name = folder.relative_to(pages.ROOT)
    rows = [f"| `{name}/{path.name}` | {_cell(sentence(path))} |" for path in _modules(folder)]
    return "\n".join(["| module | what it is for |", "|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.stat().st_size)


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
