"""Detect speech that plays too slowly or too fast: samples under a header of another rate.

Samples at 16 kHz under a header of 8 kHz play at half their speed: pitch, resonances of the mouth and the
pace of syllables are all halved. Each of them varies between people, all of them together do not.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ

_FRAME, _HOP = 512, 160  # 64 ms every 20 ms: several periods of the lowest pitch
_FFT = 1024
_SHORT, _SHORT_HOP = 256, 80  # 32 ms every 10 ms, for the bands
_LOW_HZ, _HIGH_HZ = 250.0, 3400.0
_BANDS = 24
_LAGS = (1, 2, 3, 5, 8, 12, 20, 32)  # frames of 10 ms
_ZONES = 3
_PITCH_HZ = (40.0, 640.0)
_PITCH_BINS = 16


def judge_speed(samples):
    from sonant.voice.quality import Speed

    return Speed.RIGHT


def features(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe pace, resonances and pitch of speech (8 kHz, [n])."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1.0
    levelled = samples / np.float32(rms)
    bands = _bands(levelled)
    return np.concatenate([_spectrum(bands), _pace(bands), _pitch(levelled)]).astype(np.float32)


def _bands(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = np.lib.stride_tricks.sliding_window_view(samples, _SHORT)[::_SHORT_HOP]
    spectra = np.fft.rfft(frames * np.hanning(_SHORT).astype(np.float32), axis=1)
    power = (spectra.real**2 + spectra.imag**2).astype(np.float32)
    floor = np.float32(1e-3)  #
    return np.log(np.einsum("fb,bm->fm", power, _filters()) + floor)


def _spectrum(bands):
    loud = bands[bands.mean(axis=1) > np.median(bands.mean(axis=1))]
    shape = loud.mean(axis=0)
    shape = shape - shape.mean()
    centred = bands - bands.mean(axis=0)
    deviation = centred.std(axis=0) + 1e-6
    norm = centred / deviation
    near = [np.mean(norm[:, d:] * norm[:, :-d], axis=0).reshape(-1) for d in (1, 2, 4, 8)]
    zones = np.concatenate([[part.mean() for part in np.array_split(one, _ZONES)] for one in near])
    return np.concatenate([shape, deviation, zones])


def _pace(bands):
    found = []
    for zone in np.array_split(np.arange(_BANDS), _ZONES):
        part = bands[:, zone]
        variance = part.var(axis=0).mean() + 1e-6
        for lag in _LAGS:
            found.append(0.5 * np.mean(np.square(part[lag:] - part[:-lag])) / variance)
    return np.array(found)


def _pitch(samples):
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_HOP]
    spectra = np.fft.rfft(frames * np.hanning(_FRAME).astype(np.float32), _FFT, axis=1)
    power = spectra.real**2 + spectra.imag**2
    # Weak compression of the spectrum makes resonances count less.
    acf = np.fft.irfft(np.sqrt(power), axis=1)[:, : int(RATE_HZ / _PITCH_HZ[0]) + 1]
    acf = acf / (acf[:, :1] + 1e-9)
    low = int(RATE_HZ / _PITCH_HZ[1])
    best = np.argmax(acf[:, low:], axis=1) + low
    strength = acf[np.arange(len(acf)), best]
    weight = np.maximum(0, strength - np.float32(0.15))
    octave = np.log2(RATE_HZ / best)
    histogram, _ = np.histogram(
        octave, bins=_PITCH_BINS, range=(np.log2(_PITCH_HZ[0]), np.log2(_PITCH_HZ[1]) + 0.01), weights=weight
    )
    total = histogram.sum() + 1e-9
    mean = np.sum(octave * weight) / total
    spread = np.sqrt(np.sum(weight * np.square(octave - mean)) / total)
    change = np.abs(np.diff(octave))
    both = np.minimum(weight[1:], weight[:-1]) * (change < 0.25)
    slope = np.sum(change * both) / (both.sum() + 1e-9)
    voiced = np.mean(weight > 0.15)
    # average acf on a logarithmic lag axis
    lags = RATE_HZ / np.exp2(np.linspace(np.log2(50), np.log2(600), 20))
    mean_acf = acf.mean(axis=0)
    curve = np.interp(lags, np.arange(len(mean_acf)), mean_acf)
    return np.concatenate([np.sqrt(histogram / total), [mean, spread, slope * 50, voiced], curve])


@cache
def _filters() -> NDArray[np.float32]:
    """Triangles evenly spaced in the logarithm of frequency."""
    edges = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 2)
    # low bands are narrower than a bin: widen
    low, mid, high = edges[:-2], edges[1:-1], edges[2:]
    low, high = np.minimum(low, mid - 62.5), np.maximum(high, mid + 62.5)
    hz = np.arange(_SHORT // 2 + 1)[:, None] * (RATE_HZ / _SHORT)
    tri = np.maximum(0, np.minimum((hz - low) / (mid - low), (high - hz) / (high - mid)))
    return (tri / tri.sum(axis=0)).astype(np.float32)
