"""Judges one reply of a provider, in a fixed order, and never beyond what it proves."""

from enum import StrEnum
from typing import assert_never

from sweeper.domain.answer import Answer, AnswerKind, Body
from sweeper.provider import document
from sweeper.provider.headers import Fields
from sweeper.provider.profile import Profile, SuccessShape
from sweeper.provider.reply import Reply

_BY_STATUS = {
    401: AnswerKind.CREDENTIAL,
    402: AnswerKind.PAYMENT,
    403: AnswerKind.CREDENTIAL,
    405: AnswerKind.MISCONFIGURED,
    407: AnswerKind.CREDENTIAL,
    408: AnswerKind.UNAVAILABLE,
    412: AnswerKind.PAYMENT,
    415: AnswerKind.MISCONFIGURED,
    425: AnswerKind.UNAVAILABLE,
    429: AnswerKind.THROTTLED,
    501: AnswerKind.MISCONFIGURED,
}
_REJECTED = frozenset({400, 413, 414, 422})
_CONFLICT = frozenset({409, 423})
_MISSING = frozenset({404, 410})
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_JSON = "application/json"
_BLANK = b" \t\r\n"
_ROUTER_SAYS = "not found"


class Asked(StrEnum):
    """What was asked."""

    DELETE = "delete"
    GET = "get"
    LIST = "list"
    ACCOUNT = "account"


def judge(reply: Reply, *, asked: Asked, profile: Profile) -> Answer:
    """Read a reply into what it says.

    Statuses that decide by themselves come first, then pages of HTML, then what the body shows.
    A body that was cut or came compressed shows nothing.
    """
    fields = Fields.of(reply.headers)
    retry_after = fields.retry_after if reply.status in (429, 503) else None
    body, found = _body(reply, fields)
    if found is not None and asked is Asked.DELETE and reply.status == 200:
        body = Body.OK if _is_success(found, profile.success) else body
    account_id = None
    if asked is Asked.ACCOUNT and profile.account_header is not None:
        account_id = fields.account_id(profile.account_header)
    kind = (
        _by_status(reply.status, is_pause=retry_after is not None)
        or _by_page(body)
        or _by_shape(reply.status, body, found)
        or _by_sight(reply.status, asked, fields, is_named=account_id is not None)
    )
    return Answer(
        kind=kind,
        status=reply.status,
        body=body,
        date=fields.date,
        retry_after=retry_after,
        request_id=fields.request_id,
        account_id=account_id,
    )


def _by_status(status: int, *, is_pause: bool) -> AnswerKind | None:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return AnswerKind.MISCONFIGURED
    if status >= 500:
        return AnswerKind.THROTTLED if is_pause else AnswerKind.UNAVAILABLE
    return None


def _by_page(body: Body) -> AnswerKind | None:
    return AnswerKind.HTML if body is Body.HTML else None


def _by_shape(status: int, body: Body, found: dict[str, object] | None) -> AnswerKind | None:
    if status in _CONFLICT:
        return AnswerKind.CONFLICT
    if body is Body.UNREAD:
        return None
    if status in _MISSING:
        is_answer = found is not None and _names_a_response(found)
        return AnswerKind.ABSENT if is_answer else AnswerKind.MISPLACED
    if status in _REJECTED:
        return AnswerKind.REJECTED
    return AnswerKind.YES if body is Body.OK else None


def _by_sight(status: int, asked: Asked, fields: Fields, *, is_named: bool) -> AnswerKind:
    """Judge a GET by status and headers alone: the body of a 200 is content and is not read."""
    match asked:
        case Asked.GET:
            is_there = True
        case Asked.LIST:
            is_there = fields.media_type == _JSON and not fields.is_encoded
        case Asked.ACCOUNT:
            is_there = is_named
        case Asked.DELETE:
            is_there = False
        case _:
            assert_never(asked)
    return AnswerKind.PRESENT if status == 200 and is_there else AnswerKind.UNCLEAR


def _body(reply: Reply, fields: Fields) -> tuple[Body, dict[str, object] | None]:
    if fields.media_type in _HTML:
        return Body.HTML, None
    if not reply.whole or fields.is_encoded:
        return Body.UNREAD, None
    text = reply.body.lstrip(_BLANK)
    if not text:
        return Body.EMPTY, None
    if text.startswith(b"<"):
        return Body.HTML, None
    found = document.parsed(reply.body)
    if found is None:
        return Body.OTHER, None
    if "error" in found:
        return Body.JSON_ERROR, found
    return (Body.JSON_DETAIL if "detail" in found else Body.JSON_OTHER), found


def _is_success(found: dict[str, object], shape: SuccessShape) -> bool:
    """Whether this is a yes; one that also names an error, or a no, is none."""
    if found.get("error") is not None or found.get("detail") is not None:
        return False
    match shape:
        case SuccessShape.MESSAGE:
            return isinstance(found.get("message"), str) and found.get("deleted", True) is True
        case SuccessShape.DELETED:
            return found.get("deleted") is True
        case _:
            assert_never(shape)


def _names_a_response(found: dict[str, object]) -> bool:
    """Whether an application looked for the response; a router's bare "Not Found" did not."""
    return any(bool(found.get(name)) and not _is_bare(found[name]) for name in ("detail", "error"))


def _is_bare(said: object) -> bool:
    return isinstance(said, str) and said.strip(" .").lower() == _ROUTER_SAYS
