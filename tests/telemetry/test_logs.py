"""One stream, one shape of line, and no key in any of them."""

import base64
import io
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sweeper.domain.secret import Secret
from sweeper.telemetry import logs
from sweeper.telemetry.redaction import Redaction

KEY = "fw_3Zq8+hush/hush="


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    root.handlers[:] = handlers


def configured(stream: io.StringIO, **options: Any) -> io.StringIO:
    # pytest's own handlers, which come back with the next test, stumble over broken messages
    logging.getLogger().handlers[:] = []
    logs.configure(**{"format": "json", "stream": stream, **options})
    return stream


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_its_time_its_level_and_its_event_first() -> None:
    stream = configured(io.StringIO())
    logs.logger(account="main").info("response_settled", outcome="deleted", attempts=1)
    (line,) = written(stream)
    assert list(line) == ["timestamp", "level", "event", "account", "outcome", "attempts"]
    assert (line["level"], line["event"], line["attempts"]) == ("info", "response_settled", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None


def test_a_librarys_line_has_the_same_shape() -> None:
    stream = configured(io.StringIO())
    logging.getLogger("somewhere").error("lost %s", "it")
    (line,) = written(stream)
    assert list(line) == ["timestamp", "level", "event", "logger", "message"]
    assert line["event"] == "library_message"
    assert (line["level"], line["logger"], line["message"]) == ("error", "somewhere", "lost it")


@pytest.mark.parametrize(
    "name", ["httpx", "httpcore", "httpcore.connection", "sqlalchemy.engine", "asyncio"]
)
def test_chatty_libraries_are_heard_from_warnings_upwards(name: str) -> None:
    stream = configured(io.StringIO(), level=logging.DEBUG)
    logging.getLogger(name).info("request")
    assert written(stream) == []
    logging.getLogger(name).warning("trouble")
    assert len(written(stream)) == 1


def test_a_warning_of_python_is_a_line_too() -> None:
    stream = configured(io.StringIO())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = written(stream)
    assert line["logger"] == "py.warnings"
    assert "old ways" in line["message"]


def test_the_level_holds_for_all() -> None:
    stream = configured(io.StringIO(), level=logging.WARNING)
    logs.logger().info("quiet")
    logging.getLogger("somewhere").info("quiet")
    assert stream.getvalue() == ""
    logs.logger().warning("heard")
    assert len(written(stream)) == 1


def test_configuring_again_replaces_what_was() -> None:
    first = configured(io.StringIO())
    second = configured(io.StringIO())
    logging.getLogger("somewhere").error("once")
    logs.logger().error("twice")
    assert first.getvalue() == ""
    assert len(written(second)) == 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_exception_is_told_without_local_values(form: str) -> None:
    stream = configured(io.StringIO(), format=form)
    try:
        hidden = "not for the log"
        raise ValueError(hidden[:0] + "broke")
    except ValueError:
        logs.logger().exception("failed")
        logging.getLogger("somewhere").exception("failed there")
    text = stream.getvalue()
    assert text.count("ValueError: broke") == 2
    assert text.count("Traceback") == 2
    assert "not for the log" not in text
    if form == "json":
        assert len(written(stream)) == 2


@pytest.mark.parametrize(
    "form,stream,is_json",
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("console", io.StringIO, False),
    ],
)
def test_auto_is_console_on_a_terminal_and_json_elsewhere(
    form: str, stream: type[io.StringIO], is_json: bool
) -> None:
    written_to = configured(stream(), format=form)
    logs.logger().info("started")
    assert written_to.getvalue().startswith("{") is is_json


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(stream: io.StringIO) -> str:
        configured(stream, format="console")
        logs.logger(account="main").info("started")
        return stream.getvalue()

    assert "\x1b[" in line(Terminal())
    assert "\x1b" not in line(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in line(Terminal())


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_forge_no_line_and_move_no_cursor(form: str) -> None:
    stream = configured(io.StringIO(), format=form)
    hostile = 'a\n{"event":"forged"}\r\x1b[2J\x7f\x9b\u202e\u2028\ud800'
    logs.logger(bound=hostile).info("event", value=hostile, nested={"a": [hostile]})
    logging.getLogger("somewhere").error("%s", hostile)
    text = stream.getvalue()
    assert text.count("\n") == 2
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800]", text)


