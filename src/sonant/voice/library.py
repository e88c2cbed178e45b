"""The public functions of the voice library; see `sonant.voice` and docs/library.md."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech, SetupError, WrongSampleRate
from sonant.voice.audio.recording import (
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    RATE_HZ,
    TelephoneResampler,
    Waveform,
)
from sonant.voice.audio.recording import decode as decode_bytes
from sonant.voice.audio.samples import float_from_int16
from sonant.voice.calibration.file import calibration_of, read_calibration
from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.collector import SpeechCollector
from sonant.voice.enrollment import Speech, collect_from_blocks
from sonant.voice.models import Models, load_models
from sonant.voice.models.embedding import WINDOW_S, Embedder
from sonant.voice.models.frontends import FrontEnd, Kind
from sonant.voice.models.packaged import encoder_id, named_embedder
from sonant.voice.models.speaker_model import open_speaker_model
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample
from sonant.voice.speech import Segment, find_speech
from sonant.voice.spoofing.registry import DetectionLimits, SpoofingRisk, assess_spoofing

MAX_DURATION_S = 3600.0
ENROLLMENT_SPEECH_S = 30.0
"""Net speech that an embedding is made from, at most: more does not make it better."""
MIN_SPEECH_S = WINDOW_S
"""Net speech that an embedding needs, at least."""

_BLOCK = 4 * RATE_HZ
_HISTORY_S = 600.0  # of a stream's level: bounds the memory of a long silence


def decode(
    source: bytes | str | os.PathLike[str] | BinaryIO,
    *,
    channel: int = 0,
    max_duration_s: float = MAX_DURATION_S,
) -> Waveform:
    """Decode one channel (counted from 0) of a recording to a waveform at 8 kHz.

    `source` is a path, an open binary file or the bytes of a recording: WAV, FLAC, Ogg, MP3 and others (see
    docs/audio-formats.md), 8 to 192 kHz, up to 8 channels. Raises AudioError that states why the recording
    cannot be used, and OSError if a file cannot be read.
    """
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, (str, os.PathLike)):
        data = Path(source).read_bytes()
    else:
        data = source.read()
    return decode_bytes(data, channel=channel, strict=False, max_duration_s=max_duration_s)


def resample(samples: NDArray[np.float32] | NDArray[np.int16], rate_hz: int) -> Waveform:
    """Turn samples of one channel, [n], at 8 to 192 kHz into a waveform at 8 kHz.

    Floating-point samples have a full scale of -1..1, int16 ones of 32,768. Raises AudioError for other
    shapes, types or values that are not finite, WrongSampleRate for other rates.
    """
    resampler = TelephoneResampler(_checked_rate(rate_hz))
    parts = [resampler.push(_as_float(samples)), resampler.finish()]
    return Waveform(samples=np.concatenate(parts), rate_hz=RATE_HZ)


def detect_speech(audio: Waveform) -> tuple[Segment, ...]:
    """Find the segments of speech in a waveform, in order. Pauses lie between them."""
    return find_speech(_telephone(audio), _shipped_models())


def measure_quality(audio: Waveform) -> Quality:
    """Measure speech, noise, clipping and line of a waveform. Raises NotEnoughSpeech without speech."""
    return _speech((audio,), audio.duration_s, 1 / RATE_HZ).quality


def spoofing_risk(audio: Waveform) -> SpoofingRisk:
    """Score whether speech is synthetic, 0..100: 50 is reached by 1 % of genuine recordings, 100 by 0.01 %.

    The result is the greatest risk of all detectors. Raises NotEnoughSpeech under 3 s of net speech.
    """
    limits = DetectionLimits()
    speech = _speech((audio,), limits.max_s, 1 / RATE_HZ)
    return assess_spoofing(speech.samples, limits)


def false_accept_rate(score: float) -> float:
    """Convert a score to the false accept rate of a threshold at that score: 80 to 0.01, 90 to 0.001."""
    return float(10 ** log10_far_of(score))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of comparing an enrolled sample with a probe."""

    similarity: float
    """Cosine of the embeddings, -1..1."""
    score: int
    """0..100, calibrated: see `false_accept_rate`."""
    log_likelihood_ratio: float
    """Natural logarithm of the likelihood ratio of one speaker to two speakers."""

    @property
    def false_accept_rate(self) -> float:
        """The share of other people who would reach this score."""
        return false_accept_rate(self.score)


