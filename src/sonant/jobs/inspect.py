"""Process one entry of a dry run: the task of the job itself, then an inspection of every recording."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from sonant.errors import SonantError
from sonant.jobs.entry import Fetch, Role, Task, TaskResult, prepare, task_parties
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import Embedders
from sonant.settings import Audio
from sonant.voice.inspection import Inspection, inspect_recording
from sonant.voice.models import Models
from sonant.voice.party_speech import PartySummary
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample
from sonant.voice.speakers import COMPARABLE_PIECES, MIN_SEPARATION, separation


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInspection:
    """One recording of an entry: its measures, or the refusal if it could not be read."""

    file: AudioFile
    inspection: Inspection
    refusal: Refusal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferentVoices:
    """Two recordings of one entry, counted from 0, that sound like two people."""

    first: int
    second: int
    separation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceprintComparison:
    """Comparison of a voice with the voiceprint that its speaker has already, as the report tells it."""

    score: int
    """The lower end of the score's band (`disclosure.SCORE_BANDS`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionResult(TaskResult):
    """The result of a dry run's task. With a `refusal`, which the job would give, the sample is empty."""

    refusal: Refusal | None
    files: tuple[FileInspection, ...]
    different_voices: tuple[DifferentVoices, ...]
    domain_sample: VoiceSample | None
    """The voice by the domain's own model, to be compared with the domain's; None with a refusal."""
    parties: PartySummary | None = None
    """Who speaks in recordings of both parties; None where each has one voice, or one cannot be read."""
    existing: VoiceprintComparison | None = None
    """Comparison with the voiceprint that the voice would replace; None where there is none."""


def inspect(
    task: Task,
    fetch: Fetch,
    models: Models,
    detectors: Sequence[Detector],
    rules: Audio,
    embedder_of: Embedders | None = None,
) -> InspectionResult:
    """Execute the task as a job would, with the same result, then inspect all its recordings."""
    started_s = time.thread_time()
    cached_fetch = _LastObjectCache(fetch)
    # The report compares its own voices on the shipped model's scale, whatever model the domain has.
    shipped = prepare(replace(task, model_id=None), cached_fetch, models, detectors, rules)
    own = shipped
    if task.model_id is not None and isinstance(shipped, TaskResult):
        own = prepare(
            replace(task, fingerprint=False, detect=False), cached_fetch, models, (), rules, embedder_of
        )
    files = tuple(_inspect_file(file, task.role, cached_fetch, models, rules) for file in task.audio)
    refusal = next((one for one in (shipped, own) if isinstance(one, Refusal)), None)
    found = shipped if isinstance(shipped, TaskResult) and refusal is None else _nothing(models)
    return InspectionResult(
        sample=found.sample,
        risks=found.risks,
        fingerprint=found.fingerprint,
        audio_s=sum(file.inspection.analyzed_s for file in files),
        compute_s=time.thread_time() - started_s,
        inference_s=found.inference_s,
        refusal=refusal,
        files=files,
        different_voices=tuple(_different_voices(files)) if task.recurring_voice is None else (),
        domain_sample=own.sample if isinstance(own, TaskResult) else None,
        parties=_parties(task, cached_fetch, models, rules),
    )


def _parties(task: Task, fetch: Fetch, models: Models, rules: Audio) -> PartySummary | None:
    """Find the parties again: a task's result has the selected voice only."""
    if task.recurring_voice is None:
        return None
    try:
        return PartySummary.of(task_parties(task, fetch, models, rules))
    except SonantError:
        return None


def _nothing(models: Models) -> TaskResult:
    empty = VoiceSample.from_bytes(models.encoder_id, b"", Quality(net_speech_s=0.0))
    return TaskResult(sample=empty)


def _inspect_file(file: AudioFile, role: Role, fetch: Fetch, models: Models, rules: Audio) -> FileInspection:
    try:
        data = fetch(role, file.s3_uri)
    except SonantError as fault:
        refusal = Refusal.of(fault)
        return FileInspection(file=file, inspection=Inspection(fault=str(fault)), refusal=refusal)
    found = inspect_recording(
        data,
        channel=file.channel,
        strict=rules.strict,
        max_duration_s=rules.max_duration_s,
        models=models,
    )
    return FileInspection(
        file=file, inspection=found, refusal=Refusal(400, found.fault) if found.fault else None
    )


def _different_voices(files: Sequence[FileInspection]) -> list[DifferentVoices]:
    voices = [
        (number, file.inspection.piece_vectors)
        for number, file in enumerate(files)
        if len(file.inspection.piece_vectors) >= COMPARABLE_PIECES
    ]
    found = []
    for (first, one), (second, other) in combinations(voices, 2):
        measured = separation(one, other)
        if measured > MIN_SEPARATION:
            found.append(DifferentVoices(first=first, second=second, separation=measured))
    return found


class _LastObjectCache:
    """Fetches objects and keeps the last one: most entries have one recording, which is then read once."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._uri, self._data = "", b""

    def __call__(self, role: Role, uri: str) -> bytes:
        if uri != self._uri:
            self._uri, self._data = "", b""
            data = self._fetch(role, uri)
            self._uri, self._data = uri, data
        return self._data
