"""Take known keys out of finished log lines, in every form in which one may have come there."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from sweeper.domain.secret import Secret

SHOWN: Final = "***"

# Shorter needles would be found everywhere; no provider's key is this short.
_SHORTEST: Final = 6
_BEARER: Final = re.compile(r"(bearer[ \t]+)[!#-\[\]-~]+", re.IGNORECASE)


class Redaction:
    """Replaces the secrets it was made with; the last line of defence, not the first."""

    __slots__ = ("_needles",)

    def __init__(self, secrets: Iterable[Secret]) -> None:
        forms = {form for secret in secrets for form in _forms(secret.reveal())}
        # Longest first, so that a form within another leaves no tail of it behind.
        usable = (form for form in forms if len(form) >= _SHORTEST)
        self._needles = tuple(sorted(usable, key=len, reverse=True))

    def __call__(self, line: str) -> str:
        for needle in self._needles:
            if needle in line:
                line = line.replace(needle, SHOWN)
        if "earer" in line or "EARER" in line:
            line = _BEARER.sub(rf"\1{SHOWN}", line)
        return line


def _forms(key: str) -> Iterable[str]:
    yield key
    yield json.dumps(key)[1:-1]
    yield repr(key)[1:-1]
    percent = quote(key, safe="")
    yield percent
    yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), percent)
    yield from _in_base64(key.encode())


def _in_base64(key: bytes) -> Iterable[str]:
    """Within a longer text a key may begin at any of three places of base64's groups.

    The characters at its ends also depend on its neighbours and are left out.
    """
    for before in range(3):
        text = base64.b64encode(b"\0" * before + key).decode().rstrip("=")
        first = (before * 8 + 5) // 6
        last = (before + len(key)) * 8 // 6
        yield from (text[first:last], text[first:last].translate(_URL_SAFE))


_URL_SAFE: Final = str.maketrans("+/", "-_")
