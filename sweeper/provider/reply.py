"""One answer as it came, and how much of it is ever read."""

from dataclasses import dataclass, field

BODY_LIMIT = 64 * 1024
"""How many bytes of a body are kept before the answer is cut."""

TOTAL_LIMIT = 128 * 1024
"""How many bytes are read for one answer, heads and framing included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: header names in lower case, the body never decoded.

    `whole` is false when reading stopped before the end of the body, on purpose or at a limit;
    then the body is empty. `last` says that nothing may be sent on its connection again.
    """

    status: int
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool = True
    last: bool = True
