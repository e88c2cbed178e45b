"""`sonant client …`: Sonant's own operations in boto3 and the AWS CLI."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from sonant.errors import SetupError
from sonant.gateway.models import DATA_PATH


def install(folder: Path | None) -> None:
    """Copy the service model to where the AWS tools look for such, or into `folder`. Raises SetupError."""
    place = folder or Path("~/.aws/models").expanduser()
    try:
        shutil.copytree(DATA_PATH, place, dirs_exist_ok=True)
    except (OSError, shutil.Error) as fault:
        reason = (
            fault.strerror if isinstance(fault, OSError) and fault.strerror else "not everything was copied"
        )
        raise SetupError(f"the service model cannot be written to {place}: {reason}") from None
    click.echo(f"the service model sonant is in {place}")
    if folder is not None:
        click.echo(f"tell boto3 and the AWS CLI: export AWS_DATA_PATH={place.absolute()}")
