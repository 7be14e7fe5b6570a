"""What a person can do about a stopped account."""

from typing import assert_never

from sweeper.domain.outcome import Breaker


def of_stop(account: str, breaker: Breaker) -> str:
    """Say what lifts this breaker, as words that follow "next: "."""
    match breaker:
        case Breaker.UNREACHABLE:
            return "mend the way to the provider; every sweep tries again"
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
