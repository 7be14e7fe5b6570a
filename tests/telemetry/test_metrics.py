"""The figures count what happened once, show what is known only, and name no response."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any

import pytest

from sweeper.domain import event
from sweeper.domain.answer import Answer, AnswerKind
from sweeper.domain.outcome import Breaker, Outcome
from sweeper.domain.response import State
from sweeper.telemetry.metrics import Metrics, Overdue, Snapshot
from tests.support import figures

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
NAMES = {
    "sweeper_deletions_total", "sweeper_provider_requests_total",
    "sweeper_provider_request_duration_seconds", "sweeper_responses", "sweeper_overdue_responses",
    "sweeper_oldest_overdue_seconds", "sweeper_sweeps_total",
    "sweeper_last_finished_sweep_timestamp_seconds",
    "sweeper_last_complete_sweep_timestamp_seconds", "sweeper_next_sweep_timestamp_seconds",
    "sweeper_rate_limit_wait_seconds_total", "sweeper_breaker_open", "sweeper_held_responses",
    "sweeper_kept_responses", "sweeper_oldest_kept_seconds",
    "sweeper_ledger_errors_total", "sweeper_records", "sweeper_build_info",
}  # fmt: skip
"""What other programs rely on."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def settled(**given: Any) -> event.ResponseSettled:
    return event.ResponseSettled(
        **{
            "sweep_id": "s",
            "account": "main",
            "response_id": "resp_1",
            "policy": "support",
            "outcome": Outcome.DELETED,
            "verified": True,
            "attempt": 1,
            "status": 200,
            "overdue": timedelta(0),
            "next_try_at": None,
            **given,
        }
    )


def finished(*, complete: bool, **numbers: object) -> event.SweepFinished:
    return event.SweepFinished(sweep_id="s", complete=complete, numbers=numbers)


def failed(code: str, sweep_id: str | None = None) -> event.SweepFailed:
    return event.SweepFailed(code=code, detail="d", hint=None, retry_seconds=60, sweep_id=sweep_id)


def snapshot(**given: Any) -> Snapshot:
    return Snapshot(
        **{
            "responses": {},
            "overdue": {},
            "breakers": set(),
            "kept": {},
            "held": 0,
            "records": 1,
            "last_finished_sweep": None,
            "last_complete_sweep": None,
            **given,
        }
    )


def deletions(metrics: Metrics, **labels: str) -> float | None:
    return figures.figure(metrics.text(), "sweeper_deletions_total", **labels)


def test_every_promised_name_is_there_and_no_other(metrics: Metrics) -> None:
    metrics.expect(["main"], [("main", "support")])
    metrics.show(snapshot())
    told = [line.split()[2] for line in metrics.text().decode().splitlines() if "# TYPE" in line]

    assert set(told) == NAMES
    assert len(told) == len(NAMES)


def test_each_outcome_counts_by_account_policy_and_outcome(metrics: Metrics) -> None:
    metrics.hear(settled())
    metrics.hear(settled(response_id="resp_2"))
    metrics.hear(settled(outcome=Outcome.FAILING))
    metrics.hear(settled(policy=None, outcome=Outcome.ALREADY_ABSENT))

    found = figures.series(metrics.text(), "sweeper_deletions_total")
    assert found == {
        frozenset({("account", "main"), ("policy", "support"), ("outcome", "deleted")}): 2,
        frozenset({("account", "main"), ("policy", "support"), ("outcome", "failing")}): 1,
        frozenset({("account", "main"), ("policy", ""), ("outcome", "already_absent")}): 1,
    }


def test_an_outcome_that_was_fenced_off_is_not_counted_again(metrics: Metrics) -> None:
    metrics.hear(settled())
    metrics.hear(settled(late=True))

    assert deletions(metrics, account="main", policy="support", outcome="deleted") == 1


def test_what_can_happen_starts_at_nothing(metrics: Metrics) -> None:
    metrics.expect(["main", "other"], [("main", "support"), ("other", "support")])

    for account in ("main", "other"):
        for outcome in Outcome:
            told = deletions(metrics, account=account, policy="support", outcome=outcome.value)
            assert told == 0
    assert _sweeps(metrics) == {"complete": 0, "incomplete": 0, "failed": 0}
    assert figures.figure(metrics.text(), "sweeper_ledger_errors_total") == 0


def test_what_was_counted_stays_when_the_configuration_changes(metrics: Metrics) -> None:
    metrics.expect(["main"], [("main", "support")])
    metrics.hear(settled())

    metrics.expect(["main"], [("main", "support"), ("main", "chats")])

    assert deletions(metrics, account="main", policy="support", outcome="deleted") == 1
    assert deletions(metrics, account="main", policy="chats", outcome="deleted") == 0


