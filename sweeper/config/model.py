"""The shape of the configuration file: every key that is built, its default and its limits."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sweeper.config import cron, listening
from sweeper.config import rate as rates
from sweeper.config.settings import LogFormat
from sweeper.domain import duration, endpoint, labels, response
from sweeper.domain.policy import DEFAULT_DEADLINE, Unit

NOT_BUILT: Final = frozenset({"policy", "audit"})
"""Sections that this program will know one day and refuses by name until then."""

BASE_URLS: Final = {
    "fireworks": "https://api.fireworks.ai/inference",
    "openai": "https://api.openai.com",
}
"""The providers that are known, with the address at which each is reached by default."""

MOST_IN_FLIGHT: Final = 1000
_MOST: Final = 2**53


class NotBuilt(ValueError):
    """A value that a later version will accept."""


def _whole(least: int, most: int) -> BeforeValidator:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            limit = f"from {least} up" if most == _MOST else f"from {least} to {most}"
            raise ValueError(f"write a whole number {limit}")
        return value

    return BeforeValidator(check)


def _share(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError("write a number from 0 to 1, for example 0.25 for a quarter")
    return float(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("write true or false, without quotes")  # noqa: TRY004 - pydantic reads it
    return value


def _text(value: object) -> str:
    if not response.is_plain_text(value):
        raise ValueError("write a text of 1 to 256 characters in quotes, on one line")
    return value


def _length(value: object) -> timedelta | None:
    if not isinstance(value, str):
        raise ValueError('write a length of time in quotes, for example "30d"')  # noqa: TRY004 - pydantic reads it
    return duration.parse(value)


def _limited(value: object) -> timedelta:
    length = _length(value)
    if length is None:
        raise ValueError('"forever" has no meaning here: write a length such as "24h"')
    return length


def _one_of(*known: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError("write " + " or ".join(f'"{each}"' for each in known))
        return value

    return check


def _unit(value: object) -> Unit:
    if value == "conversation":
        raise NotBuilt
    return Unit(_one_of(*Unit)(value))


def _ledger_url(value: object) -> str:
    text = _text(value)
    scheme, _, rest = text.partition("://")
    kind = scheme.partition("+")[0]
    if kind not in ("sqlite", "postgresql"):
        raise ValueError("write sqlite:////var/lib/sweeper/ledger.db or postgresql://user@host/db")
    if kind == "sqlite" and (not rest.startswith("/") or rest[1:].startswith(("?", ":memory:"))):
        raise ValueError("it names no file: write sqlite:////var/lib/sweeper/ledger.db")
    if kind == "sqlite" and rest == "/":
        raise ValueError("it names no file: write sqlite:////var/lib/sweeper/ledger.db")
    return text


def _base_url(value: object) -> str:
    return endpoint.check_base_url(_text(value))


def _matching(value: object, pattern: str, wanted: str) -> str:
    if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
        raise ValueError(f"write {wanted}")
    return value


def _account_id(value: object) -> str:
    return _matching(value, r"[!-~]{1,128}", "the account's id as the provider names it, in quotes")


def _variable(value: object) -> str:
    return _matching(value, r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable")


def _file(value: object) -> str:
    text = _text(value)
    if text.endswith("/"):
        raise ValueError("write the path of a file, not of a folder")
    return text


def _folder(value: object) -> str:
    return _text(value).rstrip("/") or "/"


def _cron(value: object) -> str:
    return cron.check(_text(value))


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(response.is_plain_text(each) for each in value):
        raise ValueError('write a list of texts: ["/usr/local/bin/page-oncall", "sweeper"]')
    if not value or not value[0].startswith("/"):
        raise ValueError("its first text is the program's whole path, from / on")
    return tuple(value)


def _listen(value: object) -> tuple[str, int]:
    return listening.parse(_text(value))


def _values(value: object) -> frozenset[str]:
    found = value if isinstance(value, list) else [value]
    if not found or not all(response.is_plain_text(each) for each in found):
        raise ValueError('write a text, or a list that means "one of": ["prod", "staging"]')
    return frozenset(found)


def _accounts(value: object) -> frozenset[str]:
    found = value if isinstance(value, list) else [value]
    if not found or not all(response.is_account_name(each) for each in found):
        raise ValueError("write an account's name, or a list of names")
    return frozenset(found)


def _labels(value: object) -> dict[str, frozenset[str]]:
    if not isinstance(value, dict):
        raise ValueError('write a table, for example { app = "support" }')  # noqa: TRY004 - pydantic reads it
    found = {key: _values(each) for key, each in value.items()}
    labels.check({key: next(iter(each)) for key, each in found.items()})
    return found


class Section(BaseModel):
    """What every table of the file shares: nothing is guessed, coerced or passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)


