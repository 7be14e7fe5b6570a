import asyncio
import logging
import re
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest
import trustme
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sweeper import errors
from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.domain.secret import Secret
from sweeper.provider import http, responses
from sweeper.provider.profile import FIREWORKS, OPENAI, Profile
from tests.support import hostile
from tests.support.hostile import Peer, Script, Visit

CANARY = "fw_canary5f2e"
GONE = b'{"detail":"Response not found"}'
SHORT = timedelta(seconds=0.2)


@asynccontextmanager
async def account(
    script: Script,
    *,
    profile: Profile = FIREWORKS,
    account_id: str | None = None,
    base: str = "/inference",
    total: timedelta = http.TOTAL_DEADLINE,
) -> AsyncIterator[tuple[Peer, responses.Responses]]:
    async with hostile.peer(script) as peer:
        at = responses.Responses(
            profile=profile,
            base_url=peer.url + base,
            key=Secret(CANARY),
            account_id=account_id,
            total_deadline=total,
        )
        try:
            yield peer, at
        finally:
            await at.aclose()


async def told(said: bytes, profile: Profile = FIREWORKS) -> Answer:
    async with account(hostile.answering_always(said), profile=profile) as (_, at):
        return await at.delete("resp_1")


async def test_what_is_sent_is_exactly_this() -> None:
    async with account(hostile.answering_always(hostile.answer())) as (peer, at):
        await at.delete("resp_1")
        await at.get("resp_2")
        await at.collection()
        await at.account()
    lines = [question.decode().split("\r\n") for question in peer.questions]
    assert [line[0] for line in lines] == [
        "DELETE /inference/v1/responses/resp_1 HTTP/1.1",
        "GET /inference/v1/responses/resp_2 HTTP/1.1",
        "GET /inference/v1/responses?limit=1 HTTP/1.1",
        "GET /verifyApiKey HTTP/1.1",
    ]
    for line in lines:
        assert line[1:5] == [
            f"Host: 127.0.0.1:{peer.port}",
            f"Authorization: Bearer {CANARY}",
            "Accept: application/json",
            "Accept-Encoding: identity",
        ]
        assert re.fullmatch(r"User-Agent: sweeper/[\w.]+", line[5])
        assert line[6:] == ["", ""]


async def test_the_configured_account_is_named_where_the_provider_knows_it() -> None:
    for profile, is_named in ((FIREWORKS, True), (OPENAI, False)):
        script = hostile.answering_always(hostile.answer())
        async with account(script, profile=profile, account_id="acme", base="/") as (peer, at):
            await at.delete("resp_1")
        assert (b"\r\nx-fireworks-account-id: acme\r\n" in peer.questions[0]) is is_named
        assert peer.questions[0].startswith(b"DELETE /v1/responses/resp_1 ")


