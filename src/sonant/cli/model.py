"""`sonant model …`: voice models that users bring, and which model a domain has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sonant.cli.common import Commands, data_option, load_settings

model = Commands("model", help="Bring voice models, and choose one for a domain.")


@model.command("add")
@click.argument("source", metavar="FILE|URL|NAME")
@click.option("--kind", help="wespeaker, 3dspeaker, speechbrain, nemo, redimnet or ge2e.")
@click.option("--id", "name", help="Its name; a fingerprint is added to it.")
@click.option("--sha256", help="What the file must hash to.")
@click.option("--licence", help="Noted with the model.")
@click.option("--rate", "rate_hz", type=int, help="8000 or 16000 [default: the model's note, else 16000].")
@click.option("--mels", type=int, help="Bands, where the model does not fix them [default: 80].")
@click.option("--output", help="The output that is the embedding, where several could be.")
@click.option("--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_option
def model_add(source: str, data: Path | None, config: Path | None, **options: Any) -> None:
    """Check, try and time an ONNX speaker model, and keep it in the data folder."""
    from sonant.cli import models

    models.add(load_settings(data, config), source, **options)


@model.command("list")
@click.option("--known", is_flag=True, help="Models that are known to be good, instead.")
@data_option
def model_list(known: bool, **where: Any) -> None:
    """The voice models of this data folder."""
    from sonant.cli import models

    models.show_all(load_settings(**where), only_known=known)


@model.command("info")
@click.argument("model_id", metavar="MODEL")
@data_option
def model_info(model_id: str, **where: Any) -> None:
    """All about one model, added or known."""
    from sonant.cli import models

    models.show(load_settings(**where), model_id)


@model.command("calibration")
@click.argument("model_id", metavar="MODEL")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_option
def model_calibration(model_id: str, file: Path, **where: Any) -> None:
    """Give a model the calibration in FILE; without one it cannot be used."""
    from sonant.cli import models

    models.bring_calibration(load_settings(**where), model_id, file)


@model.command("use")
@click.argument("domain_id", metavar="DOMAIN")
@click.argument("model_id", metavar="MODEL")
@data_option
def model_use(domain_id: str, model_id: str, **where: Any) -> None:
    """Give a domain without voiceprints a model; `shipped` is the one that comes with Sonant."""
    from sonant.cli import models

    models.use(load_settings(**where), domain_id, model_id)


@model.command("remove")
@click.argument("model_id", metavar="MODEL")
@data_option
def model_remove(model_id: str, **where: Any) -> None:
    """Remove a model that no domain and no voiceprint needs."""
    from sonant.cli import models

    models.remove(load_settings(**where), model_id)


@model.command("upgrade")
@click.argument("domain_id", metavar="DOMAIN")
@click.argument("model_id", metavar="MODEL", required=False)
@click.option("--switch", "step", flag_value="switch", help="Make the new model the domain's.")
@click.option("--rollback", "step", flag_value="rollback", help="Make the old model the domain's again.")
@click.option("--finish", "step", flag_value="finish", help="Forget the old model's voiceprints.")
@click.option("--cancel", "step", flag_value="cancel", help="Call the change off before the switch.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def model_upgrade(domain_id: str, model_id: str | None, step: str | None, quiet: bool, **where: Any) -> None:
    """Bring a domain to MODEL from kept audio; without MODEL tell how far it is, or do one step."""
    from sonant.cli import models

    models.upgrade(load_settings(**where), domain_id, model_id, step, quiet=quiet)