class LedgerSection(Section):
    url: Annotated[str, BeforeValidator(_ledger_url)] = "sqlite:////var/lib/sweeper/ledger.db"


class IntakeSection(Section):
    spool: Annotated[str | None, BeforeValidator(_folder)] = None


class ScheduleSection(Section):
    every: Annotated[timedelta, BeforeValidator(_limited)] = timedelta(minutes=15)
    cron: Annotated[str | None, BeforeValidator(_cron)] = None


class GuardsSection(Section):
    max_deletions_per_sweep: Annotated[int, _whole(0, _MOST)] = 10_000
    max_share_per_sweep: Annotated[float, BeforeValidator(_share)] = 0.25
    max_deletions_per_day: Annotated[int, _whole(0, _MOST)] = 100_000
    max_clock_skew: Annotated[timedelta, BeforeValidator(_limited)] = timedelta(minutes=2)
    trust_local_clock: Annotated[bool, BeforeValidator(_flag)] = False


class AccountSection(Section):
    provider: Annotated[str, BeforeValidator(_one_of(*BASE_URLS))]
    base_url: Annotated[str | None, BeforeValidator(_base_url)] = None
    api_key_file: Annotated[str | None, BeforeValidator(_file)] = None
    api_key_env: Annotated[str | None, BeforeValidator(_variable)] = None
    account_id: Annotated[str | None, BeforeValidator(_account_id)] = None
    rate: Annotated[float, BeforeValidator(rates.parse)] = 1.0
    max_in_flight: Annotated[int, _whole(1, MOST_IN_FLIGHT)] = 8
    verify: Annotated[str, BeforeValidator(_one_of("all", "none"))] = "all"


class MatchSection(Section):
    account: Annotated[frozenset[str] | None, BeforeValidator(_accounts)] = None
    labels: Annotated[dict[str, frozenset[str]], BeforeValidator(_labels)] = Field(
        default_factory=dict
    )


class PolicySection(Section):
    name: Annotated[str, BeforeValidator(_text)]
    match: MatchSection = MatchSection()
    delete_after: Annotated[timedelta | None, BeforeValidator(_length)]
    unit: Annotated[Unit, BeforeValidator(_unit)] = Unit.RESPONSE
    deadline: Annotated[timedelta, BeforeValidator(_limited)] = DEFAULT_DEADLINE


class AlarmSection(Section):
    command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = None


class HttpSection(Section):
    listen: Annotated[tuple[str, int] | None, BeforeValidator(_listen)] = None
    behind_proxy: Annotated[bool, BeforeValidator(_flag)] = False


class LogSection(Section):
    format: Annotated[LogFormat, BeforeValidator(lambda v: LogFormat(_one_of(*LogFormat)(v)))] = (
        LogFormat.AUTO
    )
    response_ids: Annotated[bool, BeforeValidator(_flag)] = True


class Document(Section):
    """The whole file."""

    ledger: LedgerSection = LedgerSection()
    intake: IntakeSection = IntakeSection()
    schedule: ScheduleSection = ScheduleSection()
    guards: GuardsSection = GuardsSection()
    accounts: dict[str, AccountSection] = Field(default_factory=dict)
    policies: list[PolicySection] = Field(default_factory=list)
    alarm: AlarmSection = AlarmSection()
    http: HttpSection = HttpSection()
    log: LogSection = LogSection()


def section_at(path: tuple[int | str, ...]) -> type[Section] | None:
    """Name the table that stands at this path of keys; None where no table stands."""
    match path:
        case ():
            return Document
        case ("accounts", _):
            return AccountSection
        case ("policies", _):
            return PolicySection
        case ("policies", _, "match"):
            return MatchSection
        case (str(name),) if name in Document.model_fields:
            kind: Any = Document.model_fields[name].annotation
            return kind if isinstance(kind, type) and issubclass(kind, Section) else None
        case _:
            return None
