"""Take a base URL apart into an origin and a path, if it may be one."""

from dataclasses import dataclass

from sweeper.domain import endpoint
from sweeper.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a provider is: `origin` is scheme, host and port, `path` is empty or begins with /."""

    origin: str
    path: str


def split(url: str) -> Address:
    """Check a base URL and take its normal form apart.

    Raises:
        ConfigurationError: it is none of ours; the message never repeats it.

    """
    try:
        normal = endpoint.check_base_url(url)
    except ValueError as fault:
        raise ConfigurationError(f"the base URL cannot be used: {fault}") from None
    scheme, _, rest = normal.partition("://")
    authority, slash, path = rest.partition("/")
    return Address(origin=f"{scheme}://{authority}", path=slash + path)
