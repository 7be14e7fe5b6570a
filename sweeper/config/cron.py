"""Check the text of a cron schedule, so that what the daemon is given can be understood one way."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week")
_EXAMPLE: Final = 'write five fields, for example "17 */2 * * mon-fri"'


def check(text: str) -> str:
    """Return the text with single spaces; ValueError with what would be right.

    What one program reads in one way and another in another is refused: cron's day 0 is Sunday
    and APScheduler's is Monday; days of the month and of the week together mean either to cron,
    and both at once to APScheduler.
    """
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"it has {len(fields)} fields; {_EXAMPLE}")
    if re.search(r"[^0-9a-z*,/-]", "".join(fields)):
        raise ValueError(f"a field holds numbers, names, * , / and - only; {_EXAMPLE}")
    _check_one_meaning(fields)
    trigger = _trigger(fields)
    if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
        raise ValueError("it never comes: no month has such a day")
    return " ".join(fields)


def _check_one_meaning(fields: list[str]) -> None:
    month_day, week_day = fields[2], fields[4]
    parts = week_day.split(",")
    if any(re.search(r"[0-9]", part.partition("/")[0]) or part[:2] == "*/" for part in parts):
        raise ValueError("write days of the week by name: mon tue wed thu fri sat sun")
    if any(re.search(r"(?:^|,)[0-9a-z]+/", field) for field in fields):
        raise ValueError("a step stands behind * or a range: 5-59/15")
    if month_day != "*" and week_day != "*":
        raise ValueError("give a day of the month or one of the week, and * for the other")


def _trigger(fields: list[str]) -> "CronTrigger":
    # Few configurations have one, and every command would wait for the import.
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - see above

    for index, field in enumerate(fields):
        alone = ["*"] * len(_FIELDS)
        alone[index] = field
        try:
            CronTrigger.from_crontab(" ".join(alone), timezone=UTC)
        except (ValueError, KeyError, IndexError):
            raise ValueError(f"the {_FIELDS[index]} cannot be read; {_EXAMPLE}") from None
    return CronTrigger.from_crontab(" ".join(fields), timezone=UTC)
