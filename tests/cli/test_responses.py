"""Registering is exact, idempotent, and says of every line what became of it."""

import gc
import json
import signal
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli.interruption import Interruptible
from sweeper.ledger import tables
from sweeper.service.lines import Line
from tests.support import command
from tests.support.command import Run
from tests.support.rehearsal import Rehearsal

CREATED = 1763769600
SOME = [
    {"id": "resp_1", "created_at": CREATED, "labels": {"app": "support"}, "subject": "u-1"},
    {"id": "resp_2", "created_at": CREATED + 60, "previous_response_id": "resp_1"},
    {"id": "resp_3", "created_at": "2025-11-22T00:00:00Z", "account": "other"},
]


def written(values: list[Any]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def summary(**counts: int) -> dict[str, object]:
    names = ("read", "added", "completed", "known", "skipped", "rejected")
    return {"type": "summary", **{name: counts.get(name, 0) for name in names}}


def test_lines_are_added_once_and_known_the_second_time(run: Run, config: Path) -> None:
    first = run("-c", config, "responses", "import", "-", "--json", stdin=written(SOME))
    assert (first.code, first.lines) == (0, [summary(read=3, added=3)])
    again = run("-c", config, "responses", "import", "-", "--json", stdin=written(SOME))
    assert (again.code, again.lines) == (0, [summary(read=3, known=3)])


def test_every_rejected_line_is_named_and_the_good_ones_are_kept(run: Run, config: Path) -> None:
    hostile = [
        SOME[0],
        {"id": "../files/x", "created_at": CREATED},
        "no object",
        {"id": "resp_2", "created_at": CREATED, "store": False},
        {"id": "resp_4", "created_at": CREATED * 1000},
        {"id": "resp_5", "created_at": CREATED},
        {"id": "resp_1", "created_at": CREATED, "labels": {"app": "other"}},
    ]
    data = written(hostile) + b"{oops\n"
    result = run("-c", config, "responses", "import", "-", "--json", stdin=data)
    assert result.code == 1
    *rejected, last = result.lines
    assert last == summary(read=8, added=2, skipped=1, rejected=5)
    assert [(each["type"], each["line"]) for each in rejected] == [
        ("rejected", number) for number in (2, 3, 5, 7, 8)
    ]
    words = [each["reason"].partition(":")[0] for each in rejected]
    assert words == ["bad_id", "not_an_object", "bad_created_at", "conflicting", "not_json"]
    assert rejected[3]["reason"] == (
        "conflicting: labels differ; the known response is set aside too, until a person decides"
    )
    assert result.err == ""


def test_for_people_the_rejected_are_on_stderr_and_the_sum_on_stdout(
    run: Run, config: Path
) -> None:
    data = written([SOME[0], {"id": "a\x1b[2Jb", "created_at": CREATED}])
    result = run("-c", config, "responses", "import", "-", stdin=data)
    assert result.code == 1
    assert result.out == "2 read, 1 added, 0 completed, 0 known, 0 skipped, 1 rejected\n"
    assert result.err.startswith("line 2: bad_id: ")
    assert "\x1b" not in result.err


def test_the_format_follows_the_files_name_or_the_option(
    run: Run, config: Path, tmp_path: Path
) -> None:
    table = tmp_path / "some.CSV"
    table.write_text("id,created_at,label.app\nresp_1,1763769600,support\n")
    result = run("-c", config, "responses", "import", table, "--json")
    assert result.last == summary(read=1, added=1)
    data = table.read_bytes()
    result = run("-c", config, "responses", "import", "-", "--format", "csv", "--json", stdin=data)
    assert result.last == summary(read=1, known=1)
    shown = run("-c", config, "responses", "show", "resp_1", "--json").last
    assert shown["labels"] == {"app": "support"}


def test_an_unusable_header_or_file_is_refused_as_a_whole(
    run: Run, config: Path, tmp_path: Path
) -> None:
    result = run("-c", config, "responses", "import", "-", "--format", "csv", stdin=b"x,y\n1,2\n")
    assert (result.code, result.out) == (1, "")
    assert "unknown column 'x' in the header" in result.err
    missing = run("-c", config, "responses", "import", tmp_path / "none", "--json")
    assert (missing.code, missing.out) == (1, "")
    assert "No such file" in missing.error["message"]
    assert "name a file that you may read" in missing.error["hint"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_empty_file_is_nothing_to_do(run: Run, config: Path, form: str) -> None:
    result = run("-c", config, "responses", "import", "-", "--format", form, "--json")
    assert (result.code, result.lines, result.err) == (0, [summary()], "")


def test_the_collector_works_as_before_once_an_import_is_over(run: Run, config: Path) -> None:
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    try:
        run("-c", config, "responses", "import", "-", stdin=written([]))
        assert gc.get_threshold() == (701, 11, 12)
    finally:
        gc.set_threshold(*before)


def test_many_batches_add_up(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeper.service import intake  # noqa: PLC0415 - what the verb imports when it is called

    monkeypatch.setattr(intake.register, "__kwdefaults__", {"default_account": None, "batch": 7})
    values = [{"id": f"resp_{n}", "created_at": CREATED} for n in range(50)]
    result = run("-c", config, "responses", "import", "-", "--json", stdin=written(values))
    assert result.last == summary(read=50, added=50)


def test_while_the_clock_is_in_doubt_nothing_more_is_registered_and_what_was_is_told(
    run: Run, rehearsal: Rehearsal, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back after the first batch: the second one would be judged by it."""
    from sweeper.service import intake  # noqa: PLC0415 - what the verb imports when it is called

    rehearsal.write(url=database_url)
    rehearsal.url = database_url
    monkeypatch.setattr(intake.register, "__kwdefaults__", {"default_account": None, "batch": 2})
    admit = intake.Desk.admit

    def then_back(desk: intake.Desk, page: Sequence[Line]) -> intake.Batch:
        kept = admit(desk, page)
        rehearsal.change(tables.ledger, last_good_at=4_000_000_000_000_000)
        return kept

    monkeypatch.setattr(intake.Desk, "admit", then_back)
    values = [{"id": f"resp_{n}", "created_at": CREATED} for n in range(5)]
    data = written(values)
    result = run("-c", rehearsal.config, "responses", "import", "-", "--json", stdin=data)
    assert (result.code, result.lines) == (1, [summary(read=2, added=2)])
    assert result.error["message"].startswith(
        "nothing more was registered, because the clock may be wrong: The wall clock is"
    )
    assert "mend the time service" in result.error["hint"]
    assert {row["response_id"] for row in rehearsal.rows()} == {"resp_0", "resp_1"}
    one = ("responses", "add", "resp_9", "--created-at", str(CREATED))
    result = run("-c", rehearsal.config, *one)
    assert (result.code, result.out) == (1, "")
    assert len(rehearsal.rows()) == 2


@pytest.mark.parametrize("account", [None, "main"])
def test_only_one_configured_account_need_not_be_named(
    run: Run, config: Path, account: str | None
) -> None:
    more = ("--account", account) if account else ()
    run("-c", config, "responses", "import", "-", *more, stdin=written(SOME[:1]))
    assert run("-c", config, "responses", "show", "resp_1", "--json").last["account"] == "main"


def test_of_two_accounts_a_line_must_name_one(run: Run, config: Path) -> None:
    with config.open("a") as file:
        file.write('\n[accounts.second]\nprovider = "openai"\n')
    result = run("-c", config, "responses", "import", "-", "--json", stdin=written(SOME[:1]))
    assert result.lines[0]["reason"] == "bad_account: account is missing"
    more = ("--account", "second")
    result = run("-c", config, "responses", "import", "-", *more, stdin=written(SOME[:1]))
    assert result.code == 0


def test_an_id_may_be_as_long_as_its_accounts_provider_allows(run: Run, config: Path) -> None:
    with config.open("a") as file:
        file.write('\n[accounts.second]\nprovider = "openai"\n')
    lines = [
        {"id": "a" * 1000, "created_at": CREATED, "account": name}
        for name in ("main", "second", "elsewhere")
    ]
    result = run("-c", config, "responses", "import", "-", "--json", stdin=written(lines))
    assert result.last == summary(read=3, added=1, rejected=2)


def test_an_interrupted_import_keeps_exactly_what_it_counts(config: Path) -> None:
    child = command.start("-c", config, "responses", "import", "-", "--json")
    assert child.stdin is not None
    values = [{"id": f"resp_{n}", "created_at": CREATED} for n in range(20_001)]
    child.stdin.write(written(values))
    child.stdin.flush()
    wait_for_rows(config.with_name("ledger.db"), 20_000)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 3, err
    count = json.loads(out.splitlines()[-1])["added"]
    assert json.loads(out.splitlines()[-1]) == summary(read=count, added=count)
    assert count in (20_000, 20_001)
    assert rows(config.with_name("ledger.db")) == count
    told = json.loads(err)
    assert (told["type"], told["exit_code"], told["error"]) == ("error", 3, "interrupted")
    assert told["message"] == "interrupted: what was counted is kept"


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM responses").fetchone()
        return int(count)


def wait_for_rows(path: Path, count: int) -> None:
    while rows(path) < count:
        time.sleep(0.01)  # across processes there is nothing else to wait for


def test_the_first_interrupt_waits_for_work_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruptible() as ctrl_c:
        found = ctrl_c.until(range(3))
        assert next(found) == 0
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.asked
        assert list(found) == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_ends_a_wait_for_the_next_line() -> None:
    def lines() -> Iterator[int]:
        yield 1
        signal.raise_signal(signal.SIGINT)
        yield 2

    with Interruptible() as ctrl_c:
        assert list(ctrl_c.until(lines())) == [1]


def test_one_response_is_added_by_its_id(run: Run, config: Path) -> None:
    words = ("responses", "add", "resp_9", "--created-at", "2025-11-22T00:00:00+01:00")
    more = ("--label", "app=support", "--label", "k=a=b", "--subject", "u", "--previous", "resp_8")
    assert run("-c", config, *words, *more, "--json").lines == [summary(read=1, added=1)]
    assert run("-c", config, *words, *more).out.startswith("1 read, 0 added, 0 completed, 1 known")
    shown = run("-c", config, "responses", "show", "resp_9", "--json").last
    assert shown["labels"] == {"app": "support", "k": "a=b"}
    assert (shown["subject"], shown["previous_response_id"]) == ("u", "resp_8")


def test_one_that_breaks_the_rules_is_told_why(run: Run, config: Path) -> None:
    result = run("-c", config, "responses", "add", "a/b", "--created-at", CREATED)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: it was rejected: bad_id")
    words = ("-c", config, "responses", "add", "resp_1", "--created-at", "yesterday", "--json")
    told = run(*words).error
    assert told["error"] == "invalid_registration"
    assert told["hint"].startswith("write Unix seconds, as 1763769600, or RFC 3339")
    run("-c", config, "responses", "add", "resp_1", "--created-at", CREATED)
    again = run(
        *("-c", config, "responses", "add", "resp_1", "--created-at", CREATED),
        *("--label", "app=other"),
    )
    assert "the known response is set aside too" in again.err


@pytest.mark.parametrize("labels", [("app",), ("a=1", "a=2")])
def test_a_label_is_a_key_with_a_value_once(
    run: Run, config: Path, labels: tuple[str, ...]
) -> None:
    words = [word for label in labels for word in ("--label", label)]
    result = run("-c", config, "responses", "add", "a", "--created-at", CREATED, *words)
    assert result.code == 2
    assert "write KEY=VALUE" in result.err


def test_an_account_that_is_not_configured_is_warned_of(run: Run, config: Path) -> None:
    words = ("responses", "add", "a", "--created-at", CREATED, "--account", "mian")
    result = run("-c", config, *words)
    assert result.code == 0
    assert "warning: account mian is not configured" in result.err
    lines = [{"id": f"b{n}", "created_at": CREATED, "account": f"x{n % 2}"} for n in range(6)]
    importing = ("-c", config, "responses", "import", "-", "--account", "main")
    result = run(*importing, stdin=written(lines))
    assert result.code == 0
    assert [line.split()[2] for line in result.err.splitlines()] == ["x0", "x1"]
    told = run(*importing, "--json", stdin=written(lines[:1])).error
    assert (told["type"], told["account"]) == ("warning", "x0")


def test_a_response_is_shown_with_what_decides_of_it(run: Run, config: Path) -> None:
    run("-c", config, "responses", "import", "-", stdin=written(SOME))
    (shown,) = run("-c", config, "responses", "show", "resp_1", "--json").lines
    assert shown == {
        "type": "response",
        "response_id": "resp_1",
        "account": "main",
        "created_at": "2025-11-22T00:00:00.000000Z",
        "labels": {"app": "support"},
        "subject": "u-1",
        "previous_response_id": None,
        "state": "live",
        "quarantine_reason": None,
        "next": None,
        "outcome": None,
        "verified": False,
        "attempts": 0,
        "policy": "support",
        "due_at": "2025-12-06T00:00:00.000000Z",
        "deadline_at": "2025-12-07T00:00:00.000000Z",
        "finished_at": None,
        "closed_by": None,
        "closed_because": None,
    }
    unmatched = run("-c", config, "responses", "show", "resp_2", "--json").last
    assert (unmatched["policy"], unmatched["due_at"]) == (None, None)
    plain = run("-c", config, "responses", "show", "resp_1").out.splitlines()
    assert plain[0].split() == ["response", "id", "resp_1"]
    assert ["labels", '{"app":"support"}'] in [line.split() for line in plain]


def test_of_a_gone_response_what_decided_then_is_shown(run: Run, config: Path) -> None:
    run("-c", config, "responses", "import", "-", stdin=written(SOME[:1]))
    with closing(sqlite3.connect(config.with_name("ledger.db"))) as connection, connection:
        connection.execute(
            "UPDATE responses SET state = 'gone', outcome = 'deleted', yes_at = 1, finished_at ="
            " 1000000, policy = 'earlier', due_at = 2000000, deadline_at = NULL"
        )
    shown = run("-c", config, "responses", "show", "resp_1", "--json").last
    assert (shown["policy"], shown["due_at"]) == ("earlier", "1970-01-01T00:00:02.000000Z")
    assert shown["finished_at"] == "1970-01-01T00:00:01.000000Z"


def test_a_response_that_nobody_knows_or_several_have_is_told(run: Run, config: Path) -> None:
    unknown = run("-c", config, "responses", "show", "resp_1", "--json")
    assert (unknown.code, unknown.error["error"]) == (1, "unknown_response")
    for account in ("main", "other"):
        words = ("responses", "add", "resp_1", "--created-at", CREATED, "--account", account)
        run("-c", config, *words)
    assert run("-c", config, "responses", "show", "resp_1").code == 2
    one = run("-c", config, "responses", "show", "resp_1", "--account", "other", "--json")
    assert one.last["account"] == "other"


def test_the_list_comes_page_by_page_and_ends_with_its_count(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.cli import lookup  # noqa: PLC0415 - next to what it is changed for

    monkeypatch.setattr(lookup, "PAGE", 2)
    run("-c", config, "responses", "import", "-", stdin=written(SOME))
    *rows, last = run("-c", config, "responses", "list", "--json").lines
    assert sorted(row["response_id"] for row in rows) == ["resp_1", "resp_2", "resp_3"]
    assert last == {"type": "summary", "responses": 3, "waiting_for_admission": 0}
    for words, count in [
        (("--limit", 1), 1),
        (("--limit", 2), 2),
        (("--state", "gone"), 0),
        (("--state", "live"), 3),
        (("--account", "other"), 1),
    ]:
        assert run("-c", config, "responses", "list", *words, "--json").last["responses"] == count
    plain = run("-c", config, "responses", "list", "--limit", 1).out.splitlines()
    assert plain[0].split() == ["RESPONSE", "ACCOUNT", "CREATED", "STATE", "OUTCOME", "LABELS"]
    assert plain[1].startswith("resp_")


def test_of_an_empty_list_it_is_said_that_there_are_none(run: Run, config: Path) -> None:
    result = run("-c", config, "responses", "list", "--account", "main")
    assert (result.code, result.out, result.err) == (0, "", "no responses\n")
    told = run("-c", config, "responses", "list", "--json")
    assert (told.err, [line["type"] for line in told.lines]) == ("", ["summary"])


@pytest.mark.parametrize(
    "verb", [("responses", "list"), ("responses", "show", "x"), ("explain", "x")]
)
def test_an_account_that_nobody_knows_is_told(
    run: Run, config: Path, verb: tuple[str, ...]
) -> None:
    run("-c", config, "responses", "import", "-", stdin=written(SOME))
    result = run("-c", config, *verb, "--account", "nope", "--json")
    assert (result.code, result.out, result.error["error"]) == (2, "", "unknown_account")
    assert result.error["hint"] == "known are: main, other"
    assert run("-c", config, *verb, "--account", "other", "--json").code == int(
        len(verb) > 2 or verb[0] == "explain"
    )


def test_what_waits_for_admission_is_mentioned(run: Run, config: Path) -> None:
    with closing(sqlite3.connect(config.with_name("ledger.db"))) as connection, connection:
        connection.execute("INSERT INTO registrations (response_id) VALUES ('x')")
    assert "1 more are registered" in run("-c", config, "responses", "list").err


def test_registering_works_on_postgresql_too(run: Run, tmp_path: Path, postgresql_url: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[ledger]\nurl = "{postgresql_url}"\n[accounts.main]\nprovider = "openai"\n')
    result = run("-c", path, "responses", "import", "-", "--json", stdin=written(SOME))
    assert result.last == summary(read=3, added=3)
    assert run("-c", path, "responses", "list", "--json").last["responses"] == 3
