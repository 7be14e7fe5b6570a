import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.provider import judgement
from sweeper.provider.judgement import Asked
from sweeper.provider.profile import FIREWORKS, OPENAI, Profile
from sweeper.provider.reply import Reply

DATE = (b"date", b"Mon, 23 Nov 2026 10:00:00 GMT")
JSON = (b"content-type", b"application/json")
PAGE = b"<!doctype html><title>Maintenance</title>"
YES = {FIREWORKS: b'{"message":"done"}', OPENAI: b'{"id":"other","deleted":true}'}
ANYTHING = [b"", b"{}", PAGE, YES[FIREWORKS], YES[OPENAI], b'{"detail":"gone"}', b"\xff"]


def judged(
    status: int,
    body: bytes = b"{}",
    *headers: tuple[bytes, bytes],
    asked: Asked = Asked.DELETE,
    profile: Profile = FIREWORKS,
    whole: bool = True,
) -> Answer:
    reply = Reply(status=status, headers=[DATE, *headers], body=body, whole=whole)
    return judgement.judge(reply, asked=asked, profile=profile)


BY_STATUS = {
    408: AnswerKind.UNAVAILABLE,
    425: AnswerKind.UNAVAILABLE,
    429: AnswerKind.THROTTLED,
    500: AnswerKind.UNAVAILABLE,
    502: AnswerKind.UNAVAILABLE,
    503: AnswerKind.UNAVAILABLE,
    504: AnswerKind.UNAVAILABLE,
    520: AnswerKind.UNAVAILABLE,
    599: AnswerKind.UNAVAILABLE,
    999: AnswerKind.UNAVAILABLE,
    401: AnswerKind.CREDENTIAL,
    403: AnswerKind.CREDENTIAL,
    407: AnswerKind.CREDENTIAL,
    402: AnswerKind.PAYMENT,
    412: AnswerKind.PAYMENT,
    405: AnswerKind.MISCONFIGURED,
    415: AnswerKind.MISCONFIGURED,
    501: AnswerKind.MISCONFIGURED,
    300: AnswerKind.MISCONFIGURED,
    301: AnswerKind.MISCONFIGURED,
    302: AnswerKind.MISCONFIGURED,
    304: AnswerKind.MISCONFIGURED,
    307: AnswerKind.MISCONFIGURED,
    308: AnswerKind.MISCONFIGURED,
}


@pytest.mark.parametrize("status, kind", BY_STATUS.items())
@pytest.mark.parametrize("asked", Asked)
def test_some_statuses_decide_whatever_the_body(
    status: int, kind: AnswerKind, asked: Asked
) -> None:
    for body in ANYTHING:
        for profile in (FIREWORKS, OPENAI):
            assert judged(status, body, asked=asked, profile=profile).kind is kind
    assert judged(status, b"", asked=asked, whole=False).kind is kind
    assert judged(status, b"", (b"content-encoding", b"br"), asked=asked).kind is kind
    assert judged(status, PAGE, (b"content-type", b"text/html"), asked=asked).kind is kind


@pytest.mark.parametrize(
    "status, value, kind, pause",
    [
        (429, b"7", AnswerKind.THROTTLED, 7),
        (429, b"Mon, 23 Nov 2026 10:01:00 GMT", AnswerKind.THROTTLED, 60),
        (429, b"99999", AnswerKind.THROTTLED, 3600),
        (429, b"soon", AnswerKind.THROTTLED, None),
        (503, b"7", AnswerKind.THROTTLED, 7),
        (503, b"0", AnswerKind.THROTTLED, 0),
        (503, b"-7", AnswerKind.UNAVAILABLE, None),
        (502, b"7", AnswerKind.UNAVAILABLE, None),
        (408, b"7", AnswerKind.UNAVAILABLE, None),
    ],
)
def test_a_pause_is_what_429_and_503_ask_for(
    status: int, value: bytes, kind: AnswerKind, pause: int | None
) -> None:
    answer = judged(status, b"{}", (b"retry-after", value))
    assert answer.kind is kind
    assert answer.retry_after == (None if pause is None else timedelta(seconds=pause))


