"""Detect speech that plays too slowly or too fast: samples under a header of another rate.

Samples at 16 kHz under a header of 8 kHz play at half their speed: pitch, resonances of the mouth and the
pace of syllables are all halved. Each of them varies between people, all of them together do not. So all are
measured, and a small network trained on speech at right and wrong rates (`tools/train_speed.py`) weighs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.quality import Speed

Array = NDArray[np.float32]

MIN_SPEECH_S = 5.0
"""Speech needed for a judgement: in less, a few sounds decide."""
MAX_JUDGED_S = 15.0
"""So much speech is judged: the network was trained with 5 to 16 s."""

_WEIGHTS = "speed.npz"

_FRAME, _HOP, _FFT = 512, 160, 1024  # 64 ms every 20 ms: several periods of the lowest pitch
_SHORT, _SHORT_HOP = 256, 80  # 32 ms every 10 ms, for the bands
_LOW_HZ, _HIGH_HZ, _BANDS = 250.0, 3400.0, 24
_BIN_HZ = RATE_HZ / _SHORT
_POWER_FLOOR = np.float32(1e-3)  # of speech brought to an RMS of 1
_LAGS = (1, 2, 3, 5, 8, 12, 20, 32)  # frames of 10 ms
_BAND_DISTANCES = (1, 2, 4, 8)
_ZONES = 3  # low, middle and high bands
_PITCH_HZ, _PITCH_BINS = (40.0, 640.0), 16
_LEAST_STRENGTH = np.float32(0.15)  # of an autocorrelation's peak; below, a frame has no pitch
_SAME_SOUND_OCTAVES = 0.25
_CURVE_HZ, _CURVE_POINTS = (50.0, 600.0), 20


def judge_speed(speech: Array) -> Speed:
    """Judge at which speed speech plays (8 kHz, [n], pauses removed); RIGHT where it is too short to say."""
    log_odds = wrong_speed_log_odds(speech)
    if max(log_odds.values()) <= load_weights()["limit"]:
        return Speed.RIGHT
    return max(log_odds, key=lambda speed: log_odds[speed])


def wrong_speed_log_odds(speech: Array) -> dict[Speed, float]:
    """Compute the logarithm of the odds of a wrong speed to the right one, for each wrong one.

    Minus infinity under MIN_SPEECH_S.
    """
    if len(speech) < MIN_SPEECH_S * RATE_HZ:
        return {Speed.SLOW: -np.inf, Speed.FAST: -np.inf}
    return log_odds_of(features(speech[: round(MAX_JUDGED_S * RATE_HZ)]))


def log_odds_of(
    measured: Array, weights: Mapping[str, NDArray[np.float64]] | None = None
) -> dict[Speed, float]:
    """Compute `wrong_speed_log_odds` from features; other weights than the shipped ones serve training."""
    weights = weights or load_weights()
    values = (measured - weights["mean"]) / weights["scale"]
    found = np.zeros(3)
    for first, first_bias, second, second_bias in zip(
        weights["first"], weights["first_bias"], weights["second"], weights["second_bias"], strict=True
    ):
        logits = np.maximum(values @ first + first_bias, 0) @ second + second_bias
        found += np.exp(logits - logits.max()) / np.sum(np.exp(logits - logits.max()))
    slow, right, fast = np.log(found / len(weights["first"]) + 1e-9)
    return {Speed.SLOW: float(slow - right), Speed.FAST: float(fast - right)}


def features(speech: Array) -> Array:
    """Measure resonances, pace and pitch of speech (8 kHz, [n], at least half a second)."""
    rms = float(np.sqrt(np.mean(np.square(speech, dtype=np.float64)))) or 1.0
    levelled = speech / np.float32(rms)
    bands = _band_levels(levelled)
    return np.concatenate([_resonances(bands), _pace(bands), _pitch(levelled)]).astype(np.float32)


def _band_levels(samples: Array) -> Array:
    """Compute the logarithm of the power in bands of a logarithmic scale, [frames, 24]."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _SHORT)[::_SHORT_HOP]
    spectra = np.fft.rfft(frames * np.hanning(_SHORT).astype(np.float32), axis=1)
    power = (spectra.real**2 + spectra.imag**2).astype(np.float32)
    levels: Array = np.log(np.einsum("fb,bm->fm", power, _filters()) + _POWER_FLOOR)
    return levels