class VoiceModel:
    """Embeds speech and scores comparisons. Share one between threads; streams belong to one thread each."""

    __slots__ = ("_calibration", "_embedder", "model_id")

    def __init__(self, model_id: str, embedder: Embedder, calibration: Calibration | None) -> None:
        """Combine a model's parts; use `load_voice_model` instead."""
        self.model_id = model_id
        """The id that every sample of this model has."""
        self._embedder, self._calibration = embedder, calibration

    def embed(self, *audio: Waveform, max_speech_s: float = ENROLLMENT_SPEECH_S) -> VoiceSample:
        """Embed the first `max_speech_s` seconds of net speech in one person's recordings.

        Pauses are removed. Raises NotEnoughSpeech under 1.6 s of net speech in all of them together.
        """
        speech = _speech(audio, max_speech_s, MIN_SPEECH_S)
        return self.embed_speech(speech.samples, speech.quality)

    def embed_speech(self, samples: NDArray[np.float32], quality: Quality) -> VoiceSample:
        """Embed speech without pauses (8 kHz, float32, [n]) that was found before, with its quality.

        Raises NotEnoughSpeech under 1.6 s.
        """
        embedding = self._embedder(samples)
        return VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=quality)

    def score(self, enrolled: VoiceSample, probe: VoiceSample) -> int:
        """Score a comparison, 0..100: how rarely other people are so similar (see `false_accept_rate`).

        Raises ModelMismatch for samples of two models, SetupError for a model without calibration.
        """
        return self.compare(enrolled, probe).score

    def compare(self, enrolled: VoiceSample, probe: VoiceSample) -> Comparison:
        """Compare two samples; like `score`, with the similarity and the likelihood ratio."""
        calibration = self._calibration
        if calibration is None:
            raise SetupError(f"the voice model {self.model_id} has no calibration: load it with one")
        similarity = probe.similarity(enrolled)
        quality = probe.comparison_quality(enrolled)
        return Comparison(
            similarity=similarity,
            score=calibration.score_for(similarity, quality),
            log_likelihood_ratio=calibration.llr_for(similarity, quality),
        )

    def stream(self, *, rate_hz: int = RATE_HZ, net_speech_s: float = 10.0) -> VoiceStream:
        """Open a stream that embeds the first `net_speech_s` seconds of net speech of a live call.

        Raises WrongSampleRate for a rate outside 8 to 192 kHz.
        """
        return VoiceStream(self, rate_hz=rate_hz, net_speech_s=net_speech_s)


class VoiceStream:
    """Collects the speech of one live call and embeds it as soon as there is enough."""

    __slots__ = ("_collector", "_model", "_resampler", "_rest", "sample")

    def __init__(self, model: VoiceModel, *, rate_hz: int, net_speech_s: float) -> None:
        """Open a stream; use `VoiceModel.stream` instead. Raises ValueError under 1.6 s of net speech."""
        if net_speech_s < MIN_SPEECH_S:
            raise ValueError(f"net_speech_s is {net_speech_s:g}, must be at least {MIN_SPEECH_S:g}")
        self._model = model
        self._resampler = TelephoneResampler(_checked_rate(rate_hz))
        self._collector = SpeechCollector(
            _shipped_models(), round(net_speech_s * RATE_HZ), history_s=_HISTORY_S
        )
        self._rest = b""
        self.sample: VoiceSample | None = None
        """The embedding; None until there is enough speech."""

    @property
    def net_speech_s(self) -> float:
        """Seconds of net speech found so far, at most those requested."""
        return min(self._collector.count, self._collector.need) / RATE_HZ

    def push(self, pcm: bytes | NDArray[np.int16] | NDArray[np.float32]) -> VoiceSample | None:
        """Take the next samples of one channel; return the embedding once there is enough speech.

        Bytes are 16-bit little-endian samples and may end in the middle of one. Further audio is ignored.
        Raises AudioError for arrays of other shapes or types.
        """
        if self.sample is None:
            if isinstance(pcm, bytes):
                data = self._rest + pcm
                whole = len(data) - len(data) % 2
                pcm, self._rest = np.frombuffer(data[:whole], "<i2"), data[whole:]
            self._collector.push(self._resampler.push(_as_float(pcm)))
            if self._collector.enough:
                self.sample = self._embed(self._collector.need)
        return self.sample

    def finish(self) -> VoiceSample:
        """Process the end of the call and embed all the speech there is.

        Raises NotEnoughSpeech under 1.6 s of net speech.
        """
        if self.sample is None:
            self._collector.push(self._resampler.finish())
            self._collector.finish()
            count = min(self._collector.count, self._collector.need)
            if count < MIN_SPEECH_S * RATE_HZ:
                raise NotEnoughSpeech(count / RATE_HZ, MIN_SPEECH_S)
            self.sample = self._embed(count)
        return self.sample

    def _embed(self, count: int) -> VoiceSample:
        window = self._collector.window(count)
        return self._model.embed_speech(window.samples, window.quality)


