"""Groups of commands of which one runs when the command line names none."""

from __future__ import annotations

from typing import Any

import click

from sonant.cli.context import COMMON_FLAGS, COMMON_FLAGS_WITH_VALUE, Group


class DefaultGroup(Group):
    """A group with a default command."""

    def __init__(self, *arguments: Any, default: str, **options: Any) -> None:
        """`default` names the command that runs when the command line names none."""
        super().__init__(*arguments, **options)
        self._default = default

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        first = _first_of_its_own(arguments)
        if first not in (*self.commands, self.name) and first not in context.help_option_names:
            arguments = [self._default, *arguments]
        return super().parse_args(context, arguments)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        # `sonant evaluate evaluate` was the default's name once.
        return super().get_command(context, self._default if name == self.name else name)


def _first_of_its_own(arguments: list[str]) -> str | None:
    """Find the first argument that is no common flag and no value of one."""
    position = 0
    while position < len(arguments):
        name, sign, _ = arguments[position].partition("=")
        if name not in COMMON_FLAGS:
            return arguments[position]
        position += 2 if name in COMMON_FLAGS_WITH_VALUE and not sign else 1
    return None
