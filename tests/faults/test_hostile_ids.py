"""No id and no text that others wrote leads elsewhere, forges a line or becomes a statement."""

import ast
import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from sweeper import client, errors
from sweeper.ledger import claims, tables
from tests.support import rehearsal as rehearsals
from tests.support import truth
from tests.support.command import Run
from tests.support.rehearsal import DUE, SUPPORT, YOUNG, Rehearsal

PACKAGE: Final = Path(claims.__file__).parents[1]
OLD: Final = datetime.now(UTC) - DUE


def leading_to(victim: str) -> tuple[str, ...]:
    """Ids that a careless client would turn into another address, most of them the victim's."""
    return (
        *("", " ", ".", "..", "/", "//", "\\", "#", "?", "%", "%00", "*", ";", "@", ":"),
        *(f"{victim}#x", f"{victim}?x", f"{victim}/", f"{victim}/.", f"{victim};x", f"{victim} "),
        *(f" {victim}", f"./{victim}", f"x/../{victim}", f"../responses/{victim}"),
        *(f"%2e%2e/responses/{victim}", f"..%2fresponses%2f{victim}", f"{victim}%20"),
        *("../files/x", "%2e%2e", "..;/files", "//evil.example/x", "http://evil.example/x"),
        *(f"{victim}\n", f"{victim}\r\nX-Evil: 1", f"{victim}\r\n\r\nDELETE / HTTP/1.1\r\n\r\n"),
        *(f"{victim}\x00", f"\x00{victim}", f"{victim}\x1b[2J", f"{victim}\u2028", "\ufeffresp_1"),
        *(f"resp_{chr(0x0661)}", "res\u0440_1", "\uff52esp_1", "resp_1\u0301", "résp", "💥"),
        *("a" * 129, "a" * 1025, "a.b", "a,b", "a'b", 'a"b', "a<b", "a|b", "a`b", "$(x)", "{x}"),
    )


def csv_of(ids: list[str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "created_at", "label.app"])
    rows.writerows([one, OLD.isoformat(), "support"] for one in ids)
    return text.getvalue().encode()


