"""`sonant evaluate ...`: measurements of the voice pipeline's errors."""

from __future__ import annotations

import click

from sonant.cli.context import COMMON_FLAGS, COMMON_FLAGS_WITH_VALUE, Group
from sonant.cli.evaluate_fraudsters import fraudsters
from sonant.cli.evaluate_robustness import robustness
from sonant.cli.evaluate_spoofing import spoofing
from sonant.cli.evaluate_verification import verification

#: The measurement that runs when the command line names none.
DEFAULT = "verification"


class EvaluateGroup(Group):
    """A group of measurements; without the name of one it measures verification."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        first = _first_of_its_own(arguments)
        if first not in (*self.commands, self.name) and first not in context.help_option_names:
            arguments = [DEFAULT, *arguments]
        return super().parse_args(context, arguments)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        # `sonant evaluate evaluate` was the default's name once.
        return super().get_command(context, DEFAULT if name == self.name else name)


def _first_of_its_own(arguments: list[str]) -> str | None:
    """Find the first argument that is no common flag and no value of one."""
    position = 0
    while position < len(arguments):
        name, sign, _ = arguments[position].partition("=")
        if name not in COMMON_FLAGS:
            return arguments[position]
        position += 2 if name in COMMON_FLAGS_WITH_VALUE and not sign else 1
    return None


evaluate = EvaluateGroup(
    "evaluate",
    commands=[verification, robustness, fraudsters, spoofing],
    help="""Measure error rates of the voice pipeline.

    Without the name of a measurement it is `verification`: `sonant evaluate DIR` is `sonant evaluate
    verification DIR`.
    """,
)
