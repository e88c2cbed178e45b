"""`sonant migrate`: brings the database to the tables of this release."""

from __future__ import annotations

import click

from sonant.assembly import installation
from sonant.cli.context import CliContext, Command, pass_cli


@click.command(cls=Command)
@pass_cli
def migrate(cli: CliContext) -> None:
    """Bring the database to this release's tables.

    PostgreSQL needs it before the other commands of a new release use the database.
    """
    installation.migrate(cli.settings())
    cli.show({"Migrated": True}, "the database is up to date")