@pytest.mark.untrue
def test_no_way_in_lets_an_id_lead_anywhere_else(
    rehearsal: Rehearsal, run: Run, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(0o700)
    rehearsal.write(f'\n[intake]\nspool = "{spool}"\n')
    (victim,) = rehearsal.responses(1, age=YOUNG)
    good = rehearsal.responses(3)
    ids = list(leading_to(victim))
    lines = [{"id": one, "created_at": OLD.timestamp(), "labels": SUPPORT} for one in ids]
    told = "\n".join(map(json.dumps, lines)).encode() + b"\n"
    read = run("-c", rehearsal.config, "responses", "import", "-", "--json", stdin=told)
    assert (read.code, read.last["added"], read.last["rejected"]) == (1, 0, len(ids))
    (tmp_path / "ids.csv").write_bytes(csv_of(ids))
    read = run("-c", rehearsal.config, "responses", "import", tmp_path / "ids.csv", "--json")
    assert (read.code, read.last["added"]) == (1, 0)
    for one in (f"{victim}#x", "../files/x", "..", ""):
        given = ("--account", "main", "--created-at", OLD.isoformat())
        assert run("-c", rehearsal.config, "responses", "add", *given, "--", one).code != 0
    with client.Ledger(rehearsal.url) as ledger:
        # What some provider's profile allows is judged when it is admitted.
        for one in set(ids) - {"a" * 129}:
            with pytest.raises(errors.InvalidRegistration):
                ledger.register(one, OLD, account="main", labels=SUPPORT)
    (tmp_path / "told").write_bytes(told)
    (tmp_path / "told").rename(spool / "told.jsonl")
    storable = [one for one in ids if "\x00" not in one]
    rehearsal.register(dict.fromkeys(storable, OLD))
    swept = run("-c", rehearsal.config, "sweep", "--json")
    assert swept.last["outcomes"] == {"deleted": 3}
    # And straight into the table of what is admitted already, due and waiting to be verified.
    rehearsal.responses(len(storable))
    rehearsal.due.clear()
    run("-c", rehearsal.config, "status")
    rename(rehearsal, storable)
    rehearsal.due.update(good)
    run("-c", rehearsal.config, "sweep", "--json")
    targets: list[str] = rehearsal.sandbox.call(lambda one: one.journal.targets())
    assert {one for one in targets if "/responses/" in one} == {
        f"/inference/v1/responses/{one}" for one in good
    }
    assert {one.partition("?")[0] for one in targets if "/responses/" not in one} <= {
        "/verifyApiKey",
        "/inference/v1/responses",
    }
    assert victim in rehearsal.stored()
    assert {row["state"] for row in rehearsal.rows()} == {"gone", "live", "quarantined"}
    assert [row["response_id"] for row in rehearsal.rows() if row["state"] == "live"] == [victim]
    assert truth.violations(rehearsal) == []


def rename(rehearsal: Rehearsal, ids: list[str]) -> None:
    """Give the due responses these ids, every second one as if the provider had said yes."""
    table = tables.responses
    due = sa.select(table.c.id).where(
        table.c.state == "live", table.c.created_at <= 10**6 * OLD.timestamp() + 10**9
    )
    with rehearsal.database() as db, db.write() as connection:
        for number, (key, one) in enumerate(
            zip(connection.execute(due.order_by(table.c.id)).scalars().all(), ids, strict=True)
        ):
            yes = {"state": "verifying", "yes_at": 10**15, "verify_at": 0, "touched": 1}
            taken = connection.execute(sa.select(table.c.id).where(table.c.response_id == one))
            named = one if taken.first() is None else f"{one}/{number}"
            connection.execute(
                sa.update(table)
                .where(table.c.id == key)
                .values(response_id=named, **(yes if number % 2 else {}))
            )
    known = {row["response_id"] for row in rehearsal.rows()}
    rehearsal.ids &= known


# Text that would forge lines or move a terminal

EVIL: Final = '\x1b[2J\x1b]0;owned\x07\r\n{"event":"forged"}\u2028\u202e\x9b31m'
UNSAFE: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")


def evil_answers() -> Iterator[bytes]:
    """Answers with escapes wherever a provider may put text."""
    body = json.dumps({"error": {"message": EVIL}, "detail": EVIL}).encode()
    head = f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n".encode()
    date = b"Date: " + datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").encode() + b"\r\n"
    yield b"HTTP/1.1 500 \x1b[2JFORGED\r\n" + head + date + b"\r\n" + body
    yield b"HTTP/1.1 400 No\r\nx-request-id: \x1b[31mFORGED\r\n" + head + date + b"\r\n" + body
    yield b"HTTP/1.1 404 No\r\nServer: \x1b[31m\xff\r\n" + head + date + b"\r\n" + body
    yield b"HTTP/1.1 418 No\r\nRetry-After: \x1b[31m\r\n" + head + date + b"\r\n" + body
    yield b"\x1b[2J\r\n\x1b[2J\r\n\r\n"


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_that_others_wrote_forges_a_line_or_moves_a_terminal(
    tmp_path: Path, sqlite_url: str, run: Run, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with rehearsals.rehearsal(tmp_path, sqlite_url) as rehearsal:
        nothing_is_forged(rehearsal, run, monkeypatch, form)


def nothing_is_forged(
    rehearsal: Rehearsal, run: Run, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("SWEEPER__LOG__FORMAT", form)
    names = rehearsal.responses(8)
    rehearsal.responses(2, labels={"app": "nobody's"})
    run("-c", rehearsal.config, "status")
    table = tables.responses
    evil = EVIL.replace("\x00", "")
    with rehearsal.database() as db, db.write() as connection:
        for name, values in (
            (names[6], {"response_id": evil, "subject": evil, "previous_response_id": evil}),
            (names[7], {"quarantine_reason": evil, "state": "quarantined", "policy": evil}),
        ):
            connection.execute(sa.update(table).where(table.c.response_id == name).values(values))
        connection.execute(
            sa.update(tables.label_sets)
            .where(tables.label_sets.c.labels == '{"app":"nobody\'s"}')
            .values(labels=json.dumps({"app": evil}))
        )
    for count, raw in enumerate(evil_answers()):
        rehearsal.fault(method="DELETE", after=count, times=1, raw=raw)
    verbs = (
        ["sweep", "--json"], ["sweep"], ["status"], ["plan"], ["report"], ["doctor"],
        ["responses", "list"], ["responses", "list", "--state", "quarantined"],
        ["responses", "show", evil], ["explain", evil], ["explain", names[7]],
        ["responses", "show", names[7]], ["account", "list"], ["account", "check"],
        ["responses", "close", evil, "--reason", "x"], ["responses", "add", evil],
        ["db", "check"], ["explain", evil + "x"],
    )  # fmt: skip
    for verb in verbs:
        told = run("-c", rehearsal.config, *verb)
        for text in (told.out, told.err):
            assert UNSAFE.search(text) is None, (verb, text)
            assert not [line for line in text.splitlines() if line.startswith('{"event":"forged"')]
        if form == "json" and "--json" in verb:
            assert all(json.loads(line)["event"] for line in told.err.splitlines())
        assert "FORGED" not in told.out + told.err


# Text that would become a statement

STATEMENTS: Final = (
    *("' OR '1'='1", "'; DROP TABLE responses; --", '"; DELETE FROM responses; --', "x' UNION"),
    *("' OR 1=1 /*", "\\'; SELECT 1; --", "%", "_", "resp%", "$1", ":name", "?", "%s", "{0}"),
    *("1; UPDATE responses SET state='gone'", "x'); --", "${jndi:x}", "\\", "'", '"', "`"),
)


def test_no_text_becomes_part_of_a_statement(rehearsal: Rehearsal, run: Run) -> None:
    names = rehearsal.responses(len(STATEMENTS), age=YOUNG)
    lines = [
        {"id": name, "created_at": OLD.timestamp(), "labels": {"app": one}, "subject": one}
        for name, one in zip(
            (f"resp_s{n}" for n in range(len(STATEMENTS))), STATEMENTS, strict=True
        )
    ]
    told = "\n".join(map(json.dumps, lines)).encode()
    assert run("-c", rehearsal.config, "responses", "import", "-", stdin=told).code == 0
    run("-c", rehearsal.config, "status")
    before = rehearsal.rows()
    for one in STATEMENTS[::4]:
        for verb in (["responses", "show", "--", one], ["explain", "--", one]):
            assert run("-c", rehearsal.config, *verb).code == 1
        assert run("-c", rehearsal.config, "responses", "list", "--account", one).code == 2
        for verb in (["retry"], ["close"]):
            asked = ("responses", *verb, "--reason", one, "--", one)
            assert run("-c", rehearsal.config, *asked).code == 1
    assert rehearsal.rows() == before
    kept = {row["subject"] for row in before} - {None}
    assert kept == set(STATEMENTS)
    stored = {json.loads(row["labels"])["app"] for row in rehearsal.rows(tables.label_sets)}
    assert set(STATEMENTS) <= stored
    closed = run("-c", rehearsal.config, "responses", "close", names[0], "--reason", STATEMENTS[1])
    assert closed.code == 0
    (reason,) = rehearsal.rows(tables.reasons)
    assert reason["text"] == STATEMENTS[1]


# How the program speaks to the database, and what it never does with what it reads

SQL: Final = frozenset(
    {"text", "literal_column", "exec_driver_sql", "execute", "executemany", "executescript"}
)
OURS: Final = frozenset(
    {
        "state", "name", "setting", "state.value", "outcome.value", "Outcome.CLOSED.value",
        "index", "where", "tables.KEPT_AFTER_YES", "column",
    }
)  # fmt: skip
"""Names of what our own code holds: states, outcomes, settings, columns; nothing that was read."""
NEVER: Final = frozenset(
    {"eval", "exec", "compile", "__import__", "system", "popen", "loads_pickle", "literal_eval"}
)
MODULES: Final = frozenset(
    {"pickle", "marshal", "shelve", "yaml", "dill", "cloudpickle", "jsonpickle"}
)


@cache
def sources() -> list[tuple[str, ast.Module]]:
    paths = sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "migrations").rglob("*.py")])
    return [(str(path.relative_to(PACKAGE.parent)), ast.parse(path.read_text())) for path in paths]


