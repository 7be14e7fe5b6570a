"""Find the configuration file, lay variables over it, and return it faultless or not at all."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

from sweeper import errors
from sweeper.config import crosscheck, fault, lint, model, overlay, place
from sweeper.config.settings import Account, Config, KeyPlace, KeySource, Listen, LogSettings
from sweeper.domain.plan import Guards
from sweeper.domain.policy import Match, Policy
from sweeper.domain.response import AccountName
from sweeper.domain.schedule import Schedule

DEFAULT_PATH: Final = Path("/etc/sweeper/config.toml")
VARIABLE: Final = "SWEEPER_CONFIG"

_LONGEST: Final = 1 << 20
OPEN: Final = "others may write to it"
"""What is warned of a file that decides what is deleted, and that a group may change."""


def find(given: Path | None, environ: Mapping[str, str]) -> Path:
    """Name the file: the one given, else the one in $SWEEPER_CONFIG, else the usual place."""
    if given is not None:
        return given
    named = environ.get(VARIABLE, "")
    return Path(named) if named else DEFAULT_PATH


def load(given: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration; paths in it count from the file's own folder.

    Raises ConfigurationError, which holds every fault at once, each with its path. Files that
    keys name are not opened.
    """
    path = find(given, environ)
    document, mode = _read(path)
    overlaid = overlay.lay(document, environ)
    faults = [*_secrets(document), *overlaid.faults]
    faults += [
        fault.told(at, what, overlaid.sources) for at, what in crosscheck.faults(overlaid.document)
    ]
    try:
        checked = model.Document.model_validate(overlaid.document)
    except ValidationError as found:
        errors_found = found.errors(include_url=False, include_input=False)
        faults = [fault.of_error(each, overlaid.sources) for each in errors_found] + faults
        raise _faulty(path, faults) from None
    if faults:
        raise _faulty(path, faults)
    warnings = [f"{path}: {OPEN}; run: chmod go-w {path}"] if mode & 0o022 else []
    return _config(path, checked, warnings, environ)


def _faulty(path: Path, faults: list[str]) -> errors.ConfigurationError:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return errors.ConfigurationError(f"{path} has {count}", faults=tuple(faults))


def _read(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            place.check(path, status)
            data = file.read(_LONGEST + 1)
    except OSError as failure:
        raise errors.ConfigurationError(
            f"the configuration {path} cannot be read: {failure.strerror}",
            hint=f"name the file with -c or ${VARIABLE}; config.example.toml shows every key",
        ) from None
    if len(data) > _LONGEST:
        raise errors.ConfigurationError(f"the configuration {path} is larger than 1 MiB")
    try:
        return tomllib.loads(data.decode()), status.st_mode
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        raise _faulty(path, [f"line {line}: is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as failure:
        raise _faulty(path, [f"is not TOML: {failure}"]) from None
    except ValueError:
        raise _faulty(path, ["holds a number that is too long"]) from None
    except RecursionError:
        raise _faulty(path, ["is nested too deeply"]) from None


def _secrets(document: Mapping[str, Any]) -> Iterator[str]:
    ledger = document.get("ledger")
    url = ledger.get("url") if isinstance(ledger, dict) else None
    if isinstance(url, str) and has_password(url):
        yield (
            "ledger.url: secrets never stand in the file; put the password into ~/.pgpass or"
            " $PGPASSWORD"
        )


def has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        return True


def _config(
    path: Path, checked: model.Document, warnings: list[str], environ: Mapping[str, str]
) -> Config:
    folder = path.absolute().parent
    accounts = tuple(_account(name, each, folder) for name, each in checked.accounts.items())
    policies = tuple(_policy(each) for each in checked.policies)
    guards = Guards(
        max_deletions_per_sweep=checked.guards.max_deletions_per_sweep,
        max_share_per_sweep=checked.guards.max_share_per_sweep,
        max_deletions_per_day=checked.guards.max_deletions_per_day,
    )
    warnings.extend(lint.of_accounts(accounts, environ))
    warnings.extend(lint.of_policies(policies, accounts))
    warnings.extend(lint.of_guards(guards))
    warnings.extend(lint.of_alarm(checked.alarm.command))
    return Config(
        path=path,
        ledger_url=_ledger_url(checked.ledger.url, folder),
        spool=None if checked.intake.spool is None else folder / checked.intake.spool,
        schedule=_schedule(checked.schedule),
        guards=guards,
        max_clock_skew=checked.guards.max_clock_skew,
        trust_local_clock=checked.guards.trust_local_clock,
        accounts=accounts,
        policies=policies,
        alarm=checked.alarm.command,
        listen=_listen(checked.http),
        behind_proxy=checked.http.behind_proxy,
        log=LogSettings(format=checked.log.format, response_ids=checked.log.response_ids),
        warnings=tuple(warnings),
    )


def _ledger_url(url: str, folder: Path) -> str:
    scheme, _, rest = url.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or rest.startswith("/"):
        return url
    return f"{scheme}:///{folder}/{rest}"


def _schedule(section: model.ScheduleSection) -> Schedule:
    if section.cron is not None:
        return Schedule(cron=section.cron)
    return Schedule(every=section.every)


def _listen(section: model.HttpSection) -> Listen | None:
    if section.listen is None:
        return None
    host, port = section.listen
    return Listen(host=host, port=port)


def _account(name: str, section: model.AccountSection, folder: Path) -> Account:
    return Account(
        name=AccountName(name),
        provider=section.provider,
        base_url=section.base_url or model.BASE_URLS[section.provider],
        account_id=section.account_id,
        rate_per_second=section.rate,
        max_in_flight=section.max_in_flight,
        verify=section.verify == "all",
        key_source=_key_source(name, section, folder),
    )


def _key_source(name: str, section: model.AccountSection, folder: Path) -> KeySource:
    if section.api_key_file is not None:
        return KeySource(place=KeyPlace.FILE, name=str(folder / section.api_key_file))
    if section.api_key_env is not None:
        return KeySource(place=KeyPlace.VARIABLE, name=section.api_key_env)
    return KeySource(place=KeyPlace.CREDENTIAL, name=f"{name}-api-key")


def _policy(section: model.PolicySection) -> Policy:
    return Policy(
        name=section.name,
        match=Match(accounts=section.match.account, labels=section.match.labels),
        delete_after=section.delete_after,
        deadline=section.deadline,
        unit=section.unit,
    )
