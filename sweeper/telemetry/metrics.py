"""Count what happens and show how things stand, as Prometheus reads it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sweeper.domain import event
from sweeper.domain.answer import Answer
from sweeper.domain.event import Event
from sweeper.domain.outcome import Breaker, Outcome
from sweeper.domain.response import State

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
RESULTS: Final = ("complete", "incomplete", "failed")
STATES: Final = (State.LIVE, State.CLAIMED, State.VERIFYING, State.QUARANTINED)
"""The states that are counted. What is gone only grows: that is a counter's job."""

_LEDGER: Final = "ledger"
_SECONDS: Final = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 40.0)
"""Up to the total deadline of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """How many responses are late, and the oldest by how much."""

    count: int
    oldest_seconds: float


NONE_OVERDUE: Final = Overdue(count=0, oldest_seconds=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How things stood in the ledger at one moment.

    `responses` are by account and state, `overdue` by policy, `breakers` are those that are open,
    by account, and `kept` is what is past its time at the accounts that they stop. A sweep that
    never was is None.
    """

    responses: Mapping[tuple[str, State], int]
    overdue: Mapping[str, Overdue]
    breakers: Collection[tuple[str, Breaker]]
    kept: Mapping[str, Overdue]
    held: int
    records: int
    last_finished_sweep: datetime | None
    last_complete_sweep: datetime | None