def test_the_version_is_told_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "1.2.3")
    assert responses._version() == "1.2.3"

    def unknown(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    assert responses._version() == "source"


@pytest.mark.parametrize(
    "said, kind, status",
    [
        (hostile.answer(), AnswerKind.YES, 200),
        (hostile.answer(200, b'{"deleted":true}'), AnswerKind.UNCLEAR, 200),
        (hostile.answer(200, b"<html>"), AnswerKind.HTML, 200),
        (hostile.answer(204, b""), AnswerKind.UNCLEAR, 204),
        (b"HTTP/1.1 204 No Content\r\n\r\n", AnswerKind.UNCLEAR, 204),
        (hostile.answer(307, b"", "Location: /x"), AnswerKind.MISCONFIGURED, 307),
        (hostile.answer(400, b"{}"), AnswerKind.REJECTED, 400),
        (hostile.answer(401, b"{}"), AnswerKind.CREDENTIAL, 401),
        (hostile.answer(402, b"{}"), AnswerKind.PAYMENT, 402),
        (hostile.answer(404, GONE), AnswerKind.ABSENT, 404),
        (hostile.answer(404, b'{"detail":"Not Found"}'), AnswerKind.MISPLACED, 404),
        (hostile.answer(405, b"{}"), AnswerKind.MISCONFIGURED, 405),
        (hostile.answer(408, b"{}"), AnswerKind.UNAVAILABLE, 408),
        (hostile.answer(409, b"{}"), AnswerKind.CONFLICT, 409),
        (hostile.answer(410, GONE), AnswerKind.ABSENT, 410),
        (hostile.answer(418, b"{}"), AnswerKind.UNCLEAR, 418),
        (hostile.answer(422, b"{}"), AnswerKind.REJECTED, 422),
        (hostile.answer(429, b"{}", "Retry-After: 3"), AnswerKind.THROTTLED, 429),
        (hostile.answer(500, b"<html>"), AnswerKind.UNAVAILABLE, 500),
        (hostile.answer(501, b""), AnswerKind.MISCONFIGURED, 501),
        (hostile.answer(503, b"", "Retry-After: 3"), AnswerKind.THROTTLED, 503),
        (hostile.answer(200, b'{"message":"' + b"a" * 70000 + b'"}'), AnswerKind.UNCLEAR, 200),
        (hostile.answer(404, b'{"detail":"' + b"a" * 70000 + b'"}'), AnswerKind.UNCLEAR, 404),
        (hostile.answer(429, b"a" * 70000), AnswerKind.THROTTLED, 429),
        (b"HTTP/1.1 500 \r\n\r\n" + b"a" * 140_000, AnswerKind.UNAVAILABLE, 500),
        (hostile.answer(200, b"{}", "Content-Encoding: gzip"), AnswerKind.UNCLEAR, 200),
        (b"nonsense\r\n\r\n", AnswerKind.LOST, None),
    ],
)
async def test_every_class_of_answer_over_the_wire(
    said: bytes, kind: AnswerKind, status: int | None
) -> None:
    answer = await told(said)
    assert (answer.kind, answer.status) == (kind, status)


async def test_the_other_profile_takes_the_other_yes() -> None:
    assert (await told(hostile.answer(200, b'{"deleted":true}'), OPENAI)).kind is AnswerKind.YES
    assert (await told(hostile.answer(), OPENAI)).kind is AnswerKind.UNCLEAR


async def test_an_answer_tells_its_date_and_its_pause() -> None:
    answer = await told(
        hostile.answer(429, b"{}", "Retry-After: Mon, 23 Nov 2026 10:00:09 GMT", "X-Request-Id: r1")
    )
    assert answer.date == datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
    assert answer.retry_after == timedelta(seconds=9)
    assert answer.request_id == "r1"


async def test_a_server_that_says_our_key_back_as_a_name_is_not_repeated() -> None:
    for key in (CANARY, "k"):
        named = [f"X-Request-Id: a{key}b", f"x-fireworks-account-id: {key}"]
        script = hostile.answering_always(hostile.answer(200, b"{}", *named))
        async with hostile.peer(script) as peer:
            at = responses.Responses(profile=FIREWORKS, base_url=peer.url, key=Secret(key))
            answer = await at.account()
            await at.aclose()
            assert (answer.request_id, answer.account_id) == (None, None)


async def test_what_is_seen_of_a_response_the_list_and_the_account() -> None:
    named = "x-fireworks-account-id: acme"
    script = hostile.answering(
        hostile.answer(200, b'{"output":"content"}'),
        hostile.answer(404, GONE),
        hostile.answer(200, b'{"data":[]}'),
        hostile.answer(200, b"ok", media_type="text/plain"),
        hostile.answer(200, b"", named, media_type=None),
        hostile.answer(200, b"", media_type=None),
        hostile.answer(403, b'{"error":"unauthorized"}', named),
    )
    async with account(script) as (_, at):
        seen = await at.get("resp_1")
        assert (seen.kind, seen.body) == (AnswerKind.PRESENT, Body.UNREAD)
        assert (await at.get("resp_1")).kind is AnswerKind.ABSENT
        assert (await at.collection()).kind is AnswerKind.PRESENT
        assert (await at.collection()).kind is AnswerKind.UNCLEAR
        own = await at.account()
        assert (own.kind, own.account_id) == (AnswerKind.PRESENT, "acme")
        assert (await at.account()).kind is AnswerKind.UNCLEAR
        assert (await at.account()).kind is AnswerKind.CREDENTIAL


async def test_a_provider_that_names_no_account_is_not_asked_for_one() -> None:
    async with account(hostile.silent, profile=OPENAI) as (peer, at):
        with pytest.raises(errors.SweeperError, match="names no account"):
            await at.account()
        assert peer.visits == []


async def test_the_content_of_a_response_is_not_read() -> None:
    async def script(visit: Visit) -> None:
        await visit.question()
        visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await visit.until_gone()

    async with account(script) as (peer, at):
        assert (await at.get("resp_1")).kind is AnswerKind.PRESENT
        await peer.until_all_gone()


ODD_IDS = [
    "",
    ".",
    "..",
    "../files/x",
    "a/b",
    "a#b",
    "a?b",
    "a b",
    "a%2fb",
    "a\n",
    "\n",
    "ä",
    "a\\b",
]
ODD_IDS += [
    "a.b",
    "a\0",
    "a:b",
    "@",
    "a" * 129,
    "\u0663",
    "\uff41",
    "a\r\nX: y",
    "//host/x",
    "resp_1/",
    "\u017f",
]


@pytest.mark.parametrize("response_id", ODD_IDS)
async def test_an_id_outside_the_allow_list_never_reaches_the_wire(response_id: str) -> None:
    async with account(hostile.silent) as (peer, at):
        for ask in (at.delete, at.get):
            with pytest.raises(errors.SweeperError, match="not a response id that may be sent"):
                await ask(response_id)
        assert peer.visits == []


async def test_an_id_may_be_as_long_as_the_profile_says() -> None:
    script = hostile.answering_always(hostile.answer())
    for profile, longest in ((FIREWORKS, 128), (OPENAI, 1024)):
        async with account(script, profile=profile) as (peer, at):
            await at.delete("a" * longest)
            with pytest.raises(errors.SweeperError):
                await at.delete("a" * (longest + 1))
            assert len(peer.questions) == 1


async def only_exact_paths_arrive(ids: list[str]) -> None:
    async with account(hostile.answering_always(hostile.answer())) as (peer, at):
        for response_id in ids:
            before = len(peer.questions)
            try:
                await at.delete(response_id)
            except errors.SweeperError:
                assert len(peer.questions) == before
                continue
            line = peer.questions[-1].split(b"\r\n")[0]
            assert len(peer.questions) == before + 1
            assert line == b"DELETE /inference/v1/responses/%b HTTP/1.1" % response_id.encode()
            assert re.fullmatch(rb"DELETE /inference/v1/responses/[\w-]{1,128} HTTP/1\.1", line)


@given(
    st.lists(
        st.text(max_size=20)
        | st.text(st.sampled_from("aZ09_-./?#%\\ :@\r\n"), max_size=8)
        | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
        max_size=8,
    )
)
@example(ODD_IDS)
@settings(max_examples=40, deadline=None)
def test_nothing_but_the_exact_path_ever_reaches_the_wire(ids: list[str]) -> None:
    asyncio.run(only_exact_paths_arrive(ids))


async def test_a_call_without_an_answer_says_whether_it_was_sent() -> None:
    async def reset(visit: Visit) -> None:
        await visit.question()
        visit.reset()

    async def leave(visit: Visit) -> None:
        await visit.question()

    for script, fault in ((reset, "reset"), (leave, "closed"), (hostile.silent, "timeout")):
        async with account(script, total=SHORT) as (peer, at):
            assert await at.delete("resp_1") == Answer(kind=AnswerKind.LOST, fault=fault)
            assert len(peer.questions) == 1
    at = responses.Responses(profile=OPENAI, base_url=peer.url, key=Secret(CANARY))
    assert await at.delete("resp_1") == Answer(kind=AnswerKind.NOT_SENT, fault="refused")
    await at.aclose()


async def test_a_lost_call_leaves_the_account_usable() -> None:
    async def leave(visit: Visit) -> None:
        await visit.question()

    good = hostile.answering_always(hostile.answer())
    async with account(hostile.visiting([leave, good])) as (_, at):
        assert (await at.delete("resp_1")).kind is AnswerKind.LOST
        assert (await at.delete("resp_1")).kind is AnswerKind.YES


async def test_many_calls_in_flight_get_each_its_own_answer() -> None:
    async def echo(visit: Visit) -> None:
        while question := await visit.question():
            number = question.split()[1].rpartition(b"_")[2]
            visit.say(hostile.answer(200, b"{}", f"X-Request-Id: {number.decode()}"))

    async with account(echo) as (peer, at):
        answers = await asyncio.gather(*(at.delete(f"resp_{number}") for number in range(200)))
        again = await asyncio.gather(*(at.delete(f"resp_{number}") for number in range(50)))
        assert [answer.request_id for answer in answers] == [str(n) for n in range(200)]
        assert [answer.request_id for answer in again] == [str(n) for n in range(50)]
        assert len(peer.visits) == 200


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


async def over_tls(
    cert: trustme.LeafCert, trusted: trustme.CA | None, calls: int = 1
) -> tuple[list[Answer], Peer]:
    tls = None
    if trusted is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted.configure_trust(tls)
    script = hostile.answering_always(hostile.answer())
    async with hostile.peer(script, tls=server_context(cert)) as peer:
        at = responses.Responses(
            profile=FIREWORKS,
            base_url=f"https://localhost:{peer.port}",
            key=Secret(CANARY),
            tls=tls,
        )
        answers = [await at.delete(f"resp_{number}") for number in range(calls)]
        await at.aclose()
    return answers, peer


async def test_over_tls_a_connection_is_kept_and_used_again() -> None:
    ca = trustme.CA()
    answers, peer = await over_tls(ca.issue_cert("localhost"), ca, calls=4)
    assert [answer.kind for answer in answers] == [AnswerKind.YES] * 4
    assert len(peer.visits) == 1


YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize("wrong", ["expired", "another name", "another authority"])
async def test_a_server_that_does_not_prove_itself_is_told_nothing(wrong: str) -> None:
    ca = trustme.CA()
    trusted = ca
    match wrong:
        case "expired":
            cert = ca.issue_cert(
                "localhost", not_before=YESTERDAY - timedelta(days=1), not_after=YESTERDAY
            )
        case "another name":
            cert = ca.issue_cert("elsewhere.example")
        case _:
            cert, trusted = ca.issue_cert("localhost"), trustme.CA()
    [answer], peer = await over_tls(cert, trusted)
    assert answer == Answer(kind=AnswerKind.NOT_SENT, fault="tls")
    assert peer.questions == []


async def test_an_authority_from_the_environment_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = trustme.CA()
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    ca.cert_pem.write_to_path(str(theirs))
    trustme.CA().cert_pem.write_to_path(str(ours))
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs))
    built_in = ssl.get_default_verify_paths()
    system = built_in._replace(openssl_cafile=str(ours), openssl_capath=str(tmp_path / "none"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: system)
    [answer], _ = await over_tls(ca.issue_cert("localhost"), None)
    assert answer == Answer(kind=AnswerKind.NOT_SENT, fault="tls")


async def test_a_server_that_speaks_no_tls_is_told_nothing() -> None:
    async def plain(visit: Visit) -> None:
        visit.say(hostile.answer())
        await visit.until_gone()

    async with hostile.peer(plain) as peer:
        at = responses.Responses(
            profile=FIREWORKS,
            base_url=f"https://127.0.0.1:{peer.port}",
            key=Secret(CANARY),
            tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )
        assert await at.delete("resp_1") == Answer(kind=AnswerKind.NOT_SENT, fault="tls")
        await at.aclose()
        assert CANARY.encode() not in b"".join(peer.visits[0].reads)


async def test_a_tls_connection_that_breaks_after_the_question_is_ambiguous() -> None:
    async def garble(visit: Visit) -> None:
        await visit.question()
        visit.say_in_clear(b"HTTP/1.1 200 OK\r\n\r\n")
        await visit.until_gone()

    ca, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(tls)
    async with hostile.peer(garble, tls=server_context(ca.issue_cert("localhost"))) as peer:
        at = responses.Responses(
            profile=FIREWORKS,
            base_url=f"https://localhost:{peer.port}",
            key=Secret(CANARY),
            tls=tls,
        )
        assert await at.delete("resp_1") == Answer(kind=AnswerKind.LOST, fault="tls")
        await at.aclose()


@pytest.mark.parametrize("text", ["", f"{CANARY} x", f"{CANARY}\n", f"{CANARY}ä", "\0"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(text: str) -> None:
    with pytest.raises(errors.SecretError) as caught:
        responses.Responses(profile=OPENAI, base_url="http://127.0.0.1:9", key=Secret(text))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("account_id", ["", "a b", "a\r\nX: y", "ä", "a" * 129])
def test_an_account_id_that_no_header_can_carry_is_refused(account_id: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="account id"):
        responses.Responses(
            profile=FIREWORKS,
            base_url="http://127.0.0.1:9",
            key=Secret(CANARY),
            account_id=account_id,
        )


async def test_neither_key_nor_body_appears_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(enabled=True)
    shown: list[str] = []

    async def echo(visit: Visit) -> None:
        visit.say(hostile.answer(200, b'{"canary":"' + await visit.question() + b'"}'))

    async def broken(visit: Visit) -> None:
        visit.say(await visit.question())

    for script in (echo, broken, hostile.silent):
        async with account(script, total=SHORT) as (_, at):
            shown.append(repr(await at.delete("resp_1")))
            shown.append(repr(at) + repr(at._door))
            with pytest.raises(errors.SweeperError) as caught:
                await at.delete("../x")
            shown += traceback.format_exception(caught.value)
    assert "canary" not in "".join(shown) + caplog.text
