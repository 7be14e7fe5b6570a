"""docs/operations.md knows every breaker and every log event with its fields."""

import inspect
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
import structlog

from sweeper.domain import event
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import Breaker, Outcome
from sweeper.domain.summary import Summary
from sweeper.engine import breaker as breakers
from sweeper.engine import opening
from sweeper.service import standing
from sweeper.service.daemon import health
from sweeper.service.daemon.vitals import Role
from sweeper.service.spool import folder as spool_folder
from sweeper.service.spool import spool
from sweeper.telemetry import events, logs
from sweeper.telemetry.metrics import Metrics, Snapshot
from tests.docs import pages
from tests.support import figures

PAGE = pages.read("docs/operations.md")
NOW = datetime(2026, 1, 31, tzinfo=UTC)
SUMMARY = Summary(
    sweep_id="s",
    dry_run=False,
    due=1,
    planned=1,
    outcomes={},
    verified=0,
    held=0,
    remaining=0,
    remaining_by_reason={},
    stop_reason=None,
    started_at=NOW,
    finished_at=NOW,
)
EVENTS: list[event.Event] = [
    event.SweepStarted(sweep_id="s", due=1, planned=1, ids_sha256={"main": "00"}),
    event.AccountChecked(account="main", result="passed"),
    event.ResponseSettled(
        sweep_id="s",
        account="main",
        response_id="resp_1",
        policy="p",
        outcome=Outcome.FAILING,
        verified=False,
        attempt=1,
        status=503,
        overdue=timedelta(0),
        next_try_at=NOW,
        late=True,
    ),
    event.BreakerOpened(
        account="main",
        breaker=Breaker.NOT_FOUND,
        detail="d",
        kept=1,
        oldest_due_at=NOW,
        settled_absent=("resp_1",),
    ),
    event.ClaimsFreed(account="main", count=1),
    event.RowsSetAside(account="main", reasons={"malformed:bad_id": 1}),
    event.ClockDoubted(account="main", detail="d"),
    event.OutcomeUnwritten(
        sweep_id="s", account="main", response_id="resp_1", answer="yes", status=200
    ),
    event.LedgerWaitedFor(detail="d", hint="h"),
    event.LedgerBack(seconds=1.5),
    event.BreakerClosed(account="main", breaker=Breaker.NOT_FOUND),
    event.KeyReplaced(account="main", key_fingerprint="00"),
    event.PoliciesChanged(sweep_id="s", policies_sha256="00"),
    event.GuardRefused(sweep_id="s", account="main", detail="d"),
    event.Throttled(account="main", pause_seconds=1.0, rate_per_second=1.0),
    event.DaemonStarted(schedule="every 15m", next_sweep_at=NOW),
    event.DaemonStandsBy(detail="d"),
    event.DaemonStopping(signal="SIGTERM", sweeping=True),
    event.DaemonStopped(),
    event.DaemonFailed(code="ledger", detail="d", hint="h"),
    event.ConfigurationDoubted(warnings=("w",)),
    event.SweepWaits(detail="d", retry_seconds=5.0),
    event.ConfigurationReloaded(changed=("policies",)),
    event.ConfigurationRefused(detail="d", faults=("f",)),
    event.RunsMissed(count=1, first=NOW, last=NOW),
    event.SweepFailed(code="ledger", detail="d", hint="h", retry_seconds=5.0),
    event.AlarmTold(alarm="missed_run", state="open", summary="s"),
    event.AlarmUntold(alarm="missed_run", state="open", summary="s", detail="d"),
    event.SpoolFileRegistered(
        file="a.jsonl",
        read=1,
        added=1,
        completed=0,
        known=0,
        skipped=0,
        rejected=0,
        no_account=1,
    ),
    event.SpoolFileLeft(file="a.jsonl", reason="r", unread=True),
    event.SweepFinished(sweep_id="s", complete=True, numbers=SUMMARY.as_json()),
]


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(format="json", stream=stream)
    yield stream
    structlog.reset_defaults()


