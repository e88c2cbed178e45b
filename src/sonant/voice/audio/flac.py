"""Encode speech as FLAC for storage, and decode it again."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import float_from_int16, int16_from_float


def encode_flac(samples: NDArray[np.float32]) -> bytes:
    """Encode samples at 8 kHz (float32, [n], -1..1) as 16-bit FLAC. Lossless for 16-bit sources."""
    out = io.BytesIO()
    numbers = int16_from_float(samples)
    soundfile.write(out, numbers, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=0.0)
    return out.getvalue()


def decode_flac(stored: bytes) -> NDArray[np.float32]:
    """Decode the output of `encode_flac`: float32, [n], 8 kHz. Raises AudioError for anything else."""
    try:
        numbers, rate_hz = soundfile.read(io.BytesIO(stored), dtype="int16")
    except (soundfile.SoundFileError, RuntimeError) as fault:
        raise AudioError("stored audio cannot be read") from fault
    if rate_hz != RATE_HZ or numbers.ndim != 1:
        raise AudioError(
            f"stored audio is {rate_hz} Hz with {numbers.ndim} channels, must be {RATE_HZ} Hz mono"
        )
    return float_from_int16(numbers)
