"""Recordings to the speech that a voiceprint is made from."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.gathering import SpeechGatherer
from sonant.voice.models import Models
from sonant.voice.quality import Quality, measure

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
    need, have = round(need_s * RATE_HZ), 0
    found: list[SpeechGatherer] = []
    for source in recordings:
        gatherer = SpeechGatherer(models, need - have)
        found.append(gatherer)
        try:
            recording = Recording.open(
                source.data, channel=source.channel, strict=strict, max_duration_s=max_duration_s
            )
            _collect(recording, gatherer)
        except AudioError as fault:
            raise type(fault)(f"{source.name}: {fault}") from fault
        have += gatherer.count
        if have >= need:
            break
    if have < need:
        raise NotEnoughSpeech(have / RATE_HZ, need_s)
    samples = np.concatenate([gatherer.samples for gatherer in found])
    quality = measure(
        samples,
        power=np.concatenate([gatherer.power for gatherer in found]),
        probability=np.concatenate([gatherer.probability for gatherer in found]),
        duration_s=sum(gatherer.heard for gatherer in found) / RATE_HZ,
    )
    return Speech(samples=samples, quality=quality, recordings_used=len(found))


def _collect(recording: Recording, gatherer: SpeechGatherer) -> None:
    """Decode and listen block by block until there is enough speech or the recording ends."""
    for block in recording.blocks():
        gatherer.feed(block)
        if gatherer.enough:
            return
    gatherer.finish()


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
