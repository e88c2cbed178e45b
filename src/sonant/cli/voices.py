"""The commands about voices as a whole: `sonant calibrate` and `sonant speaker`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sonant.cli.common import Commands, data_option, load_settings

speaker = Commands("speaker", help="Look at the enrolled speakers of a domain.")


@speaker.command("duplicates")
@click.argument("domain_id")
@click.option(
    "--one-in",
    type=click.IntRange(10, 1_000_000_000),
    default=10_000_000,
    show_default=True,
    help="List pairs so alike as only one in so many pairs of different people is.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all groups and pairs here.")
@data_option
def speaker_duplicates(domain_id: str, one_in: int, file: Path | None, **where: Any) -> None:
    """Find speakers of a domain whose voices are the same; exits 1 when there are any."""
    from sonant.cli import duplicates

    sys.exit(duplicates.duplicates(load_settings(**where), domain_id, one_in, file))


@click.command()
@click.option("--domain", "domain_id", metavar="ID", help="Calibrate this domain, on its own speakers.")
@click.option(
    "--speech", type=click.Path(path_type=Path), help="Calibrate on recordings, one sub-folder a speaker."
)
@click.option(
    "--model", "model_id", metavar="ID", help="Make the calibration of this added voice model, from --speech."
)
@click.option("--apply", is_flag=True, help="Make the result count.")
@click.option("--undo", is_flag=True, help="Take the newest calibration back.")
@click.option("--show", is_flag=True, help="List the calibrations, the one that counts first.")
@click.option("--quiet", is_flag=True, help="No progress.")
@data_option
def calibrate(
    domain_id: str | None,
    speech: Path | None,
    model_id: str | None,
    apply: bool,
    undo: bool,
    show: bool,
    quiet: bool,
    **where: Any,
) -> None:
    """Measure what scores mean among your own callers, show it, and with --apply make it count.

    Without --domain the result of --speech counts for all domains.
    """
    if apply + undo + show > 1:
        raise click.UsageError("--apply, --undo and --show exclude each other")
    if model_id is not None and (domain_id is not None or undo or show):
        raise click.UsageError("--model goes with --speech and --apply alone")
    if model_id is not None and speech is None:
        raise click.UsageError("--model takes --speech DIR as well, with a sub-folder a speaker")
    from sonant.cli import calibrate as work

    settings = load_settings(**where)
    if model_id is not None and speech is not None:
        from sonant.cli.calibrate_model import calibrate_model

        sys.exit(calibrate_model(settings, model_id, speech, apply=apply, quiet=quiet))
    if show:
        sys.exit(work.show(settings, domain_id))
    if undo:
        sys.exit(work.undo(settings, domain_id))
    sys.exit(work.calibrate(settings, domain_id=domain_id, speech=speech, apply=apply, quiet=quiet))
