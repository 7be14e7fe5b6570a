from sweeper.sandbox.api import Request
from sweeper.sandbox.faults import Fault, Faults
from sweeper.sandbox.manners import Manner


def request(method: str = "DELETE", target: str = "/v1/responses/resp_1") -> Request:
    return Request(method=method, target=target, headers={}, body=b"")


def test_a_rule_meets_only_what_fits_all_it_says() -> None:
    fault = Fault(method="DELETE", path="resp_[0-9]$", id="resp_1", account="a")
    assert fault.fits(request(), "a")
    assert not fault.fits(request("GET"), "a")
    assert not fault.fits(request(target="/v1/responses/resp_1?x"), "a")
    assert not fault.fits(request(target="/v1/responses/resp_2"), "a")
    assert not fault.fits(request(), "b")
    assert Fault().fits(request("GET", "/"), None)


def test_a_rule_lets_some_pass_and_then_meets_so_many() -> None:
    faults = Faults([Fault(method="DELETE", after=2, times=1, status=500)])
    assert faults.choose(request("GET"), None) is None
    met = [faults.choose(request(), None) is not None for _ in range(5)]
    assert met == [False, False, True, False, False]


def test_a_rule_counts_what_another_one_meets() -> None:
    first = Fault(times=1, status=500)
    second = Fault(after=1, status=503)
    faults = Faults([first, second])
    assert [faults.choose(request(), None) for _ in range(3)] == [first, second, second]


def test_of_two_rules_that_meet_a_request_the_first_wins() -> None:
    first, second = Fault(status=500), Fault(status=503)
    assert Faults([first, second]).choose(request(), None) is first


def test_rules_can_be_added_and_replaced() -> None:
    faults = Faults()
    faults.add(Fault(status=500))
    assert len(faults) == 1
    faults.replace([])
    assert faults.choose(request(), None) is None


def test_a_request_is_carried_out_only_where_the_apis_answer_is_sent_or_it_is_said() -> None:
    assert Fault(delay=1).carries_out
    assert not Fault(status=503).carries_out
    assert Fault(status=503, carry_out=True).carries_out
    assert not Fault(do=Manner.CLOSE).carries_out
    assert Fault(do=Manner.CLOSE, carry_out=True).carries_out
    assert not Fault(do=Manner.LIE, carry_out=True).carries_out
    assert not Fault(delay=1, carry_out=False).carries_out
