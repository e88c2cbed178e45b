"""`sonant client ...`: adds Sonant's own operations to boto3 and the AWS CLI."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from sonant.cli.context import CliContext, Group, pass_cli
from sonant.errors import SetupError
from sonant.gateway.models import DATA_PATH

client = Group("client", help="Add Sonant's own operations to boto3 and the AWS CLI.")


@client.command("install")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@pass_cli
def install(cli: CliContext, folder: Path | None) -> None:
    """Write the service model of CompareRecording, ExportSpeaker and the like to FOLDER.

    Without FOLDER it goes to ~/.aws/models, where `boto3.client("sonant")` and `aws sonant` find it.
    """
    target = folder or Path("~/.aws/models").expanduser()
    try:
        shutil.copytree(DATA_PATH, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as fault:
        reason = (
            fault.strerror if isinstance(fault, OSError) and fault.strerror else "not everything was copied"
        )
        raise SetupError(f"the service model cannot be written to {target}: {reason}") from None
    lines = [f"the service model sonant is in {target}"]
    if folder is not None:
        lines.append(f"tell boto3 and the AWS CLI: export AWS_DATA_PATH={target.absolute()}")
    cli.show({"Folder": str(target.absolute())}, lines)
