"""The configuration file as a JSON Schema, for editors and for programs that write such files."""

from typing import Any, Final

from sweeper.config import model, settings, shapes
from sweeper.config.shapes import Shape

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_Keys = dict[str, Shape]


def compose() -> dict[str, Any]:
    """Return the schema as plain data.

    Whatever is accepted when the file is read fits it. The other way round some faults are
    beyond it: those that lie between sections, and lengths of more than a hundred years.
    """
    account = _table(model.AccountSection, "One account at a provider.", _ACCOUNT)
    account["not"] = {"required": ["api_key_file", "api_key_env"]}
    policy = _table(model.PolicySection, "One policy.", _POLICY)
    return {
        "$schema": DIALECT,
        "title": "The configuration of sweeper",
        **_table(
            model.Document,
            "One TOML file; every section may be left out.",
            {
                "ledger": _table(model.LedgerSection, "Where the ledger is.", _LEDGER),
                "intake": _table(model.IntakeSection, "Files of registrations.", _INTAKE),
                "schedule": _schedule(),
                "guards": _table(model.GuardsSection, "Bounds for each account.", _GUARDS),
                "accounts": {
                    "description": "The accounts at providers, by the names that we give them.",
                    "type": "object",
                    "propertyNames": shapes.ACCOUNT_NAME,
                    "additionalProperties": account,
                },
                "policies": {
                    "description": "Asked from the top; the first that matches decides.",
                    "type": "array",
                    "items": policy,
                },
                "alarm": _table(model.AlarmSection, "Who is told.", _ALARM),
                "http": _http(),
                "log": _table(model.LogSection, "How operational logs look.", _LOG),
            },
        ),
    }


def _table(section: type[model.Section], description: str, keys: _Keys) -> Shape:
    required = [name for name, field in section.model_fields.items() if field.is_required()]
    return {
        "description": description,
        "type": "object",
        "properties": keys,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _key(description: str, shape: Shape, default: object = None) -> Shape:
    """One key; `default` as it would be written in the file, None where there is none."""
    shown = {} if default is None else {"default": default}
    return {"description": description, **shape, **shown}


def _schedule() -> Shape:
    table = _table(model.ScheduleSection, "When the daemon sweeps.", _SCHEDULE)
    return {**table, "not": {"required": ["every", "cron"]}}


def _http() -> Shape:
    open_address = {"required": ["listen"], "properties": {"listen": {"not": _OURSELVES}}}
    proxied = {"required": ["behind_proxy"], "properties": {"behind_proxy": {"const": True}}}
    table = _table(model.HttpSection, "Where the daemon answers.", _HTTP)
    return {**table, "if": open_address, "then": proxied}


_OURSELVES: Final = shapes.LISTEN_TO_OURSELVES

_LEDGER: Final[_Keys] = {
    "url": _key(
        "sqlite:////PATH, or postgresql://user@host/db with the password in ~/.pgpass.",
        shapes.LEDGER_URL,
        "sqlite:////var/lib/sweeper/ledger.db",
    )
}
_INTAKE: Final[_Keys] = {
    "spool": _key(
        "A folder: *.jsonl files renamed into it are registered, then moved to its folder done/.",
        shapes.TEXT,
    )
}
_SCHEDULE: Final[_Keys] = {
    "every": _key("An interval, counted from 1970.", shapes.LENGTH, "15m"),
    "cron": _key(
        "Moments in UTC: minute, hour, day of the month, month, day of the week by name.",
        shapes.CRON,
    ),
}
_GUARDS: Final[_Keys] = {
    "max_deletions_per_sweep": _key(
        "A sweep that would delete more is refused as a whole.", shapes.whole(0), 10_000
    ),
    "max_share_per_sweep": _key(
        "So is one that would delete more than this share, from 100 planned deletions upwards.",
        shapes.SHARE,
        0.25,
    ),
    "max_deletions_per_day": _key(
        "No more than this is begun within 24 hours; the rest waits.", shapes.whole(0), 100_000
    ),
    "max_clock_skew": _key(
        "How far this machine's clock may stand from the provider's.", shapes.LENGTH, "2m"
    ),
    "trust_local_clock": _key(
        "Delete even where the provider sends no Date to compare with.", shapes.FLAG, default=False
    ),
}
_ACCOUNT: Final[_Keys] = {
    "provider": _key(
        "openai is any server with OpenAI's Responses API.", shapes.one_of(*model.BASE_URLS)
    ),
    "base_url": _key(
        "Where it is reached, without the /v1; plain http to loopback only.", shapes.BASE_URL
    ),
    "api_key_file": _key("A file that only sweeper's user or root may read.", shapes.FILE),
    "api_key_env": _key(
        "The environment variable that holds the key; without it and without api_key_file the"
        " key is the systemd credential NAME-api-key.",
        shapes.VARIABLE,
    ),
    "account_id": _key(
        "The account's id as the provider names it; learnt and pinned at first use.",
        shapes.ACCOUNT_ID,
    ),
    "rate": _key("The most requests: N/second or N/minute.", shapes.RATE, "60/minute"),
    "max_in_flight": _key(
        "The most requests that wait for an answer at one time.",
        shapes.whole(1, model.MOST_IN_FLIGHT),
        8,
    ),
    "verify": _key(
        "all looks for each deleted response once more; none takes the provider's word.",
        shapes.one_of("all", "none"),
        "all",
    ),
}
_MATCH: Final[_Keys] = {
    "account": _key("Its name; absent: every account.", shapes.some(shapes.ACCOUNT_NAME)),
    "labels": _key("All must fit; a list means one of.", shapes.LABELS),
}
_POLICY: Final[_Keys] = {
    "name": _key("Shown in plans, logs and records; each name once.", shapes.TEXT),
    "match": _table(model.MatchSection, "What it is for; absent: everything.", _MATCH),
    "delete_after": _key("The age at which a response is due, or forever.", shapes.AGE),
    "unit": _key("Whose age counts: the response's own.", shapes.one_of("response"), "response"),
    "deadline": _key("The slack promised after it is due.", shapes.LENGTH, "24h"),
}
_ALARM: Final[_Keys] = {
    "command": _key(
        "A program, by its whole path, with its arguments; it gets one JSON object on stdin.",
        shapes.COMMAND,
    )
}
_HTTP: Final[_Keys] = {
    "listen": _key("An address and a port, for example 127.0.0.1:8787.", shapes.LISTEN),
    "behind_proxy": _key(
        "A proxy that authenticates stands before it: needed where other machines reach it.",
        shapes.FLAG,
        default=False,
    ),
}
_LOG: Final[_Keys] = {
    "format": _key(
        "auto is console on a terminal, and JSON elsewhere.",
        shapes.one_of(*settings.LogFormat),
        "auto",
    ),
    "response_ids": _key("Whether log lines may name response ids.", shapes.FLAG, default=True),
}