def _rows() -> dict[str, str]:
    table = pages.section(PAGE, "Log events")
    return dict(re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|", table, re.MULTILINE))


def test_every_event_is_told_and_no_other() -> None:
    names = {each.name for each in get_args(event.Event)}

    assert {each.name for each in EVENTS} == names
    assert set(_rows()) == names | {"library_message"}


@pytest.mark.parametrize("happened", EVENTS, ids=lambda each: each.name)
def test_every_field_of_an_event_is_told(happened: event.Event, lines: io.StringIO) -> None:
    events.EventLog(logs.logger(), response_ids=True)(happened)

    (line,) = map(json.loads, lines.getvalue().splitlines())
    told = pages.words(_rows()[happened.name])
    if isinstance(happened, event.SweepFinished):
        told = pages.words(pages.section(pages.read("docs/commands.md"), "sweeper sweep"))
    assert _own(line) - told == set()


def _own(line: dict[str, Any]) -> set[str]:
    return line.keys() - {"timestamp", "level", "event"}


def test_every_breaker_is_told_with_what_lifts_it() -> None:
    cells = pages.first_cells(pages.section(PAGE, "Breakers"))

    assert cells == [f"`{each.value}`" for each in _as_told(cells)]
    assert {cell.strip("`") for cell in cells} == {each.value for each in Breaker}


def _as_told(cells: list[str]) -> list[Breaker]:
    return [Breaker(cell.strip("`")) for cell in cells]


def test_what_is_told_of_lifting_is_what_the_code_does() -> None:
    assert set(Breaker) - opening.LIFTED_BY_A_CONTROL == {Breaker.NOT_FOUND}
    assert set(Breaker) - opening.LIFTED_BY_AN_ANSWER - breakers.PASSING == {
        Breaker.CREDENTIAL,
        Breaker.PAYMENT,
        Breaker.CONFIGURATION,
        Breaker.IDENTITY,
        Breaker.NOT_FOUND,
    }
    assert breakers.PAGES_IN_A_ROW == 3
    assert breakers.HANDSHAKES_IN_A_ROW == 3
    assert breakers.FAILURES_IN_A_ROW == 10


def _metrics() -> dict[str, set[str]]:
    """Every metric that there is, with its labels."""
    metrics = Metrics("1.2.3")
    metrics.expect(["main"], [("main", "p")])
    metrics.measure("main", "GET", Answer(kind=AnswerKind.PRESENT, status=200), 1.0)
    metrics.show(
        Snapshot(
            responses={},
            overdue={},
            breakers=set(),
            kept={},
            held=0,
            records=1,
            last_finished_sweep=None,
            last_complete_sweep=None,
        )
    )
    found: dict[str, set[str]] = {}
    for name, labels in figures.read(metrics.text()):
        plain = re.sub("_(bucket|sum|count)$", "", name)
        found.setdefault(plain, set()).update({label for label, _ in labels} - {"le"})
    return found


def test_every_metric_is_told_with_its_labels_and_no_other() -> None:
    table = pages.section(PAGE, "Health and metrics")
    told = dict(re.findall(r"^\| `(sweeper_\w+)` \|([^|]*)\|", table, re.MULTILINE))

    assert {name: pages.words(labels) for name, labels in told.items()} == _metrics()


def test_every_reason_for_not_being_ready_is_told() -> None:
    table = pages.section(PAGE, "Health and metrics").partition("| reason |")[2]
    told = pages.first_cells(table.partition("| metric |")[0])

    source = inspect.getsource(health)
    for cell in told:
        reason = cell.strip("`").partition(":")[0]
        known = {*(role.value for role in Role), *standing.WITHHELD}
        assert reason in known or f'"{reason}' in source, cell
    returned = set(re.findall(r'(?:yield|return) \[?f?"([a-z_]+)', source))
    assert len(told) == 12
    assert returned <= {cell.strip("`").partition(":")[0] for cell in told}


def test_the_reasons_of_a_stop_are_told() -> None:
    told = pages.section(pages.read("docs/commands.md"), "sweeper sweep")

    for reason in ("interrupted", "guard", "clock", "ledger", "account:NAME:BREAKER"):
        assert f"`{reason}`" in told


def test_every_reason_for_which_a_file_is_left_is_told() -> None:
    told = pages.section(PAGE, "The spool")

    for reason in (
        *(spool_folder.CHANGED, spool_folder.FOREIGN, spool_folder.EMPTY),
        *(spool.CLOCK, spool.NOT_YET, spool.REMOVED, spool.BUSY),
    ):
        assert f"`{reason}`" in told
    assert spool_folder.HALF_WRITTEN.partition(":")[0] in told
    for kind in ("a symbolic link", "a folder", "a pipe", "a socket", "a device"):
        assert f"{kind}`" in told
    assert str(spool_folder.LONGEST_NAME) in told