def forms() -> list[str]:
    raw = KEY.encode()
    return [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d"),
        base64.b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw).decode(),
        base64.b64encode(b"u:" + raw + b"tail").decode(),
        base64.urlsafe_b64encode(b"me:" + raw).decode(),
        f"Bearer {KEY}",
        "bearer sk-another-key-that-nobody-told-us-of",
        "BEARER another-key",
    ]


@pytest.mark.parametrize("form", forms())
@pytest.mark.parametrize("shape", ["json", "console"])
def test_a_key_is_taken_out_in_every_form(form: str, shape: str) -> None:
    stream = configured(io.StringIO(), format=shape, secrets=[Secret(KEY)])
    logs.logger().info("request", header=f"x {form} y")
    logging.getLogger("somewhere").error("sent %s", form)
    text = stream.getvalue()
    assert form not in text
    assert "another" not in text
    assert "hush" not in text
    assert base64.b64encode(KEY.encode()).decode()[4:-4] not in text
    assert text.count("***") == 2
    assert " y" in text


def test_a_key_with_quotes_is_taken_out_of_json_too() -> None:
    secret = 'a"hush\\hush'
    stream = configured(io.StringIO(), secrets=[Secret(secret)])
    logs.logger().info("request", header=secret)
    assert "hush" not in stream.getvalue()
    assert written(stream)[0]["header"] == "***"


def test_a_text_too_short_for_a_key_is_not_searched_for() -> None:
    assert Redaction([Secret("e")])("event") == "event"


def test_a_secret_that_is_logged_by_mistake_does_not_show_itself() -> None:
    stream = configured(io.StringIO())
    logs.logger().info("request", key=Secret(KEY))
    assert written(stream)[0]["key"] == "Secret(***)"


def test_under_journald_a_line_begins_with_its_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with path.open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure(format="auto", stream=stream, level=logging.DEBUG)
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(logs.logger(), level)("event")
        logging.getLogger("somewhere").error("there")
    assert re.findall(r"^<\d>(?={)", path.read_text(), re.MULTILINE) == [
        "<7>",
        "<6>",
        "<4>",
        "<3>",
        "<2>",
        "<3>",
    ]


@pytest.mark.parametrize("journal", ["1:1", "nonsense"])
def test_another_stream_is_not_journalds(monkeypatch: pytest.MonkeyPatch, journal: str) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", journal)
    stream = configured(io.StringIO())
    logs.logger().info("event")
    assert stream.getvalue().startswith("{")


def test_a_stream_that_cannot_be_written_never_fails_who_logs() -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails on purpose
    logs.configure(format="json", stream=full)
    logs.logger().info("event")
    logging.getLogger("somewhere").error("event")
    with pytest.raises(OSError, match="No space"):
        full.close()
    closed = io.StringIO()
    configured(closed)
    closed.close()
    logs.logger().info("event")


def test_by_default_lines_go_to_whatever_stderr_is_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    logs.configure(format="auto")
    replaced = Terminal()
    monkeypatch.setattr(sys, "stderr", replaced)
    logs.logger().info("event")
    assert "event" in replaced.getvalue()


def test_a_stream_of_another_encoding_gets_escapes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream:
        logs.configure(format="console", stream=stream)
        logs.logger().info("event", name="Zoë")
    assert "Zo\\xeb" in path.read_text()


def test_a_librarys_broken_message_is_told_and_harms_nobody() -> None:
    stream = configured(io.StringIO())
    logging.getLogger("somewhere").error("%d", "no number")
    (line,) = written(stream)
    assert (line["logger"], line["message"]) == ("somewhere", "'%d'")