def named(called: ast.expr) -> str:
    match called:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def is_ours(said: ast.expr) -> bool:
    """Whether a statement's text holds nothing but what stands in the source."""
    match said:
        case ast.Constant():
            return True
        case ast.JoinedStr(values=parts):
            return all(
                isinstance(part, ast.Constant)
                or (isinstance(part, ast.FormattedValue) and is_name_of_ours(part.value))
                for part in parts
            )
        case ast.IfExp(body=one, orelse=other):
            return is_ours(one) and is_ours(other)
        case ast.Call(func=ast.Name(id="str"), args=[value]):
            return is_name_of_ours(value)
        case ast.BinOp() | ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
            return False
        case ast.Name() | ast.Attribute():
            return True  # a statement that was built elsewhere, or a name that is looked at there
        case _:
            return True


def is_name_of_ours(value: ast.expr) -> bool:
    said = ast.unparse(value)
    return said in OURS or said.isupper() or said.lstrip("_").isupper()


def test_no_statement_is_put_together_from_what_was_read() -> None:
    wrong = [
        f"{path}:{node.lineno}: {ast.unparse(node.args[0])}"
        for path, tree in sources()
        if path.startswith(("sweeper/ledger", "sweeper/service", "sweeper/engine", "migrations"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and named(node.func) in SQL and node.args
        if not is_ours(node.args[0])
    ]
    assert wrong == []


def test_raw_statements_stand_in_the_ledger_only() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in sources()
        if not path.startswith(("sweeper/ledger/", "migrations/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("exec_driver_sql", "literal_column", "executescript")
    ]
    assert wrong == []


def test_nothing_that_was_read_is_ever_run() -> None:
    wrong = []
    for path, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in NEVER:
                    wrong.append(f"{path}:{node.lineno}: {name}")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr=name)) if (
                    name in NEVER
                ):
                    wrong.append(f"{path}:{node.lineno}: os.{name}")
                case ast.Call(keywords=given) if any(
                    one.arg == "shell" and ast.unparse(one.value) != "False" for one in given
                ):
                    wrong.append(f"{path}:{node.lineno}: shell")
                case ast.Import(names=modules):
                    wrong += [f"{path}: {one.name}" for one in modules if one.name in MODULES]
                case ast.ImportFrom(module=module) if module in MODULES:
                    wrong.append(f"{path}: {module}")
    assert wrong == []


@pytest.mark.parametrize(
    "said",
    [
        'text(f"SELECT {given}")',
        'execute("SELECT " + given)',
        'text("x {}".format(given))',
        'exec_driver_sql("SELECT %s" % given)',
        'text(", ".join(given))',
        "literal_column(str(given))",
    ],
)
def test_a_statement_put_together_would_be_found(said: str) -> None:
    (call,) = [
        node
        for node in ast.walk(ast.parse(said))
        if isinstance(node, ast.Call) and named(node.func) in SQL
    ]
    assert not is_ours(call.args[0])
