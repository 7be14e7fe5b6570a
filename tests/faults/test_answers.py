"""What a provider may answer to a DELETE: each answer from a real socket to the ledger."""

import asyncio
import base64
import functools
import gzip
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from sweeper.domain import event
from sweeper.domain.answer import AnswerKind
from sweeper.domain.secret import Secret
from sweeper.ledger import tables
from sweeper.ledger.database import Database
from sweeper.provider import http
from sweeper.provider.profile import FIREWORKS
from sweeper.provider.responses import Responses
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.journal import Arrival
from sweeper.sandbox.server import DEFAULT_KEY, Sandbox
from sweeper.sandbox.shapes import CANARY_CONTENT
from tests.support import canary, command, hostile, lent, registered, sweeping, truth
from tests.support import rehearsal as rehearsals
from tests.support.command import Run
from tests.support.hostile import Visit
from tests.support.rehearsal import Rehearsal
from tests.support.sweeping import DAY, Running, Site

Rule = Mapping[str, Any]

SAYS_YES: Final = b'{"message":"Response deleted successfully"}'
SHORT: Final = timedelta(seconds=0.3)
MEBIBYTE: Final = 1024 * 1024


def packed(body: bytes, coding: str) -> Rule:
    text = base64.b64encode(gzip.compress(body)).decode()
    return {"status": 200, "body_base64": text, "headers": {"content-encoding": coding}}


def bytes_of(body: bytes) -> Rule:
    return {"status": 200, "body_base64": base64.b64encode(body).decode()}


def cut(said: bytes) -> Rule:
    return {"raw": said.decode("latin-1"), "then": "close"}


