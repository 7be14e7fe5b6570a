"""Look for what must never leave the program: keys and content, in any form, wherever it writes."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from sweeper.ledger.database import Database
from sweeper.sandbox.server import DEFAULT_KEY
from sweeper.sandbox.shapes import CANARY_CONTENT
from tests.support.rehearsal import KEY, OTHER_KEY

WATCHED = {
    "the key": KEY,
    "the other key": OTHER_KEY,
    "the sandbox's key": DEFAULT_KEY,
    "content": CANARY_CONTENT,
}


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, escaped, percent-encoded, and in the base64 of any text around it."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield secret.encode().hex()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret.encode() + b"\0\0").decode()
        # The first and last characters depend on what stands around it.
        inner = text[before * 8 // 6 + 1 : (before + len(secret)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


_NEEDLES = [(name, form.encode()) for name, secret in WATCHED.items() for form in {*forms(secret)}]


def leaks(data: bytes | str, where: str) -> list[str]:
    """One sentence for each watched text that is found."""
    raw = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    found = {name for name, needle in _NEEDLES if needle in raw}
    return [f"{name} stands in {where}" for name in sorted(found)]


def in_files(folder: Path) -> list[str]:
    """What is found in the files below a folder; what a test calls a key is where one belongs."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and "key" not in path.name:
            found += leaks(path.read_bytes(), path.name)
    return found


def in_ledger(db: Database) -> list[str]:
    """What is found in any column of any table."""
    with db.read() as connection:
        names = sa.inspect(connection).get_table_names()
        found = []
        for name in names:
            for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(name))):
                found += leaks("\n".join(map(str, row)), f"table {name}")
        return found
