"""Process one entry of a job: fetch, decode, find speech, embed, score risks. No database is needed.

Runs in worker processes; tasks and results can be pickled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from sonant.errors import KeyDenied, KeyNotFound, KeyUnusable, SecondSpeaker, SetupError, SonantError
from sonant.jobs.faults import Refusal, code_of
from sonant.jobs.fraud import Detector, Risk, assess
from sonant.jobs.manifest import AudioFile, EnrollmentRequest, Request
from sonant.jobs.model_registry import Embedders
from sonant.jobs.speaker_selection import RECURRING
from sonant.jobs.work_time import WorkTime
from sonant.settings import Audio, Settings
from sonant.voice.audio.flac import decode_flac, encode_flac
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import float_from_pcm16, pcm16_from_float
from sonant.voice.call_voices import CallVoices, Voices, part_spans, separate
from sonant.voice.enrollment import RecordingSource, SearchLimits, Speech, collect_speech
from sonant.voice.floors import QualityFloors, require_quality
from sonant.voice.models import Models
from sonant.voice.models.embedding import Embedder, Embedding, EncodedSpeech, embed_with_parts
from sonant.voice.models.packaged import packaged_embedder
from sonant.voice.party_speech import RequestParties, collect_party_speech, select_parties
from sonant.voice.quality import Quality
from sonant.voice.replay.fingerprint import MIN_SPEECH_S, fingerprint
from sonant.voice.sample import VoiceSample
from sonant.voice.single_voice import IGNORE, SingleVoice, collect_single_voice
from sonant.voice.speed import judge_speed
from sonant.voice.turns import SecondVoice


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


class CallParts(Enum):
    """Which parts of a call's speech are embedded beside the whole."""

    STRETCHES = auto()
    """The speech is that of one voice alone; its halves and thirds show whether all of it is the voice that
    it should be."""
    VOICES = auto()
    """Each voice, if there are several."""


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
    """Speech of a live call, to process instead of recordings; `need_s` of it at least."""
    call_parts: CallParts | None = None
    """Which parts of a call's speech are embedded as well."""
    call_voice: VoiceSample | None = None
    """The voice of all of a call's speech, where a task for the same speech has found that it is one
    person's: it is not looked for again, and has no parts."""
    recurring_voice: tuple[AudioFile, ...] | None = None
    """Take the voice that recurs in the recordings, given recordings of agents; None: each has one voice."""
    floors: QualityFloors | None = None
    """Limits that the speech must keep; None accepts any."""
    search: SearchLimits | None = None
    """How much of a recording is searched for speech; None: all of it, as jobs do."""
    second_voice: str = IGNORE
    """What a second person's speech in recordings does; see `single_voice.POLICIES`."""
    measure: bool = False
    """Measure when it is in work, for a trace."""

    def measured(self) -> Task:
        """Return the same task, with its work measured."""
        return replace(self, measure=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The voice sample of one task, and what else was asked for."""

    sample: VoiceSample
    voices: Voices = field(default_factory=Voices)
    """Of a live call."""
    parts: tuple[VoiceSample, ...] = ()
    """See `CallParts`."""
    risks: tuple[Risk, ...] = ()
    audio: bytes | None = None
    """FLAC of the speech used; None where none is to be stored."""
    fingerprint: bytes | None = None
    """Of the speech used, for replay detection; see `fingerprint.Fingerprint.to_bytes`."""
    second_voice: SecondVoice | None = None
    """Whether somebody else speaks, too; None where the task did not ask for it."""
    audio_s: float = 0.0
    """Length of the audio that was analyzed."""
    compute_s: float = 0.0
    """Processor time of the whole task."""
    inference_s: float = 0.0
    """Time of the embedding alone."""
    worked: WorkTime | None = field(default=None, compare=False)
    """When the task was in work, if it had that measured."""


def quality_floors(settings: Settings) -> QualityFloors:
    """Return the settings' limits of audio."""
    return QualityFloors(**asdict(settings.quality))


def search_limits(audio: Audio) -> SearchLimits:
    """Return the settings' limits of a recording that a call waits for."""
    return SearchLimits(
        silence_s=audio.comparison_silence_s,
        audio_s=audio.comparison_search_s,
        decoding_cpu_s=audio.comparison_cpu_s,
    )


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
        if task.call_audio is not None and task.call_voice is not None:
            return _assess_known(task, task.call_audio.speech(), task.call_voice, detectors)
        voice = _speech(task, fetch, models, rules)
        speech, known, separated = voice.speech, voice.encoded, None
        if task.call_audio is not None:
            separated = separate(speech, round(task.need_s * RATE_HZ), models)
            known = separated.encoded
            if task.call_parts is CallParts.STRETCHES:
                speech = _part(speech, separated.one)
        embedding_started_s = time.perf_counter()
        embedder = _embedder(task, models, embedder_of)
        known = known if task.model_id in (None, models.encoder_id) else None
        embedding, parts = _embed_all(task, speech, separated, known, embedder)
        inference_s = time.perf_counter() - embedding_started_s + (known.inference_s if known else 0.0)
    except SecondSpeaker as fault:
        where = f"{task.audio[0].s3_uri}: " if len(task.audio) == 1 else ""
        return Refusal(code_of(fault), f"{where}{fault}")
    except SonantError as fault:
        return Refusal.of(fault)
    return TaskResult(
        sample=_sample(embedding, speech),
        voices=Voices() if separated is None else separated.voices,
        parts=parts,
        risks=_risks(task, detectors, embedding, speech),
        audio=encode_flac(speech.samples) if task.keep_audio else None,
        fingerprint=_fingerprint(speech) if task.fingerprint else None,
        second_voice=voice.second_voice,
        audio_s=speech.quality.duration_s or 0.0,
        compute_s=time.thread_time() - started_s,
        inference_s=inference_s,
    )


def _assess_known(
    task: Task, speech: Speech, voice: VoiceSample, detectors: Sequence[Detector]
) -> TaskResult:
    """Do what a task asks for beside the voice, which is known. The limits of the speech were kept."""
    started_s = time.thread_time()
    embedding = Embedding(vector=voice.vector, model_id=voice.model_id)
    return TaskResult(
        sample=voice,
        risks=_risks(task, detectors, embedding, speech),
        audio=encode_flac(speech.samples) if task.keep_audio else None,
        fingerprint=_fingerprint(speech) if task.fingerprint else None,
        audio_s=speech.quality.duration_s or 0.0,
        compute_s=time.thread_time() - started_s,
    )


def _embed_all(
    task: Task,
    speech: Speech,
    separated: CallVoices | None,
    known: EncodedSpeech | None,
    embedder: Embedder,
) -> tuple[Embedding, tuple[VoiceSample, ...]]:
    """Embed the speech, and those parts of a call's speech that the task asks for."""
    samples = speech.samples
    if separated is None or task.call_parts is not CallParts.STRETCHES or separated.voices.missing:
        embedding = known.embedding if known else embedder(samples)
        voices = separated.each if separated is not None and task.call_parts is CallParts.VOICES else ()
        return embedding, tuple(_sample(embedder(one), _part(speech, one)) for one in voices)
    spans = part_spans(len(samples))
    if known:
        embedding, parts = known.embedding, tuple(embedder(samples[first:end]) for first, end in spans)
    else:
        embedding, parts = embed_with_parts(embedder, samples, spans)
    speeches = (_part(speech, samples[first:end]) for first, end in spans)
    return embedding, tuple(map(_sample, parts, speeches))


def _part(speech: Speech, samples: NDArray[np.float32]) -> Speech:
    quality = replace(speech.quality, net_speech_s=len(samples) / RATE_HZ)
    return replace(speech, samples=samples, quality=quality)


def _sample(embedding: Embedding, speech: Speech) -> VoiceSample:
    return VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=speech.quality)


