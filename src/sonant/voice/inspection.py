"""Inspect one recording: format, speech, noise, bandwidth, clipping, earlier codec, second voice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.band import BandMeter, CodecMeter
from sonant.voice.audio.recording import RATE_HZ, Recording, resample_blocks
from sonant.voice.models import Models
from sonant.voice.quality import at_full_scale, clipping_share, frame_power, snr_db
from sonant.voice.speakers import SecondVoice, embed_pieces, find_second_voice, split_into_pieces
from sonant.voice.speech import analyze

MAX_ANALYZED_S = 900.0
"""Only this much of a longer recording is analyzed; calls used for enrollment are shorter."""
MAX_PIECES = 25
"""Pieces of speech, about a minute, that are searched for a second voice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Figures of one recording; None for those that could not be measured."""

    fault: str = ""
    """Why the recording cannot be read, or not to its end; empty if it can."""
    container: str | None = None
    encoding: str | None = None
    rate_hz: int | None = None
    channels: int | None = None
    duration_s: float | None = None
    analyzed_s: float = 0.0
    net_speech_s: float | None = None
    """Net speech in the analyzed part."""
    snr_db: float | None = None
    band_hz: float | None = None
    """Highest frequency of speech; see `band.BandMeter`."""
    clipping_share: float | None = None
    """Share of speech samples at full scale, 0..1."""
    codec: str | None = None
    """Telephone codec found in the samples; see `band.CodecMeter`."""
    second_voice: SecondVoice | None = None
    """None for too little speech."""
    piece_vectors: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 0), np.float32), repr=False
    )
    """Embeddings of pieces of the first minute of speech; see `speakers.embed_pieces`."""


def inspect_recording(
    data: bytes, *, channel: int, strict: bool, max_duration_s: float, models: Models
) -> Inspection:
    """Inspect a recording or its first quarter of an hour. Never raises AudioError: see `fault`."""
    try:
        recording = Recording.open(data, channel=channel, strict=strict, max_duration_s=max_duration_s)
    except AudioError as error:
        return Inspection(fault=str(error))
    band, codec = BandMeter(rate_hz=recording.rate_hz), CodecMeter()
    samples, fault, ended = _decode(recording, band, codec)
    analyzed_s = len(samples) / RATE_HZ
    analyzed = analyze(samples, models)
    speech, power = analyzed.speech, frame_power(analyzed.samples)
    pieces = split_into_pieces(analyzed.samples, analyzed.spans)
    piece_vectors = embed_pieces(pieces[:MAX_PIECES], models)
    return Inspection(
        fault=fault,
        container=recording.container,
        encoding=recording.encoding,
        rate_hz=recording.rate_hz,
        channels=recording.channels,
        duration_s=analyzed_s if ended and not fault else recording.duration_s,
        analyzed_s=analyzed_s,
        net_speech_s=len(speech) / RATE_HZ,
        snr_db=snr_db(power, analyzed.probabilities[: len(power)]) if len(power) else None,
        band_hz=band.band_hz(),
        clipping_share=clipping_share(analyzed.speech_of(at_full_scale(samples))) if len(speech) else None,
        codec=codec.guess(),
        second_voice=find_second_voice(piece_vectors),
        piece_vectors=piece_vectors,
    )


def _decode(
    recording: Recording, band: BandMeter, codec: CodecMeter
) -> tuple[NDArray[np.float32], str, bool]:
    """Decode up to MAX_ANALYZED_S: samples at 8 kHz, the fault that ended them, whether they are all."""

    def native() -> Iterator[NDArray[np.float32]]:
        for block in recording.native_blocks():
            band.push(block)
            codec.push(block)
            yield block

    limit = int(MAX_ANALYZED_S * RATE_HZ)
    blocks: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
    count, fault, ended = 0, "", True
    try:
        for block in resample_blocks(native(), recording.rate_hz):
            blocks.append(block)
            count += len(block)
            if count > limit:
                ended = False
                break
    except AudioError as error:
        fault = str(error)
    return np.concatenate(blocks)[:limit], fault, ended
