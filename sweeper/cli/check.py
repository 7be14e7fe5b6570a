"""`sweeper check`: judge the configuration without touching anything that it names."""

import click

from sweeper.cli import output
from sweeper.cli.call import Call, as_json, pass_call


@click.command("check", epilog="Example: sweeper check")
@as_json
@pass_call
def command(call: Call, *, as_json: bool) -> None:
    """Check the configuration.

    All faults are told at once, each with its path and what would be right (exit code 10).
    Warnings tell what is allowed but doubtful. Keys, ledger and provider are not touched.
    """
    config = call.config()
    if as_json:
        output.json_line(
            "check",
            {
                "ok": True,
                "path": str(config.path),
                "accounts": [account.name for account in config.accounts],
                "policies": [policy.name for policy in config.policies],
                "warnings": list(config.warnings),
            },
        )
        return
    for warning in config.warnings:
        output.line(f"warning: {warning}")
    accounts, policies = len(config.accounts), len(config.policies)
    output.line(
        f"{config.path} can be used: {accounts} account{'' if accounts == 1 else 's'},"
        f" {policies} {'policy' if policies == 1 else 'policies'}"
    )