@pytest.mark.parametrize("status", [200, 201, 204, 206, 400, 404, 406, 409, 410, 413, 418, 422])
@pytest.mark.parametrize("asked", Asked)
def test_a_page_is_a_page_on_every_status_that_is_left(status: int, asked: Asked) -> None:
    for body, media_type in [
        (PAGE, b"application/json"),
        (b"\r\n \t<html>", b""),
        (b"<?xml version='1.0'?><Error/>", b"application/xml"),
        (YES[FIREWORKS], b"text/html; charset=utf-8"),
        (b'{"detail":"gone"}', b"TEXT/HTML"),
        (b"", b"application/xhtml+xml"),
    ]:
        answer = judged(status, body, (b"content-type", media_type), asked=asked)
        assert (answer.kind, answer.body) == (AnswerKind.HTML, Body.HTML)
    unread = judged(status, b"", (b"content-type", b"text/html"), asked=asked, whole=False)
    assert unread.kind is AnswerKind.HTML


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("asked", Asked)
@pytest.mark.parametrize(
    "body, kind, shape",
    [
        (b'{"detail":"Response not found"}', AnswerKind.ABSENT, Body.JSON_DETAIL),
        (b'{"detail":[{"msg":"no such id"}]}', AnswerKind.ABSENT, Body.JSON_DETAIL),
        (b'{"error":{"message":"Response \'x\' not found"}}', AnswerKind.ABSENT, Body.JSON_ERROR),
        (b'{"error":"no such response"}', AnswerKind.ABSENT, Body.JSON_ERROR),
        (b'{"detail":"Not Found"}', AnswerKind.MISPLACED, Body.JSON_DETAIL),
        (b'{"detail":"not found."}', AnswerKind.MISPLACED, Body.JSON_DETAIL),
        (b'{"error":"Not Found","path":"/v1/v1"}', AnswerKind.MISPLACED, Body.JSON_ERROR),
        (b'{"error":null}', AnswerKind.MISPLACED, Body.JSON_ERROR),
        (b'{"detail":""}', AnswerKind.MISPLACED, Body.JSON_DETAIL),
        (b'{"message":"Response not found"}', AnswerKind.MISPLACED, Body.JSON_OTHER),
        (b"{}", AnswerKind.MISPLACED, Body.JSON_OTHER),
        (b"", AnswerKind.MISPLACED, Body.EMPTY),
        (b"404 page not found", AnswerKind.MISPLACED, Body.OTHER),
        (b'[{"detail":"x"}]', AnswerKind.MISPLACED, Body.OTHER),
        (b'{"detail":"x","detail":"y"}', AnswerKind.MISPLACED, Body.OTHER),
        (b'{"detail":"x"', AnswerKind.MISPLACED, Body.OTHER),
    ],
)
def test_a_404_counts_only_when_an_application_looked(
    status: int, asked: Asked, body: bytes, kind: AnswerKind, shape: Body
) -> None:
    answer = judged(status, body, asked=asked)
    assert (answer.kind, answer.body) == (kind, shape)


@pytest.mark.parametrize(
    "status, kind",
    [
        (400, AnswerKind.REJECTED),
        (413, AnswerKind.REJECTED),
        (414, AnswerKind.REJECTED),
        (422, AnswerKind.REJECTED),
        (409, AnswerKind.CONFLICT),
        (423, AnswerKind.CONFLICT),
        (406, AnswerKind.UNCLEAR),
        (411, AnswerKind.UNCLEAR),
        (418, AnswerKind.UNCLEAR),
        (451, AnswerKind.UNCLEAR),
        (201, AnswerKind.UNCLEAR),
        (202, AnswerKind.UNCLEAR),
        (204, AnswerKind.UNCLEAR),
        (206, AnswerKind.UNCLEAR),
        (299, AnswerKind.UNCLEAR),
    ],
)
@pytest.mark.parametrize("asked", Asked)
def test_the_other_statuses(status: int, kind: AnswerKind, asked: Asked) -> None:
    for body in (b"", b"{}", b"plain", *YES.values(), b'{"detail":"x"}', b'{"error":{}}'):
        assert judged(status, body, JSON, asked=asked).kind is kind


