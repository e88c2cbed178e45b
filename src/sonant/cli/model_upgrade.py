"""`sonant model upgrade`: moves a domain to another voice model, from its stored audio."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from sonant.assembly.installation import Store, open_store
from sonant.assembly.jobs import upgrades
from sonant.assembly.workers import local_engine
from sonant.cli.context import CliContext, Command, pass_cli, yes_option
from sonant.cli.voice_models import active_domain, stored_model_id
from sonant.errors import SetupError
from sonant.jobs import model_upgrade as domain_models
from sonant.jobs.model_registry import model_calibration
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import model_upgrades, shadow_voiceprints
from sonant.voice.models import shipped_encoder_id

_POLL_S = 0.5


@click.command(cls=Command)
@click.argument("domain_id", metavar="DOMAIN")
@click.argument("model_id", metavar="MODEL", required=False)
@click.option("--switch", "step", flag_value="switch", help="Make the new model the domain's.")
@click.option("--rollback", "step", flag_value="rollback", help="Make the old model the domain's again.")
@click.option("--finish", "step", flag_value="finish", help="Delete the old model's voiceprints.")
@click.option("--cancel", "step", flag_value="cancel", help="Stop the change before the switch.")
@yes_option
@pass_cli
def upgrade(cli: CliContext, domain_id: str, model_id: str | None, step: str | None, yes: bool) -> None:
    """Move a domain to MODEL from stored audio; without MODEL show the progress, or do one step."""
    settings = cli.settings()
    store = open_store(settings)
    files = ModelFiles(settings.data)
    if model_id is not None and step is not None:
        raise SetupError(f"--{step} goes with the change under way: leave the model out")
    if step == "finish":
        cli.confirm(f"This deletes the old model's voiceprints of {domain_id}; there is no way back", yes=yes)
    now = store.clock()
    with store.database.write() as connection:
        domain = active_domain(connection, domain_id)
        if model_id is not None:
            wanted = stored_model_id(files, model_id, settings.encoder)
            domain_models.begin(connection, domain, wanted, partial(model_calibration, files), now)
        elif step == "switch":
            domain_models.switch(connection, domain, now)
        elif step == "rollback":
            domain_models.roll_back(connection, domain, now)
        elif step == "finish":
            domain_models.finish(connection, domain)
        elif step == "cancel":
            domain_models.cancel(connection, domain)
    if step in ("finish", "cancel"):
        store.database.truncate_wal()
    if model_id is not None:
        _embed_all(cli, store, domain_id)
    document = _state(store, domain_id)
    cli.show(document, _state_lines(document))


def _embed_all(cli: CliContext, store: Store, domain_id: str) -> None:
    """Embed all stored audio with the new model, here or by following a service that does it.

    Raises SetupError when it cannot go on.
    """
    engine = local_engine(store.settings, store.settings.workers)
    work = upgrades(store, engine, f"upgrade-{secrets.token_hex(8)}")
    shown, total = 0, 0
    try:
        with cli.progress_bar(length=100, label="embedding") as bar:
            while True:
                worked = work.run_batch()
                with store.database.read() as connection:
                    found = model_upgrades.find(connection, domain_id)
                    if found is None or found.status != "RUNNING":
                        return
                    if found.problem is not None:
                        raise SetupError(f"{found.problem}; it is tried again by the service")
                    new_id = found.new_model_id or shipped_encoder_id()
                    counts = [
                        shadow_voiceprints.counts(connection, domain_id, new_id, kind)
                        for kind in shadow_voiceprints.BOTH
                    ]
                pending = sum(one.pending for one in counts)
                total = max(total, sum(one.pending + one.made + one.impossible for one in counts))
                percent = 100 * (total - pending) // max(1, total)
                bar.update(percent - shown)
                shown = percent
                if not worked:
                    time.sleep(_POLL_S)
    finally:
        engine.close()


def _state(store: Store, domain_id: str) -> dict[str, Any]:
    """Describe the domain's model, voiceprints of other models, and the change under way."""
    with store.database.read() as connection:
        domain = active_domain(connection, domain_id)
        found = model_upgrades.find(connection, domain_id)
        present = domain.model_id or shipped_encoder_id()
        document: dict[str, Any] = {
            "DomainId": domain_id,
            "ModelId": present,
            "OfOtherModels": {
                kind: list(shadow_voiceprints.list_other_model(connection, domain_id, present, kind))
                for kind in shadow_voiceprints.BOTH
            },
            "Upgrade": None,
        }
        if found is None:
            return document
        new_id = found.new_model_id or shipped_encoder_id()
        progress = {}
        for kind in shadow_voiceprints.BOTH:
            counts = shadow_voiceprints.counts(connection, domain_id, new_id, kind)
            progress[kind] = {
                "Done": counts.made,
                "Pending": counts.pending,
                "Impossible": [
                    {"Id": person_id, "Reason": problem}
                    for person_id, problem in shadow_voiceprints.impossible(connection, domain_id, kind)
                ],
                "ImpossibleCount": counts.impossible,
            }
        document["Upgrade"] = {
            "Status": found.status,
            "OldModelId": found.old_model_id or shipped_encoder_id(),
            "NewModelId": new_id,
            "Progress": progress,
            "Agreement": found.report or {},
        }
        return document


def _state_lines(document: dict[str, Any]) -> Iterator[str]:
    domain_id, present = document["DomainId"], document["ModelId"]
    yield f"{domain_id} has the voice model {present}"
    for kind, ids in document["OfOtherModels"].items():
        if ids:
            again = "enrolled" if kind == "speaker" else "registered"
            yield (
                f"{len(ids)} {kind}s have voiceprints of another model, which cannot be compared until "
                f"`sonant model upgrade {domain_id} {present}` brings them over, or they are {again} again:"
            )
            yield from ids
    change = document["Upgrade"]
    if change is None:
        return
    # Old and new are the same model when only some voiceprints were of another: after a new release of the
    # shipped one, or a rollback.
    same = change["OldModelId"] == change["NewModelId"]
    old = "voiceprints of other models" if same else change["OldModelId"]
    yield f"change from {old} to {change['NewModelId']}: {change['Status']}"
    for kind, progress in change["Progress"].items():
        yield (
            f"{kind}s: {progress['Done']} with both, {progress['Pending']} to do, "
            f"{progress['ImpossibleCount']} impossible"
        )
        for one in progress["Impossible"]:
            yield f"{one['Id']} must be enrolled again: {one['Reason']}"
    for name, value in change["Agreement"].items():
        yield f"agreement, {name.replace('_', ' ')}: {value}"
    step = {"READY": "--switch", "SWITCHED": "--finish (or --rollback)"}.get(change["Status"])
    if step is not None:
        yield f"next: sonant model upgrade {domain_id} {step}"
