"""What a stored response is called, which states it passes through, and which texts may name it."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NewType, TypeGuard

ResponseId = NewType("ResponseId", str)
AccountName = NewType("AccountName", str)

EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No response is older than this: an earlier time is a mistake of units."""

LONGEST_ID: Final = 128
LONGEST_ID_ALLOWED: Final = 1024
"""The most that any provider's profile may allow."""

_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# Control characters, lone surrogates and line separators: they forge lines in logs and
# terminals, and databases refuse some of them.
_PLAIN_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,256}")


class State(StrEnum):
    """Where a response stands: live → claimed → (verifying) → gone, or set aside."""

    LIVE = "live"
    CLAIMED = "claimed"
    VERIFYING = "verifying"
    """The provider said yes; whether the response can still be read is being looked at."""
    GONE = "gone"
    QUARANTINED = "quarantined"
    """Set aside: only a person brings it back."""


def is_response_id(text: object, longest: int = LONGEST_ID) -> TypeGuard[ResponseId]:
    """Whether this may stand in a request's path as it is.

    `longest` is the profile's limit in characters; it never reaches beyond LONGEST_ID_ALLOWED.
    """
    return (
        isinstance(text, str)
        and len(text) <= min(longest, LONGEST_ID_ALLOWED)
        and _ID.fullmatch(text) is not None
    )


def is_account_name(text: object) -> TypeGuard[AccountName]:
    return isinstance(text, str) and _ACCOUNT_NAME.fullmatch(text) is not None


def is_plain_text(text: object) -> TypeGuard[str]:
    """Whether this is 1 to 256 characters without control characters or lone surrogates."""
    return isinstance(text, str) and _PLAIN_TEXT.fullmatch(text) is not None


def is_subject(text: object) -> TypeGuard[str]:
    """Whether this may stand for a data subject: any short plain text, for it is opaque."""
    return is_plain_text(text)