def _sweeps(metrics: Metrics) -> Mapping[str, float]:
    found = figures.series(metrics.text(), "sweeper_sweeps_total")
    return {dict(labels)["result"]: value for labels, value in found.items()}


def test_sweeps_are_counted_by_how_they_ended(metrics: Metrics) -> None:
    metrics.hear(finished(complete=True))
    metrics.hear(finished(complete=False))
    metrics.hear(finished(complete=False, stop_reason="interrupted"))
    metrics.hear(failed("secret"))

    assert _sweeps(metrics) == {"complete": 1, "incomplete": 2, "failed": 1}
    assert figures.figure(metrics.text(), "sweeper_ledger_errors_total") == 0


def test_a_sweep_that_the_ledger_ended_counts_once(metrics: Metrics) -> None:
    metrics.hear(finished(complete=False, stop_reason="ledger"))
    metrics.hear(failed("ledger", sweep_id="s"))

    assert _sweeps(metrics) == {"complete": 0, "incomplete": 1, "failed": 0}
    assert figures.figure(metrics.text(), "sweeper_ledger_errors_total") == 1


def test_a_rehearsal_is_no_sweep(metrics: Metrics) -> None:
    metrics.hear(finished(complete=True, dry_run=True))

    assert _sweeps(metrics) == {"complete": 0, "incomplete": 0, "failed": 0}


@pytest.mark.parametrize(
    "happened",
    [
        finished(complete=False, stop_reason="ledger"),
        failed("ledger"),
        failed("ledger_replaced"),
        failed("schema"),
        event.LedgerWaitedFor(detail="d", hint="h"),
        event.OutcomeUnwritten(
            sweep_id="s", account="main", response_id="resp_1", answer="yes", status=200
        ),
    ],
    ids=["stopped", "failed", "replaced", "schema", "waited", "unwritten"],
)
def test_what_the_ledger_refuses_is_counted(metrics: Metrics, happened: event.Event) -> None:
    metrics.hear(happened)

    assert figures.figure(metrics.text(), "sweeper_ledger_errors_total") == 1


def test_other_events_count_nothing(metrics: Metrics) -> None:
    before = metrics.text()

    metrics.hear(event.AccountChecked(account="main", result="passed"))
    metrics.hear(event.ClaimsFreed(account="main", count=3))

    assert metrics.text() == before


def test_requests_are_counted_by_status_or_by_what_went_wrong(metrics: Metrics) -> None:
    metrics.measure("main", "DELETE", Answer(kind=AnswerKind.YES, status=200), 0.3)
    metrics.measure("main", "DELETE", Answer(kind=AnswerKind.YES, status=200), 0.3)
    metrics.measure("main", "GET", Answer(kind=AnswerKind.ABSENT, status=404), 0.01)
    metrics.measure("main", "DELETE", Answer(kind=AnswerKind.LOST, fault="timeout"), 99.0)
    metrics.measure("main", "DELETE", Answer(kind=AnswerKind.LOST), 1.0)

    text = metrics.text()
    found = figures.series(text, "sweeper_provider_requests_total")
    told = {(dict(one)["method"], dict(one)["code"]): value for one, value in found.items()}
    assert told == {
        ("DELETE", "200"): 2, ("GET", "404"): 1, ("DELETE", "timeout"): 1, ("DELETE", "none"): 1,
    }  # fmt: skip
    name = "sweeper_provider_request_duration_seconds"
    assert figures.figure(text, f"{name}_count") == 5
    assert figures.figure(text, f"{name}_sum") == pytest.approx(100.61)
    assert figures.figure(text, f"{name}_bucket", le="0.4") == 3
    assert figures.figure(text, f"{name}_bucket", le="40.0") == 4


def test_waits_are_what_they_are_in_all(metrics: Metrics) -> None:
    for total in (0.0, 2.0, 2.0, 5.5):
        metrics.waited("main", total)
    metrics.waited("other", 1.0)

    name = "sweeper_rate_limit_wait_seconds_total"
    assert figures.figure(metrics.text(), name, account="main") == 5.5
    assert figures.figure(metrics.text(), name, account="other") == 1.0


