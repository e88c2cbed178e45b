"""Compute about a hundred statistics in which synthetic speech differs in the telephone band.

Only the band that every telephone line passes (300-3400 Hz) is used, and only variations, not averages: a
line's frequency response and level change averages, not variations.

    cepstra        spread and tails of linear-frequency cepstral coefficients and their slopes
    modulation     rates at which the energy of bands varies
    pitch          clarity of harmonics in three bands, movement of the pitch from frame to frame
    excitation     peakedness of the residual of linear prediction, skewness of the waveform
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ

Floats = NDArray[np.float64]

FRAME, HOP = 256, RATE_HZ // 100
"""32 ms every 10 ms."""
_LOW_BIN, _HIGH_BIN = 10, 109  # 312-3375 Hz
_BANDS, _CEPSTRA = 33, 20
_ACTIVE_DEPTH_DB = 30.0
_MODULATION_FRAMES, _MODULATION_BANDS = 128, 11
_MODULATION_EDGES_HZ = (1.0, 3.0, 6.0, 12.0, 25.0, 50.0)
_SUBBANDS = 3
_MIN_LAG, _MAX_LAG = RATE_HZ // 400, RATE_HZ // 67  # circular correlation: under half a frame
_PREDICTION_ORDER = 10
_EXCITATION_STEP = 3  # frames; the costliest part, and a third of them gives the same quantiles
_QUANTILES = (0.1, 0.5, 0.9)
_TINY = 1e-12


def features(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute statistics of speech at 8 kHz (float32, [n], n at least two seconds); [FEATURES], finite."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float32), FRAME)[::HOP]
    spectra = np.fft.rfft(frames * _hann(), axis=1)
    power = (spectra.real**2 + spectra.imag**2).astype(np.float64)
    level = power[:, _LOW_BIN:_HIGH_BIN].sum(axis=1)
    active = level >= np.quantile(level, 0.95) * 10 ** (-_ACTIVE_DEPTH_DB / 10)
    floor = _TINY + level[active].mean() * 1e-7
    log_power = np.log(power + floor)
    bands = np.log(power[:, _LOW_BIN:_HIGH_BIN].reshape(len(power), _BANDS, -1).mean(axis=2) + floor)
    found = np.concatenate(
        [
            _cepstral(bands, active),
            _modulation(bands),
            _pitch(power, log_power, active),
            _excitation(frames[active][::_EXCITATION_STEP], power[active][::_EXCITATION_STEP]),
        ]
    )
    return np.asarray(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), np.float32)


def _cepstral(bands: Floats, active: NDArray[np.bool_]) -> Floats:
    """Compute spread and tails of cepstra, of their slopes over 50 ms and of those' slopes; log scale."""
    cepstra = np.einsum("fb,bc->fc", bands, _cosines())
    slopes = _slope(cepstra)
    parts = [cepstra[active], slopes[active], _slope(slopes)[active]]
    spread = [np.log(part.std(axis=0) + _TINY) for part in parts]
    # Ratios of spreads measure how smooth the movement is, whatever its size.
    return np.concatenate([spread[0], spread[1] - spread[0], spread[2] - spread[1], _tails(parts[1])])


