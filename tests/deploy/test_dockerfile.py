"""The Dockerfile, read: who runs in the image, what is in it, and how it is started and ended."""

import json
import re

from sweeper.cli import main
from tests.deploy import dockerfile
from tests.deploy.dockerfile import ROOT, all_of

BEFORE, BUILD, IMAGE = dockerfile.stages()


def test_the_python_is_named_once_and_can_be_chosen() -> None:
    (argument,) = all_of(BEFORE, "ARG")
    assert re.fullmatch(r"PYTHON=3\.\d+-slim", argument)
    assert all_of(BUILD, "FROM") == ["python:${PYTHON} AS build"]
    assert all_of(IMAGE, "FROM") == ["python:${PYTHON}"]


def test_it_runs_as_a_user_by_number_that_is_not_root() -> None:
    (user,) = all_of(IMAGE, "USER")
    assert re.fullmatch(r"[1-9][0-9]{4,}:[1-9][0-9]{4,}", user)
    words = [each.word for each in IMAGE]
    assert "RUN" not in words[words.index("USER") :]


def test_it_starts_the_daemon_itself_without_a_shell() -> None:
    (entry,) = all_of(IMAGE, "ENTRYPOINT")
    (verb,) = all_of(IMAGE, "CMD")
    assert json.loads(entry) == ["sweeper"]
    assert json.loads(verb) == ["run"]
    assert "run" in main.VERBS


def test_it_is_ended_by_the_signal_that_lets_it_finish() -> None:
    assert all_of(IMAGE, "STOPSIGNAL") == ["SIGTERM"]


def test_its_health_is_asked_without_a_shell() -> None:
    (check,) = all_of(IMAGE, "HEALTHCHECK")
    options, _, call = check.partition(" CMD ")
    assert json.loads(call) == ["sweeper", "health"]
    assert "health" in main.VERBS
    seconds = dict(re.findall(r"--([a-z-]+)=(\d+)s", options))
    # `sweeper health` gives up after five seconds, and says so.
    assert int(seconds["timeout"]) > 5


def test_the_ledger_outlives_the_container() -> None:
    assert all_of(IMAGE, "VOLUME") == ['["/var/lib/sweeper"]']
    assert any(
        "install -d -o 65532 -g 65532 -m 0700 /var/lib/sweeper" in each
        for each in all_of(IMAGE, "RUN")
    )


def test_nothing_secret_comes_in() -> None:
    for stage in (BEFORE, BUILD, IMAGE):
        assert not all_of(stage, "ADD")
        for each in (*all_of(stage, "ENV"), *all_of(stage, "ARG")):
            assert not re.search(r"(?i)key|token|secret|password", each)
    assert all_of(IMAGE, "COPY") == ["--from=build /opt/sweeper /opt/sweeper"]


def test_what_is_built_from_comes_in_and_nothing_else() -> None:
    copied = dockerfile.copied()
    assert {"pyproject.toml", "README.md", "LICENSE", "sweeper", "migrations"} == set(copied)
    assert not [name for name in copied if dockerfile.is_ignored(name)]
    assert not dockerfile.is_ignored("sweeper/cli/main.py")
    assert not dockerfile.is_ignored("migrations/env.py")
    for name in ("tests", ".git/config", ".venv/bin/python", "ledger.db", "config.toml", ".env"):
        assert dockerfile.is_ignored(name), name
    assert dockerfile.is_ignored("sweeper/cli/__pycache__/main.pyc")
    assert all((ROOT / name).exists() for name in copied)
