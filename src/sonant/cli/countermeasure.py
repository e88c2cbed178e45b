"""`sonant model add --kind countermeasure`: detectors of synthetic speech that operators bring."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonant.cli.context import CliContext
from sonant.cli.model_check import rate_of
from sonant.cli.model_source import fetched
from sonant.cli.model_trial import TIME_LIMIT_S, ms_a_second, try_apart
from sonant.errors import SetupError
from sonant.jobs.countermeasures import calibration_in_use
from sonant.storage.countermeasure_files import KIND, CountermeasureFiles
from sonant.storage.model_files import ModelManifest
from sonant.storage.times import now
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models.onnx_file import inspect
from sonant.voice.spoofing.countermeasure import SPOOFED, CountermeasureFormat, open_countermeasure
from sonant.voice.spoofing.models import load_spoofing_models
from sonant.voice.spoofing.synthetic_speech import score_synthetic_speech

#: Largest difference between two runs on the same speech, and smallest between speech and noise.
_SAME, _DIFFERENT = 1e-3, 1e-4
_TRIAL_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CountermeasureFindings:
    """Results of a countermeasure's trial."""

    rate_hz: int
    mels: int
    """Bands; 0 for a waveform."""
    output: str
    spoofed: str
    outputs: int
    """Logits: one, or one for each of two classes."""
    ms_a_second: float
    shipped_ms_a_second: float
    """The same of the shipped small network with its features."""


