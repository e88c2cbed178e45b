"""Encode and decode speech with the codecs of telephone networks."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.voice.audio.g711 import A_LAW_TABLE, MU_LAW_TABLE
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import int16_from_float

Samples = NDArray[np.float32]


def mu_law(samples: Samples) -> Samples:
    """Pass samples through ITU-T G.711 mu-law, 64 kbit/s (North America, Japan)."""
    return MU_LAW_TABLE[mu_law_codes(samples)]


def a_law(samples: Samples) -> Samples:
    """Pass samples through ITU-T G.711 A-law, 64 kbit/s (elsewhere)."""
    return A_LAW_TABLE[a_law_codes(samples)]


def gsm(samples: Samples) -> Samples:
    """Pass samples through GSM 06.10 full rate, 13 kbit/s, by libsndfile.

    Frames last 20 ms; the last one is padded and cut again.
    """
    if len(samples) == 0:
        return samples
    file = io.BytesIO()
    soundfile.write(file, int16_from_float(samples), RATE_HZ, format="WAV", subtype="GSM610")
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.asarray(decoded[: len(samples)], np.float32)


def mu_law_codes(samples: Samples) -> NDArray[np.uint8]:
    """Encode samples as G.711 mu-law; full scale is 16 bits."""
    return _mu_law_codes()[int16_from_float(samples).view(np.uint16)]


def a_law_codes(samples: Samples) -> NDArray[np.uint8]:
    """Encode samples as G.711 A-law."""
    return _a_law_codes()[int16_from_float(samples).view(np.uint16)]


def _all_int16() -> NDArray[np.int64]:
    """List every 16-bit number in the order of its bits, as `view(np.uint16)` indexes them."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int64)


# In both laws a code is sign, three bits of exponent and four of mantissa. Mu-law adds 33 (of 14 bits) so
# that every segment begins at a power of two; A-law's two lowest segments have the same step.
@cache
def _mu_law_codes() -> NDArray[np.uint8]:
    value = _all_int16()
    magnitude = np.minimum(np.abs(value), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    code = exponent << 4 | (magnitude >> (exponent + 3) & 15) | np.where(value < 0, 0x80, 0)
    return np.asarray(~code & 0xFF, np.uint8)


@cache
def _a_law_codes() -> NDArray[np.uint8]:
    value = _all_int16()
    magnitude = np.where(value < 0, ~value, value)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 7, 0)
    code = exponent << 4 | (magnitude >> (np.maximum(exponent, 1) + 3) & 15) | np.where(value < 0, 0, 0x80)
    return np.asarray(code ^ 0x55, np.uint8)
