"""Send every log line, ours and those of libraries, through one formatter to one stream."""

import logging
import os
from collections.abc import Iterable
from typing import Final, TextIO, cast

import structlog

from sweeper.domain.secret import Secret
from sweeper.telemetry import lines
from sweeper.telemetry.lines import Event, Render
from sweeper.telemetry.redaction import Redaction

_CHATTY: Final = (
    "httpx",
    "httpcore",
    "asyncio",
    "sqlalchemy",
    "alembic",
    "apscheduler",
    "uvicorn",
)


def configure(
    *,
    format: str,  # noqa: A002 - the key of [log] is called so
    level: int = logging.INFO,
    stream: TextIO | None = None,
    secrets: Iterable[Secret] = (),
) -> None:
    """Make `logger` and the standard library's loggers write to `stream`, by default stderr.

    `format` is json, console or auto: console on a terminal, JSON elsewhere. `secrets` are taken
    out of every line. May be called again: what was configured before is replaced.
    """
    target = lines.Stderr() if stream is None else stream
    render = _renderer(format, target)
    redaction = Redaction(secrets)
    structlog.configure(
        processors=[lines.stamp, structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: lines.Lines(target, redaction),
        cache_logger_on_first_use=False,
    )
    _configure_foreign(render, level, lines.Lines(target, redaction))


def logger(**bound: object) -> structlog.typing.FilteringBoundLogger:
    """Return a logger to keep: bind once what all its lines share, it costs most of a line."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger().bind(**bound))


def _renderer(wanted: str, stream: TextIO | lines.Stderr) -> Render:
    terminal = stream.isatty()
    render: Render = lines.to_json
    if wanted == "console" or (wanted == "auto" and terminal):
        render = lines.ToConsole(colors=terminal and not os.environ.get("NO_COLOR"))
    if lines.goes_to_journal(stream, os.environ.get("JOURNAL_STREAM")):
        render = lines.Journal(render)
    return render


class _Handler(logging.Handler):
    """Gives lines of the standard library's loggers the shape of ours, and writes them there."""

    def __init__(self, render: Render, target: lines.Lines) -> None:
        super().__init__()
        self._render = render
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        try:
            message = record.getMessage().strip()
        except Exception:  # noqa: BLE001 - a library's broken message must not stop a sweep
            message = repr(record.msg)
        event: Event = {"event": "library_message", "logger": record.name, "message": message}
        if record.exc_info:
            event["exc_info"] = record.exc_info
        shaped = structlog.processors.format_exc_info(None, level, lines.stamp(None, level, event))
        self._target.msg(self._render(None, level, shaped))


def _configure_foreign(render: Render, level: int, target: lines.Lines) -> None:
    root = logging.getLogger()
    for each in [one for one in root.handlers if isinstance(one, _Handler)]:
        root.removeHandler(each)
    root.addHandler(_Handler(render, target))
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