def load_voice_model(
    model: str | os.PathLike[str] | None = None,
    *,
    encoder: Literal["ge2e", "campplus"] = "campplus",
    kind: Kind = "wespeaker",
    rate_hz: int = 16000,
    mels: int = 80,
    calibration: str | os.PathLike[str] | None = None,
) -> VoiceModel:
    """Load a model that ships with Sonant, or another one from an ONNX file.

    `encoder` is `campplus`, or `ge2e`, the light one of those that ship, which errs more and takes less time.
    For another model `kind` names the toolkit that its features come from (wespeaker, 3dspeaker, speechbrain,
    nemo, redimnet or ge2e), `rate_hz` and `mels` its sample rate and bands; its id is the name of the file.
    `calibration` is a file that `sonant calibrate` wrote; without it another model gives samples but no
    scores. Raises SetupError that says what does not fit, OSError if a file cannot be read.
    """
    fitted = None if calibration is None else read_calibration(Path(calibration).read_text("utf-8"))
    if model is None:
        model_id, embedder = encoder_id(encoder), named_embedder(encoder, _shipped_models())
        return VoiceModel(model_id, embedder, fitted or calibration_of(model_id))
    path = Path(model)
    opened = open_speaker_model(
        path.read_bytes(), model_id=path.stem, front_end=FrontEnd(kind=kind, rate_hz=rate_hz, mels=mels)
    )
    return VoiceModel(opened.model_id, opened.embed, fitted)


@cache
def _shipped_models() -> Models:
    return load_models()


def _speech(audio: tuple[Waveform, ...], need_s: float, at_least_s: float) -> Speech:
    streams = (_pieces(_telephone(one)) for one in audio)
    return collect_from_blocks(streams, need_s=need_s, at_least_s=at_least_s, models=_shipped_models())


def _pieces(audio: Waveform) -> list[NDArray[np.float32]]:
    return [audio.samples[start : start + _BLOCK] for start in range(0, len(audio.samples), _BLOCK)]


def _telephone(audio: Waveform) -> Waveform:
    return audio if audio.rate_hz == RATE_HZ else resample(audio.samples, audio.rate_hz)


def _as_float(samples: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    if samples.ndim != 1:
        raise AudioError(f"samples have {samples.ndim} dimensions, must have one: a single channel")
    if np.issubdtype(samples.dtype, np.floating):
        found = np.asarray(samples, np.float32)
        if not np.isfinite(found).all():
            raise AudioError("holds samples that are not finite numbers")
        return np.clip(found, -1, 1)
    if samples.dtype != np.int16:
        raise AudioError(f"samples are {samples.dtype}, must be int16 or floating-point")
    return float_from_int16(np.asarray(samples, np.int16))


def _checked_rate(rate_hz: int) -> int:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise WrongSampleRate(f"sample rate is {rate_hz} Hz, must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
    return rate_hz
