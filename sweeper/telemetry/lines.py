"""Shape log events into lines of JSON or for the console, and write them where they belong."""

import json
import os
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from structlog.dev import ConsoleRenderer, plain_traceback

from sweeper.domain import display

Event = MutableMapping[str, Any]
Render = Callable[[object, str, Event], str]

# Priorities of syslog(3), which journald reads from a line's beginning (sd-daemon(3)).
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def stamp(_logger: object, level: str, event: Event) -> Event:
    """Put the time, RFC 3339 in UTC with microseconds, and the level before everything else."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return {"timestamp": now[:-6] + "Z", "level": level, "event": event.pop("event"), **event}


def to_json(_logger: object, _level: str, event: Event) -> str:
    return _ENCODE(event)


_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), default=str).encode


class ToConsole:
    """Render an event for people, aligned and, where wanted, in colour."""

    def __init__(self, *, colors: bool) -> None:
        self._render = ConsoleRenderer(
            colors=colors, exception_formatter=plain_traceback, timestamp_key="timestamp"
        )

    def __call__(self, logger: object, level: str, event: Event) -> str:
        shown = {
            key: "\n".join(display.escape(line) for line in value.splitlines())
            if key == "exception"
            else _plain(value)
            for key, value in event.items()
        }
        return str(self._render(logger, level, shown))


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | None) else display.escape(str(value))


class Journal:
    """Prefix a rendered line with its priority, as journald reads it."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def __call__(self, logger: object, level: str, event: Event) -> str:
        return f"<{_PRIORITIES.get(level, 6)}>{self._render(logger, level, event)}"


class Stderr:
    """The standard error as it is by then: a progress bar stands in for it meanwhile."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()


def goes_to_journal(stream: TextIO | Stderr, journal_stream: str | None) -> bool:
    """Say whether `stream` is the one that $JOURNAL_STREAM names (systemd.exec(5))."""
    if not journal_stream:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


class Lines:
    """The end of the chain: writes whole lines, and never fails whoever logs.

    A log that cannot be written is no reason to lose an outcome: the records stand in the ledger.
    """

    __slots__ = ("_redact", "_stream")

    def __init__(self, stream: TextIO | Stderr, redact: Callable[[str], str]) -> None:
        self._stream = stream
        self._redact = redact

    def msg(self, line: str) -> None:
        text = self._redact(line) + "\n"
        try:
            self._stream.write(text)
            self._stream.flush()
        except UnicodeEncodeError:
            self.msg(ascii(line)[1:-1])
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg
