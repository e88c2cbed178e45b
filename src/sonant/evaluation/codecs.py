"""Speech codecs of telephone networks, there and back: what comes out of the far end."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ

Samples = NDArray[np.float32]

_FULL = 32768


def mu_law(samples: Samples) -> Samples:
    """ITU-T G.711 mu-law, 64 kbit/s (North America, Japan)."""
    return _MU_LAW_OUT[mu_law_codes(samples)]


def a_law(samples: Samples) -> Samples:
    """ITU-T G.711 A-law, 64 kbit/s (elsewhere)."""
    return _A_LAW_OUT[a_law_codes(samples)]


def gsm(samples: Samples) -> Samples:
    """GSM 06.10 full rate, 13 kbit/s, by libsndfile; in frames of 20 ms, the last filled up and cut again."""
    if len(samples) == 0:
        return samples
    file = io.BytesIO()
    soundfile.write(file, _int16(samples), RATE_HZ, format="WAV", subtype="GSM610")
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.asarray(decoded[: len(samples)], np.float32)


def mu_law_codes(samples: Samples) -> NDArray[np.uint8]:
    """The bytes that G.711 mu-law sends; full scale is 16 bits."""
    return _mu_law_in()[_int16(samples).view(np.uint16)]


def a_law_codes(samples: Samples) -> NDArray[np.uint8]:
    """The bytes that G.711 A-law sends."""
    return _a_law_in()[_int16(samples).view(np.uint16)]


def _int16(samples: Samples) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * _FULL), -_FULL, _FULL - 1).astype(np.int16)


def _all_int16() -> NDArray[np.int64]:
    """Every 16-bit number in the order of its bits, as `view(np.uint16)` indexes them."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int64)


# In both laws a code is sign, three bits of exponent and four of mantissa. Mu-law adds 33 (of 14 bits) so
# that every segment begins at a power of two; A-law's two lowest segments have the same step.
@cache
def _mu_law_in() -> NDArray[np.uint8]:
    value = _all_int16()
    magnitude = np.minimum(np.abs(value), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    code = exponent << 4 | (magnitude >> (exponent + 3) & 15) | np.where(value < 0, 0x80, 0)
    return np.asarray(~code & 0xFF, np.uint8)


@cache
def _a_law_in() -> NDArray[np.uint8]:
    value = _all_int16()
    magnitude = np.where(value < 0, ~value, value)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int64) - 7, 0)
    code = exponent << 4 | (magnitude >> (np.maximum(exponent, 1) + 3) & 15) | np.where(value < 0, 0, 0x80)
    return np.asarray(code ^ 0x55, np.uint8)


def _mu_law_out() -> Samples:
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 15) * 8 + 132) << (code >> 4 & 7)) - 132
    return np.asarray(np.where(code & 0x80, -magnitude, magnitude) / _FULL, np.float32)


def _a_law_out() -> Samples:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = np.where(
        exponent > 0, (mantissa * 16 + 264) << np.maximum(exponent - 1, 0), mantissa * 16 + 8
    )
    return np.asarray(np.where(code & 0x80, magnitude, -magnitude) / _FULL, np.float32)


_MU_LAW_OUT, _A_LAW_OUT = _mu_law_out(), _a_law_out()
