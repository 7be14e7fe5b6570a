"""`sweeper config`: show the configuration in effect, and what a configuration may hold."""

import json
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call
from sweeper.cli.verbs import Verbs

if TYPE_CHECKING:
    from sweeper.config.settings import Account, Config, Listen
    from sweeper.domain.policy import Policy


@click.group("config", cls=Verbs)
def command() -> None:
    """Show the configuration in effect, or what one may hold."""


@command.command("show", epilog="Example: SWEEPER__LOG__FORMAT=json sweeper config show")
@as_json
@pass_call
def show(call: Call, *, as_json: bool) -> None:
    """Show every key with its value in effect.

    Files, variables and defaults are already laid over one another. Secrets are not read: where
    they are kept is shown. A key that is not given and has no default is shown as -. With --json
    lengths of time are in seconds, and null is forever, or a key that is not given.
    """
    config = call.config()
    document = _document(config)
    if as_json:
        shown = json.loads(json.dumps(document, default=_plain))
        output.json_line("config", {"path": str(config.path), **shown})
        return
    for text in _toml(document):
        output.line(text)


@command.command("schema", epilog="Example: sweeper config schema >sweeper.schema.json")
@as_json
def schema(*, as_json: bool) -> None:
    """Show a JSON Schema of the configuration file.

    It is for editors, and for programs that write such files. No configuration is read. What
    lies between sections is beyond it: sweeper check has the last word.
    """
    from sweeper.config import schema as schemas

    composed = schemas.compose()
    if as_json:
        output.json_line("config_schema", {"schema": composed})
        return
    for text in json.dumps(composed, indent=2).splitlines():
        output.line(text)


class _Unset(Enum):
    """Stands for a key that is not given and has no default; None is "forever"."""

    UNSET = "-"


def _plain(value: object) -> float | None:
    if value is _Unset.UNSET:
        return None
    assert isinstance(value, timedelta)
    return value.total_seconds()


def _document(config: "Config") -> dict[str, Any]:
    return {
        "ledger": {"url": _masked(config.ledger_url)},
        "intake": {"spool": _Unset.UNSET if config.spool is None else str(config.spool)},
        "schedule": {
            "every": config.schedule.every or _Unset.UNSET,
            "cron": config.schedule.cron or _Unset.UNSET,
        },
        "guards": {
            "max_deletions_per_sweep": config.guards.max_deletions_per_sweep,
            "max_share_per_sweep": config.guards.max_share_per_sweep,
            "max_deletions_per_day": config.guards.max_deletions_per_day,
            "max_clock_skew": config.max_clock_skew,
            "trust_local_clock": config.trust_local_clock,
        },
        "accounts": {account.name: _account(account) for account in config.accounts},
        "policies": [_policy(policy) for policy in config.policies],
        "alarm": {"command": _Unset.UNSET if config.alarm is None else list(config.alarm)},
        "http": {
            "listen": _listen(config.listen),
            "behind_proxy": config.behind_proxy,
        },
        "log": {"format": config.log.format.value, "response_ids": config.log.response_ids},
    }


def _masked(url: str) -> str:
    """Hide the password of a database's URL; of a URL that is odd everything is hidden."""
    from sweeper.config import load

    if not load.has_password(url):
        return url
    scheme, _, rest = url.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2].partition('?')[0]}"


def _listen(listen: "Listen | None") -> object:
    from sweeper.config import listening

    return _Unset.UNSET if listen is None else listening.render(listen.host, listen.port)


def _account(account: "Account") -> dict[str, Any]:
    from sweeper.config import rate
    from sweeper.config.settings import KeyPlace

    key = account.key_source
    return {
        "provider": account.provider,
        "base_url": account.base_url,
        "api_key_file": key.name if key.place is KeyPlace.FILE else _Unset.UNSET,
        "api_key_env": key.name if key.place is KeyPlace.VARIABLE else _Unset.UNSET,
        "account_id": account.account_id or _Unset.UNSET,
        "rate": rate.render(account.rate_per_second),
        "max_in_flight": account.max_in_flight,
        "verify": "all" if account.verify else "none",
    }


def _policy(policy: "Policy") -> dict[str, Any]:
    accounts, labels = policy.match.accounts, policy.match.labels
    return {
        "name": policy.name,
        "match": {
            "account": _Unset.UNSET if accounts is None else sorted(accounts),
            "labels": {key: sorted(values) for key, values in labels.items()} or _Unset.UNSET,
        },
        "delete_after": policy.delete_after,
        "unit": policy.unit.value,
        "deadline": policy.deadline,
    }


def _toml(document: Mapping[str, Any]) -> list[str]:
    """Write the document as a file that means the same."""
    sections: list[tuple[str, Mapping[str, Any]]] = []
    for name, table in document.items():
        match name:
            case "accounts":
                sections += [(f"[accounts.{each}]", one) for each, one in table.items()]
            case "policies":
                sections += [("[[policies]]", each) for each in table]
            case _:
                sections.append((f"[{name}]", table))
    lines: list[str] = []
    for title, table in sections:
        lines += [title, *(_line(key, value) for key, value in table.items()), ""]
    return lines[:-1]


def _line(key: str, value: object) -> str:
    return f"# {key} = -" if value is _Unset.UNSET else f"{key} = {_value(value)}"


def _value(value: object) -> str:
    from sweeper.domain import duration

    match value:
        case dict():
            inner = ", ".join(
                f"{json.dumps(key)} = {_value(each)}"
                for key, each in value.items()
                if each is not _Unset.UNSET
            )
            return f"{{ {inner} }}" if inner else "{}"
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case timedelta() | None:
            return f'"{duration.render(value)}"'
        case _:
            return json.dumps(value, ensure_ascii=False)