def _speech(task: Task, fetch: Fetch, models: Models, rules: Audio) -> SingleVoice:
    if task.call_audio is not None:
        return SingleVoice(speech=_required(task.call_audio.speech(), task.floors))
    parties = None if task.recurring_voice is None else task_parties(task, fetch, models, rules)

    def collect(need_s: float) -> Speech:
        if parties is not None:
            return _required(collect_party_speech(parties, need_s), task.floors)
        speech = collect_speech(
            _recordings(task.role, task.audio, fetch),
            need_s=need_s,
            models=models,
            strict=rules.strict,
            max_duration_s=rules.max_duration_s,
            limits=task.search,
        )
        # Before voices are told apart: damaged audio sounds like several.
        return _required(speech, task.floors)

    return collect_single_voice(collect, need_s=task.need_s, models=models, policy=task.second_voice)


def _required(speech: Speech, floors: QualityFloors | None) -> Speech:
    """Return the speech if it keeps the limits. Raises PoorQuality."""
    if floors is not None:
        speed = judge_speed(speech.samples) if floors.check_speed else None
        require_quality(replace(speech.quality, speed=speed), floors)
    return speech


def task_parties(task: Task, fetch: Fetch, models: Models, rules: Audio) -> RequestParties:
    """Find the parties of a task's recordings. Raises SonantError."""
    return select_parties(
        _recordings(task.role, task.audio, fetch),
        _recordings(task.role, task.recurring_voice or (), fetch),
        models=models,
        strict=rules.strict,
        max_duration_s=rules.max_duration_s,
    )


def recurring_voice_agents(entry: Request) -> tuple[AudioFile, ...] | None:
    """Return the recordings of agents if the entry's recordings have both parties, else None."""
    if isinstance(entry, EnrollmentRequest) and entry.selection == RECURRING:
        return entry.agents
    return None


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


def _recordings(role: Role, files: Sequence[AudioFile], fetch: Fetch) -> Iterator[RecordingSource]:
    for item in files:
        try:
            data = fetch(role, item.s3_uri)
        except (KeyDenied, KeyNotFound, KeyUnusable) as fault:  # its text names the key, not the object
            raise type(fault)(f"{item.s3_uri}: {fault}") from None
        yield RecordingSource(name=item.s3_uri, data=data, channel=item.channel)
