"""The closed list of words for what can go wrong between us and a provider."""

from enum import StrEnum


class Fault(StrEnum):
    """One word for a failure on the way; it never repeats what anybody sent."""

    REFUSED = "refused"
    DNS = "dns"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    RESET = "reset"
    CLOSED = "closed"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    WITHDRAWN = "withdrawn"
    """Not a failure: whoever asked no longer wanted it sent."""
