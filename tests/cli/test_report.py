"""A report tells what was deleted in a period, how late, what is open now and what did not run."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sweeper.cli import sheet
from sweeper.domain import moment
from sweeper.ledger import tables
from tests.support.command import Result, Run
from tests.support.rehearsal import OTHER_KEY, Rehearsal

LATE = timedelta(days=14, hours=3)
REPORT = {
    "type", "made_at", "since", "until", "policy", "outcomes", "verified", "settled", "open",
    "open_unknown_because", "sweeps", "missed_runs", "missed_runs_unknown_because",
}  # fmt: skip
DAY = 86_400


def us(before: timedelta = timedelta(0)) -> int:
    return moment.to_us(datetime.now(UTC) - before)


def use(rehearsal: Rehearsal, url: str) -> None:
    rehearsal.url = url
    rehearsal.write()


def insert(rehearsal: Rehearsal, table: sa.Table, *rows: Mapping[str, object]) -> None:
    with rehearsal.database() as db, db.write() as connection:
        for row in rows:
            connection.execute(sa.insert(table).values(**row))


def sheet_of(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(result.out, newline=""), strict=True))


def test_an_empty_ledger_has_an_empty_report(run: Run, rehearsal: Rehearsal) -> None:
    told = run("-c", rehearsal.config, "report", "--json").last
    assert set(told) == REPORT
    assert (told["outcomes"], told["settled"], told["open"]) == ({}, [], [])
    assert told["sweeps"] == {
        "begun": 0,
        "complete": 0,
        "incomplete": {},
        "died": 0,
        "running_or_died": 0,
    }
    lines = run("-c", rehearsal.config, "report").out.splitlines()
    assert lines[0].startswith("From 20")
    assert [line for line in lines[1:] if line] == [
        "Nothing was deleted or found gone.",
        "Nothing is due now.",
        "sweeps: 0 begun, 0 complete, 0 not",
        (
            "sweeps that did not run: not known; no daemon had followed a schedule by then, so"
            " no run was asked for"
        ),
    ]


def test_what_was_deleted_is_told_with_how_late_it_was(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    """Three were due for three hours and one for six days: the worst is not the median."""
    use(rehearsal, database_url)
    rehearsal.responses(3, age=LATE)
    rehearsal.responses(1)
    assert run("-c", rehearsal.config, "sweep").code == 0
    told = run("-c", rehearsal.config, "report", "--json").last
    (row,) = told["settled"]
    spread = row.pop("lateness_seconds")
    assert row == {
        "account": "main",
        "policy": "support",
        "outcome": "deleted",
        "responses": 4,
        "verified": 4,
        "past_deadline": 1,
    }
    assert (told["outcomes"], told["verified"], told["open"]) == ({"deleted": 4}, 4, [])
    assert spread["median"] == pytest.approx(3 * 3600, abs=60)
    assert spread["p99"] == spread["worst"] == pytest.approx(6 * DAY, abs=60)
    assert told["sweeps"]["begun"] == told["sweeps"]["complete"] == 1


def test_those_that_were_late_alike_count_each(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    rehearsal.responses(4, age=LATE)
    run("-c", rehearsal.config, "sweep")
    ended, second = us(timedelta(minutes=1)), 1_000_000
    late = {"due_at": ended - 10 * second, "deadline_at": ended - 5 * second}
    rehearsal.change(tables.responses, finished_at=ended, **late)
    with rehearsal.database() as db, db.write() as connection:
        table = tables.responses
        first = sa.select(sa.func.min(table.c.id)).scalar_subquery()
        in_time = {"due_at": ended - 3 * second, "deadline_at": ended}
        connection.execute(sa.update(table).where(table.c.id == first).values(**in_time))
    (row,) = run("-c", rehearsal.config, "report", "--json").last["settled"]
    assert (row["responses"], row["verified"], row["past_deadline"]) == (4, 4, 3)
    assert row["lateness_seconds"] == {"median": 10, "p99": 10, "worst": 10}


def test_only_what_is_proved_deleted_counts_as_deleted(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    rehearsal.responses(2, age=LATE)
    rehearsal.responses(1, age=LATE, stored=False)
    run("-c", rehearsal.config, "sweep")
    told = run("-c", rehearsal.config, "report", "--json").last
    assert told["outcomes"] == {"already_absent": 1, "deleted": 2}
    assert told["verified"] == 2
    text = run("-c", rehearsal.config, "report").out
    assert "deleted: 2, 2 of them verified\n" in text
    assert "already absent: 1\n" in text


def test_a_period_has_what_was_finished_in_it_and_nothing_else(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(2, age=LATE)
    run("-c", rehearsal.config, "sweep")
    now = datetime.now(UTC)
    values = [now - timedelta(days=40), now - timedelta(days=20)]
    ids = [row["id"] for row in rehearsal.rows()]
    with rehearsal.database() as db, db.write() as connection:
        table = tables.responses
        for key, at in zip(ids, values, strict=True):
            change = sa.update(table).where(table.c.id == key)
            connection.execute(change.values(finished_at=moment.to_us(at), verified=0))
    for words, count in (
        ([], 1),
        (["--since", "41d"], 2),
        (["--since", "41d", "--until", (now - timedelta(days=30)).isoformat()], 1),
        (["--since", "1d"], 0),
    ):
        told = run("-c", rehearsal.config, "report", "--json", *words).last
        assert told["outcomes"].get("deleted", 0) == count
    assert datetime.fromisoformat(told["until"]) - datetime.fromisoformat(
        told["since"]
    ) == timedelta(days=1)


def test_what_is_still_open_is_told_by_policy_and_reason(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    ids = rehearsal.responses(3, age=LATE)
    rehearsal.responses(2)
    rehearsal.responses(2, account="elsewhere", age=LATE, stored=False)
    rehearsal.responses(4, labels={"app": "contracts"})
    rehearsal.fault(method="DELETE", id=ids[1], status=500)
    rehearsal.fault(method="DELETE", id=ids[0], status=422)
    run("-c", rehearsal.config, "sweep")
    rehearsal.responses(1)
    found = run("-c", rehearsal.config, "report", "--json").last["open"]
    worsts = [one.pop("worst_lateness_seconds") for one in found]
    assert found == [
        {
            "account": "elsewhere",
            "policy": "support",
            "due": 2,
            "past_deadline": 0,
            "by_reason": {"no_account": 2},
        },
        {
            "account": "main",
            "policy": "support",
            "due": 3,
            "past_deadline": 1,
            "by_reason": {"failing": 1, "quarantined": 1, "untried": 1},
        },
    ]
    assert worsts == [pytest.approx(3 * 3600, abs=60), pytest.approx(6 * DAY, abs=60)]
    lines = run("-c", rehearsal.config, "report").out.splitlines()
    (row,) = [line for line in lines if line.endswith("1 failing, 1 quarantined, 1 untried")]
    assert row.split()[:4] == ["main", "support", "3", "1"]


def test_what_a_stopped_account_keeps_is_told_as_stopped(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2, age=LATE)
    rehearsal.use_key("fw_wrong_one")
    run("-c", rehearsal.config, "sweep")
    told = run("-c", rehearsal.config, "report", "--json").last
    assert told["open"][0]["by_reason"] == {"stopped": 2}
    assert told["sweeps"]["incomplete"] == {"account:main:credential": 1}
    assert "  not complete: 1, because account main was stopped (credential)\n" in (
        run("-c", rehearsal.config, "report").out
    )


def test_label_sets_of_one_policy_are_one_row(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2, age=LATE)
    rehearsal.responses(3, labels={"app": "support", "env": "prod"})
    (row,) = run("-c", rehearsal.config, "report", "--json").last["open"]
    assert (row["due"], row["past_deadline"], row["by_reason"]) == (5, 3, {"untried": 5})
    assert row["worst_lateness_seconds"] == pytest.approx(6 * DAY, abs=60)


def test_what_has_no_time_of_creation_is_open_and_its_lateness_unknown(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    rehearsal.responses(1, labels={"app": "nobody's"})
    run("-c", rehearsal.config, "plan")
    values = {"state": "quarantined", "quarantine_reason": "malformed:bad_created_at"}
    rehearsal.change(tables.responses, created_at=None, **values)
    (row,) = run("-c", rehearsal.config, "report", "--json").last["open"]
    assert (row["policy"], row["due"], row["worst_lateness_seconds"]) == (None, 1, None)
    lines = run("-c", rehearsal.config, "report").out.splitlines()
    assert [line.split() for line in lines if line.endswith("1 quarantined")] == [
        ["main", "-", "1", "0", "-", "1", "quarantined"]
    ]
    assert run("-c", rehearsal.config, "report", "--policy", "support", "--json").last["open"] == []


def _without_seconds(text: str) -> str:
    """They count on from one call to the next."""
    return re.sub(r"is [0-9]+ s behind", "is so far behind", text)


def test_nothing_is_said_of_what_is_open_while_the_clock_may_be_wrong(
    run: Run, rehearsal: Rehearsal
) -> None:
    """Unknown is not none."""
    rehearsal.responses(2)
    rehearsal.change(tables.ledger, last_good_at=4_000_000_000_000_000)
    told = run("-c", rehearsal.config, "report", "--json").last
    assert told["open"] is None
    why = told["open_unknown_because"]
    assert why.endswith("behind the last time at which it was right.")
    text = _without_seconds(run("-c", rehearsal.config, "report").out)
    told_so = f"What is still open is not known, because the clock may be wrong: {why}\n"
    assert _without_seconds(told_so) in text
    rows = sheet_of(run("-c", rehearsal.config, "report", "--format", "csv"))
    assert [row["name"] for row in rows if row["section"] == "due"] == ["unknown"]
    assert all(row["count"] == "" for row in rows if row["name"] == "unknown")


def test_sweeps_are_told_by_how_they_ended(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)

    def swept(name: str, hours: int, **values: object) -> dict[str, object]:
        at = us(timedelta(hours=hours))
        ended = {"finished_at": at + 1} if values else {}
        return {"id": name, "started_at": at, **ended, **values}

    insert(
        rehearsal,
        tables.sweeps,
        swept("long ago", 24 * 31, complete=1),
        swept("died", 9),
        swept("good", 8, complete=1),
        swept("left", 7, complete=0),
        swept("refused", 6, complete=0, stop_reason="guard"),
        swept("running", 1),
    )
    told = run("-c", rehearsal.config, "report", "--json").last["sweeps"]
    assert told == {
        "begun": 5,
        "complete": 1,
        "incomplete": {"something_left": 1, "guard": 1},
        "died": 1,
        "running_or_died": 1,
    }
    lines = run("-c", rehearsal.config, "report").out.splitlines()
    begin = lines.index("sweeps: 5 begun, 1 complete, 2 not")
    assert set(lines[begin + 1 : begin + 5]) == {
        "  not complete: 1, because something was left",
        "  not complete: 1, because a guard refused it",
        "  never ended: 1; the process died",
        "  the newest one is running, or died",
    }
    earlier = datetime.now(UTC) - timedelta(hours=2)
    past = run("-c", rehearsal.config, "report", "--json", "--until", earlier.isoformat()).last
    assert (past["sweeps"]["begun"], past["sweeps"]["running_or_died"]) == (4, 0)


def test_runs_that_did_not_happen_are_counted_since_a_schedule_is_known(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    begun = datetime.now(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(hours=5)
    row = {"since": moment.to_us(begun), "every": 3_600_000_000, "cron": None}
    insert(rehearsal, tables.schedules, row)
    missed = run("-c", rehearsal.config, "report", "--json").last["missed_runs"]
    assert missed["since"].startswith(begun.isoformat()[:19])
    assert missed["count"] in {4, 5}
    assert missed["first"].startswith((begun + timedelta(minutes=30)).isoformat()[:19])
    rows = sheet_of(run("-c", rehearsal.config, "report", "--format", "csv"))
    assert (rows[-1]["section"], rows[-1]["count"]) == ("missed_runs", str(missed["count"]))
    text = run("-c", rehearsal.config, "report").out
    assert f"sweeps that did not run: {missed['count']}, from " in text
    swept = moment.to_us(begun) + 1
    whole = {"id": "one", "started_at": swept, "finished_at": us(), "complete": 1}
    insert(rehearsal, tables.sweeps, whole)
    told = run("-c", rehearsal.config, "report", "--json").last
    assert (told["missed_runs"]["count"], told["missed_runs"]["first"]) == (0, None)
    assert told["missed_runs_unknown_because"] is None
    assert "sweeps that did not run: none since 20" in run("-c", rehearsal.config, "report").out


def test_what_a_person_closed_was_never_due_and_so_not_late(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    use(rehearsal, database_url)
    rehearsal.responses(2, labels={"app": "nobody's"})
    run("-c", rehearsal.config, "plan")
    rehearsal.change(tables.responses, state="gone", outcome="closed", finished_at=us())
    told = run("-c", rehearsal.config, "report", "--json").last
    (row,) = told["settled"]
    assert (row["policy"], row["lateness_seconds"], row["past_deadline"]) == (None, None, 0)
    assert (told["outcomes"], told["verified"]) == ({"closed": 2}, 0)
    rows = sheet_of(run("-c", rehearsal.config, "report", "--format", "csv"))
    assert (rows[0]["name"], rows[0]["policy"], rows[0]["lateness_p99_seconds"]) == (
        "closed", "", "",
    )  # fmt: skip
    assert "closed: 2\n" in run("-c", rehearsal.config, "report").out


def test_what_a_person_closed_late_is_neither_late_nor_in_time(
    run: Run, rehearsal: Rehearsal, database_url: str
) -> None:
    """Nothing proves that it is gone, so no length of time until then can be told."""
    use(rehearsal, database_url)
    (name,) = rehearsal.responses(1, age=timedelta(days=20))
    run("-c", rehearsal.config, "responses", "close", name, "--reason", "x")
    (kept,) = rehearsal.rows()
    assert kept["finished_at"] > kept["deadline_at"]
    (row,) = run("-c", rehearsal.config, "report", "--json").last["settled"]
    assert (row["outcome"], row["policy"]) == ("closed", "support")
    assert (row["lateness_seconds"], row["past_deadline"]) == (None, 0)
    rows = sheet_of(run("-c", rehearsal.config, "report", "--format", "csv"))
    assert (rows[0]["lateness_worst_seconds"], rows[0]["past_deadline"]) == ("", "0")
    out = run("-c", rehearsal.config, "report").out.splitlines()
    line = next(one for one in out if one.split()[:3] == ["main", "support", "closed"])
    assert line.split()[3:] == ["1", "0", "0", "-", "-", "-"]


def test_only_what_is_past_its_deadline_is_called_late(run: Run, rehearsal: Rehearsal) -> None:
    """Three hours after it was due a response is not late, whose deadline is a day."""
    rehearsal.responses(1, age=LATE)
    run("-c", rehearsal.config, "sweep")
    rehearsal.responses(1, age=LATE)
    out = run("-c", rehearsal.config, "report").out
    assert "LATE" not in out
    assert "AFTER DUE: MEDIAN  " in out
    assert "AFTER DUE: WORST  " in out


def test_an_account_that_the_last_sweep_could_not_reach_is_stopped_too(
    run: Run, rehearsal: Rehearsal
) -> None:
    """It has no open breaker: every sweep tries again."""
    rehearsal.responses(2, age=LATE)
    rehearsal.fault(status=500, body=b"{}")
    assert run("-c", rehearsal.config, "sweep").code == 12
    (row,) = run("-c", rehearsal.config, "report", "--json").last["open"]
    assert row["by_reason"] == {"stopped": 2}


def test_before_any_schedule_was_followed_missed_runs_are_unknown(
    run: Run, rehearsal: Rehearsal
) -> None:
    insert(rehearsal, tables.schedules, {"since": us(), "every": 3_600_000_000, "cron": None})
    day = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    told = run("-c", rehearsal.config, "report", "--until", day, "--json").last
    assert told["missed_runs"] is None
    assert told["missed_runs_unknown_because"].startswith("no daemon had followed a schedule")
    rows = sheet_of(run("-c", rehearsal.config, "report", "--until", day, "--format", "csv"))
    assert (rows[-1]["section"], rows[-1]["name"], rows[-1]["count"]) == (
        "missed_runs",
        "unknown",
        "",
    )


def test_one_policy_is_reported_alone(run: Run, rehearsal: Rehearsal) -> None:
    more = '[[policies]]\nname = "mail"\nmatch = { labels = { app = "mail" } }\ndelete_after = "1d"'
    rehearsal.write(more)
    rehearsal.responses(2, age=LATE)
    rehearsal.responses(1, labels={"app": "mail"})
    run("-c", rehearsal.config, "sweep")
    rehearsal.responses(1, age=LATE)
    rehearsal.responses(1, labels={"app": "mail"})
    for name, count in (("support", 2), ("mail", 1)):
        told = run("-c", rehearsal.config, "report", "--policy", name, "--json").last
        assert told["policy"] == name
        assert [one["policy"] for one in (*told["settled"], *told["open"])] == [name, name]
        assert told["outcomes"] == {"deleted": count}
    assert f"policy {name!r}" in run("-c", rehearsal.config, "report", "--policy", name).out


def test_a_policy_of_old_days_can_be_reported_and_one_that_never_was_cannot(
    run: Run, rehearsal: Rehearsal
) -> None:
    rehearsal.responses(1, age=LATE)
    run("-c", rehearsal.config, "sweep")
    rehearsal.change(tables.responses, policy="of old days")
    words = ("-c", rehearsal.config, "report", "--policy")
    assert run(*words, "of old days", "--json").last["outcomes"] == {"deleted": 1}
    result = run(*words, "suport", "--json")
    assert (result.code, result.out) == (2, "")
    assert result.error["message"].startswith("no policy is called 'suport'")
    assert result.error["hint"] == "configured are: support, contracts"


def test_csv_has_one_header_and_rows_of_one_shape(run: Run, rehearsal: Rehearsal) -> None:
    ids = rehearsal.responses(4, age=LATE)
    rehearsal.fault(method="DELETE", id=ids[1], status=500)
    run("-c", rehearsal.config, "sweep")
    result = run("-c", rehearsal.config, "report", "--format", "csv")
    lines = result.out.split("\r\n")
    assert (lines[-1], "\n" in result.out.replace("\r\n", "")) == ("", False)
    assert {len(row) for row in csv.reader(io.StringIO(result.out, newline=""))} == {12}
    assert '"main","support","deleted",3,3,0,' in result.out  # every text stands in quotes
    rows = sheet_of(result)
    assert {(row["section"], row["name"]): row["count"] for row in rows} == {
        ("settled", "deleted"): "3",
        ("due", ""): "1",
        ("due_by_reason", "failing"): "1",
        ("sweeps", "complete"): "0",
        ("sweeps", "something_left"): "1",
        ("sweeps", "died"): "0",
        ("sweeps", "running_or_died"): "0",
        ("missed_runs", "unknown"): "",
    }
    (settled,) = [row for row in rows if row["section"] == "settled"]
    assert (settled["account"], settled["policy"], settled["verified"]) == ("main", "support", "3")
    assert int(settled["lateness_worst_seconds"]) == pytest.approx(3 * 3600, abs=60)


@pytest.mark.parametrize(
    "begin", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "  ="]
)
def test_no_text_is_taken_for_a_formula(begin: str) -> None:
    assert sheet.harmless(f"{begin}1+1") == f"'{begin}1+1"


def test_plain_cells_stay_as_they_are() -> None:
    assert [sheet.harmless(cell) for cell in ("a=1", "support", "", None, -3, 0)] == [
        "a=1", "support", "", "", -3, 0,
    ]  # fmt: skip


def test_a_policys_name_cannot_break_out_of_its_cell(run: Run, rehearsal: Rehearsal) -> None:
    name = '=HYPERLINK("http://evil",1),x;y'
    rehearsal.responses(1, age=LATE)
    run("-c", rehearsal.config, "sweep")
    rehearsal.change(tables.responses, policy=name)
    result = run("-c", rehearsal.config, "report", "--format", "csv")
    assert [row["policy"] for row in sheet_of(result) if row["section"] == "settled"] == [
        f"'{name}"
    ]
    assert '"\'=HYPERLINK(""http://evil"",1),x;y"' in result.out


def test_times_and_forms_that_cannot_be_read_are_refused(run: Run, rehearsal: Rehearsal) -> None:
    words = ("-c", rehearsal.config, "report")
    for more, told in (
        (("--since", "30"), "a number needs its unit"),
        (("--until", "yesterday"), "is no time"),
        (("--since", "yesterday"), "write a length as 7d; or write a day as 2026-01-31"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "ends before it begins"),
        (("--format", "html"), "sweeper report --format html is not built yet"),
        (("--format", "pdf"), "write one of text, json, csv"),
        (("--json", "--format", "csv"), "exclude each other"),
    ):
        result = run(*words, *more)
        assert (result.code, result.out) == (2, "")
        assert told in result.err
    assert run(*words, "--json", "--format", "json").last["type"] == "report"
    assert run(*words, "--format", "text").out.startswith("From 20")


def test_a_report_sends_nothing(run: Run, rehearsal: Rehearsal) -> None:
    rehearsal.responses(2)
    rehearsal.use_key(OTHER_KEY)
    assert run("-c", rehearsal.config, "report").code == 0
    assert rehearsal.requests() == 0
    states = Counter(row["state"] for row in rehearsal.rows())
    assert states == {"live": 2}