def _resonances(bands: Array) -> Array:
    """Describe the mean spectrum, how much each band varies, and how far neighbours vary together."""
    level = bands.mean(axis=1)
    shape = bands[level > np.median(level)].mean(axis=0)
    centred = bands - bands.mean(axis=0)
    deviation = centred.std(axis=0) + np.float32(1e-6)
    norm = centred / deviation
    together = [
        part.mean()
        for distance in _BAND_DISTANCES
        for part in np.array_split(np.mean(norm[:, distance:] * norm[:, :-distance], axis=0), _ZONES)
    ]
    return np.concatenate([shape - shape.mean(), deviation, np.array(together, np.float32)])


def _pace(bands: Array) -> Array:
    """Describe how fast the bands change: mean square differences over growing times."""
    found = []
    for zone in np.array_split(np.arange(_BANDS), _ZONES):
        part = bands[:, zone]
        variance = part.var(axis=0).mean() + 1e-6
        found += [0.5 * np.mean(np.square(part[lag:] - part[:-lag])) / variance for lag in _LAGS]
    return np.array(found, np.float32)


def _pitch(samples: Array) -> Array:
    """Describe the distribution of pitch, its changes, and the mean autocorrelation."""
    acf = _autocorrelation(samples)
    low = int(RATE_HZ / _PITCH_HZ[1])
    best = np.argmax(acf[:, low:], axis=1) + low
    weight = np.maximum(0, acf[np.arange(len(acf)), best] - _LEAST_STRENGTH)
    octave = np.log2(RATE_HZ / best)
    edges = (np.log2(_PITCH_HZ[0]), np.log2(_PITCH_HZ[1]) + 0.01)
    histogram, _ = np.histogram(octave, bins=_PITCH_BINS, range=edges, weights=weight)
    total = histogram.sum() + 1e-9
    mean = np.sum(octave * weight) / total
    spread = np.sqrt(np.sum(weight * np.square(octave - mean)) / total)
    change = np.abs(np.diff(octave))
    both = np.minimum(weight[1:], weight[:-1]) * (change < _SAME_SOUND_OCTAVES)
    slope = np.sum(change * both) / (both.sum() + 1e-9)
    voiced = np.mean(weight > _LEAST_STRENGTH)
    lags = RATE_HZ / np.exp2(np.linspace(np.log2(_CURVE_HZ[0]), np.log2(_CURVE_HZ[1]), _CURVE_POINTS))
    curve = np.interp(lags, np.arange(acf.shape[1]), acf.mean(axis=0))
    return np.concatenate([np.sqrt(histogram / total), [mean, spread, slope * 50, voiced], curve])


def _autocorrelation(samples: Array) -> Array:
    """Compute the autocorrelation of frames, [frames, lags]; resonances count less than by its definition."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    spectra = np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32), _FFT, axis=1)
    magnitude = np.sqrt(spectra.real**2 + spectra.imag**2)
    acf = np.fft.irfft(magnitude, axis=1)[:, : int(RATE_HZ / _PITCH_HZ[0]) + 1]
    return np.asarray(acf / (acf[:, :1] + 1e-9))


@cache
def _filters() -> Array:
    """Build triangles evenly spaced in the logarithm of frequency, [129, 24]; none is narrower than a bin."""
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 2)
    middle = edges[1:-1]
    low = np.minimum(edges[:-2], middle - 2 * _BIN_HZ)
    high = np.maximum(edges[2:], middle + 2 * _BIN_HZ)
    hz = np.arange(_SHORT // 2 + 1)[:, None] * _BIN_HZ
    triangles = np.maximum(0, np.minimum((hz - low) / (middle - low), (high - hz) / (high - middle)))
    return np.asarray(triangles / triangles.sum(axis=0), np.float32)


@cache
def load_weights() -> dict[str, NDArray[np.float64]]:
    """Read the network: `k` networks of one hidden layer, whose probabilities are averaged."""
    with resources.files(__package__).joinpath(_WEIGHTS).open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        return {name: np.asarray(stored[name], np.float64) for name in stored.files}