def whole(head: bytes) -> Rule:
    return {"raw": (head + b"Content-Length: 43\r\n\r\n" + SAYS_YES).decode("latin-1")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Answers that are judged alike, by the word of the answer and the outcome.

    `touched`: what was asked for may have been done all the same.
    """

    fault: str
    kind: str
    outcome: str
    touched: bool
    rules: Sequence[Rule]


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

OPEN: Final = [
    Row(
        fault="F2",
        touched=True,
        rules=[
            {"status": 200, "body": body}
            for body in (
                {"error": {"message": f"no, {DEFAULT_KEY}: {CANARY_CONTENT}"}},
                {"message": "done", "error": {"code": 5}},
                {"message": "done", "detail": "not really"},
                {"message": "done", "deleted": False},
                {"message": None},
                {"message": ["done"]},
                {"deleted": False},
                {"deleted": True},  # another provider's yes
                {"detail": "Response not found"},
                {},
                [],
                [{"message": "done"}],
                "null",
                '"ok"',
                "1",
                "",
            )
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F3",
        kind="html",
        outcome="unconfirmed",
        touched=True,
        rules=[
            {"status": 200, "html": f"log in with {DEFAULT_KEY}"},
            {"status": 200, "html": "log in", "content_type": "application/json"},
            {"status": 200, "body": SAYS_YES.decode(), "content_type": "text/html"},
            {"status": 200, "body": "<?xml version='1.0'?><Error/>", "content_type": "text/xml"},
            {"status": 202, "html": "queued"},
        ],
    ),
    Row(
        fault="F5",
        touched=True,
        rules=[
            *({"status": code, "body": SAYS_YES.decode()} for code in (201, 202, 203, 206, 299)),
            {"status": 204},
            {"status": 205},
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F6",
        rules=[
            {"truncate": 0},
            {"truncate": len(SAYS_YES) - 1},
            {"truncate": 5, "then": "reset"},
            {"do": "close"},
            {"do": "reset"},
            cut(HEAD[:20]),
            cut(HEAD + b"Content-Length: 1000\r\n\r\n" + SAYS_YES),
            cut(CHUNKED + b"2b\r\n" + SAYS_YES),
            cut(CHUNKED + b"2b\r\n" + SAYS_YES + b"\r\n"),
        ],
        kind="lost",
        outcome="failing",
        touched=True,
    ),
    Row(
        fault="F7",
        touched=True,
        rules=[
            bytes_of(body)
            for body in (
                SAYS_YES[:-1],
                SAYS_YES + SAYS_YES,
                SAYS_YES.replace(b"}", b',"n":NaN}'),
                SAYS_YES.replace(b"}", b',"n":-Infinity}'),
                SAYS_YES.replace(b"}", b',"message":"Response deleted successfully"}'),
                SAYS_YES.replace(b"}", b',"deleted":false,"deleted":true}'),
                SAYS_YES.replace(b"}", b',"n":' + b"9" * 5000 + b"}"),
                SAYS_YES.replace(b"Response", b"\xff"),
                SAYS_YES.replace(b"Response", b"\x00"),
                b"\xef\xbb\xbf" + SAYS_YES,
                SAYS_YES.decode().encode("utf-16"),
                b'{"message":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
                b"[" * 60_000,
            )
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F8",
        touched=True,
        rules=[
            {"size": 65_537},
            {"size": 10**9},
            {"endless": True},
            {"raw": (HEAD + b"\r\n" + SAYS_YES.ljust(200_000)).decode(), "then": "close"},
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F9",
        touched=True,
        rules=[
            {"gzip": True},
            packed(SAYS_YES.ljust(20_000_000), "gzip"),
            {"headers": {"content-encoding": "br"}},
            {"headers": {"content-encoding": "identity, gzip"}},
            {"headers": {"content-encoding": "x-unknown"}},
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F22",
        touched=False,
        rules=[
            {"status": status, "body": {"error": "no"}} for status in (406, 411, 416, 421, 431, 451)
        ],
        kind="unclear",
        outcome="unconfirmed",
    ),
    Row(
        fault="F23-408",
        kind="unavailable",
        outcome="failing",
        touched=True,
        rules=[{"status": 408}, {"status": 408, "html": "x"}],
    ),
    Row(
        fault="F23-425",
        kind="unavailable",
        outcome="failing",
        touched=False,
        rules=[{"status": 425, "body": SAYS_YES.decode()}],
    ),
    Row(
        fault="F24",
        kind="conflict",
        outcome="failing",
        touched=False,
        rules=[{"status": 409, "body": {"error": "busy"}}, {"status": 423}],
    ),
    Row(
        fault="F31",
        touched=True,
        rules=[
            {"status": 502, "html": "bad gateway"},
            {"status": 504, "body": SAYS_YES.decode()},
            {"status": 520, "html": "unknown error"},
            {"status": 522},
            {"status": 599},
            {"status": 700},
        ],
        kind="unavailable",
        outcome="failing",
    ),
    Row(
        fault="F33-101",
        kind="lost",
        outcome="failing",
        touched=True,
        rules=[{"interim": [101]}],
    ),
    Row(
        fault="F34",
        rules=[
            cut(said)
            for said in (
                b"SSH-2.0-OpenSSH\r\n\r\n",
                HEAD.replace(b"1.1", b"2.0") + b"\r\n" + SAYS_YES,
                HEAD.replace(b"200", b"20") + b"\r\n" + SAYS_YES,
                HEAD.replace(b"OK", b"OK\r\nforged log line") + b"\r\n" + SAYS_YES,
                HEAD + b"X: a\0b\r\n\r\n" + SAYS_YES,
                HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n" + SAYS_YES,
                HEAD + b"X: a\r\n" * 40_000 + b"\r\n" + SAYS_YES,
                HEAD + b"Content-Length: 43\r\nContent-Length: 44\r\n\r\n" + SAYS_YES,
                CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 43\r\n\r\n") + SAYS_YES,
                CHUNKED + b"-1\r\n" + SAYS_YES,
                b"HTTP/1.1 103 Early\r\n\r\n" * 8000 + HEAD + b"\r\n" + SAYS_YES,
            )
        ],
        kind="lost",
        outcome="failing",
        touched=True,
    ),
]

AT_ONCE: Final[Mapping[str, Sequence[Rule]]] = {
    "F1": [
        {"status": 200, "body": body, "carry_out": True}
        for body in (SAYS_YES.decode(), {"content": CANARY_CONTENT, "message": "done"})
    ],
    "F4": [
        {"headers": {"content-type": kind}}
        for kind in ("text/plain", "application/octet-stream", "json", "text/json; charset=utf-16")
    ]
    + [{"headers": {"content-type": None}}, {"size": 65_536}],
    "F33": [{"interim": [100]}, {"interim": [103, 103, 102, 199]}],
    "F34": [
        {"headers": [[f"x-{number}", "a" * 80] for number in range(200)]},
        {"headers": {"x-odd": "\x85\u00e4"}},
        {**whole(HEAD.replace(b"OK", b"OK \x1b[2J")), "carry_out": True},
        {"headers": {"x-request-id": DEFAULT_KEY, "x-note": CANARY_CONTENT}},
        {"drip": {"bytes": 7, "seconds": 0.001, "head": True}},
    ],
    "F35": [{"headers": [["set-cookie", "a=b; Path=/"], ["set-cookie", "c=d"]]}],
}


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back-off takes an hour at least, so that no sweep sees its end."""
    monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 1800.0)


