"""The work on one request that needs no database: fetch, decode, find speech, embed, score risks.

Runs in worker processes; what it takes and gives can be pickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sonant.errors import KeyDenied, KeyNotFound, KeyUnusable, SonantError
from sonant.jobs.faults import Refusal, code_of
from sonant.jobs.fraud import Detector, Risk, assess
from sonant.jobs.manifest import AudioFile
from sonant.settings import Audio
from sonant.voice.embedding import embed
from sonant.voice.enrollment import RecordingSource, Speech, encode_audio, gather_speech
from sonant.voice.fingerprint import MIN_SPEECH_S, fingerprint
from sonant.voice.models import Models


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The role a job runs under, with its policies as documents."""

    arn: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request's work. `ticket` is the caller's own mark, given back with the result."""

    ticket: int
    role: Role
    audio: tuple[AudioFile, ...]
    need_s: float
    keep_audio: bool
    inspect: bool = False
    """Of a dry run: listen to every recording and tell what it is like; see `jobs.inspect`."""
    detect: bool = False
    """Run the detectors."""
    fingerprint: bool = False
    """Take a fingerprint for the replay guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was heard. `vector` is little-endian float32, `audio` FLAC of the speech used (or None).

    `heard_s` is the audio listened to; `compute_s` the processor time it all took, `inference_s` the time of
    the embedding alone.
    """

    model_id: str
    vector: bytes
    net_speech_s: float
    snr_db: float
    risks: tuple[Risk, ...]
    audio: bytes | None
    fingerprint: bytes | None = None
    """Of the speech used, for the replay guard; see `fingerprint.Fingerprint.to_bytes`."""
    heard_s: float = 0.0
    compute_s: float = 0.0
    inference_s: float = 0.0


#: Reads one recording under a role: (role, URI) -> bytes; raises object and key errors.
Fetch = Callable[[Role, str], bytes]


def prepare(
    task: Task, fetch: Fetch, models: Models, detectors: Sequence[Detector], rules: Audio
) -> Prepared | Refusal:
    """Do one task. Files are fetched in order and only until there is enough speech."""
    begun_s = time.thread_time()
    try:
        speech = gather_speech(
            _recordings(task, fetch),
            need_s=task.need_s,
            models=models,
            strict=rules.strict,
            max_duration_s=rules.max_duration_s,
        )
        embedding_begun_s = time.perf_counter()
        embedding = embed(speech.samples, models)
        inference_s = time.perf_counter() - embedding_begun_s
    except SonantError as fault:
        return Refusal(code_of(fault), str(fault))
    return Prepared(
        model_id=embedding.model_id,
        vector=embedding.vector.astype("<f4").tobytes(),
        net_speech_s=speech.quality.net_speech_s,
        snr_db=speech.quality.snr_db,
        risks=assess(detectors, embedding, speech.samples) if task.detect else (),
        audio=encode_audio(speech.samples) if task.keep_audio else None,
        fingerprint=_fingerprint(speech) if task.fingerprint else None,
        heard_s=speech.quality.duration_s,
        compute_s=time.thread_time() - begun_s,
        inference_s=inference_s,
    )


def _fingerprint(speech: Speech) -> bytes | None:
    long_enough = speech.net_speech_s >= MIN_SPEECH_S
    return fingerprint(speech.samples).to_bytes() if long_enough else None


def _recordings(task: Task, fetch: Fetch) -> Iterator[RecordingSource]:
    for item in task.audio:
        try:
            data = fetch(task.role, item.s3_uri)
        except (KeyDenied, KeyNotFound, KeyUnusable) as fault:  # they name the key, not what it seals
            raise type(fault)(f"{item.s3_uri}: {fault}") from None
        yield RecordingSource(name=item.s3_uri, data=data, channel=item.channel)
