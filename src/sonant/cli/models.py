"""`sonant model …`: voice models that users bring, and which model a domain has."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import Store, open_store
from sonant.cli.common import show_progress, table
from sonant.cli.model_check import Findings, examine
from sonant.cli.model_source import fetched
from sonant.errors import SetupError
from sonant.jobs import model_upgrade as change
from sonant.jobs.model_registry import calibrated, calibration_for, model_calibration, uncalibrated_message
from sonant.settings import Settings
from sonant.storage.model_files import ID_PATTERN, MAX_CALIBRATION_BYTES, ModelFiles, ModelManifest
from sonant.storage.repositories import domains, model_upgrades, shadow_voiceprints
from sonant.storage.repositories.domains import Domain
from sonant.storage.times import now as real_now
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.frontends import KINDS, Kind

#: What commands call the model that ships with Sonant, beside its id.
SHIPPED = "shipped"
_POLL_S = 0.5
_BAD_NAME = "--id takes up to 55 letters, digits and . _ -, the first a letter or digit"


def known() -> list[dict[str, Any]]:
    """Models that are known to be good, from the package's data."""
    found: list[dict[str, Any]] = json.loads(
        resources.files("sonant.voice.models").joinpath("known.json").read_bytes()
    )
    return found


def add(
    settings: Settings,
    source: str,
    *,
    kind: str | None,
    name: str | None,
    sha256: str | None,
    licence: str | None,
    rate_hz: int | None,
    mels: int | None,
    output: str | None,
    calibration: Path | None,
) -> None:
    """Take a model in. Raises SetupError that says why it cannot be."""
    files = ModelFiles(open_store(settings).settings.data)
    listed = next((one for one in known() if one["name"] == source), None)
    if listed is not None:
        if listed["url"] is None:
            raise SetupError(f"where {source} can be had is not known for certain: give a file or an address")
        source, sha256 = listed["url"], sha256 or listed["sha256"]
        kind, name, licence = kind or listed["kind"], name or listed["name"], licence or listed["licence"]
    if kind is None:
        raise SetupError(f"say with --kind what the model is fed with: {', '.join(KINDS)}")
    wanted = next((one for one in KINDS if one == kind), None)
    if wanted is None:
        raise SetupError(f"--kind is one of {', '.join(KINDS)}")
    if name is not None and not ID_PATTERN.fullmatch(f"{name}-00000000"):
        raise SetupError(_BAD_NAME)
    if sha256 is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", sha256):
        raise SetupError("--sha256 takes 64 hexadecimal digits")
    with fetched(source, sha256) as (file, found_sha256):
        findings = examine(file, wanted, rate_hz=rate_hz, mels=mels, output=output)
        content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != found_sha256:
        raise SetupError("the model changed while it was tried")
    manifest = _manifest(findings, wanted, source, found_sha256, len(content), name, licence)
    text = None if calibration is None else _calibration(calibration, manifest.model_id)
    files.add(manifest, content, text)
    click.echo(f"{manifest.model_id} added: {manifest.dimensions} dimensions, sha256 {found_sha256}")
    click.echo(
        f"{findings.ms_a_second:.1f} ms of processor time for a second of speech; "
        f"the model that ships with Sonant takes {findings.shipped_ms_a_second:.1f} ms"
    )
    if text is None:
        click.echo(uncalibrated_message(manifest.model_id))


def show_all(settings: Settings, *, only_known: bool) -> None:
    if only_known:
        click.echo(table(map(_known_row, known()), ("NAME", "KIND", "LICENCE", "SIZE", "PUBLISHED")))
        return
    store = open_store(settings)
    files = ModelFiles(settings.data)
    rows = [(shipped_encoder_id(), "ge2e", "256", "yes", "ships with Sonant")]
    for model_id in files.ids():
        one = files.get(model_id)
        usable = "yes" if calibrated(files, model_id) else "no"
        rows.append((model_id, one.kind, str(one.dimensions), usable, one.licence))
    click.echo(table(rows, ("MODEL", "KIND", "DIMENSIONS", "CALIBRATED", "LICENCE")))
    store.database.close()


