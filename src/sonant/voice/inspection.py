"""What one recording is like, beside whose voice it is: everything a person would ask before using it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.band import BandMeter, CodecMeter
from sonant.voice.audio.recording import RATE_HZ, Recording, telephone_band
from sonant.voice.models import Models
from sonant.voice.quality import clipping_share, frame_power, snr_db
from sonant.voice.speakers import SecondVoice, pieces_of, second_voice, window_vectors
from sonant.voice.speech import SpeechDetector

LISTEN_MOST_S = 900.0
"""Longer recordings are listened to for so long only; calls that are enrolled from are shorter."""
MOST_PIECES = 25
"""Pieces of speech, about a minute, in which a second voice is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Figures of one recording; None where the recording, or what could be read of it, does not tell."""

    fault: str = ""
    """Why it cannot be read, or not to its end."""
    container: str | None = None
    encoding: str | None = None
    rate_hz: int | None = None
    channels: int | None = None
    duration_s: float | None = None
    listened_s: float = 0.0
    net_speech_s: float | None = None
    """In what was listened to."""
    snr_db: float | None = None
    band_hz: float | None = None
    """How far up speech reaches; see `band.BandMeter`."""
    clipping_share: float | None = None
    """Share of speech samples at full scale, 0..1."""
    codec: str | None = None
    """Which telephone codec left its mark in the samples; see `band.CodecMeter`."""
    second_voice: SecondVoice | None = None
    """None: too little speech to tell."""
    windows: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False)
    """Embeddings of pieces of the first minute of speech; see `second_voice.window_vectors`."""


def inspect_recording(
    data: bytes, *, channel: int, strict: bool, max_duration_s: float, models: Models
) -> Inspection:
    """Listen to a whole recording, or its first quarter of an hour. Never raises AudioError: see `fault`."""
    try:
        recording = Recording.open(data, channel=channel, strict=strict, max_duration_s=max_duration_s)
    except AudioError as error:
        return Inspection(fault=str(error))
    band, codec = BandMeter(rate_hz=recording.rate_hz), CodecMeter()
    samples, fault, ended = _heard(recording, band, codec)
    listened_s = len(samples) / RATE_HZ
    detector = SpeechDetector(models)
    spans = [*detector.feed(samples), *detector.finish()]
    speech = np.concatenate([np.empty(0, np.float32), *(samples[start:end] for start, end in spans)])
    power = frame_power(samples)
    windows = window_vectors(pieces_of(samples, spans)[:MOST_PIECES], models)
    return Inspection(
        fault=fault,
        container=recording.container,
        encoding=recording.encoding,
        rate_hz=recording.rate_hz,
        channels=recording.channels,
        duration_s=listened_s if ended and not fault else recording.duration_s,
        listened_s=listened_s,
        net_speech_s=len(speech) / RATE_HZ,
        snr_db=snr_db(power, detector.probabilities[: len(power)]) if len(power) else None,
        band_hz=band.band_hz(),
        clipping_share=clipping_share(speech) if len(speech) else None,
        codec=codec.guess(),
        second_voice=second_voice(windows),
        windows=windows,
    )


def _heard(recording: Recording, band: BandMeter, codec: CodecMeter) -> tuple[NDArray[np.float32], str, bool]:
    """Samples at 8 kHz as far as they are listened to, the fault that ended them, whether it was the end."""

    def native() -> Iterator[NDArray[np.float32]]:
        for block in recording.native_blocks():
            band.feed(block)
            codec.feed(block)
            yield block

    most = int(LISTEN_MOST_S * RATE_HZ)
    blocks: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    count, fault, ended = 0, "", True
    try:
        for block in telephone_band(native(), recording.rate_hz):
            blocks.append(block)
            count += len(block)
            if count > most:
                ended = False
                break
    except AudioError as error:
        fault = str(error)
    return np.concatenate(blocks)[:most], fault, ended