def _modulation(bands: Floats) -> Floats:
    """Compute the share of each band's modulation energy in five ranges of 1-50 Hz, log scale; [11 * 5]."""
    groups = bands.reshape(len(bands), _MODULATION_BANDS, -1).mean(axis=2)
    size = min(_MODULATION_FRAMES, len(groups))
    starts = np.arange(0, len(groups) - size + 1, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(groups, size, axis=0)[starts]
    windows = windows - windows.mean(axis=2, keepdims=True)
    energy = (np.abs(np.fft.rfft(windows * np.hanning(size), axis=2)) ** 2).mean(axis=0)
    hz = np.fft.rfftfreq(size, HOP / RATE_HZ)
    ranges = [
        energy[:, (hz >= low) & (hz < high)].sum(axis=1) for low, high in pairwise(_MODULATION_EDGES_HZ)
    ]
    shares = np.array(ranges) / (np.sum(ranges, axis=0) + _TINY)
    return np.asarray(np.log(shares + 1e-6).ravel(), np.float64)


def _pitch(power: Floats, log_power: Floats, active: NDArray[np.bool_]) -> Floats:
    """Compute clarity of the harmonics in all and in three parts of the band, and movement of the pitch."""
    whole = np.zeros_like(power)
    whole[:, _LOW_BIN:_HIGH_BIN] = power[:, _LOW_BIN:_HIGH_BIN]
    correlation = np.fft.irfft(whole, axis=1)
    correlation /= correlation[:, :1] + _TINY
    # The window's own autocorrelation lowers long lags; undone so that pitch does not change clarity.
    lags = correlation[:, _MIN_LAG : _MAX_LAG + 1] / _window_correlation()[_MIN_LAG : _MAX_LAG + 1]
    best = lags.argmax(axis=1)
    clarity = lags[np.arange(len(lags)), best]
    voiced = active & (clarity > 0.5)
    parts = [np.quantile(clarity[active], _QUANTILES)]
    if np.count_nonzero(voiced) < 20:
        return np.concatenate([parts[0], np.zeros(3 * _SUBBANDS + 8)])
    width = (_HIGH_BIN - _LOW_BIN) // _SUBBANDS
    # Depth of the ripple of this pitch's harmonics in the spectrum, whatever its phase.
    turn = _ripples(width)[best[voiced]]
    for part in range(_SUBBANDS):
        first = _LOW_BIN + part * width
        log_part = log_power[voiced, first : first + width]
        log_part = log_part - log_part.mean(axis=1, keepdims=True)
        ripple = np.abs((log_part * turn).sum(axis=1)) / width
        parts.append(np.quantile(ripple, _QUANTILES))
    fine = _interpolated_peak(lags, best)
    period = np.log(fine + _MIN_LAG)
    step = np.diff(period)
    steady = voiced[1:] & voiced[:-1] & (np.abs(step) < 0.15)
    turns = np.abs(np.diff(step))[steady[1:] & steady[:-1]]
    steps = np.abs(step[steady])
    if len(turns) < 10:
        return np.concatenate([*parts, np.zeros(8)])
    parts.append(np.log(np.quantile(steps, _QUANTILES) + 1e-5))
    parts.append(np.log(np.quantile(turns, _QUANTILES) + 1e-5))
    parts.append(np.array([period[voiced].std(), np.count_nonzero(voiced) / np.count_nonzero(active)]))
    return np.concatenate(parts)


def _excitation(frames: NDArray[np.float32], power: Floats) -> Floats:
    """Compute linear prediction's gain, and the peakedness and asymmetry of its residual."""
    whole = power.copy()
    whole[:, :_LOW_BIN] = whole[:, _LOW_BIN : _LOW_BIN + 1]
    whole[:, _HIGH_BIN:] = whole[:, _HIGH_BIN - 1 : _HIGH_BIN]
    predictor, gain = _predict(np.fft.irfft(whole, axis=1)[:, : _PREDICTION_ORDER + 1])
    count = FRAME - _PREDICTION_ORDER
    left = np.zeros((len(frames), count), np.float32)
    predictor = predictor.astype(np.float32)
    for tap in range(_PREDICTION_ORDER + 1):
        start = _PREDICTION_ORDER - tap
        left += predictor[:, tap : tap + 1] * frames[:, start : start + count]
    left -= left.mean(axis=1, keepdims=True)
    square = left * left
    rms = np.sqrt(np.mean(square, axis=1)) + np.float32(1e-9)  # whose fourth power is still a number
    crest = np.sqrt(square.max(axis=1)) / rms
    skew = np.mean(square * left, axis=1) / rms**3
    tails = np.log(np.mean(square * square, axis=1) / rms**4 + _TINY)
    quantiles = [np.quantile(values, _QUANTILES) for values in (np.log(gain), crest, tails, np.abs(skew))]
    # The polarity of the microphone does not matter, only whether the pulses are asymmetric.
    return np.concatenate([*quantiles, [abs(float(np.mean(skew))), float(np.log(gain).std())]])


def _predict(correlation: Floats) -> tuple[Floats, Floats]:
    """Run Levinson's recursion on [frames, order + 1]: prediction error filters and prediction gains."""
    order = correlation.shape[1] - 1
    error = correlation[:, 0] * (1 + 1e-6) + _TINY
    start = error.copy()
    filters = np.zeros_like(correlation)
    filters[:, 0] = 1
    for step in range(1, order + 1):
        mirror = -np.sum(filters[:, :step] * correlation[:, step:0:-1], axis=1) / error
        filters[:, 1 : step + 1] += mirror[:, None] * filters[:, step - 1 :: -1][:, :step]
        error = np.maximum(error * (1 - mirror**2), _TINY * start + 1e-300)
    return filters, start / error


def _slope(values: Floats) -> Floats:
    """Compute the least-squares slope over five frames, ends repeated."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    return np.asarray((2 * (padded[4:] - padded[:-4]) + padded[3:-1] - padded[1:-3]) / 10, np.float64)


def _tails(values: Floats) -> Floats:
    centred = values - values.mean(axis=0)
    ratios = np.mean(centred**4, axis=0) / (np.mean(centred**2, axis=0) ** 2 + _TINY)
    return np.asarray(np.log(ratios + _TINY), np.float64)


def _interpolated_peak(lags: Floats, best: NDArray[np.intp]) -> Floats:
    """Interpolate the peak between integer lags, by a parabola through its neighbours."""
    inside = np.clip(best, 1, lags.shape[1] - 2)
    rows = np.arange(len(lags))
    before, at, after = (lags[rows, inside + offset] for offset in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.minimum(bend, -_TINY), 0)
    return np.asarray(best + np.where(inside == best, np.clip(shift, -0.5, 0.5), 0), np.float64)


@cache
def _ripples(width: int) -> NDArray[np.complex128]:
    """Build a complex wave per lag over `width` bins, windowed; [lags, width], shortest lag first."""
    lags, bins = np.arange(_MIN_LAG, _MAX_LAG + 1), np.arange(width)
    return np.asarray(np.exp(-2j * np.pi * lags[:, None] * bins / FRAME) * np.hanning(width), np.complex128)


@cache
def _hann() -> NDArray[np.float32]:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME), np.float32)


@cache
def _window_correlation() -> Floats:
    # Circular, like the autocorrelation that comes from a power spectrum of the same length.
    window = _hann().astype(np.float64)
    found = np.fft.irfft(np.abs(np.fft.rfft(window)) ** 2)
    return np.asarray(found / found[0], np.float64)


@cache
def _cosines() -> Floats:
    """Build the discrete cosine transform without its constant; [bands, cepstra]."""
    band, order = np.arange(_BANDS)[:, None], np.arange(1, _CEPSTRA + 1)
    return np.asarray(np.sqrt(2 / _BANDS) * np.cos(np.pi * order * (band + 0.5) / _BANDS), np.float64)


FEATURES = len(features(np.sin(np.arange(4 * RATE_HZ, dtype=np.float32))))