def show(settings: Settings, model_id: str) -> None:
    listed = next((one for one in known() if one["name"] == model_id), None)
    files = ModelFiles(open_store(settings).settings.data)
    if listed is not None and files.find(model_id) is None:
        values: dict[str, Any] = listed
    else:
        values = asdict(files.get(model_id)) | {"calibrated": calibrated(files, model_id)}
    width = max(map(len, values))
    click.echo(
        "\n".join(f"{key:<{width}}  {'-' if value is None else value}" for key, value in values.items())
    )


def bring_calibration(settings: Settings, model_id: str, file: Path) -> None:
    files = ModelFiles(open_store(settings).settings.data)
    files.get(model_id)
    files.put_calibration(model_id, _calibration(file, model_id))
    click.echo(f"{model_id} is calibrated")


def remove(settings: Settings, model_id: str) -> None:
    """Raises SetupError for a model that a domain or a voiceprint needs."""
    store = open_store(settings)
    files = ModelFiles(settings.data)
    files.get(model_id)
    with store.database.read() as connection:
        if model_upgrades.model_used(connection, model_id) or domains.count_with_model(connection, model_id):
            raise SetupError(
                f"{model_id} is the voice model of a domain, or made voiceprints that are kept: "
                "bring the domain to another model first"
            )
    files.remove(model_id)
    click.echo(f"{model_id} removed")


def use(settings: Settings, domain_id: str, model_id: str) -> None:
    store = open_store(settings)
    files = ModelFiles(settings.data)
    wanted = _model(files, model_id)
    with store.database.write() as connection:
        change.use(
            connection, _domain(store, connection, domain_id), wanted, partial(model_calibration, files)
        )
    click.echo(f"{domain_id} has the voice model {wanted or shipped_encoder_id()}")


def upgrade(
    settings: Settings, domain_id: str, model_id: str | None, step: str | None, *, quiet: bool
) -> None:
    """Begin or follow a change of a domain's model, or do one step of it."""
    store = open_store(settings)
    files = ModelFiles(settings.data)
    calibrations = partial(model_calibration, files)
    if model_id is not None and step is not None:
        raise SetupError(f"--{step} goes with the change under way: leave the model out")
    now = store.clock()
    with store.database.write() as connection:
        domain = _domain(store, connection, domain_id)
        if model_id is not None:
            change.begin(connection, domain, _model(files, model_id), calibrations, now)
        elif step == "switch":
            change.switch(connection, domain, now)
        elif step == "rollback":
            change.roll_back(connection, domain, now)
        elif step == "finish":
            change.finish(connection, domain)
        elif step == "cancel":
            change.cancel(connection, domain)
    if step in ("finish", "cancel"):
        store.database.truncate_wal()
    if model_id is not None:
        _make(store, domain_id, quiet=quiet)
    _tell(store, domain_id)


def _make(store: Store, domain_id: str, *, quiet: bool) -> None:
    """Make the shadows here, or follow a service that makes them, until there is none left to make."""
    import secrets

    from sonant.assembly.jobs import upgrades
    from sonant.assembly.workers import local_engine

    engine = local_engine(store.settings, store.settings.workers)
    doing = upgrades(store, engine, f"upgrade-{secrets.token_hex(8)}")
    shown, total = 0, 0
    try:
        with click.progressbar(
            length=100, label="hearing", hidden=not show_progress(quiet), file=sys.stderr
        ) as bar:
            while True:
                worked = doing.run_batch()
                with store.database.read() as connection:
                    found = model_upgrades.find(connection, domain_id)
                    if found is None or found.status != "RUNNING":
                        return
                    if found.problem is not None:
                        raise SetupError(f"{found.problem}; it is tried again by the service")
                    new_id = found.new_model_id or shipped_encoder_id()
                    counts = [
                        shadow_voiceprints.counts(connection, domain_id, new_id, who)
                        for who in shadow_voiceprints.BOTH
                    ]
                waiting = sum(one.pending for one in counts)
                total = max(total, sum(one.pending + one.made + one.impossible for one in counts))
                percent = 100 * (total - waiting) // max(1, total)
                bar.update(percent - shown)
                shown = percent
                if not worked:
                    time.sleep(_POLL_S)
    finally:
        engine.close()


