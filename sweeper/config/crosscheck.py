"""Find faults that lie between keys, so that they are told together with those of single keys."""

import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from sweeper.config import listening, model
from sweeper.config.fault import Path
from sweeper.domain import endpoint, response

Found = tuple[Path, str]


def faults(document: Mapping[str, Any]) -> Iterator[Found]:
    """Look at a document of any shape; what is no table or list is left to the model."""
    accounts = document.get("accounts")
    if isinstance(accounts, dict):
        yield from _account_faults(accounts)
    policies = document.get("policies")
    if isinstance(policies, list):
        yield from _policy_faults(policies)
    schedule = document.get("schedule")
    if isinstance(schedule, dict) and {"every", "cron"} <= schedule.keys():
        yield ("schedule",), "give either every or cron, not both"
    http = document.get("http")
    if isinstance(http, dict):
        yield from _http_faults(http)


def _http_faults(http: Mapping[str, Any]) -> Iterator[Found]:
    text = http.get("listen")
    if not isinstance(text, str) or http.get("behind_proxy") is True:
        return
    try:
        host, _ = listening.parse(text)
    except ValueError:
        return
    if listening.is_open(host):
        what = (
            "other machines reach this address: put a proxy that authenticates before it and say"
            " behind_proxy = true, or listen on 127.0.0.1"
        )
        yield ("http", "listen"), what


def _account_faults(accounts: Mapping[str, Any]) -> Iterator[Found]:
    tables = {name: table for name, table in accounts.items() if isinstance(table, dict)}
    for name, table in tables.items():
        if not response.is_account_name(name):
            yield ("accounts", name), "an account's name is 1 to 64 of A-Z a-z 0-9 _ -"
        if "api_key_file" in table and "api_key_env" in table:
            yield ("accounts", name), "give either api_key_file or api_key_env, not both"
    for (one, first), (two, second) in combinations(tables.items(), 2):
        if _is_same_account(first, second):
            yield (
                ("accounts", two),
                f"is the same account as accounts.{one}: one key or account_id may stand once only",
            )


def _is_same_account(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    if _place(first) is None or _place(first) != _place(second):
        return False
    ids = {table.get("account_id") for table in (first, second)} - {None}
    named_twice = len(ids) == 1 and "account_id" in first and "account_id" in second
    return named_twice or (len(ids) <= 1 and _shares_a_key(first, second))


def _shares_a_key(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return any(
        key in first and first.get(key) == second.get(key)
        for key in ("api_key_file", "api_key_env")
    )


def _place(table: Mapping[str, Any]) -> tuple[str, str] | None:
    provider = table.get("provider")
    if not isinstance(provider, str) or provider not in model.BASE_URLS:
        return None
    url = table.get("base_url", model.BASE_URLS[provider])
    try:
        return provider, endpoint.check_base_url(url if isinstance(url, str) else "")
    except ValueError:
        return None


def _policy_faults(policies: list[Any]) -> Iterator[Found]:
    seen: dict[str, int] = {}
    for index, table in enumerate(policies):
        name = table.get("name") if isinstance(table, dict) else None
        if not isinstance(name, str):
            continue
        if name in seen:
            shown = json.dumps(name[:256])
            yield ("policies", index, "name"), f"{shown} is the name of policies.{seen[name]} too"
        seen.setdefault(name, index)
