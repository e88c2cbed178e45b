"""Calls in which two people speak: one after the other, or at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from voice_models import voice_models

from sonant.voice.collector import SpeechCollector

RATE_HZ = 8000
Samples = NDArray[np.int16]


def first_speech(call: Samples, speech_s: float) -> Samples:
    """The beginning of a call, pauses included, up to so many seconds of speech."""
    need = round(speech_s * RATE_HZ)
    collector = SpeechCollector(voice_models(), need)
    collector.push(call.astype(np.float32) / np.float32(32768))
    return call[: collector.window(need).end]


def handed_over(first: Samples, second: Samples, *, first_s: float, gap_s: float = 0.2) -> Samples:
    """A call in which the second person goes on after `first_s` seconds of speech of the first one."""
    gap = np.zeros(round(gap_s * RATE_HZ), np.int16)
    return np.concatenate([first_speech(first, first_s), gap, _without_silence(second)])


def at_once(one: Samples, other: Samples, *, other_db: float = 0.0) -> Samples:
    """Both people at once, from their first word on; the other one `other_db` louder."""
    one, other = _without_silence(one), _without_silence(other)
    size = min(len(one), len(other))
    mixed = one[:size].astype(np.float64) + other[:size] * 10 ** (other_db / 20)
    return np.clip(np.round(mixed), -32768, 32767).astype(np.int16)


def _without_silence(call: Samples) -> Samples:
    collector = SpeechCollector(voice_models(), RATE_HZ)
    collector.push(call.astype(np.float32) / np.float32(32768))
    return call[collector.window(RATE_HZ).start :]
