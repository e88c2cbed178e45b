"""Compute the input of each toolkit's speaker models from speech at 8 kHz: log mel features or the waveform.

    wespeaker     Kaldi: Hamming window, samples on the scale of 16-bit numbers, mean of each band removed
    3dspeaker     Kaldi: Povey window, samples within -1..1, mean of each band removed
    speechbrain   periodic Hamming window, decibels with a floor 80 dB below the peak, mean removed
    nemo          pre-emphasis over the whole signal, Hann window, mean and deviation of each band removed
    redimnet      the waveform itself
    ge2e          mel powers without a logarithm, see `embedding`

All use frames of 25 ms every 10 ms without dither: the same speech gives the same features. A model for
16 kHz gets the telephone band with silence above 4 kHz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.samples import FULL_SCALE
from sonant.voice.models.filterbanks import kaldi_banks, slaney_banks, speechbrain_banks, window

Kind = Literal["wespeaker", "3dspeaker", "speechbrain", "nemo", "redimnet", "ge2e"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RATES_HZ = (8000, 16000)

Samples = NDArray[np.float32]
Features = NDArray[np.float32]

_FRAMES_PER_BLOCK = 64  # half the time of 1024: everything stays in the processor's cache
_KALDI_LOW_HZ = 20.0
_PREEMPHASIS = np.float32(0.97)
_FLOAT_EPSILON = np.float32(np.finfo(np.float32).eps)  # Kaldi's floor under the logarithm
_AMIN, _TOP_DB = 1e-10, 80.0  # SpeechBrain's
_NEMO_GUARD, _NEMO_DEVIATION = np.float32(2**-24), np.float32(1e-5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """The kind of features with a model's own options."""

    kind: Kind
    rate_hz: int = 16000
    """Sample rate of the model's training: 8000 or 16000."""
    mels: int = 80
    """Bands of the features; unused for a waveform."""

    @property
    def waveform(self) -> bool:
        """Whether the model takes the waveform itself."""
        return self.kind == "redimnet"

    @property
    def hop(self) -> int:
        """Samples from one frame to the next at the model's rate; 1 for a waveform."""
        return 1 if self.waveform else self.rate_hz // 100

    @property
    def steps_per_second(self) -> int:
        """Rows of features, or samples, per second."""
        return self.rate_hz // self.hop


def features(samples: Samples, front_end: FrontEnd) -> Features:
    """Compute features of speech at 8 kHz (float32, [n], -1..1, n at least 0.1 s).

    Returns [frames, mels], or [m] for a waveform, at the model's rate; normalized over all of it.
    """
    return features_at_rate(at_rate(samples, front_end.rate_hz), front_end)


def features_at_rate(samples: Samples, front_end: FrontEnd) -> Features:
    """Compute `features` of samples that have the model's rate already."""
    return _FEATURES[front_end.kind](samples, front_end)


def at_rate(samples: Samples, rate_hz: int) -> Samples:
    """Resample speech at 8 kHz to a model's rate."""
    if rate_hz == RATE_HZ:
        return samples
    return np.asarray(soxr.resample(samples, RATE_HZ, rate_hz, quality="HQ"), np.float32)


def _wespeaker(samples: Samples, front_end: FrontEnd) -> Features:
    return _mean_removed(
        kaldi_fbank(samples * np.float32(FULL_SCALE), front_end.rate_hz, front_end.mels, "hamming")
    )


def _threedspeaker(samples: Samples, front_end: FrontEnd) -> Features:
    return _mean_removed(kaldi_fbank(samples, front_end.rate_hz, front_end.mels, "povey"))


def kaldi_fbank(samples: Samples, rate_hz: int, mels: int, window_name: str) -> Features:
    """Compute Kaldi's `compute-fbank-feats` without dither and energy: [frames, mels].

    Bands go from 20 Hz to half the rate. Only whole frames count; each has its mean removed and is
    pre-emphasized by 0.97.
    """
    length, hop = rate_hz // 40, rate_hz // 100
    points = 1 << (length - 1).bit_length()
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]
    shape, banks = window(window_name, length), kaldi_banks(rate_hz, points, mels, _KALDI_LOW_HZ)

    def prepared(block: Features) -> Features:
        block = block - block.mean(axis=1, keepdims=True)
        # The first sample has no predecessor and serves as its own.
        before = np.concatenate([block[:, :1], block[:, :-1]], axis=1)
        return np.asarray((block - _PREEMPHASIS * before) * shape)

    energies = _mel_energies(frames, prepared, points, banks)
    return np.log(np.maximum(energies, _FLOAT_EPSILON))


def _speechbrain(samples: Samples, front_end: FrontEnd) -> Features:
    """Compute SpeechBrain's `Fbank` and `InputNormalization(norm_type="sentence", std_norm=False)`."""
    length = front_end.rate_hz // 40
    shape, banks = (
        window("hamming-periodic", length),
        speechbrain_banks(length, front_end.mels, front_end.rate_hz),
    )
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, length // 2), length)[:: front_end.hop]
    energies = _mel_energies(frames, lambda block: np.asarray(block * shape), length, banks)
    decibels = 10 * np.log10(np.maximum(energies, np.float32(_AMIN)))
    return _mean_removed(np.maximum(decibels, decibels.max() - np.float32(_TOP_DB)))


def _nemo(samples: Samples, front_end: FrontEnd) -> Features:
    """Compute NeMo's `AudioToMelSpectrogramPreprocessor(normalize="per_feature")`, as at inference."""
    length = front_end.rate_hz // 40
    points = 1 << (length - 1).bit_length()
    emphasised = np.concatenate([samples[:1], samples[1:] - _PREEMPHASIS * samples[:-1]])
    padded = np.pad(emphasised, points // 2)
    # The window lies in the middle of the transform; a frame more than whole hops is dropped.
    inset = (points - length) // 2
    count = len(samples) // front_end.hop
    frames = np.lib.stride_tricks.sliding_window_view(padded[inset:], length)[:: front_end.hop][:count]
    shape, banks = window("hann", length), slaney_banks(front_end.rate_hz, points, front_end.mels)
    logs = np.log(_mel_energies(frames, lambda block: np.asarray(block * shape), points, banks) + _NEMO_GUARD)
    centred = _mean_removed(logs)
    deviation = np.sqrt(np.square(centred).sum(axis=0) / np.float32(max(1, count - 1)))
    return np.asarray(centred / (deviation + _NEMO_DEVIATION))


def _raw(samples: Samples, front_end: FrontEnd) -> Features:
    return samples


_FEATURES: dict[Kind, Callable[[Samples, FrontEnd], Features]] = {
    "wespeaker": _wespeaker,
    "3dspeaker": _threedspeaker,
    "speechbrain": _speechbrain,
    "nemo": _nemo,
    "redimnet": _raw,
}


def _mel_energies(
    frames: Samples, prepared: Callable[[Samples], Samples], points: int, banks: Features
) -> Features:
    """Compute powers in mel bands [n, mels] of frames [n, length], in blocks to bound memory."""
    energies = np.empty((len(frames), banks.shape[1]), np.float32)
    for first in range(0, len(frames), _FRAMES_PER_BLOCK):
        spectra = np.fft.rfft(prepared(frames[first : first + _FRAMES_PER_BLOCK]), points)
        power = spectra.real**2 + spectra.imag**2
        energies[first : first + _FRAMES_PER_BLOCK] = power[:, : len(banks)] @ banks
    return energies


def _mean_removed(features: Features) -> Features:
    return np.asarray(features - features.mean(axis=0, dtype=np.float64).astype(np.float32))
