"""A group of verbs that are imported only when they are called."""

import difflib
import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import click

from sweeper import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Where a verb's `command` stands, and what it does in a few words."""

    module: str
    summary: str


class OptionsToCome(click.Command):
    """A verb that refuses by name the options which are not built yet."""

    def __init__(self, name: str | None, *, not_built: Collection[str], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.not_built = frozenset(not_built)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as unknown:
            if unknown.option_name not in self.not_built:
                raise
            raise not_built(ctx, unknown.option_name) from None


def not_built(context: click.Context, word: str) -> errors.UsageError:
    path = context.command_path
    return errors.UsageError(
        f"{path} {word} is not built yet in this version of sweeper", hint=f"see: {path} --help"
    )


class Verbs(click.Group):
    """A click group that knows its lazy verbs by a table, and refuses by name what is not built."""

    def __init__(
        self,
        name: str | None = None,
        *,
        lazy: Mapping[str, Verb] | None = None,
        not_built: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(name, subcommand_metavar="VERB ...", **kwargs)
        self.lazy = dict(lazy or {})
        self.not_built = frozenset(not_built)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = self.lazy.get(cmd_name)
        if verb is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(verb.module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.not_built:
            raise not_built(ctx, args[0])
        if self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            raise errors.UsageError(
                f"{ctx.command_path} has no verb {args[0]!r}",
                hint=f"did you mean {near[0]}?" if near else f"see: {ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, verb.summary) for name, verb in self.lazy.items()]
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            assert command is not None
            rows.append((name, command.get_short_help_str(limit=80)))
        with formatter.section("Verbs"):
            formatter.write_dl(rows)
