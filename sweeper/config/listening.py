"""Read the address at which the daemon answers, and say whether only this machine reaches it."""

import ipaddress
import re
from typing import Final

from sweeper.domain import endpoint

_LISTEN: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9.]+|localhost)):(?P<port>[0-9]{1,5})", re.ASCII
)
_HIGHEST: Final = 65_535


def parse(text: str) -> tuple[str, int]:
    """Return host and port; ValueError with what would be right. Port 0 is any that is free."""
    found = _LISTEN.fullmatch(text)
    if found is None or int(found["port"]) > _HIGHEST:
        raise ValueError('write an address and a port: "127.0.0.1:8787" or "[::1]:8787"')
    host = found["v6"] or found["host"]
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("its host is no address of this machine") from None
    return host, int(found["port"])


def render(host: str, port: int) -> str:
    """Write what `parse` read."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(host: str) -> str:
    """Say by which address this machine itself reaches whoever listens at `host`."""
    if host == "localhost" or not ipaddress.ip_address(host).is_unspecified:
        return host
    return "::1" if ":" in host else "127.0.0.1"


def is_open(host: str) -> bool:
    """Whether other machines reach it: then a proxy must stand before it that knows its users."""
    return not endpoint.is_loopback(host)
