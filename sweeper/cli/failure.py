"""Tell a person, or a program, why the command failed."""

import errno
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from sweeper import errors
from sweeper.cli import output

_FULL: Final = "free space where it is written, or send the output elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong: `code` names the kind in one word, `faults` are told line by line."""

    exit_code: int
    code: str
    message: str
    hint: str | None = None
    faults: Sequence[str] = ()


def of(error: BaseException) -> Failure:
    """Put an exception into words.

    Of one that nobody foresaw only its kind and place are told: its text may hold anything.
    """
    match error:
        case errors.SweeperError():
            return Failure(
                exit_code=error.exit_code,
                code=error.code,
                message=error.message,
                hint=error.hint,
                faults=error.faults if isinstance(error, errors.ConfigurationError) else (),
            )
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "sweeper"
            # Of some the choices stand each on a line of its own, behind a tab.
            message, told = " ".join(error.format_message().split()), f"see: {path} --help"
            return Failure(exit_code=2, code="usage", message=message, hint=told)
        case click.ClickException():
            return Failure(exit_code=1, code="failed", message=error.format_message())
        case KeyboardInterrupt() | click.Abort():
            return of(errors.Interrupted("interrupted"))
        case BaseExceptionGroup():
            return of(error.exceptions[0])
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            reason = error.strerror or type(error).__name__
            hint = _FULL if error.errno == errno.ENOSPC else None
            return Failure(exit_code=1, code="failed", message=f"{place}{reason}", hint=hint)
        case _:
            return Failure(
                exit_code=1,
                code="internal",
                message=f"{type(error).__name__} at {_place(error)}, which is a fault of sweeper's",
                hint="run it again with -v before the verb, and report what it shows",
            )


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def warn(message: str, *, as_json: bool, **fields: object) -> None:
    """Tell of something doubtful on stderr: a line for people, or one JSON object."""
    if as_json:
        told = {"type": "warning", **fields, "message": message}
        sys.stderr.write(json.dumps(told, separators=(",", ":")) + "\n")
    else:
        output.note(f"warning: {message}")


def tell(failure: Failure, *, as_json: bool) -> None:
    """Write the failure to stderr: lines for people, or one JSON object."""
    if as_json:
        told = {
            "type": "error",
            "exit_code": failure.exit_code,
            "error": failure.code,
            "message": failure.message,
            "hint": failure.hint,
            "faults": list(failure.faults),
        }
        sys.stderr.write(json.dumps(told, separators=(",", ":")) + "\n")
        return
    output.note(f"error: {failure.message}")
    for fault in failure.faults:
        output.note(f"  {fault}")
    if failure.hint:
        output.note(f"hint: {failure.hint}")
