"""What a person can do about a stopped account, or about what withheld a sweep."""

from typing import Final, assert_never

from sweeper.domain.outcome import Breaker

OF_WITHHELD: Final = {"guard": "sweeper plan", "clock": "mend the time service; sweeper doctor"}
"""The next step after a sweep that was kept from deleting, by the word for why."""


def of_clock(*, is_dated: bool) -> str:
    """Say what helps where the clock is doubted; `is_dated` where the provider sends a `Date`."""
    mend = "mend the time service; until then nothing is deleted"
    if is_dated:
        return mend
    trust = "[guards] trust_local_clock = true"
    return f"{mend}. Where no Date comes and this machine's clock is kept right: {trust}"


def of_stop(account: str, breaker: Breaker) -> str:
    """Say what lifts this breaker, as words that follow "next: "."""
    match breaker:
        case Breaker.UNREACHABLE:
            what = "mend the way to the provider, or wait: every sweep asks once whether it is back"
        case Breaker.TLS:
            what = (
                "find out why its certificate is not trusted: expired, issued for another name, or"
                " by an authority that this system does not know, or somebody stands between"
            )
        case Breaker.NOT_FOUND:
            return (
                "find out who deleted them, or which key, account or base URL is wrong; then"
                f" sweeper account reset {account} --expect-absent N --reason ..."
            )
        case Breaker.IDENTITY:
            return (
                "configure the right key; or, if it changed on purpose:"
                f" sweeper account accept {account} --reason ..."
            )
        case Breaker.CREDENTIAL:
            what = f"put a key that is valid where accounts.{account} says that it is kept"
        case Breaker.PAYMENT:
            what = "pay, or settle it with the provider"
        case Breaker.CONFIGURATION:
            what = f"mend accounts.{account}.base_url"
        case Breaker.INTERCEPTED:
            what = "get the proxy or the login page out of the way"
        case _:
            assert_never(breaker)
    return f"{what}; then sweeper account check {account}, or simply sweep"
