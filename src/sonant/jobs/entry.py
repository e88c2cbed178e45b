"""Process one entry of a job: fetch, decode, find speech, embed, score risks. No database is needed.

Runs in worker processes; tasks and results can be pickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonant.errors import KeyDenied, KeyNotFound, KeyUnusable, SetupError, SonantError
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Detector, Risk, assess
from sonant.jobs.manifest import AudioFile
from sonant.jobs.model_registry import Embedders
from sonant.settings import Audio
from sonant.voice.audio.flac import decode_flac, encode_flac
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import float_from_pcm16, pcm16_from_float
from sonant.voice.enrollment import RecordingSource, Speech, collect_speech
from sonant.voice.models import Models
from sonant.voice.models.embedding import Embedder, Embedding
from sonant.voice.models.packaged import packaged_embedder
from sonant.voice.quality import Quality
from sonant.voice.replay.fingerprint import MIN_SPEECH_S, fingerprint
from sonant.voice.sample import VoiceSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The role a job runs under, with its policies as documents."""

    arn: str
    policies: tuple[str, ...]
    domain_arn: str = ""
    """The domain it is used for."""
    account_id: str = ""
    """The account of that domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcm16Audio:
    """Speech of a live call, pauses removed."""

    samples: bytes = field(repr=False)
    """16-bit little-endian, 8 kHz."""
    quality: Quality

    @classmethod
    def of(cls, samples: NDArray[np.float32], quality: Quality) -> Pcm16Audio:
        """Convert samples of -1..1; lossless for what a telephone line carries."""
        return cls(samples=pcm16_from_float(samples), quality=quality)

    def speech(self) -> Speech:
        """Convert back to samples of -1..1."""
        return Speech(samples=float_from_pcm16(self.samples), quality=self.quality, recordings_used=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work on one entry. `task_id` is the caller's own number, returned with the result."""

    task_id: int
    role: Role
    audio: tuple[AudioFile, ...]
    need_s: float
    keep_audio: bool
    inspect: bool = False
    """Inspect every recording, for a dry run; see `jobs.inspect`."""
    detect: bool = False
    """Run the spoofing detectors."""
    risk_threshold: int = 0
    """The risk from which on the job refuses."""
    fingerprint: bool = False
    """Take a fingerprint for replay detection."""
    model_id: str | None = None
    """The voice model; None is GE2E, as in the record of a domain."""
    stored_audio: bytes | None = None
    """FLAC of speech that was stored at an enrollment, to embed instead of recordings."""
    call_audio: Pcm16Audio | None = None
    """Speech of a live call, to process instead of recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The voice sample of one task, and what else was asked for."""

    sample: VoiceSample
    risks: tuple[Risk, ...] = ()
    audio: bytes | None = None
    """FLAC of the speech used; None where none is to be stored."""
    fingerprint: bytes | None = None
    """Of the speech used, for replay detection; see `fingerprint.Fingerprint.to_bytes`."""
    audio_s: float = 0.0
    """Length of the audio that was analyzed."""
    compute_s: float = 0.0
    """Processor time of the whole task."""
    inference_s: float = 0.0
    """Time of the embedding alone."""


#: Reads one recording under a role: (role, URI) -> bytes. Raises object and key errors.
Fetch = Callable[[Role, str], bytes]


def prepare(
    task: Task,
    fetch: Fetch,
    models: Models,
    detectors: Sequence[Detector],
    rules: Audio,
    embedder_of: Embedders | None = None,
) -> TaskResult | Refusal:
    """Execute one task. Files are fetched in order and only until there is enough speech.

    `embedder_of` finds voice models; without it there are only those that ship with Sonant.
    """
    started_s = time.thread_time()
    try:
        if task.stored_audio is not None:
            return _embed_stored(task.stored_audio, _embedder(task, models, embedder_of))
        speech = _speech(task, fetch, models, rules)
        embedding_started_s = time.perf_counter()
        embedding = _embedder(task, models, embedder_of)(speech.samples)
        inference_s = time.perf_counter() - embedding_started_s
    except SonantError as fault:
        return Refusal.of(fault)
    return TaskResult(
        sample=VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=speech.quality),
        risks=_risks(task, detectors, embedding, speech),
        audio=encode_flac(speech.samples) if task.keep_audio else None,
        fingerprint=_fingerprint(speech) if task.fingerprint else None,
        audio_s=speech.quality.duration_s or 0.0,
        compute_s=time.thread_time() - started_s,
        inference_s=inference_s,
    )


def _speech(task: Task, fetch: Fetch, models: Models, rules: Audio) -> Speech:
    if task.call_audio is not None:
        return task.call_audio.speech()
    return collect_speech(
        _recordings(task, fetch),
        need_s=task.need_s,
        models=models,
        strict=rules.strict,
        max_duration_s=rules.max_duration_s,
    )


def _risks(
    task: Task, detectors: Sequence[Detector], embedding: Embedding, speech: Speech
) -> tuple[Risk, ...]:
    if not task.detect:
        return ()
    return assess(detectors, embedding, speech.samples, risk_threshold=task.risk_threshold)


def _fingerprint(speech: Speech) -> bytes | None:
    long_enough = speech.net_speech_s >= MIN_SPEECH_S
    return fingerprint(speech.samples).to_bytes() if long_enough else None


def _embedder(task: Task, models: Models, embedder_of: Embedders | None) -> Embedder:
    if embedder_of is not None:
        return embedder_of(task.model_id)
    found = packaged_embedder(task.model_id or models.encoder_id, models)
    if found is None:
        raise SetupError(f"this worker has no voice model {task.model_id}")
    return found


def _embed_stored(audio: bytes, embedder: Embedder) -> TaskResult:
    """Embed stored speech with another model; its other measures are those of the first time."""
    samples = decode_flac(audio)
    embedding = embedder(samples)
    quality = Quality(net_speech_s=len(samples) / RATE_HZ)
    return TaskResult(
        sample=VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=quality)
    )


def _recordings(task: Task, fetch: Fetch) -> Iterator[RecordingSource]:
    for item in task.audio:
        try:
            data = fetch(task.role, item.s3_uri)
        except (KeyDenied, KeyNotFound, KeyUnusable) as fault:  # its text names the key, not the object
            raise type(fault)(f"{item.s3_uri}: {fault}") from None
        yield RecordingSource(name=item.s3_uri, data=data, channel=item.channel)