@pytest.mark.parametrize(
    "profile, body, shape",
    [
        (FIREWORKS, YES[FIREWORKS], Body.OK),
        (FIREWORKS, b'{"message":""}', Body.OK),
        (FIREWORKS, b'{"message":"done","deleted":true,"error":null}', Body.OK),
        (OPENAI, YES[OPENAI], Body.OK),
        (OPENAI, b'{"deleted":true}', Body.OK),
        (FIREWORKS, YES[OPENAI], Body.JSON_OTHER),
        (OPENAI, YES[FIREWORKS], Body.JSON_OTHER),
        (FIREWORKS, b'{"message":null}', Body.JSON_OTHER),
        (FIREWORKS, b'{"message":["done"]}', Body.JSON_OTHER),
        (FIREWORKS, b'{"message":"done","deleted":false}', Body.JSON_OTHER),
        (FIREWORKS, b'{"message":"done","error":{"code":1}}', Body.JSON_ERROR),
        (FIREWORKS, b'{"message":"done","detail":"no"}', Body.JSON_DETAIL),
        (OPENAI, b'{"deleted":false}', Body.JSON_OTHER),
        (OPENAI, b'{"deleted":"true"}', Body.JSON_OTHER),
        (OPENAI, b'{"deleted":1}', Body.JSON_OTHER),
        (OPENAI, b'{"deleted":true,"error":"half"}', Body.JSON_ERROR),
        (FIREWORKS, b'{"error":{"message":"x"}}', Body.JSON_ERROR),
        (FIREWORKS, b"{}", Body.JSON_OTHER),
        (FIREWORKS, b"[]", Body.OTHER),
        (FIREWORKS, b"null", Body.OTHER),
        (FIREWORKS, b'"ok"', Body.OTHER),
        (FIREWORKS, b"", Body.EMPTY),
        (FIREWORKS, b" \r\n", Body.EMPTY),
        (FIREWORKS, b'{"message":"done"', Body.OTHER),
        (FIREWORKS, b'{"message":"done","message":"done"}', Body.OTHER),
        (FIREWORKS, b'{"message":"done","n":NaN}', Body.OTHER),
        (FIREWORKS, b'\xef\xbb\xbf{"message":"done"}', Body.OTHER),
        (FIREWORKS, b'{"message":"\xff"}', Body.OTHER),
    ],
)
def test_a_yes_is_a_200_in_the_profiles_shape(profile: Profile, body: bytes, shape: Body) -> None:
    for media_type in (b"application/json", b"text/plain", b""):
        answer = judged(200, body, (b"content-type", media_type), profile=profile)
        assert answer.body is shape
        assert answer.kind is (AnswerKind.YES if shape is Body.OK else AnswerKind.UNCLEAR)


@pytest.mark.parametrize("status", [200, 400, 404, 410, 422])
def test_a_body_that_was_cut_or_came_compressed_shows_nothing(status: int) -> None:
    cut = judged(status, b"", whole=False)
    packed = judged(status, b'{"detail":"x","message":"y"}', (b"content-encoding", b"gzip"))
    for answer in (cut, packed):
        assert (answer.kind, answer.body) == (AnswerKind.UNCLEAR, Body.UNREAD)
    assert judged(409, b"", whole=False).kind is AnswerKind.CONFLICT


