"""What differs between providers, as data and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType


class SuccessShape(StrEnum):
    """How the body of a 200 to a DELETE says that the response is deleted."""

    MESSAGE = "message"
    """`{"message": "…"}`: a text is there."""
    DELETED = "deleted"
    """`{"deleted": true}`, beside an id and a type that proxies rewrite, so they do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of provider.

    `responses_path` follows the base URL, `account_path` the host's root. `lifetime` is after
    how long the provider itself deletes what it stored, where it promises so; `max_rate` is the
    most requests per minute that any account may be granted; `id_length` is in characters.
    """

    name: str
    success: SuccessShape
    responses_path: str = "/v1/responses"
    account_path: str | None = None
    account_header: str | None = None
    lifetime: timedelta | None = None
    max_rate: int | None = None
    id_length: int

    @property
    def names_accounts(self) -> bool:
        """Whether the provider tells which account a key belongs to."""
        return self.account_path is not None and self.account_header is not None


FIREWORKS = Profile(
    # docs.fireworks.ai: guides/response-api, api-reference/delete-response, account quotas. The
    # account check is what the vendor's own set-up command asks; the reference does not list it.
    name="fireworks",
    success=SuccessShape.MESSAGE,
    account_path="/verifyApiKey",
    account_header="x-fireworks-account-id",
    lifetime=timedelta(days=30),
    max_rate=6000,
    id_length=128,
)

OPENAI = Profile(
    # Any server with OpenAI's shapes. Its documents say "at least 30 days", which promises no
    # end, and gateways wrap ids into longer ones.
    name="openai",
    success=SuccessShape.DELETED,
    id_length=1024,
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {profile.name: profile for profile in (FIREWORKS, OPENAI)}
)