class Metrics:
    """The figures of one process, in a registry of their own.

    Labels are names from the configuration and words of closed lists, never an id: what a
    stranger registers cannot make series. `ledger_failed` may be called from any thread.
    """

    def __init__(self, version: str) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has none
        self._registry = CollectorRegistry(auto_describe=True)
        self._accounts: tuple[str, ...] = ()
        self._policies: tuple[str, ...] = ()
        self._waited: dict[str, float] = {}
        self._count_things()
        self._show_things()
        self._gauge("sweeper_build_info", "The version that runs; always 1.", "version").labels(
            version
        ).set(1)
        for result in RESULTS:
            self._sweeps.labels(result)
        self.forget()

    def _count_things(self) -> None:
        self._deletions = self._counter(
            "sweeper_deletions_total",
            "Outcomes written, by the account, the policy that decided, and the outcome.",
            *("account", "policy", "outcome"),
        )
        self._requests = self._counter(
            "sweeper_provider_requests_total",
            "Requests to the provider; the code is the status, or a word for what went wrong.",
            *("account", "method", "code"),
        )
        self._durations = Histogram(
            "sweeper_provider_request_duration_seconds",
            "How long requests to the provider took.",
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._sweeps = self._counter(
            "sweeper_sweeps_total", "Sweeps that ended, or could not run (failed).", "result"
        )
        self._waits = self._counter(
            "sweeper_rate_limit_wait_seconds_total",
            "Seconds that requests waited for a slot of the account's rate.",
            "account",
        )
        self._ledger_errors = self._counter(
            "sweeper_ledger_errors_total", "Times at which the ledger could not be read or written."
        )

    def _show_things(self) -> None:
        self._responses = self._gauge(
            "sweeper_responses", "Responses that are not gone, by state.", "account", "state"
        )
        self._overdue = self._gauge(
            "sweeper_overdue_responses", "Responses that are past their deadline.", "policy"
        )
        self._oldest = self._gauge(
            "sweeper_oldest_overdue_seconds",
            "How far the oldest response is past its deadline.",
            "policy",
        )
        self._open = self._gauge(
            "sweeper_breaker_open", "1 where a breaker stops the account.", "account", "breaker"
        )
        self._kept = self._gauge(
            "sweeper_kept_responses",
            "Responses past their time at an account that is stopped.",
            "account",
        )
        self._oldest_kept = self._gauge(
            "sweeper_oldest_kept_seconds",
            "How far the oldest of them is past its time.",
            "account",
        )
        self._held = self._gauge("sweeper_held_responses", "Due responses that a hold keeps.")
        self._records = self._gauge("sweeper_records", "Records in the log.")
        self._finished = self._gauge(
            "sweeper_last_finished_sweep_timestamp_seconds",
            "When the last sweep came to its end; 0 where none has.",
        )
        self._complete = self._gauge(
            "sweeper_last_complete_sweep_timestamp_seconds",
            "When the last complete sweep came to its end; 0 where none has.",
        )
        self._next = self._gauge(
            "sweeper_next_sweep_timestamp_seconds",
            "When the schedule asks for the next sweep; NaN where it never does.",
        )

    @property
    def _by_label(self) -> tuple[Gauge, ...]:
        """What is shown of accounts and policies, which may be others the next time."""
        of_accounts = self._responses, self._open, self._kept, self._oldest_kept
        return (*of_accounts, self._overdue, self._oldest)

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, registry=self._registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(name, told, labels, registry=self._registry)

    def expect(self, accounts: Iterable[str], decided: Iterable[tuple[str, str]]) -> None:
        """Let what can happen by the configuration start at 0, so that its first time is seen.

        `decided` are the accounts with the policies that can decide about them.
        """
        pairs = tuple(decided)
        self._accounts = tuple(accounts)
        self._policies = tuple(dict.fromkeys(policy for _, policy in pairs))
        for account in self._accounts:
            self._waits.labels(account)
        for account, policy in pairs:
            for outcome in Outcome:
                self._deletions.labels(account, policy, outcome.value)

    def hear(self, happened: Event) -> None:
        """Count what an event says."""
        match happened:
            case event.ResponseSettled(late=False):
                policy = happened.policy or ""
                self._deletions.labels(happened.account, policy, happened.outcome.value).inc()
            case event.SweepFinished() if not happened.numbers.get("dry_run"):
                self._sweeps.labels("complete" if happened.complete else "incomplete").inc()
                if happened.numbers.get("stop_reason") == _LEDGER:
                    self._ledger_errors.inc()
            case event.SweepFailed(sweep_id=None):  # else its end was told, and counted
                self._sweeps.labels("failed").inc()
                if happened.code.startswith((_LEDGER, "schema")):
                    self._ledger_errors.inc()
            case event.OutcomeUnwritten() | event.LedgerWaitedFor():
                self._ledger_errors.inc()
            case _:
                pass

    def measure(self, account: str, method: str, answer: Answer, seconds: float) -> None:
        """Count one request and how long it took; without an answer its fault is the code."""
        code = str(answer.status) if answer.status is not None else answer.fault or "none"
        self._requests.labels(account, method, code).inc()
        self._durations.observe(seconds)

    def waited(self, account: str, seconds_total: float) -> None:
        """Count what an account's requests have waited for slots in all, in this process."""
        more = seconds_total - self._waited.get(account, 0.0)
        self._waited[account] = seconds_total
        self._waits.labels(account).inc(more)

    def ledger_failed(self) -> None:
        """Count one time at which the ledger could not be read or written."""
        self._ledger_errors.inc()

    def next_sweep(self, at: datetime | None) -> None:
        self._next.set(nan if at is None else at.timestamp())

    def show(self, seen: Snapshot) -> None:
        """Show how things stand in the ledger, in place of how they stood."""
        for gauge in self._by_label:
            gauge.clear()
        expected = {(account, state): 0 for account in self._accounts for state in STATES}
        for (account, state), count in {**expected, **seen.responses}.items():
            self._responses.labels(account, state.value).set(count)
        for policy, late in {**dict.fromkeys(self._policies, NONE_OVERDUE), **seen.overdue}.items():
            self._overdue.labels(policy).set(late.count)
            self._oldest.labels(policy).set(late.oldest_seconds)
        closed = {(account, breaker) for account in self._accounts for breaker in Breaker}
        for account, breaker in closed | set(seen.breakers):
            is_open = (account, breaker) in seen.breakers
            self._open.labels(account, breaker.value).set(is_open)
        for account, kept in {**dict.fromkeys(self._accounts, NONE_OVERDUE), **seen.kept}.items():
            self._kept.labels(account).set(kept.count)
            self._oldest_kept.labels(account).set(kept.oldest_seconds)
        self._held.set(seen.held)
        self._records.set(seen.records)
        self._finished.set(_instant(seen.last_finished_sweep))
        self._complete.set(_instant(seen.last_complete_sweep))

    def forget(self) -> None:
        """Show nothing of the ledger: what cannot be known is absent or NaN, never 0."""
        for gauge in self._by_label:
            gauge.clear()
        for gauge in (self._held, self._records, self._finished, self._complete):
            gauge.set(nan)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)


def _instant(at: datetime | None) -> float:
    return 0.0 if at is None else at.timestamp()
