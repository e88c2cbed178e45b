"""Recordings to the speech that a voiceprint is made from."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.voice.audio import RATE_HZ, Recording
from sonant.voice.models import Models
from sonant.voice.quality import Quality, clipping_share, frame_power, snr_db
from sonant.voice.speech import FRAME, SpeechDetector

_INT16 = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSource:
    """A recording to be read."""

    name: str
    """What messages call it."""
    data: bytes
    channel: int
    """The speaker's channel, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Speech of one person, pauses removed."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1."""
    quality: Quality
    recordings_used: int
    """How many recordings were opened to find it."""

    @property
    def net_speech_s(self) -> float:
        return len(self.samples) / RATE_HZ


def gather_speech(
    recordings: Iterable[RecordingSource],
    *,
    need_s: float,
    models: Models,
    strict: bool,
    max_duration_s: float,
) -> Speech:
    """Collect the first `need_s` seconds of speech from the recordings, in their order.

    Reads lazily: the next recording is asked for, and the next few seconds are decoded, only while speech is
    missing. The result does not depend on how recordings are cut into blocks. Raises NotEnoughSpeech when
    all recordings are used up, AudioError (its message begins with the recording's name) when one is faulty.
    """
    need, used = round(need_s * RATE_HZ), 0
    found = _Found()
    for source in recordings:
        used += 1
        try:
            recording = Recording.open(
                source.data, channel=source.channel, strict=strict, max_duration_s=max_duration_s
            )
            _collect(recording, found, need, models)
        except AudioError as fault:
            raise AudioError(f"{source.name}: {fault}") from fault
        if found.count >= need:
            break
    if found.count < need:
        raise NotEnoughSpeech(found.count / RATE_HZ, need_s)
    samples = np.concatenate(found.speech)[:need]
    return Speech(samples=samples, quality=found.quality(samples), recordings_used=used)


def encode_audio(samples: NDArray[np.float32]) -> bytes:
    """Samples at 8 kHz (float32, [n], -1..1) to FLAC, 16 bit, for keeping. Lossless for 16-bit sources."""
    numbers = np.clip(np.rint(samples * _INT16), -_INT16, _INT16 - 1).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, numbers, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=0.0)
    return out.getvalue()


def decode_audio(kept: bytes) -> NDArray[np.float32]:
    """What `encode_audio` kept; float32, [n], 8 kHz. Raises AudioError if it is not that."""
    try:
        numbers, rate_hz = soundfile.read(io.BytesIO(kept), dtype="int16")
    except (soundfile.SoundFileError, RuntimeError) as fault:
        raise AudioError("kept audio cannot be read") from fault
    if rate_hz != RATE_HZ or numbers.ndim != 1:
        raise AudioError(
            f"kept audio is {rate_hz} Hz with {numbers.ndim} channels, must be {RATE_HZ} Hz mono"
        )
    return np.asarray(numbers, np.float32) / np.float32(_INT16)


class _Found:
    """What has been found so far, over all recordings."""

    __slots__ = ("count", "heard", "power", "probability", "speech")

    def __init__(self) -> None:
        self.speech: list[NDArray[np.float32]] = []
        self.count = 0
        self.heard = 0
        self.power: list[NDArray[np.float64]] = []
        self.probability: list[NDArray[np.float32]] = []

    def add(self, pieces: Iterable[NDArray[np.float32]]) -> None:
        for piece in pieces:
            self.speech.append(piece)
            self.count += len(piece)

    def quality(self, samples: NDArray[np.float32]) -> Quality:
        return Quality(
            net_speech_s=len(samples) / RATE_HZ,
            duration_s=self.heard / RATE_HZ,
            snr_db=snr_db(np.concatenate(self.power), np.concatenate(self.probability)),
            clipping_share=clipping_share(samples),
        )


def _collect(recording: Recording, found: _Found, need: int, models: Models) -> None:
    """Decode and listen block by block until there is enough speech or the recording ends."""
    detector, recent, powers = SpeechDetector(models), _Recent(), []
    for block in _whole_frames(recording.blocks()):
        found.heard += len(block)
        powers.append(frame_power(block))
        recent.add(block)
        found.add(recent.take(detector.feed(block)))
        if detector.going_on:
            found.add(recent.take([detector.going_on]))
        if found.count >= need:
            break
        recent.forget_before(detector.undecided_from)
    else:
        found.add(recent.take(detector.finish()))
    power = np.concatenate(powers)
    found.power.append(power)
    found.probability.append(detector.probabilities[: len(power)])


class _Recent:
    """The samples of a recording that may still turn out to be speech."""

    __slots__ = ("_begin", "_samples", "_taken")

    def __init__(self) -> None:
        self._samples = np.empty(0, np.float32)
        self._begin = 0  # sample number of the first one kept
        self._taken = 0  # speech before this sample number has been handed out

    def add(self, block: NDArray[np.float32]) -> None:
        self._samples = np.concatenate([self._samples, block])

    def take(self, spans: Iterable[tuple[int, int]]) -> list[NDArray[np.float32]]:
        """The part of each span that was not taken before."""
        pieces = []
        for start, end in spans:
            start = max(start, self._taken)
            pieces.append(self._samples[start - self._begin : end - self._begin].copy())
            self._taken = end
        return pieces

    def forget_before(self, sample: int) -> None:
        sample = max(sample, self._taken)
        self._samples, self._begin = self._samples[sample - self._begin :], sample


def _whole_frames(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same samples in blocks of whole detector frames; only the last may end inside one."""
    rest = np.empty(0, np.float32)
    for block in blocks:
        joined = np.concatenate([rest, block])
        whole = len(joined) // FRAME * FRAME
        if whole:
            yield joined[:whole]
        rest = joined[whole:]
    if len(rest):
        yield rest