def test_sight_of_a_response_is_a_200_to_its_get_and_of_the_list_a_200_of_json() -> None:
    def seen(status: int, asked: Asked, *headers: tuple[bytes, bytes]) -> AnswerKind:
        return judged(status, b"", *headers, asked=asked, whole=False).kind

    assert seen(200, Asked.GET) is AnswerKind.PRESENT
    assert judged(200, YES[FIREWORKS], asked=Asked.GET).kind is AnswerKind.PRESENT
    assert seen(206, Asked.GET, JSON) is AnswerKind.UNCLEAR
    assert seen(200, Asked.LIST, JSON) is AnswerKind.PRESENT
    charset = (b"content-type", b"Application/JSON; charset=utf-8")
    assert seen(200, Asked.LIST, charset) is AnswerKind.PRESENT
    assert seen(200, Asked.LIST) is AnswerKind.UNCLEAR
    assert seen(200, Asked.LIST, (b"content-type", b"text/plain")) is AnswerKind.UNCLEAR
    assert seen(200, Asked.LIST, JSON, (b"content-encoding", b"gzip")) is AnswerKind.UNCLEAR


@pytest.mark.parametrize(
    "named, account_id", [(b"acme", "acme"), (b"", None), (b"a b", None), (b"a\xe4", None)]
)
def test_the_account_is_what_the_header_names(named: bytes, account_id: str | None) -> None:
    header = (b"x-fireworks-account-id", named)
    answer = judged(200, b"", header, asked=Asked.ACCOUNT, whole=False)
    assert answer.account_id == account_id
    assert answer.kind is (AnswerKind.UNCLEAR if account_id is None else AnswerKind.PRESENT)
    assert judged(200, YES[FIREWORKS], header).account_id is None
    nameless = judged(200, b"", header, asked=Asked.ACCOUNT, profile=OPENAI)
    assert nameless.kind is AnswerKind.UNCLEAR


def test_an_answer_carries_what_the_ledger_keeps_and_no_more() -> None:
    answer = judged(200, YES[FIREWORKS], (b"x-request-id", b"req-1"), (b"x-canary", b"canary"))
    assert answer.status == 200
    assert answer.request_id == "req-1"
    assert answer.date is not None
    assert answer.date.isoformat() == "2026-11-23T10:00:00+00:00"
    assert "canary" not in repr(answer)


BODIES = (
    st.binary(max_size=60)
    | st.sampled_from(ANYTHING)
    | st.builds(
        lambda found: json.dumps(found).encode(),
        st.dictionaries(
            st.sampled_from(["message", "deleted", "error", "detail", "id"]),
            st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        ),
    )
)
NAMES = st.sampled_from([b"content-type", b"content-encoding", b"retry-after", b"date", b"x"])
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=12)), max_size=4)
REPLIES = st.builds(
    Reply,
    status=st.just(200) | st.integers(200, 999),
    headers=HEADERS,
    body=BODIES,
    whole=st.booleans(),
)


@given(REPLIES, st.sampled_from(Asked), st.sampled_from([FIREWORKS, OPENAI]))
def test_no_answer_is_a_yes_without_a_whole_200_in_the_right_shape(
    reply: Reply, asked: Asked, profile: Profile
) -> None:
    answer = judgement.judge(reply, asked=asked, profile=profile)
    if answer.kind is AnswerKind.YES:
        found = json.loads(reply.body)
        assert (reply.status, asked, reply.whole) == (200, Asked.DELETE, True)
        assert isinstance(found.get("message"), str) or found.get("deleted") is True
        assert found.get("error") is None
    if answer.kind is AnswerKind.ABSENT:
        assert reply.status in (404, 410)
        assert {"detail", "error"} & set(json.loads(reply.body))
    if answer.kind is AnswerKind.PRESENT:
        assert reply.status == 200
        assert asked is not Asked.DELETE
    if answer.retry_after is not None:
        assert timedelta(0) <= answer.retry_after <= timedelta(hours=1)
    assert answer.kind not in (AnswerKind.NOT_SENT, AnswerKind.LOST)