def test_what_stands_in_the_ledger_is_shown(metrics: Metrics) -> None:
    metrics.expect(["main"], [("main", "support"), ("main", "chats")])
    metrics.show(
        snapshot(
            responses={("main", State.LIVE): 7, ("old", State.QUARANTINED): 2},
            overdue={"support": Overdue(count=3, oldest_seconds=90.5)},
            breakers={("main", Breaker.PAYMENT)},
            held=4,
            records=12,
            last_finished_sweep=AT,
        )
    )

    text = metrics.text()
    assert figures.figure(text, "sweeper_responses", account="main", state="live") == 7
    assert figures.figure(text, "sweeper_responses", account="main", state="claimed") == 0
    assert figures.figure(text, "sweeper_responses", account="old", state="quarantined") == 2
    assert figures.figure(text, "sweeper_overdue_responses", policy="support") == 3
    assert figures.figure(text, "sweeper_overdue_responses", policy="chats") == 0
    assert figures.figure(text, "sweeper_oldest_overdue_seconds", policy="support") == 90.5
    assert figures.figure(text, "sweeper_oldest_overdue_seconds", policy="chats") == 0
    is_open = figures.series(text, "sweeper_breaker_open")
    assert len(is_open) == len(Breaker)
    assert is_open[frozenset({("account", "main"), ("breaker", "payment")})] == 1
    assert sum(is_open.values()) == 1
    assert figures.figure(text, "sweeper_held_responses") == 4
    assert figures.figure(text, "sweeper_records") == 12
    finished_at = figures.figure(text, "sweeper_last_finished_sweep_timestamp_seconds")
    assert finished_at == AT.timestamp()
    assert figures.figure(text, "sweeper_last_complete_sweep_timestamp_seconds") == 0


def test_what_is_kept_at_a_stopped_account_is_shown_and_nothing_elsewhere(
    metrics: Metrics,
) -> None:
    metrics.expect(["main", "other"], [])
    metrics.show(snapshot(kept={"main": Overdue(count=3, oldest_seconds=90.5)}))

    text = metrics.text()
    assert figures.figure(text, "sweeper_kept_responses", account="main") == 3
    assert figures.figure(text, "sweeper_oldest_kept_seconds", account="main") == 90.5
    assert figures.figure(text, "sweeper_kept_responses", account="other") == 0
    assert figures.figure(text, "sweeper_oldest_kept_seconds", account="other") == 0


def test_what_is_over_is_no_longer_shown(metrics: Metrics) -> None:
    metrics.expect(["main"], [("main", "support")])
    late = {
        "support": Overdue(count=3, oldest_seconds=90.5),
        "gone": Overdue(count=1, oldest_seconds=1),
    }
    metrics.show(snapshot(overdue=late, breakers={("main", Breaker.PAYMENT)}))

    metrics.show(snapshot())

    text = metrics.text()
    assert figures.figure(text, "sweeper_overdue_responses", policy="support") == 0
    assert figures.figure(text, "sweeper_overdue_responses", policy="gone") is None
    assert figures.figure(text, "sweeper_breaker_open", account="main", breaker="payment") == 0


def test_what_cannot_be_known_is_never_zero(metrics: Metrics) -> None:
    metrics.expect(["main"], [("main", "support")])
    fresh = metrics.text()
    metrics.show(snapshot(overdue={"support": Overdue(count=3, oldest_seconds=90.5)}))

    metrics.forget()

    for text in (fresh, metrics.text()):
        for name in (
            "sweeper_responses", "sweeper_overdue_responses", "sweeper_oldest_overdue_seconds",
            "sweeper_breaker_open", "sweeper_kept_responses", "sweeper_oldest_kept_seconds",
        ):  # fmt: skip
            assert figures.series(text, name) == {}
        for name in (
            "sweeper_held_responses", "sweeper_records",
            "sweeper_last_finished_sweep_timestamp_seconds",
            "sweeper_last_complete_sweep_timestamp_seconds",
        ):  # fmt: skip
            told = figures.figure(text, name)
            assert told is not None
            assert isnan(told)


def test_a_schedule_that_never_comes_again_is_no_moment(metrics: Metrics) -> None:
    name = "sweeper_next_sweep_timestamp_seconds"

    metrics.next_sweep(AT)
    assert figures.figure(metrics.text(), name) == AT.timestamp()

    metrics.next_sweep(None)
    told = figures.figure(metrics.text(), name)
    assert told is not None
    assert isnan(told)


def test_no_response_is_named_and_odd_names_break_no_line(metrics: Metrics) -> None:
    odd = 'a "quoted"\\ policy\nwith a line'
    metrics.expect(["main"], [("main", odd)])
    metrics.hear(settled(response_id="resp_canary", policy=odd))

    assert b"resp_canary" not in metrics.text()
    assert deletions(metrics, account="main", policy=odd, outcome="deleted") == 1


def test_two_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics("1.2.3")

    metrics.hear(finished(complete=True))

    assert _sweeps(other)["complete"] == 0


def test_the_version_is_told(metrics: Metrics) -> None:
    assert figures.figure(metrics.text(), "sweeper_build_info", version="1.2.3") == 1
