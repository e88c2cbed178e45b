"""`sonant model ...`: voice models that users add, and the model of a domain."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import open_store
from sonant.cli.context import CliContext, Group, pass_cli, split_output, table, yes_option
from sonant.cli.countermeasure import (
    add_countermeasure,
    countermeasure_document,
    countermeasure_documents,
    remove_countermeasure,
)
from sonant.cli.model_check import Findings, examine
from sonant.cli.model_source import fetched
from sonant.cli.model_upgrade import upgrade
from sonant.cli.voice_models import active_domain, find_known, known_models, stored_model_id
from sonant.errors import SetupError
from sonant.jobs import model_upgrade as domain_models
from sonant.jobs.model_registry import calibrated, calibration_for, model_calibration, uncalibrated_message
from sonant.storage.countermeasure_files import KIND as COUNTERMEASURE
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.storage.model_files import ID_PATTERN, MAX_CALIBRATION_BYTES, ModelFiles, ModelManifest
from sonant.storage.repositories import domains, model_upgrades
from sonant.storage.times import now
from sonant.voice.models import shipped_encoder_id
from sonant.voice.models.frontends import KINDS, Kind
from sonant.voice.models.packaged import encoder_id, packaged_encoder_ids, packaged_entry

_BAD_NAME = "--id takes up to 55 letters, digits and . _ -, the first a letter or digit"

model = Group("model", help="Add voice models, and choose one for a domain.")


@model.command("add")
@click.argument("source", metavar="FILE|URL|NAME")
@click.option("--kind", help="wespeaker, 3dspeaker, speechbrain, nemo, redimnet, ge2e; or countermeasure.")
@click.option("--id", "name", help="Its name; a fingerprint is added to it.")
@click.option("--sha256", help="The SHA-256 that the file must have.")
@click.option("--licence", help="Noted with the model.")
@click.option("--rate", "rate_hz", type=int, help="8000 or 16000 [default: the model's note, else 16000].")
@click.option("--mels", type=int, help="Bands, where the model does not fix them [default: 80].")
@click.option("--output-name", help="The output that is the embedding, where several could be.")
@click.option("--output", help="text or json: the form of results. Else the same as --output-name.")
@click.option("--spoofed", help="Of a countermeasure: high, low, 0 or 1, its output for synthetic speech.")
@click.option("--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@pass_cli
def add(
    cli: CliContext,
    source: str,
    kind: str | None,
    name: str | None,
    sha256: str | None,
    licence: str | None,
    rate_hz: int | None,
    mels: int | None,
    output_name: str | None,
    output: str | None,
    spoofed: str | None,
    calibration: Path | None,
) -> None:
    """Check, try and time an ONNX speaker model or countermeasure, and store it in the data folder."""
    cli, output = split_output(cli, output)
    settings = cli.settings()
    files = ModelFiles(open_store(settings).settings.data)
    listed = find_known(source)
    if listed is not None:
        if listed["url"] is None:
            raise SetupError(f"where {source} can be had is not known for certain: give a file or an address")
        source, sha256 = listed["url"], sha256 or listed["sha256"]
        kind, name, licence = kind or listed["kind"], name or listed["name"], licence or listed["licence"]
    known_kind = None if kind == COUNTERMEASURE else _kind(kind)
    if name is not None and not ID_PATTERN.fullmatch(f"{name}-00000000"):
        raise SetupError(_BAD_NAME)
    if sha256 is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", sha256):
        raise SetupError("--sha256 takes 64 hexadecimal digits")
    if known_kind is None:
        if calibration is not None:
            raise SetupError("a countermeasure is calibrated with `sonant calibrate spoofing`")
        add_countermeasure(
            cli,
            CountermeasureFiles(settings.data),
            source,
            name=name or default_name(source, COUNTERMEASURE),
            sha256=sha256,
            licence=licence,
            rate_hz=rate_hz,
            mels=mels,
            output=output_name or output,
            spoofed=spoofed,
        )
        return
    if spoofed is not None:
        raise SetupError(f"--spoofed goes with --kind {COUNTERMEASURE} alone")
    with fetched(source, sha256) as (file, found_sha256):
        findings = examine(file, known_kind, rate_hz=rate_hz, mels=mels, output=output_name or output)
        content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != found_sha256:
        raise SetupError("the model changed while it was tried")
    manifest = new_manifest(findings, known_kind, source, found_sha256, len(content), name, licence)
    text = None if calibration is None else _read_calibration(calibration, manifest.model_id)
    files.add(manifest, content, text)
    lines = [
        f"{manifest.model_id} added: {manifest.dimensions} dimensions, sha256 {found_sha256}",
        f"{findings.ms_a_second:.1f} ms of processor time for a second of speech; "
        f"the model that ships with Sonant takes {findings.shipped_ms_a_second:.1f} ms",
    ]
    if text is None:
        lines.append(uncalibrated_message(manifest.model_id))
    cli.show(asdict(manifest) | {"calibrated": text is not None}, lines)


@model.command("list")
@click.option("--known", is_flag=True, help="Models that are known to be good, instead.")
@pass_cli
def list_models(cli: CliContext, known: bool) -> None:
    """List the voice models of this data folder."""
    settings = cli.settings()
    if known:
        models = known_models()
        cli.show(
            {"Models": models},
            table(map(_known_row, models), ("NAME", "KIND", "LICENCE", "SIZE", "PUBLISHED")),
        )
        return
    store = open_store(settings)
    files = ModelFiles(settings.data)
    rows, documents = [], list[dict[str, Any]]()
    for model_id in packaged_encoder_ids():
        entry, default = packaged_entry(model_id) or {}, model_id == encoder_id(settings.encoder)
        origin = "ships with Sonant" + ", for new domains" * default
        rows.append((model_id, entry["front_end"], str(entry["dimensions"]), "yes", origin))
        documents.append({"model_id": model_id, "shipped": True, "default": default})
    for model_id in files.ids():
        one = files.get(model_id)
        usable = calibrated(files, model_id)
        rows.append((model_id, one.kind, str(one.dimensions), "yes" if usable else "no", one.licence))
        documents.append(asdict(one) | {"calibrated": usable, "shipped": False})
    for document in countermeasure_documents(CountermeasureFiles(settings.data)):
        usable = document["calibrated"]
        rows.append(
            (document["model_id"], document["kind"], "-", "yes" if usable else "no", document["licence"])
        )
        documents.append(document)
    store.database.close()
    cli.show({"Models": documents}, table(rows, ("MODEL", "KIND", "DIMENSIONS", "CALIBRATED", "LICENCE")))


@model.command("info")
@click.argument("model_id", metavar="MODEL")
@pass_cli
def info(cli: CliContext, model_id: str) -> None:
    """Show all about one model, added or known."""
    listed = find_known(model_id)
    data = open_store(cli.settings()).settings.data
    files, countermeasures = ModelFiles(data), CountermeasureFiles(data)
    packaged = packaged_entry(model_id)
    if packaged is not None:
        values: dict[str, Any] = packaged
    elif countermeasures.models.find(model_id) is not None:
        values = countermeasure_document(countermeasures, model_id)
    elif listed is not None and files.find(model_id) is None:
        values = listed
    else:
        values = asdict(files.get(model_id)) | {"calibrated": calibrated(files, model_id)}
    width = max(map(len, values))
    cli.show(
        values, [f"{name:<{width}}  {'-' if value is None else value}" for name, value in values.items()]
    )


@model.command("calibration")
@click.argument("model_id", metavar="MODEL")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@pass_cli
def set_calibration(cli: CliContext, model_id: str, file: Path) -> None:
    """Give a model the calibration in FILE; without one it cannot be used."""
    files = ModelFiles(open_store(cli.settings()).settings.data)
    files.get(model_id)
    files.put_calibration(model_id, _read_calibration(file, model_id))
    cli.show({"ModelId": model_id, "Calibrated": True}, f"{model_id} is calibrated")


@model.command("use")
@click.argument("domain_id", metavar="DOMAIN")
@click.argument("model_id", metavar="MODEL")
@pass_cli
def use(cli: CliContext, domain_id: str, model_id: str) -> None:
    """Give a domain without voiceprints a model; `shipped` is the one of new domains."""
    settings = cli.settings()
    store = open_store(settings)
    files = ModelFiles(settings.data)
    wanted = stored_model_id(files, model_id, settings.encoder)
    with store.database.write() as connection:
        domain_models.use(
            connection, active_domain(connection, domain_id), wanted, partial(model_calibration, files)
        )
    used = wanted or shipped_encoder_id()
    cli.show({"DomainId": domain_id, "ModelId": used}, f"{domain_id} has the voice model {used}")


@model.command("remove")
@click.argument("model_id", metavar="MODEL")
@yes_option
@pass_cli
def remove(cli: CliContext, model_id: str, yes: bool) -> None:
    """Delete the files of a model that no domain, voiceprint or calibration needs."""
    settings = cli.settings()
    store = open_store(settings)
    files, countermeasures = ModelFiles(settings.data), CountermeasureFiles(settings.data)
    if countermeasures.models.find(model_id) is not None:
        remove_countermeasure(cli, countermeasures, model_id, yes=yes)
        return
    files.get(model_id)
    with store.database.read() as connection:
        if model_upgrades.model_used(connection, model_id) or domains.count_with_model(connection, model_id):
            raise SetupError(
                f"{model_id} is the voice model of a domain, or made voiceprints that are kept: "
                "bring the domain to another model first"
            )
    cli.confirm(f"This deletes the voice model {model_id} and its calibration", yes=yes)
    files.remove(model_id)
    cli.show({"Deleted": model_id}, f"{model_id} removed")


model.add_command(upgrade)


def _kind(kind: str | None) -> Kind:
    """Check --kind. Raises SetupError."""
    if kind is None:
        raise SetupError(f"say with --kind which front-end the model needs: {', '.join(KINDS)}")
    found = next((one for one in KINDS if one == kind), None)
    if found is None:
        raise SetupError(f"--kind is one of {', '.join(KINDS)}")
    return found


def new_manifest(
    findings: Findings,
    kind: Kind,
    source: str,
    sha256: str,
    size_bytes: int,
    name: str | None,
    licence: str | None,
) -> ModelManifest:
    """Make the manifest of a model that was tried. Raises SetupError for a name that cannot be an id.

    The id ends in a fingerprint of the network and of its front-end: with other bytes or another front-end it
    is another model.
    """
    identity = f"{sha256} {kind} {findings.rate_hz} {findings.mels} {findings.output}"
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:8]
    base = name or default_name(source, kind)
    model_id = base if base.endswith(f"-{fingerprint}") else f"{base}-{fingerprint}"
    if not ID_PATTERN.fullmatch(model_id) or packaged_entry(model_id) is not None:
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
        added_at=f"{now():%Y-%m-%dT%H:%M:%SZ}",
        ms_a_second=round(findings.ms_a_second, 2),
        shipped_ms_a_second=round(findings.shipped_ms_a_second, 2),
    )


def default_name(source: str, kind: str) -> str:
    """Make a model's name from that of its file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-._")[:50] or kind


def _read_calibration(file: Path, model_id: str) -> str:
    """Read a calibration file. Raises SetupError when it is no calibration of this model."""
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
