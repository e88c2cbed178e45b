"""Attacks for the demo: calls with a synthesised voice, and copied recordings."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sonant.demo.recordings import RATE_HZ, call_recording
from sonant.demo.synthesizers import fetch_synthesizers, sentences, speak
from sonant.errors import SetupError

_SYNTHESIZER, _VOICE = "espeak-ng", "en-us"
_SENTENCES = 16
_SPEECH_S = 38.0
#: Gain of a copied recording, and its distance from the noise of the second line.
_GAIN_DB, _SNR_DB = -6.0, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCalls:
    """Calls in which espeak-ng speaks, as WAV files."""

    enrollment: bytes
    live: bytes


def synthetic_calls(cache: Path, seed: int, progress: Callable[[str], None]) -> SyntheticCalls:
    """Make the calls, with a synthesizer that is fetched into `cache`. Raises SetupError."""
    found = fetch_synthesizers(cache, [_SYNTHESIZER], progress=progress)
    if _SYNTHESIZER in found.missing:
        raise SetupError(found.missing[_SYNTHESIZER])
    progress(f"synthesising calls with {_SYNTHESIZER}")
    tree = found.trees[_SYNTHESIZER]
    return SyntheticCalls(enrollment=_spoken_call(tree, seed), live=_spoken_call(tree, seed + 1))


def _spoken_call(tree: Path, seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        clips = []
        for number, text in enumerate(sentences(_SENTENCES, seed)):
            clips.append(Path(folder) / f"{number}.wav")
            soundfile.write(clips[-1], speak(_SYNTHESIZER, tree, _VOICE, text), RATE_HZ)
        return call_recording(clips, np.random.default_rng(seed), net_speech_s=_SPEECH_S)


def copied_call(recording: bytes, seed: int) -> bytes:
    """Play a call's first channel over a second telephone line: quieter, noisier, in mu-law."""
    samples, rate_hz = soundfile.read(io.BytesIO(recording), dtype="float32", always_2d=True)
    voice = samples[:, 0] * 10 ** (_GAIN_DB / 20)
    loud = voice[np.abs(voice) > 0.1 * np.max(np.abs(voice))]
    level = float(np.sqrt(np.mean(np.square(loud)))) * 10 ** (-_SNR_DB / 20)
    noisy = voice + np.random.default_rng(seed).normal(0, level, len(voice))
    out = io.BytesIO()
    soundfile.write(out, np.clip(noisy, -1, 1), rate_hz, format="WAV", subtype="ULAW")
    return out.getvalue()
