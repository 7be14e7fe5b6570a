"""Decide which base URLs a provider may be reached at."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_PORTS: Final = {"https": 443, "http": 80}
_LONGEST: Final = 1024
_LONGEST_HOST: Final = 253


def check_base_url(text: str) -> str:
    """Return `text` in its one normal form.

    Scheme and host are in lower case, no port stands that goes without saying, and one slash at
    the end does not count. Raises ValueError with what would be right. The bearer key travels to
    this address, so only https is accepted, and plain http to loopback, where nothing leaves the
    machine.
    """
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("write it in plain ASCII, without spaces, control characters or \\")
    if len(text) > _LONGEST:
        raise ValueError(f"at most {_LONGEST} characters")
    parts = _split(text)
    host = (parts.hostname or "").lower()
    _check_parts(text, parts, host)
    port = _port(parts)
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("use https: plain http is for loopback only, the key would be readable")
    shown = f"[{host}]" if ":" in host else host
    tail = "" if port in (None, _PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{shown}{tail}{parts.path.removesuffix('/')}"


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError("write it like https://host/path") from None


def _check_parts(text: str, parts: SplitResult, host: str) -> None:
    if parts.scheme not in _PORTS or not parts.netloc:
        raise ValueError("write it like https://host/path")
    if "@" in parts.netloc:
        raise ValueError("no user or password belongs in it: the key has a place of its own")
    if "?" in text or "#" in text:
        raise ValueError("leave out everything from ? or # on")
    if not _is_address(host) and not (_HOST.fullmatch(host) and len(host) <= _LONGEST_HOST):
        raise ValueError("its host is neither a name nor an address")
    path = parts.path.removesuffix("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError("its path may hold letters, digits, . _ ~ - and single slashes only")
    if path.endswith("/v1"):
        raise ValueError("leave out /v1 at the end: it is added to every request")


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("its port is no number from 1 to 65535")
    return port


def _is_address(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    plain_v6 = isinstance(address, ipaddress.IPv6Address) and not address.scope_id
    return isinstance(address, ipaddress.IPv4Address) or (plain_v6 and "." not in host)


def is_loopback(host: str) -> bool:
    """Say whether `host` is this machine: 127.0.0.0/8, ::1 or the name localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