def examine_countermeasure(
    file: Path,
    *,
    rate_hz: int | None = None,
    mels: int | None = None,
    output: str | None = None,
    spoofed: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> CountermeasureFindings:
    """Check, open, run and time a model. Raises SetupError with the reason why it cannot be used."""
    value = try_apart(_try, file, rate_hz, mels, output, spoofed, time_limit_s=time_limit_s)
    return CountermeasureFindings(
        rate_hz=int(value["rate_hz"]),
        mels=int(value["mels"]),
        output=str(value["output"]),
        spoofed=str(value["spoofed"]),
        outputs=int(value["outputs"]),
        ms_a_second=float(value["ms_a_second"]),
        shipped_ms_a_second=float(value["shipped_ms_a_second"]),
    )


def _try(
    content: bytes, rate_hz: int | None, mels: int | None, output: str | None, spoofed: str | None
) -> dict[str, Any]:
    notes = inspect(content).notes
    model = open_countermeasure(
        content,
        model_id="under test",
        form=CountermeasureFormat(
            rate_hz=rate_of(notes, rate_hz),
            mels=mels or 0,
            output=output or "",
            spoofed=_spoofed(notes, spoofed),
        ),
    )
    voice = voice_like_signal(8000, _TRIAL_S)
    noise = np.random.default_rng(1).standard_normal(len(voice)).astype(np.float32)
    first, again, other = (model.score(sound) for sound in (voice, voice, noise))
    if not np.isfinite([first, other]).all():
        raise SetupError("the model's output is not a number for an ordinary signal")
    if abs(again - first) > _SAME:
        raise SetupError(
            "the model answers differently to the same speech: it was exported for training, not for use"
        )
    if abs(other - first) < _DIFFERENT:
        raise SetupError("the model gives speech and noise the same output: are --rate and --mels right?")
    shipped = partial(score_synthetic_speech, models=load_spoofing_models(), max_s=10.0, windows=0)
    findings = CountermeasureFindings(
        rate_hz=model.format.rate_hz,
        mels=model.format.mels,
        output=model.format.output,
        spoofed=model.format.spoofed,
        outputs=2 if model.format.spoofed.isdigit() else 1,
        ms_a_second=ms_a_second(model.score),
        shipped_ms_a_second=ms_a_second(shipped),
    )
    return asdict(findings)


def _spoofed(notes: dict[str, str], given: str | None) -> str:
    """Choose what stands for synthetic speech: as given, else as the model's notes say. Raises SetupError."""
    found = given or notes.get("spoofed")
    if found not in SPOOFED:
        raise SetupError(
            "say with --spoofed what the model's output is for synthetic speech: high or low for one logit, "
            "0 or 1 for the class of this number"
        )
    return found


def add_countermeasure(
    cli: CliContext,
    files: CountermeasureFiles,
    source: str,
    *,
    name: str,
    sha256: str | None,
    licence: str | None,
    rate_hz: int | None,
    mels: int | None,
    output: str | None,
    spoofed: str | None,
) -> None:
    """Check, try and time a model, and store it. Raises SetupError."""
    if spoofed is not None and spoofed not in SPOOFED:
        raise SetupError(f"--spoofed is one of {', '.join(SPOOFED)}")
    with fetched(source, sha256) as (file, found_sha256):
        findings = examine_countermeasure(file, rate_hz=rate_hz, mels=mels, output=output, spoofed=spoofed)
        content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != found_sha256:
        raise SetupError("the model changed while it was tried")
    manifest = _manifest(findings, source, found_sha256, len(content), name, licence)
    files.models.add(manifest, content, None)
    cli.show(
        asdict(manifest) | {"calibrated": False},
        [
            f"{manifest.model_id} added, sha256 {found_sha256}",
            f"{findings.ms_a_second:.1f} ms of processor time for a second of speech; "
            f"the small network that ships with Sonant takes {findings.shipped_ms_a_second:.1f} ms",
            uncalibrated_message(manifest.model_id),
        ],
    )


def uncalibrated_message(model_id: str) -> str:
    """Say that a countermeasure is not used yet, and what to do."""
    return (
        f"{model_id} is not used until its scores have a meaning: calibrate it on genuine recordings of your "
        "own lines with `sonant calibrate spoofing --speech DIR --apply`"
    )


def countermeasure_calibrated(files: CountermeasureFiles, model_id: str) -> bool:
    """Return whether the calibration in use covers a countermeasure. Raises SetupError."""
    own = calibration_in_use(files)
    return own is not None and model_id in own.added


def countermeasure_document(files: CountermeasureFiles, model_id: str) -> dict[str, Any]:
    """Give the facts of a countermeasure. Raises SetupError."""
    calibrated = countermeasure_calibrated(files, model_id)
    return asdict(files.models.get(model_id)) | {"calibrated": calibrated, "shipped": False}


def countermeasure_documents(files: CountermeasureFiles) -> list[dict[str, Any]]:
    """Give the facts of all countermeasures. Raises SetupError."""
    return [countermeasure_document(files, model_id) for model_id in files.models.ids()]


def remove_countermeasure(cli: CliContext, files: CountermeasureFiles, model_id: str, *, yes: bool) -> None:
    """Delete a countermeasure that no calibration in use covers. Raises SetupError."""
    if countermeasure_calibrated(files, model_id):
        raise SetupError(
            f"{model_id} is in use: take its calibration back first with `sonant calibrate spoofing --undo`"
        )
    cli.confirm(f"This deletes the countermeasure {model_id}", yes=yes)
    files.models.remove(model_id)
    cli.show({"Deleted": model_id}, f"{model_id} removed")


def _manifest(
    findings: CountermeasureFindings,
    source: str,
    sha256: str,
    size_bytes: int,
    name: str,
    licence: str | None,
) -> ModelManifest:
    """Make the manifest. The id ends in a fingerprint of the network and of how it is fed and read."""
    identity = (
        f"{sha256} {KIND} {findings.rate_hz} {findings.mels} {findings.output} {findings.spoofed}".encode()
    )
    return ModelManifest(
        model_id=f"{name}-{hashlib.sha256(identity).hexdigest()[:8]}",
        kind=KIND,
        rate_hz=findings.rate_hz,
        mels=findings.mels,
        output=findings.output,
        dimensions=findings.outputs,
        sha256=sha256,
        size_bytes=size_bytes,
        licence=licence or "not stated",
        source=source.split("?")[0] if "://" in source else Path(source).name,
        added_at=f"{now():%Y-%m-%dT%H:%M:%SZ}",
        ms_a_second=round(findings.ms_a_second, 2),
        shipped_ms_a_second=round(findings.shipped_ms_a_second, 2),
        spoofed=findings.spoofed,
    )