def _tell(store: Store, domain_id: str) -> None:
    with store.database.read() as connection:
        domain = _domain(store, connection, domain_id)
        found = model_upgrades.find(connection, domain_id)
        present = domain.model_id or shipped_encoder_id()
        click.echo(f"{domain_id} has the voice model {present}")
        for who in shadow_voiceprints.BOTH:
            old = shadow_voiceprints.list_other_model(connection, domain_id, present, who)
            if old:
                cure = f"sonant model upgrade {domain_id} {present}"
                again = "enrolled" if who == "speaker" else "registered"
                click.echo(
                    f"{len(old)} {who}s have voiceprints of another model, which cannot be compared until "
                    f"`{cure}` brings them over, or they are {again} again:"
                )
                click.echo("\n".join(old))
        if found is None:
            return
        new_id = found.new_model_id or shipped_encoder_id()
        old_id = found.old_model_id or shipped_encoder_id()
        # The domain had the model before, and some of its voiceprints did not: after a new release of the
        # shipped one, or a way back.
        from_what = "voiceprints of other models" if old_id == new_id else old_id
        click.echo(f"change from {from_what} to {new_id}: {found.status}")
        for who in shadow_voiceprints.BOTH:
            counts = shadow_voiceprints.counts(connection, domain_id, new_id, who)
            click.echo(
                f"{who}s: {counts.made} with both, {counts.pending} to do, {counts.impossible} impossible"
            )
            for person_id, problem in shadow_voiceprints.impossible(connection, domain_id, who):
                click.echo(f"{person_id} must be enrolled again: {problem}")
        for key, value in (found.report or {}).items():
            click.echo(f"agreement, {key.replace('_', ' ')}: {value}")
        step = {"READY": "--switch", "SWITCHED": "--finish (or --rollback)"}.get(found.status)
        if step is not None:
            click.echo(f"next: sonant model upgrade {domain_id} {step}")


def _domain(store: Store, connection: Any, domain_id: str) -> Domain:
    """An active domain, in whose state nobody interferes if this is a write. Raises SetupError."""
    if connection.get_execution_options().get("sonant_write"):
        domains.lock(connection, domain_id)
    found = domains.find_by_id(connection, domain_id)
    if found is None or not found.active:
        raise SetupError(f"there is no active domain {domain_id[:64]!r}")
    return found


def _model(files: ModelFiles, model_id: str) -> str | None:
    """The id that the database keeps. Raises SetupError."""
    if model_id in (SHIPPED, shipped_encoder_id()):
        return None
    return files.get(model_id).model_id


def _manifest(
    findings: Findings,
    kind: Kind,
    source: str,
    sha256: str,
    size_bytes: int,
    name: str | None,
    licence: str | None,
) -> ModelManifest:
    """The id ends in a fingerprint of the network and of how it is fed: other bytes, or another front-end,
    are another maker."""
    fed = f"{sha256} {kind} {findings.rate_hz} {findings.mels} {findings.output}"
    mark = hashlib.sha256(fed.encode()).hexdigest()[:8]
    base = name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-._")[:50] or kind
    model_id = base if base.endswith(f"-{mark}") else f"{base}-{mark}"
    if not ID_PATTERN.fullmatch(model_id) or model_id == shipped_encoder_id():
        raise SetupError(_BAD_NAME)
    return ModelManifest(
        model_id=model_id,
        kind=kind,
        rate_hz=findings.rate_hz,
        mels=findings.mels,
        output=findings.output,
        dimensions=findings.dimensions,
        sha256=sha256,
        size_bytes=size_bytes,
        licence=licence or "not stated",
        source=source.split("?")[0] if "://" in source else Path(source).name,
        added_at=f"{real_now():%Y-%m-%dT%H:%M:%SZ}",
        ms_a_second=round(findings.ms_a_second, 2),
        shipped_ms_a_second=round(findings.shipped_ms_a_second, 2),
    )


def _calibration(file: Path, model_id: str) -> str:
    """Raises SetupError for what is no calibration of this model."""
    with file.open("rb") as opened:
        content = opened.read(MAX_CALIBRATION_BYTES + 1)
    if len(content) > MAX_CALIBRATION_BYTES:
        raise SetupError(f"a calibration has at most {MAX_CALIBRATION_BYTES} bytes")
    text = content.decode("utf-8", "replace")
    calibration_for(text, model_id)
    return text


def _known_row(one: dict[str, Any]) -> tuple[str, ...]:
    licence = one["licence"].split(" ")[0] + ("?" if "(unconfirmed" in one["licence"] else "")
    return one["name"], one["kind"], licence, _size(one["size_bytes"]), one["published"] or "-"


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1e6:.0f} MB"
