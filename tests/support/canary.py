"""Look for what must never leave the program: keys and content, in any form, wherever it writes.

While a test is looked after, whatever uses a key or a ledger, or hears what is told, says so here.
"""

import base64
import functools
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from sweeper.sandbox.server import DEFAULT_KEY
from sweeper.sandbox.shapes import CANARY_CONTENT

CONTENT = CANARY_CONTENT.partition(":")[0]
"""How it begins: whoever shows only so much of an answer has leaked as well."""
_SHORTEST = 8


@dataclass(slots=True)
class _Test:
    """What one test uses: secrets with their names, ledgers by URL, and what was told."""

    secrets: dict[str, str] = field(
        default_factory=lambda: {CONTENT: "content", DEFAULT_KEY: "the sandbox's key"}
    )
    ledgers: dict[str, None] = field(default_factory=dict)
    told: list[object] = field(default_factory=list)


_looked_after: list[_Test] = []
"""At most one: what tests use that nobody looks after is not kept."""


def begin() -> None:
    """Look after a test from now on, and forget the one before."""
    end()
    _looked_after.append(_Test())
    sa.event.listen(sa.Engine, "engine_connect", _connected)


def end() -> None:
    if _looked_after:
        _looked_after.clear()
        sa.event.remove(sa.Engine, "engine_connect", _connected)


def watch(name: str, secret: str) -> None:
    """Look for this key from now on; the first name under which it comes is kept."""
    for test in _looked_after:
        if secret:
            test.secrets.setdefault(secret, name)


def watch_keys(keys: Mapping[str, str]) -> None:
    """Look for the keys of a sandbox, which are those of accounts."""
    for key, account in keys.items():
        watch(f"a key of {account}", key)


def watch_ledger(url: str) -> None:
    """Look through this ledger when the test is over; those opened in this process are known."""
    for test in _looked_after:
        test.ledgers[url] = None


def hear(told: object) -> None:
    """Look through this when the test is over: a text, or what shows by its `repr`."""
    for test in _looked_after:
        test.told.append(told)


def _connected(connection: sa.Connection) -> None:
    url = connection.engine.url
    if url.database:  # else it is one of those by which this module itself looks
        watch_ledger(url.render_as_string(hide_password=False))


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, escaped, percent-encoded, and in the base64 of any text around it."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    raw = secret.encode()
    yield raw.hex()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw + b"\0\0").decode()
        # The first and last characters depend on what stands around it.
        inner = text[before * 8 // 6 + 1 : (before + len(raw)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


@functools.lru_cache(maxsize=256)
def _needles(secret: str) -> frozenset[bytes]:
    return frozenset(form.encode() for form in forms(secret))


def leaks(data: bytes | str, where: str) -> list[str]:
    """One sentence for each watched text that is found."""
    raw = data.encode(errors="surrogateescape") if isinstance(data, str) else data
    found = {
        name
        for test in _looked_after
        for secret, name in test.secrets.items()
        if any(needle in raw for needle in _needles(secret))
    }
    return [f"{name} stands in {where}" for name in sorted(found)]


def indistinct() -> list[str]:
    """One sentence for each key that could not be told from other text."""
    keys = [key for test in _looked_after for key in test.secrets if len(key) < _SHORTEST]
    return [f"the key {key!r} is too short to be looked for" for key in keys]


def in_told() -> list[str]:
    """What is found in all that was heard."""
    return [
        leak
        for test in _looked_after
        for one in list(test.told)
        for leak in leaks(one if isinstance(one, str) else repr(one), "what was told")
    ]


def in_files(folder: Path) -> list[str]:
    """What is found in the files below a folder; what a test calls a key is where one belongs."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and "key" not in path.name:
            found += leaks(path.read_bytes(), path.name)
    return found


def in_ledgers() -> list[str]:
    """What is found in the ledgers of the test, each of which must still be there to be read."""
    found = []
    for url in [url for test in _looked_after for url in test.ledgers]:
        try:
            found += in_ledger(url)
        except sa.exc.SQLAlchemyError as fault:
            found.append(f"{url} could not be looked through: {fault}")
    return found


def in_ledger(url: str) -> list[str]:
    """What is found in any column of any table; of an SQLite file, in any of its bytes as well."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _in_tables(sa.create_engine(parsed.set(drivername="postgresql+psycopg")))
    path = Path(parsed.database or "")
    found = [
        leak
        for each in path.parent.glob(f"{path.name}*")
        if each.is_file()
        for leak in leaks(each.read_bytes(), each.name)
    ]
    try:
        return found + _in_tables(sa.create_engine("sqlite://", creator=lambda: _file(path)))
    except sa.exc.DBAPIError:
        return found  # gone, damaged or locked, as the test wanted it


def _file(path: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
    opened.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return opened


def _in_tables(engine: sa.Engine) -> list[str]:
    try:
        with engine.connect() as connection:
            found = []
            for name in sa.inspect(connection).get_table_names():
                for row in connection.execute(sa.select(sa.text("*")).select_from(sa.table(name))):
                    found += leaks("\n".join(map(str, row)), f"table {name}")
            return found
    finally:
        engine.dispose()
