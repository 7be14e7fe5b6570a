"""Reads the answer that nearly every answer is: one piece, of a told length, nothing odd in it."""

import re

from sweeper.provider.reply import BODY_LIMIT, TOTAL_LIMIT, Reply

_FIELD = rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~](?:[ -~]*[!-~])?)\r\n"
_FIELDS = re.compile(_FIELD)
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) [ -~]*\r\n((?:%b)+)\r\n" % _FIELD.replace(b"([", b"(?:[", 2)
)
_LENGTH = re.compile(b"[0-9]{1,5}")
_WITHOUT_BODY = frozenset({204, 304})


def read(data: bytes) -> Reply | None:
    """Read an answer that is whole and ends where its one Content-Length says.

    None means only that the full parser must look: this one spares it what is plain, and never
    reads anything differently.
    """
    found = _HEAD.match(data) if len(data) <= TOTAL_LIMIT else None
    if found is None:
        return None
    headers = [(name.lower(), value) for name, value in _FIELDS.findall(found[2])]
    by_name = dict(headers)
    length = by_name.get(b"content-length", b"")
    status = int(found[1])
    is_plain = (
        _LENGTH.fullmatch(length) is not None
        and len(data) == found.end() + int(length)
        and int(length) <= BODY_LIMIT
        and status not in _WITHOUT_BODY
        and b"transfer-encoding" not in by_name
        and by_name.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and (len(by_name) == len(headers) or _is_told_once(headers))
    )
    if not is_plain:
        return None
    return Reply(status=status, headers=headers, body=data[found.end() :], last=False)


def _is_told_once(headers: list[tuple[bytes, bytes]]) -> bool:
    names = [name for name, _ in headers]
    return names.count(b"content-length") == 1 and names.count(b"connection") <= 1
