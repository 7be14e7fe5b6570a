"""Every stop has a way on."""

import pytest

from sweeper.domain import remedy
from sweeper.domain.outcome import Breaker

WAYS = {
    Breaker.CREDENTIAL: "put a key that is valid where accounts.main says that it is kept",
    Breaker.PAYMENT: "pay",
    Breaker.CONFIGURATION: "mend accounts.main.base_url",
    Breaker.IDENTITY: "sweeper account accept main --reason",
    Breaker.NOT_FOUND: "sweeper account reset main --expect-absent N --reason",
    Breaker.INTERCEPTED: "proxy",
    Breaker.UNREACHABLE: "every sweep asks once whether it is back",
    Breaker.TLS: "why its certificate is not trusted",
}


@pytest.mark.parametrize("breaker", Breaker)
def test_every_stop_has_a_way_on_of_its_own(breaker: Breaker) -> None:
    told = remedy.of_stop("main", breaker)
    assert [one for one, way in WAYS.items() if way in told] == [breaker]


@pytest.mark.parametrize(
    "breaker",
    sorted(set(Breaker) - {Breaker.NOT_FOUND, Breaker.IDENTITY}),
)
def test_what_a_good_answer_lifts_is_lifted_by_a_check(breaker: Breaker) -> None:
    assert "then sweeper account check main, or simply sweep" in remedy.of_stop("main", breaker)
