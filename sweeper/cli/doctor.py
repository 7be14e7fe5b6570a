"""`sweeper doctor`: examine everything that a sweep relies on, and say what to do."""

import os
from typing import TYPE_CHECKING

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call

if TYPE_CHECKING:
    from sweeper.service.doctor.findings import Finding

FAULTY = 1


@click.command("doctor", epilog="Example: sweeper doctor --offline")
@click.option("--offline", is_flag=True, help="Ask no provider: send nothing.")
@as_json
@pass_call
def command(call: Call, *, offline: bool, as_json: bool) -> int:
    """Examine configuration, ledger, disk, keys, accounts, clock and schedule.

    Of everything that is not well the next step is told. Each account is asked once, as by
    sweeper account check: with GETs, never a DELETE. Exit code 0 when there is no fault, 1
    otherwise; warnings do not count.
    """
    from sweeper.service.doctor import doctor
    from sweeper.service.doctor.findings import Level

    found = []
    for one in doctor.examine(call.config, os.environ, offline=offline):
        found.append(one)
        if not as_json:
            _tell(one)
    faults, warnings = (
        sum(one.level is level for one in found) for level in (Level.FAULT, Level.WARNING)
    )
    if as_json:
        output.json_line(
            "doctor",
            {
                "ok": not faults,
                "faults": faults,
                "warnings": warnings,
                "findings": [_fields(one) for one in found],
            },
        )
    else:
        output.line(f"{_counted(faults, 'fault')}, {_counted(warnings, 'warning')}")
    return FAULTY if faults else 0


def _fields(one: "Finding") -> dict[str, object]:
    return {
        "check": one.check.value,
        "subject": one.subject,
        "level": one.level.value,
        "message": one.message,
        "next": one.next,
    }


def _tell(one: "Finding") -> None:
    from sweeper.service.doctor.findings import Level

    level = one.level.value if one.level is Level.OK else one.level.value.upper()
    about = one.check.value if one.subject is None else f"{one.check.value} {one.subject}"
    output.line(f"{level:<8} {about}: {one.message}")
    if one.next is not None:
        output.line(f"         next: {one.next}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
