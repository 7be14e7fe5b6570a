"""What a base URL may look like, and how it falls into an origin and a path."""

import ipaddress
import re
from dataclasses import dataclass

from sweeper.errors import ConfigurationError

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URL = re.compile(
    r"(?P<scheme>https?)://"
    rf"(?P<host>\[[0-9a-f:]{{2,39}}\]|(?=[^/:]{{1,253}}(?:[/:]|$)){_LABEL}(?:\.{_LABEL})*)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~/-]*)?"
)
_AUTHORITY = re.compile(r"[A-Za-z]+://[^/?#]*")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a provider is: `origin` is scheme, host and port, `path` is empty or begins with /."""

    origin: str
    path: str


def split(url: str) -> Address:
    """Check a base URL and take it apart; a slash at the end does not count.

    Raises:
        ConfigurationError: it is none of ours; the message never repeats it.

    """
    found = _AUTHORITY.match(url)
    if found is None:
        raise _refused("must begin with https:// and a host")
    authority = found.group().lower()
    if "@" in authority:
        raise _refused("must not hold a user or a password")
    if "?" in url or "#" in url:
        raise _refused("must not hold a query or a fragment")
    parts = _URL.fullmatch(authority + url[found.end() :])
    if parts is None or not _is_port(parts["port"]) or not _is_host(parts["host"]):
        raise _refused("must be https://host[:port][/path], in plain ASCII")
    path = (parts["path"] or "").removesuffix("/")
    if path and any(step in ("", ".", "..") for step in path[1:].split("/")):
        raise _refused("must not hold empty, . or .. steps in its path")
    if parts["scheme"] == "http" and not _is_loopback(parts["host"]):
        raise _refused("must be https: plain http is for the loopback only")
    return Address(origin=authority, path=path)


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(f"a base URL {reason}")


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= _HIGHEST_PORT


def _is_host(host: str) -> bool:
    return not host.startswith("[") or _ip(host) is not None


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return host == "localhost" if ip is None else ip.is_loopback


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
