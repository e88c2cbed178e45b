"""One request of a dry run: what the job would hear, and then everything in every recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sonant.errors import SonantError
from sonant.jobs.entry import Fetch, Prepared, Role, Task, prepare
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import Embedders
from sonant.settings import Audio
from sonant.voice.inspection import Inspection, inspect_recording
from sonant.voice.models import Models
from sonant.voice.speakers import COMPARABLE_PIECES, MIN_SEPARATION, separation


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedFile:
    """One recording of a request: its figures, or the refusal that kept it from being read."""

    file: AudioFile
    inspection: Inspection
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlike:
    """Two recordings of one request, counted from 0, that sound like two people."""

    first: int
    second: int
    separation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected(Prepared):
    """What a dry run heard. With a `refusal`, which is what the job would answer, `vector` is empty."""

    refusal: Refusal | None
    files: tuple[InspectedFile, ...]
    unlike: tuple[Unlike, ...]
    judged_model_id: str
    judged_vector: bytes
    """The voice as the domain's own model hears it, for what is compared with the domain."""


def inspect(
    task: Task,
    fetch: Fetch,
    models: Models,
    detectors: Sequence[Detector],
    rules: Audio,
    embedder_of: Embedders | None = None,
) -> Inspected:
    """Do the task as a job would, to the same answer, then listen to all its recordings."""
    begun_s = time.thread_time()
    last = _Last(fetch)
    # The report compares its own voices on the shipped model's scale, whatever model the domain has.
    heard = prepare(replace(task, model_id=None), last, models, detectors, rules)
    judged = heard
    if task.model_id is not None and isinstance(heard, Prepared):
        judged = prepare(replace(task, fingerprint=False, detect=False), last, models, (), rules, embedder_of)
    files = tuple(_inspected(file, task.role, last, models, rules) for file in task.audio)
    refusal = next((one for one in (heard, judged) if isinstance(one, Refusal)), None)
    prepared = heard if isinstance(heard, Prepared) and refusal is None else None
    return Inspected(
        model_id=models.encoder_id,
        vector=prepared.vector if prepared else b"",
        net_speech_s=prepared.net_speech_s if prepared else 0.0,
        snr_db=prepared.snr_db if prepared else 0.0,
        highpass_300hz=prepared is not None and prepared.highpass_300hz,
        risks=prepared.risks if prepared else (),
        audio=None,
        fingerprint=prepared.fingerprint if prepared else None,
        heard_s=sum(file.inspection.analyzed_s for file in files),
        compute_s=time.thread_time() - begun_s,
        inference_s=prepared.inference_s if prepared else 0.0,
        refusal=refusal,
        files=files,
        unlike=tuple(_unlike(files)),
        judged_model_id=judged.model_id if isinstance(judged, Prepared) else models.encoder_id,
        judged_vector=judged.vector if isinstance(judged, Prepared) else b"",
    )


def _inspected(file: AudioFile, role: Role, fetch: Fetch, models: Models, rules: Audio) -> InspectedFile:
    try:
        data = fetch(role, file.s3_uri)
    except SonantError as fault:
        refusal = Refusal.of(fault)
        return InspectedFile(file=file, inspection=Inspection(fault=str(fault)), refusal=refusal)
    found = inspect_recording(
        data,
        channel=file.channel,
        strict=rules.strict,
        max_duration_s=rules.max_duration_s,
        models=models,
    )
    return InspectedFile(
        file=file, inspection=found, refusal=Refusal(400, found.fault) if found.fault else None
    )


def _unlike(files: Sequence[InspectedFile]) -> list[Unlike]:
    voices = [
        (number, file.inspection.piece_vectors)
        for number, file in enumerate(files)
        if len(file.inspection.piece_vectors) >= COMPARABLE_PIECES
    ]
    found = []
    for (first, one), (second, other) in combinations(voices, 2):
        measured = separation(one, other)
        if measured > MIN_SEPARATION:
            found.append(Unlike(first=first, second=second, separation=measured))
    return found


class _Last:
    """Reads through, and keeps the last object: most requests have one recording, which is read once."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._uri, self._data = "", b""

    def __call__(self, role: Role, uri: str) -> bytes:
        if uri != self._uri:
            self._uri, self._data = "", b""
            data = self._fetch(role, uri)
            self._uri, self._data = uri, data
        return self._data
