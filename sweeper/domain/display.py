"""Make text that others wrote safe to show on a terminal or in a line of a log."""

import re
from typing import Final

# What moves a terminal's cursor, ends a line or turns text around.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escape(text: str) -> str:
    """Write control characters, lone surrogates and changes of direction as escapes."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)
