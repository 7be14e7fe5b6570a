"""Whoever decides is named as the system knows them."""

import os
import pwd

import pytest

from sweeper.service import operator


def test_the_user_of_the_real_uid_is_named() -> None:
    who = operator.who({}, "a reason")

    assert who.actor == {"user": pwd.getpwuid(os.getuid()).pw_name, "sudo_user": None}
    assert who.reason == "a reason"


def test_what_the_environment_calls_the_user_changes_nothing() -> None:
    who = operator.who({"USER": "somebody", "LOGNAME": "somebody"}, "a reason")

    assert who.user == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("name", ["alice", "_backup", "alice.b@corp.example", "CORP\\alice", "pc$"])
def test_who_called_sudo_is_named_beside_them(name: str) -> None:
    assert operator.who({"SUDO_USER": name}, "a reason").sudo_user == name


@pytest.mark.parametrize(
    "text", ["", "a b", "x\ny", "é", "x" * 65, '"}', "-rf", "a\x00b", "\udc80"]
)
def test_a_text_that_is_no_user_name_is_left_out(text: str) -> None:
    assert operator.who({"SUDO_USER": text}, "a reason").sudo_user is None


@pytest.mark.parametrize("name", [None, "two words"])
def test_a_user_without_a_proper_name_goes_by_number(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """As in a container: a user of a number that no file names."""

    class Entry:
        pw_name = name

    def find(uid: int) -> Entry:
        if name is None:
            raise KeyError(uid)
        return Entry()

    monkeypatch.setattr(pwd, "getpwuid", find)

    assert operator.who({}, "a reason").user == f"uid:{os.getuid()}"