def one_by_one(site: Site) -> tuple[Any, Any]:
    """In order, so that no row of failures is longer than the one answer."""
    return site.account("main", max_in_flight=1)


def answered(site: Site, rule: Rule, *, carry_out: bool | None = None) -> str:
    """A response whose next DELETE is answered so; one that is answered rightly follows it."""
    (name,) = site.store()
    said = rule if carry_out is None else {**rule, "carry_out": carry_out}
    site.fault(method="DELETE", id=name, times=1, **said)
    site.store()
    return name


def open_again(site: Site) -> None:
    """From now on the provider is as it should be, and every next try has come."""
    site.mend()
    for name, row in site.rows.items():
        if row["next_try_at"] is not None:
            lent.put(site.db, name, next_try_at=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the ledger and the provider have kept of one response."""

    name: str
    row: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]
    records: Sequence[Mapping[str, Any]]
    arrived: Sequence[Arrival]
    kept: bool

    @property
    def end(self) -> tuple[str, str | None]:
        return self.row["state"], self.row["outcome"]


def stories(site: Site) -> dict[str, Story]:
    """All responses, after a look whether what is said of each is what happened to it."""
    tried, told, arrived = defaultdict(list), defaultdict(list), defaultdict(list)
    for attempt in registered.rows(site.db, tables.attempts):
        tried[attempt["response_pk"]].append(attempt)
    for record in site.records("deletion.outcome"):
        told[record["item"]].append(record)
    for arrival in site.sandbox.journal.deletes():
        arrived[arrival.target.rpartition("/")[2]].append(arrival)
    kept = site.sandbox.kept()
    found = {
        name: Story(
            name=name,
            row=row,
            attempts=tried[row["id"]],
            records=told[row["item"]],
            arrived=arrived[name],
            kept=name in kept,
        )
        for name, row in site.rows.items()
    }
    for story in found.values():
        _is_true(story)
    return found


def _is_true(story: Story) -> None:
    state, outcome = story.end
    sent = [one for one in story.attempts if not one["unsent"]]
    assert len(story.arrived) == len(sent) == story.row["attempts"], story
    assert state != "gone" or not story.kept, story
    ours = any(one.carried_out for one in story.arrived)
    assert outcome != "deleted" or ours, story
    assert outcome != "already_absent" or not ours, story


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("row", OPEN, ids=[row.fault for row in OPEN])
async def test_an_answer_that_proves_nothing_leaves_it_open_until_another_one_decides(
    site: Site, row: Row
) -> None:
    await it_is_open_until_another_answer_decides(site, [(row, rule) for rule in row.rules])


@pytest.mark.usefixtures("late")
async def test_all_kinds_of_answers_in_one_sweep_get_each_its_own_outcome(either: Site) -> None:
    await it_is_open_until_another_answer_decides(
        either, [(row, rule) for row in OPEN for rule in row.rules[:2]]
    )


async def it_is_open_until_another_answer_decides(
    site: Site, answers: Sequence[tuple[Row, Rule]]
) -> None:
    """Each answer is given twice, where it may: once to what was done, once to what was not."""
    given = {
        answered(site, rule, carry_out=carry_out): (row, carry_out)
        for row, rule in answers
        for carry_out in ((False, True) if row.touched else (False,))
    }
    expected = Counter(row.outcome for row, _ in given.values())
    ended = await site.sweep(one_by_one(site))
    told = {one.response_id: one.outcome.value for one in site.told(event.ResponseSettled)}
    found = stories(site)
    for name, (row, _) in given.items():
        _is_open(found[name], row)
        assert told[name] == row.outcome
    assert ended.summary.outcomes == {"deleted": len(given), **expected}
    assert ended.summary.remaining_by_reason == expected
    assert ended.summary.stop_reason is None
    assert not ended.summary.complete
    open_again(site)
    assert (await site.sweep(one_by_one(site))).summary.complete
    found = stories(site)
    for name, (row, was_done) in given.items():
        end = "absent_after_attempt" if was_done else "deleted"
        assert found[name].end == ("gone", end)
        assert found[name].row["verified"] == (not was_done)
        assert [one["outcome"] for one in found[name].records] == [row.outcome, end]


def _is_open(story: Story, row: Row) -> None:
    kept = story.row
    assert (*story.end, kept["verified"]) == ("live", row.outcome, 0), story
    assert (kept["failures"], kept["yes_at"], kept["finished_at"]) == (1, None, None)
    assert kept["touched"] == kept["ambiguous"] == int(row.touched)
    assert kept["next_try_at"] > kept["last_attempt_at"]
    (attempt,), (record,), (arrival,) = story.attempts, story.records, story.arrived
    assert (attempt["answer"], attempt["unsent"]) == (row.kind, 0), story
    assert attempt["answered_at"] is not None
    assert (record["outcome"], record["verified"]) == (row.outcome, False)
    assert record["ambiguous"] == int(row.touched)
    assert record["evidence"]["status"] == attempt["status"]
    assert attempt["status"] in ((None,) if row.kind == "lost" else (200, arrival.status))


@pytest.mark.parametrize("status", [409, 423])
async def test_who_says_that_it_is_busy_is_asked_ever_less_often_and_every_six_hours_at_least(
    either: Site, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Each next try is taken as late as it may be; then its time is made to have come."""
    monkeypatch.setattr("sweeper.engine.deletion.random.random", lambda: 1.0)
    (name,) = either.store()
    either.fault(method="DELETE", id=name, status=status)
    waits: list[float] = []
    for tries in range(1, 18):
        ended = await either.sweep()
        assert ended.summary.remaining_by_reason == {"failing": 1}
        row = either.row(name)
        assert (row["state"], row["outcome"], row["failures"]) == ("live", "failing", tries)
        waits.append((row["next_try_at"] - row["last_attempt_at"]) / 1_000_000)
        lent.put(either.db, name, next_try_at=None)
    expected = [min(2.0**tries, 6 * 3600.0) for tries in range(1, 18)]
    assert waits == pytest.approx(expected, abs=1)
    assert len(either.deleted()) == len(waits)


@pytest.mark.parametrize("status", [409, 423])
def test_what_stays_busy_past_its_deadline_is_told_as_late(
    rehearsal: Rehearsal, run: Run, status: int
) -> None:
    rehearsal.responses(1, age=timedelta(days=14, hours=3))
    rehearsal.responses(2, age=timedelta(days=15, hours=3))
    rehearsal.fault(method="DELETE", status=status)
    assert run("-c", rehearsal.config, "sweep", "--json").code == 3
    told = run("-c", rehearsal.config, "status", "--json")
    (late,) = told.last["late"]
    assert (told.code, late["policy"], late["responses"]) == (3, "support", 2)
    assert late["oldest_seconds"] == pytest.approx(3 * 3600, abs=120)
    words = run("-c", rehearsal.config, "status").out
    assert "LATE: 2 of 'support' are past their deadline" in words


@pytest.mark.parametrize("fault", AT_ONCE)
async def test_a_yes_in_an_odd_wrapping_is_a_yes_all_the_same(site: Site, fault: str) -> None:
    names = [answered(site, rule) for rule in AT_ONCE[fault]]
    ended = await site.sweep(one_by_one(site))
    assert ended.summary.complete
    found = stories(site)
    for name in names:
        assert (*found[name].end, found[name].row["verified"]) == ("gone", "deleted", 1)
        (record,) = found[name].records
        assert (record["outcome"], record["evidence"]["status"]) == ("deleted", 200)
    assert not any("cookie" in one.headers for one in site.sandbox.journal.entries)


async def test_a_yes_that_is_cut_at_any_byte_is_no_yes() -> None:
    said = hostile.answer()
    lengths = iter(range(len(said)))

    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(said[: next(lengths)])

    async with hostile.peer(script) as peer:
        door = door_to(peer.url)
        answers = [await door.delete("resp_1") for _ in said]
        await door.aclose()
        assert {answer.kind for answer in answers} == {AnswerKind.LOST}
        assert len(peer.questions) == len(said)


def door_to(url: str, total: timedelta = http.TOTAL_DEADLINE) -> Responses:
    canary.watch("the key", rehearsals.KEY)
    return Responses(
        profile=FIREWORKS, base_url=url, key=Secret(rehearsals.KEY), total_deadline=total
    )


def hasty(site: Site) -> sweeping.Early:
    """The account waits a second and a half for each answer, not thirty."""

    def early(running: Running) -> None:
        account = running.accounts["main"]
        account.door = Responses(
            profile=account.profile,
            base_url=account.settings.base_url,
            key=Secret(site.sandbox.key),
            total_deadline=timedelta(seconds=1.5),
        )

    return early


SLOW: Final[Mapping[str, Rule]] = {
    "F10": {"drip": {"bytes": 1, "seconds": 0.2}},
    "F10 in the head": {"drip": {"bytes": 1, "seconds": 0.2, "head": True}},
    "F10 without end": {"endless": True, "drip": {"bytes": 1, "seconds": 0.05}},
    "F11": {"do": "silence"},
    "F11 too late": {"delay": 5},
}


@pytest.mark.usefixtures("late")
async def test_who_drips_or_says_nothing_is_left_after_the_total_deadline(either: Site) -> None:
    assert timedelta(seconds=30) == http.TOTAL_DEADLINE
    given = {answered(either, rule, carry_out=True): True for rule in SLOW.values()}
    given |= {answered(either, SLOW[name], carry_out=False): False for name in ("F10", "F11")}
    parallel = either.account("main", max_in_flight=len(given))
    ended = await either.sweep(parallel, early=hasty(either))
    found = stories(either)
    for name in given:
        (attempt,) = found[name].attempts
        assert found[name].end == ("live", "failing")
        assert (attempt["answer"], attempt["status"]) == ("lost", None)
        assert (found[name].row["touched"], found[name].row["failures"]) == (1, 1)
    assert ended.summary.remaining_by_reason == {"failing": len(given)}
    open_again(either)
    assert (await either.sweep()).summary.complete
    found = stories(either)
    for name, was_done in given.items():
        end = "absent_after_attempt" if was_done else "deleted"
        assert found[name].end == ("gone", end)


async def test_what_the_provider_keeps_no_longer_is_called_expired_and_nothing_younger_is(
    either: Site,
) -> None:
    old = either.store(4, age=31 * DAY)  # the provider removes them after thirty days
    either.store(3, age=29 * DAY)
    either.know("resp_younger", age=30 * DAY - timedelta(hours=1))
    ended = await either.sweep()
    assert ended.summary.complete
    found = stories(either)
    assert {found[name].end for name in old} == {("gone", "expired_by_provider")}
    assert found["resp_younger"].end == ("gone", "already_absent")
    assert {found[name].records[-1]["evidence"]["control"] for name in old} == {"pass"}


async def test_a_provider_that_promises_no_end_lets_nothing_expire(
    sqlite_database: Database,
) -> None:
    async with sweeping.serving(sqlite_database, shape="openai") as site:
        site.store(3)
        site.store(1, age=DAY)
        site.know("resp_old", age=400 * DAY)
        await site.sweep(site.account("main", provider="openai"))
        assert stories(site)["resp_old"].end == ("gone", "already_absent")


@pytest.mark.parametrize(
    "body, end",
    [
        ({"detail": "Response gone"}, ("gone", "already_absent")),
        ({"detail": "Not Found"}, ("live", "not_visible")),
        ("", ("live", "not_visible")),
    ],
)
async def test_gone_for_good_is_believed_as_little_as_not_found(
    site: Site, body: object, end: tuple[str, str]
) -> None:
    site.store(3)
    site.know("resp_gone")
    for method in ("DELETE", "GET"):
        site.fault(method=method, id="resp_gone", status=410, body=body)
    await site.sweep()
    story = stories(site)["resp_gone"]
    assert (story.end, story.attempts[0]["status"]) == (end, 410)
    assert story.records[0]["evidence"]["status"] == 410


@pytest.mark.parametrize("status", [400, 413, 414, 422])
async def test_what_the_provider_will_not_take_is_asked_for_once_and_set_aside(
    site: Site, status: int
) -> None:
    (name,) = site.store()
    site.fault(method="DELETE", id=name, status=status, body={"detail": "value is not a valid id"})
    site.store(2)
    for _ in range(3):
        ended = await site.sweep()
        assert ended.summary.remaining_by_reason == {"quarantined": 1}
    story = stories(site)[name]
    assert story.end == ("quarantined", "rejected")
    assert [one["status"] for one in story.attempts] == [status]
    assert [one["outcome"] for one in story.records] == ["rejected"]
    assert story.row["touched"] == 0


async def test_a_redirect_is_never_followed_and_stops_the_account(site: Site) -> None:
    async with Sandbox(keys=site.sandbox.keys) as elsewhere:
        (name,) = site.store()
        own, other = site.sandbox.base_url, elsewhere.base_url
        leading = [
            (301, f"{other}/v1/responses/{name}"),
            (302, f"//127.0.0.1:{elsewhere.port}/inference/v1/responses/{name}"),
            (303, f"{own}/v1/responses"),
            (307, f"{other}/v1/responses/{name}?key=1#x"),
            (308, f"https://127.0.0.1:{elsewhere.port}/"),
            (307, "http://169.254.169.254/latest/meta-data"),
            (308, "/inference/v1/responses"),
            (300, f"{own}/v1/responses/{name}"),
            (399, "nowhere:\x01"),
        ]
        for status, location in leading:
            site.fault(method="DELETE", times=1, status=status, headers={"location": location})
            ended = await site.sweep()
            assert ended.summary.stop_reason == "account:main:configuration", status
            assert ended.summary.remaining_by_reason == {"stopped": 1}
            story = stories(site)[name]
            assert (*story.end, story.row["failures"]) == ("live", None, 0)
            assert story.row["next_try_at"] is None
            site.mend()
        assert site.deleted() == [name] * len(leading)
        asked = {one.target for one in site.sandbox.journal.requests("GET")}
        assert asked <= {"/verifyApiKey", f"/inference/v1/responses/{name}"}
        assert elsewhere.connections == 0
        assert (await site.sweep()).summary.complete
        # Of what was sent eight times in vain nobody knows which one did it.
        assert stories(site)[name].end == ("gone", "deleted")


@pytest.mark.parametrize("status", [301, 302, 303, 501])
async def test_what_was_done_and_then_answered_with_a_way_elsewhere_may_have_been_us(
    site: Site, status: int
) -> None:
    site.store(2, age=15 * DAY)
    (name,) = site.store()
    site.fault(method="DELETE", id=name, times=1, status=status, carry_out=True)
    ended = await site.sweep(one_by_one(site))
    assert ended.summary.stop_reason == "account:main:configuration"
    site.mend()
    assert (await site.sweep()).summary.complete
    assert stories(site)[name].end == ("gone", "absent_after_attempt")


async def test_an_answer_that_nobody_asked_for_settles_nothing(site: Site) -> None:
    names = site.store(12)
    stray = hostile.answer(date=None).decode("latin-1")
    for name in names[::2]:
        site.fault(method="DELETE", id=name, stray=stray)
    for name in names[1::2]:
        site.fault(method="DELETE", id=name, status=500)
    unverified = site.account("main", max_in_flight=1, verify=False)
    ended = await site.sweep(unverified)
    found = stories(site)
    assert ended.summary.outcomes == {"deleted": 6, "failing": 6}
    assert {found[name].end for name in names[::2]} == {("gone", "deleted")}
    assert {found[name].end for name in names[1::2]} == {("live", "failing")}


@pytest.mark.usefixtures("late")
async def test_answers_that_have_slipped_by_one_verify_nothing(site: Site) -> None:
    """After its first yes a connection answers each question with what belongs to the one before.

    So the second DELETE, which nothing comes of, is told the yes of somebody else; and a look for
    it on the same connection would be told that another one is not there.
    """
    async with slipping(site.sandbox) as base_url:
        done, kept = site.store(2)
        site.fault(method="DELETE", id=kept, status=500)
        await site.sweep(site.account("main", base_url=base_url, max_in_flight=1))
        found = stories(site)
        assert found[done].end == ("gone", "deleted")
        assert [one["answer"] for one in found[kept].attempts] == ["yes"]
        assert found[kept].end == ("live", "still_present")


@asynccontextmanager
async def slipping(sandbox: Sandbox) -> AsyncIterator[str]:
    """A way to the sandbox that says each connection's first yes to a DELETE twice."""

    async def script(visit: Visit) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", sandbox.port)
        said = b""
        try:
            while question := await visit.question():
                if said:
                    visit.say(said)
                writer.write(question + hostile.END_OF_HEAD)
                came = await reader.readuntil(hostile.END_OF_HEAD)
                length = re.search(rb"content-length: (\d+)", came)
                came += await reader.readexactly(int(length[1]) if length else 0)
                if not said:
                    visit.say(came)
                said = came if said or question.startswith(b"DELETE") else b""
        finally:
            writer.close()

    async with hostile.peer(script) as peer:
        yield sandbox.base_url.replace(str(sandbox.port), str(peer.port))


@pytest.mark.usefixtures("late")
async def test_an_answer_that_comes_after_the_deadline_settles_nothing_else(site: Site) -> None:
    first, second = site.store(2)
    site.fault(method="DELETE", id=first, delay=2.0)
    site.fault(method="DELETE", id=second, delay=0.9, status=500)
    unverified = site.account("main", max_in_flight=1, verify=False)
    await site.sweep(unverified, early=hasty(site))
    found = stories(site)
    assert found[first].end == found[second].end == ("live", "failing")
    assert [one["answer"] for one in found[first].attempts] == ["lost"]
    assert [one["status"] for one in found[second].attempts] == [500]


@pytest.mark.parametrize(
    "was_done, end", [(True, ("gone", "deleted")), (False, ("live", "still_present"))]
)
async def test_a_yes_that_names_another_response_is_taken_and_looked_after(
    sqlite_database: Database, was_done: bool, end: tuple[str, str]
) -> None:
    """Gateways rewrite ids, so that the name proves nothing; whether it is gone, a GET shows."""
    async with sweeping.serving(sqlite_database, shape="openai") as site:
        (name,) = site.store()
        yes = {"id": "resp_of_somebody_else", "object": "response", "deleted": True}
        site.fault(method="DELETE", times=1, status=200, body=yes, carry_out=was_done)
        await site.sweep(site.account("main", provider="openai"))
        story = stories(site)[name]
        assert (story.end, story.row["verified"]) == (end, was_done)


STRANGE_CHECKS: Final[Sequence[Rule]] = [
    {"status": 200, "html": "log in"},
    {"status": 200, "body": {"account": "sandbox"}},
    {"status": 302, "headers": {"location": "/login"}},
    {"status": 204, "headers": {"x-fireworks-account-id": "sandbox"}},
    {"headers": {"x-fireworks-account-id": None}},
    {"headers": {"x-fireworks-account-id": "sand box"}},
    {"headers": [["x-fireworks-account-id", "sandbox"], ["x-fireworks-account-id", "other"]]},
    {"headers": {"content-length": None, "x-fireworks-account-id": "s" * 200_000}},
    {"status": 404, "body": {"detail": "Not Found"}},
    {"status": 500},
    {"do": "reset"},
    {"raw": "HTTP/1.1 200 OK\r\nx-fireworks-account-id: sandbox\r\n", "then": "close"},
]


async def test_without_a_clear_answer_to_whose_account_it_is_nothing_is_sent(site: Site) -> None:
    names = site.store(3)
    for rule in STRANGE_CHECKS:
        site.fault(path="verifyApiKey", **rule)
        ended = await site.sweep()
        assert str(ended.summary.stop_reason).startswith("account:main:"), rule
        assert site.deleted() == [], rule
        site.mend()
    assert {(row["state"], row["outcome"], row["claims"]) for row in site.rows.values()} == {
        ("live", None, 0)
    }
    assert (await site.sweep()).summary.outcomes == {"deleted": len(names)}


def test_bodies_of_any_size_take_no_memory(tmp_path: Path, sqlite_url: str) -> None:
    bodies: list[Rule] = [{"size": 10**9}, {"endless": True}, packed(b" " * 50_000_000, "gzip")]
    with rehearsals.rehearsal(tmp_path, sqlite_url) as rehearsal:
        rehearsal.responses(6)
        usual = peak_of_a_sweep(rehearsal)
        for number, name in enumerate(rehearsal.responses(6)):
            rule = Fault.parse({"method": "DELETE", "id": name, **bodies[number % 3]})
            rehearsal.sandbox.call(functools.partial(add, rule))
        assert peak_of_a_sweep(rehearsal) - usual < 20 * MEBIBYTE
        outcomes = Counter(row["outcome"] for row in rehearsal.rows())
        assert outcomes == {"deleted": 6, "unconfirmed": 6}
        assert truth.violations(rehearsal) == []


def add(rule: Fault, sandbox: Sandbox) -> None:
    sandbox.faults.add(rule)


def peak_of_a_sweep(rehearsal: Rehearsal) -> int:
    """Sweep by a process of its own; the most memory that it ever had, in bytes."""
    with subprocess.Popen(
        [sys.executable, "-m", "sweeper", "-c", str(rehearsal.config), "sweep"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=command.environment(),
    ) as child:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_maxrss * 1024
