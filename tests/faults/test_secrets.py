"""No key and no content comes out anywhere, while everything goes wrong that can.

The same is looked for after every test beside this one, by the fixture `nothing_leaks`.
"""

import base64
import http.client
import json
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from sweeper.config import load, secret
from sweeper.domain import event
from sweeper.ledger import database as ledger_database
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.sandbox.manners import Manner
from sweeper.sandbox.shapes import CANARY_CONTENT
from tests.support import canary, forked, sweeping, truth
from tests.support import daemon as daemons
from tests.support.rehearsal import KEY, OTHER_KEY, Rehearsal
from tests.support.sweeping import Site

WAYS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in JSON": json.dumps,
    "percent": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 of more": lambda text: base64.b64encode(f"Bearer {text}\r\n".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"k{text}".encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [KEY, OTHER_KEY, CANARY_CONTENT])
def test_whoever_looks_for_leaks_finds_them(text: str, way: str) -> None:
    canary.watch("the key", KEY)
    canary.watch("the other key", OTHER_KEY)
    assert canary.leaks(f"some {WAYS[way](text)} more", "a line") != []


def test_they_are_found_in_files_and_in_ledgers(database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "looked-at"
    folder.mkdir()
    canary.watch("the other key", OTHER_KEY)
    canary.watch("the key", KEY)
    db = ledger_database.open_database(database_url)
    try:
        assert canary.in_files(folder) == canary.in_ledger(database_url) == []
        (folder / "core").write_bytes(b"\0\xff" + KEY.encode() + b"\0")
        with db.write() as connection:
            connection.execute(tables.accounts.insert().values(name=OTHER_KEY))
        assert canary.in_files(folder) == ["the key stands in core"]
        assert "the other key stands in table accounts" in canary.in_ledgers()
        with db.write() as connection:
            connection.execute(tables.accounts.delete())
        (folder / "core").unlink()
    finally:
        db.close()


async def test_whatever_a_test_uses_is_watched(sqlite_database: Database) -> None:
    served, given, short = "fw_served_canarykey", "fw_given_canarykey", "fw_low"
    async with sweeping.serving(sqlite_database, keys={served: "acme"}) as site:
        site.account("main", key=given)
        site.account("main", key=short)
        for key in (served, given):
            assert canary.leaks(f"some {key} more", "a line") != []
        assert canary.indistinct() == [f"the key {short!r} is too short to be looked for"]
        before, site.events = site.events, []
        before.append(event.ClockDoubted(account="main", detail=given))
        assert canary.in_told() == ["the key of main stands in what was told"]
    canary.begin()  # all this was not what the test itself let out


FAULTS = [
    {"method": "DELETE", "do": Manner.RESET, "carry_out": True, "times": 3},
    {"method": "DELETE", "status": 503, "times": 3},
    {"method": "DELETE", "status": 429, "retry_after": "1", "times": 1},
    {"method": "GET", "status": 500, "times": 2},
    {"method": "DELETE", "status": 400, "times": 1},
    {"method": "DELETE", "delay": 0.1},
]
NEXT, UNKNOWN = "fw_next/canarykey?1", "fw_unknown_canarykey"

QUESTIONS = [
    ("status",),
    ("plan",),
    ("report",),
    ("report", "--format", "csv"),
    ("doctor", "--offline"),
    ("account", "list"),
    ("account", "check", "main"),
    ("responses", "list"),
    ("config", "show"),
    ("check",),
    ("db", "check"),
    ("explain", "{id}"),
    ("responses", "show", "{id}"),
]


def page(port: int, path: str) -> str:
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        asked.request("GET", path)
        answer = asked.getresponse()
        return f"{answer.getheaders()} {answer.read().decode()}"
    finally:
        asked.close()


def test_nothing_comes_out_of_a_daemon_and_its_commands_while_all_goes_wrong(
    rehearsal: Rehearsal,
) -> None:
    ids = rehearsal.responses(12)
    for rule in FAULTS:
        rehearsal.fault(**rule)
    port = free_port()
    rehearsal.write(more=f'[schedule]\nevery = "1h"\n[http]\nlisten = "127.0.0.1:{port}"\n')
    with daemons.daemon(rehearsal.config, "-v") as running:
        rehearsal.wait_for_deletes(3)
        rehearsal.use_key(NEXT)
        rehearsal.let_in({NEXT: "acme"})
        running.wait("key_replaced")
        running.wait("sweep_finished")
        rehearsal.use_key(UNKNOWN)
        rehearsal.responses(2)
        call = (rehearsal.folder, "-v", "-c", rehearsal.config)
        stopped = forked.run(*call, "sweep", "--json")
        assert stopped.last["stop_reason"] == "account:main:credential"
        pages = [page(port, path) for path in ("/healthz", "/readyz", "/metrics", f"/{KEY}")]
        said = [forked.run(*call, *(part.format(id=ids[0]) for part in one)) for one in QUESTIONS]
        assert running.end() == 0
    assert rehearsal.sandbox.call(lambda one: any(not each.account for each in one.journal.entries))
    assert all(one.out for one in said)
    assert canary.leaks("".join(pages), "a page") == []
    assert truth.violations(rehearsal) == []


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def test_no_value_that_knows_the_key_shows_it(rehearsal: Rehearsal) -> None:
    config = load.load(rehearsal.config, {})
    (account,) = config.accounts
    key = secret.read_key(account, {})
    shown = [repr(config), str(config), repr(key), str(key), f"{key}", f"{key!r:>80}", repr([key])]
    with suppress(Exception):
        shown.append(json.dumps({"key": key}, default=str))
    assert canary.leaks("".join(shown), "a value") == []


async def test_a_fault_that_nobody_foresaw_tells_no_frame(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store(2)

    async def fails(*_: object) -> None:
        held = site.sandbox.key
        raise RuntimeError(len(held))

    monkeypatch.setattr("sweeper.engine.deletion.Deletion.work", fails)
    ended = await site.sweep(checked=False)
    assert ended.fault is not None
    told = "".join(traceback.format_exception(ended.fault))
    assert canary.leaks(told + repr(ended), "a fault") == []
