"""One request of a dry run: what the job would hear, and then everything in every recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sonant.errors import SonantError
from sonant.jobs.entry import Fetch, Role, Task, TaskResult, prepare
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import Embedders
from sonant.settings import Audio
from sonant.voice.inspection import Inspection, inspect_recording
from sonant.voice.models import Models
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample
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
class InspectionResult(TaskResult):
    """What a dry run found. With a `refusal`, which is what the job would answer, the sample is empty."""

    refusal: Refusal | None
    files: tuple[InspectedFile, ...]
    unlike: tuple[Unlike, ...]
    domain_sample: VoiceSample | None
    """The voice by the domain's own model, to be compared with the domain's; None with a refusal."""


def inspect(
    task: Task,
    fetch: Fetch,
    models: Models,
    detectors: Sequence[Detector],
    rules: Audio,
    embedder_of: Embedders | None = None,
) -> InspectionResult:
    """Do the task as a job would, to the same answer, then listen to all its recordings."""
    begun_s = time.thread_time()
    last = _Last(fetch)
    # The report compares its own voices on the shipped model's scale, whatever model the domain has.
    shipped = prepare(replace(task, model_id=None), last, models, detectors, rules)
    own = shipped
    if task.model_id is not None and isinstance(shipped, TaskResult):
        own = prepare(replace(task, fingerprint=False, detect=False), last, models, (), rules, embedder_of)
    files = tuple(_inspected(file, task.role, last, models, rules) for file in task.audio)
    refusal = next((one for one in (shipped, own) if isinstance(one, Refusal)), None)
    found = shipped if isinstance(shipped, TaskResult) and refusal is None else _nothing(models)
    return InspectionResult(
        sample=found.sample,
        risks=found.risks,
        fingerprint=found.fingerprint,
        audio_s=sum(file.inspection.analyzed_s for file in files),
        compute_s=time.thread_time() - begun_s,
        inference_s=found.inference_s,
        refusal=refusal,
        files=files,
        unlike=tuple(_unlike(files)),
        domain_sample=own.sample if isinstance(own, TaskResult) else None,
    )


def _nothing(models: Models) -> TaskResult:
    empty = VoiceSample.from_bytes(models.encoder_id, b"", Quality(net_speech_s=0.0))
    return TaskResult(sample=empty)


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
