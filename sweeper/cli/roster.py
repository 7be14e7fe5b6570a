"""Show the accounts, configured or known to the ledger, with what stops each of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sweeper.cli import output

if TYPE_CHECKING:
    from sweeper.config.settings import Account, Config
    from sweeper.ledger.accounts import AccountRow
    from sweeper.service.standing import Stopped


def tell(
    config: "Config",
    rows: "Mapping[str, AccountRow]",
    stopped: "Sequence[Stopped]",
    *,
    as_json: bool,
) -> None:
    """Print the accounts by name; `rows` are those that the ledger knows, by name."""
    names = sorted({*rows, *(str(one.name) for one in config.accounts)})
    stops = {name: [one for one in stopped if one.by.account == name] for name in names}
    listed = [_fields(name, rows.get(name), config.account(name), stops[name]) for name in names]
    if as_json:
        for each in listed:
            output.json_line("account", each)
        output.json_line("summary", {"accounts": len(listed)})
        return
    _table(listed, rows, stops)
    _tell_expected(rows.values())


def _fields(
    name: str,
    row: "AccountRow | None",
    configured: "Account | None",
    stops: "Sequence[Stopped]",
) -> dict[str, object]:
    return {
        "account": name,
        "configured": configured is not None,
        "provider": configured.provider if configured else row and row.provider,
        "base_url": configured.base_url if configured else row and row.base_url,
        "provider_account_id": row and row.pinned_account_id,
        "key_fingerprint": row and row.key_fingerprint,
        "stopped": [one.by.breaker.value for one in stops],
        "kept": stops[0].kept.count if stops else 0,
        "oldest_seconds": stops[0].kept.oldest_seconds if stops else None,
        "expect_absent": row.not_found.expect_absent if row else 0,
        "last_control": row and row.control,
        "last_control_at": output.instant(row.control_at if row else None),
    }


def _table(
    listed: Iterable[Mapping[str, object]],
    rows: "Mapping[str, AccountRow]",
    stops: "Mapping[str, Sequence[Stopped]]",
) -> None:
    output.table(
        ("ACCOUNT", "PROVIDER", "PINNED TO", "KEY", "STOPPED BY", "LAST CONTROL"),
        [
            (
                each["account"],
                each["provider"] if each["configured"] else "not configured",
                each["provider_account_id"],
                each["key_fingerprint"],
                _since(stops[str(each["account"])]),
                _control(rows.get(str(each["account"]))),
            )
            for each in listed
        ],
    )


def _tell_expected(rows: "Iterable[AccountRow]") -> None:
    """Say where a person's word still lets responses be missing: it hides what a storm would."""
    for row in rows:
        if row.not_found.expect_absent:
            output.line(
                f"{row.name}: {row.not_found.expect_absent:,} more may be missing without stopping"
                f" it; to end that: sweeper account reset {row.name} --reason ..."
            )


def _since(stopped: "Sequence[Stopped]") -> str | None:
    """What stops an account and since when, to be compared with when its control was."""
    from sweeper.domain import wording

    if not stopped:
        return None
    told = [
        f"{one.by.breaker.value} since {output.short_instant(one.by.opened_at)}" for one in stopped
    ]
    kept = stopped[0].kept
    return ", ".join(told) + wording.kept(kept.count, kept.oldest)


def _control(row: "AccountRow | None") -> str | None:
    if row is None or row.control is None:
        return None
    return f"{row.control} {output.short_instant(row.control_at)}"
