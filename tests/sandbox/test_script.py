import json
import re
from typing import Any

import pytest

from sweeper.sandbox import faults
from sweeper.sandbox.clock import DateForm
from sweeper.sandbox.faults import Fault
from sweeper.sandbox.manners import Drip, Ending, Manner, RetryAfter
from sweeper.sandbox.script import Mistake


def test_a_rule_that_says_everything_is_read_whole() -> None:
    rule: dict[str, Any] = {
        "method": "DELETE", "path": "/resp_[0-9]+$", "id": "resp_1", "account": "a", "after": 2,
        "times": 1, "do": "answer", "carry_out": True, "status": 503, "body": {"error": "x"},
        "content_type": "text/plain", "headers": {"Set-Cookie": "a=b", "Date": None},
        "retry_after": {"seconds": 5, "form": "rfc850"}, "gzip": True, "size": 9, "endless": False,
        "raw": "HTTP/1.1 \xff", "delay": 0.5, "interim": [103], "truncate": 3, "stray": "x",
        "drip": {"bytes": 1, "seconds": 0.1, "head": True}, "stray_delay": 1, "then": "close",
    }  # fmt: skip
    assert Fault.parse(rule) == Fault(
        method="DELETE", path="/resp_[0-9]+$", id="resp_1", account="a", after=2, times=1,
        do=Manner.ANSWER, carry_out=True, status=503, body=b'{"error": "x"}',
        content_type="text/plain", headers=(("Set-Cookie", "a=b"), ("Date", None)),
        retry_after=RetryAfter(seconds=5, form=DateForm.RFC850), gzip=True, size=9, endless=False,
        raw=b"HTTP/1.1 \xff", delay=0.5, interim=(103,), truncate=3, stray=b"x",
        drip=Drip(bytes=1, seconds=0.1, head=True), stray_delay=1, then=Ending.CLOSE,
    )  # fmt: skip


@pytest.mark.parametrize(
    "rule, body",
    [({"body": "null"}, b"null"), ({"body": [1]}, b"[1]"), ({"body": ""}, b""),
     ({"body_base64": "/w=="}, b"\xff")],
)  # fmt: skip
def test_a_body_is_written_in_several_ways(rule: dict[str, Any], body: bytes) -> None:
    assert Fault.parse(rule).body == body


def test_a_page_brings_its_content_type() -> None:
    fault = Fault.parse({"html": "Maintenance"})
    assert b"<h1>Maintenance</h1>" in (fault.body or b"")
    assert fault.content_type.startswith("text/html")
    assert Fault.parse({"html": "x", "content_type": "a/b"}).content_type == "a/b"


@pytest.mark.parametrize(
    "retry_after, read",
    [("soon", "soon"), (7, RetryAfter(seconds=7)), ({"seconds": 7}, RetryAfter(seconds=7))],
)
def test_retry_after_is_written_in_several_ways(retry_after: object, read: object) -> None:
    assert Fault.parse({"retry_after": retry_after}).retry_after == read


def test_headers_may_be_pairs_so_that_a_name_comes_twice() -> None:
    pairs = [["A", "1"], ["A", "2"]]
    assert Fault.parse({"headers": pairs}).headers == (("A", "1"), ("A", "2"))


@pytest.mark.parametrize(
    "rule, complaint",
    [({"stats": 503}, "fault.stats: is unknown; there are account, after"),
     ("x", "fault: should be a table of account, after"),
     ({"method": ""}, "fault.method: should be a string that is not empty"),
     ({"path": "("}, "fault.path: should be a regular expression"),
     ({"after": -1}, "fault.after: should be a whole number, not negative"),
     ({"times": 0}, "fault.times: should be a whole number of at least 1"),
     ({"times": True}, "fault.times: should be a whole number of at least 1"),
     ({"do": "sulk"}, "fault.do: should be one of answer, lie, close, reset, silence"),
     ({"carry_out": 1}, "fault.carry_out: should be true or false"),
     ({"status": 100}, "fault.status: should be a final status, 200 to 999"),
     ({"body": None}, "fault.body: should be a string, sent as it is"),
     ({"body_base64": "?"}, "fault.body_base64: should be the body's bytes in base64"),
     ({"html": 1}, "fault.html: should be the heading"),
     ({"body": "", "html": "x"}, "fault: should have one of body, html, not several"),
     ({"headers": "x"}, "fault.headers: should be a table or a list of pairs"),
     ({"headers": [["a"]]}, "fault.headers: should be a table or a list of pairs"),
     ({"headers": {"a": 1}}, "fault.headers: should be a table or a list of pairs"),
     ({"retry_after": -1}, "fault.retry_after: should be a string, a number, or a table"),
     ({"retry_after": {"form": "imf"}}, "fault.retry_after.seconds: is missing"),
     ({"retry_after": {"seconds": 1, "form": "x"}},
      "fault.retry_after.form: should be one of imf, rfc850, asctime"),
     ({"raw": "\u20ac"}, "fault.raw: should be a string of Latin-1 characters"),
     ({"delay": float("nan")}, "fault.delay: should be a number of seconds, not negative"),
     ({"interim": 103}, "fault.interim: should be a list of statuses from 100 to 199"),
     ({"interim": [200]}, "fault.interim: should be a list of statuses from 100 to 199"),
     ({"drip": {"bytes": 1}}, "fault.drip.seconds: is missing"),
     ({"drip": {"bytes": 0, "seconds": 1}}, "fault.drip.bytes: should be a whole number of"),
     ({"drip": 1}, "fault.drip: should be a table of bytes, head, seconds"),
     ({"then": "rest"}, "fault.then: should be one of keep, close, reset")],
)  # fmt: skip
def test_a_mistake_is_named_with_what_would_be_right(rule: Any, complaint: str) -> None:
    with pytest.raises(Mistake, match=re.escape(complaint)):
        Fault.parse(rule)


def test_a_file_is_a_list_of_rules_and_a_mistake_names_its_rule() -> None:
    text = json.dumps([{"status": 500}, {"do": "reset"}])
    assert [fault.do for fault in faults.read(text)] == [Manner.ANSWER, Manner.RESET]
    with pytest.raises(Mistake, match=re.escape("faults[1].status: should be")):
        faults.read(b'[{}, {"status": "x"}]')
    with pytest.raises(Mistake, match="should be JSON"):
        faults.read("[")
    with pytest.raises(Mistake, match="should be a list of rules"):
        faults.read("{}")
