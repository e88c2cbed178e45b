"""Detect copies of a recording, or of a part of it, by constellations of spectral peaks.

No person repeats a sentence with the same pitch, pace and noise; a copy has them all, whatever line it comes
over. The loudest peaks of the spectrogram between 300 and 3400 Hz survive coding, level changes and noise.
Pairs of peaks (frequency, frequency, time between) that a copy shares with its original all lie at the same
distance in time (Wang, "An industrial-strength audio search algorithm", ISMIR 2003). Only detected speech is
fingerprinted, so ringing tones and music on hold do not count.

The pauses that were removed differ by some hundredths of a second between copies: pairs span less than a
second and are counted over approximately equal distances, so that this does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ

MIN_SPEECH_S = 3.0
"""The shortest part that is recognized, and the shortest speech that has a fingerprint."""

_FRAME, HOP = 512, 128  # 64 ms every 16 ms: bins of 15.6 Hz resolve the harmonics of every voice
_LOW_BIN, _HIGH_BIN = 20, 218  # 312-3406 Hz
_REACH_FRAMES, _REACH_BINS = 4, 6  # a peak is the highest point this far around
_PEAKS_PER_S = 20
_LOUD_PER_S, _LOUD_FAN, _FULL_FAN = 9, 3, 10  # peaks and pairs of an index entry; pairs of a query
_MIN_GAP, _MAX_GAP = 3, 62  # frames between the peaks of a pair: 0.05-1 s
_STEP = 2  # frequencies and times of a pair are quantized in steps of two: 31 Hz, 32 ms
_GAPS = _MAX_GAP // _STEP + 2
_BINS = (_HIGH_BIN - _LOW_BIN) // _STEP + 2
_TOLERANCE_FRAMES = 12  # 0.2 s: shift that removed pauses may cause within the recognized part
_BLOCK_FRAMES = 110  # 1.76 s: pairs are counted over two neighbouring blocks
_MIN_SPAN_S = 1.0
_CANDIDATES = 8
MIN_PAIRS = 20
"""Pairs in common within 3.5 s that make a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The peaks of a recording, in order of time; all arrays [n]."""

    frames: NDArray[np.uint16]
    """Times in steps of 16 ms of speech."""
    bins: NDArray[np.uint8]
    """Frequencies in steps of 15.6 Hz from 312 Hz."""
    ranks: NDArray[np.uint8]
    """Loudness ranks among the peaks of the same second; 0 is the loudest."""

    def to_bytes(self) -> bytes:
        """Encode with four bytes per peak, about 80 per second of speech."""
        return self.frames.astype("<u2").tobytes() + self.bins.tobytes() + self.ranks.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Decode the output of `to_bytes`. Raises ValueError for anything else."""
        count, rest = divmod(len(data), 4)
        if rest:
            raise ValueError(f"a fingerprint has a multiple of 4 bytes, not {len(data)}")
        return cls(
            frames=np.frombuffer(data, "<u2", count),
            bins=np.frombuffer(data, np.uint8, count, 2 * count),
            ranks=np.frombuffer(data, np.uint8, count, 3 * count),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPairs:
    """The pairs of peaks that two recordings have in common."""

    pairs: int
    """Pairs of peaks at one distance in time, within 3.5 s."""
    span_s: float
    """Time from the first of them to the last."""

    @property
    def is_copy(self) -> bool:
        """Whether one recording is a copy of the other, or of a part of it."""
        return self.pairs >= MIN_PAIRS and self.span_s >= _MIN_SPAN_S


def fingerprint(samples: NDArray[np.float32]) -> Fingerprint:
    """Find the peaks of speech (float32, [n], 8 kHz, pauses removed, at most 17 minutes).

    Raises NotEnoughSpeech under three seconds.
    """
    if len(samples) < MIN_SPEECH_S * RATE_HZ:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, MIN_SPEECH_S)
    log_power = _log_power(samples[: HOP << 16])
    # Relative to each bin's mean, so that the line's frequency response does not choose the peaks.
    log_power -= log_power.mean(axis=0)
    highest = _local_maximum(_local_maximum(log_power, _REACH_FRAMES, 0), _REACH_BINS, 1)
    frames, bins = np.nonzero(log_power == highest)
    seconds = frames * HOP // RATE_HZ
    order = np.lexsort((-log_power[frames, bins], seconds))
    ranks = np.empty(len(frames), np.int64)
    ranks[order] = np.arange(len(frames)) - np.searchsorted(seconds[order], seconds[order])
    loud = ranks < _PEAKS_PER_S
    return Fingerprint(
        frames=frames[loud].astype(np.uint16),
        bins=bins[loud].astype(np.uint8),
        ranks=ranks[loud].astype(np.uint8),
    )


def loud_pairs(found: Fingerprint) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Compute codes and frames of the pairs to index a recording by; about 40 per second, sorted by code."""
    loud = found.ranks < _LOUD_PER_S
    first, second = _pairs(found.frames[loud], _LOUD_FAN)
    frames, bins = found.frames[loud].astype(np.int64), found.bins[loud].astype(np.int64)
    return _sorted(_code(bins[first], bins[second], frames[second] - frames[first]), frames[first])


def all_pairs(found: Fingerprint, *, tolerant: bool) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Compute codes and frames of the pairs of a query.

    Quieter peaks are included, since noise hides some and adds others. `tolerant` adds the codes next to
    each, since peaks move by a bin or a frame.
    """
    first, second = _pairs(found.frames, _FULL_FAN)
    frames, bins = found.frames.astype(np.int64), found.bins.astype(np.int64)
    low, high, gap, at = bins[first], bins[second], frames[second] - frames[first], frames[first]
    moves = _MOVES if tolerant else _MOVES[:1]
    codes = [_code(low + move[0], high + move[1], gap + move[2]) for move in moves]
    return _sorted(np.concatenate(codes), np.tile(at, len(moves)))


def shared(before: Fingerprint, now: Fingerprint) -> SharedPairs:
    """Compare a recording with an earlier one."""
    return shared_with(before, all_pairs(now, tolerant=True))


def shared_with(before: Fingerprint, now: tuple[NDArray[np.uint32], NDArray[np.int64]]) -> SharedPairs:
    """Compare as `shared` does, given the tolerant `all_pairs` of a recording that is compared with many."""
    codes, frames = loud_pairs(before)
    wanted, wanted_frames = now
    place, query = lookup(codes, wanted)
    if len(place) == 0:
        return SharedPairs(pairs=0, span_s=0.0)
    # Chance agreements lie scattered over a long recording, those of a copy together: they are counted by
    # block of time and distance. Each block reaches into the next, so that none is cut in two.
    distance = wanted_frames[query] - frames[place] + (1 << 16)
    block = frames[place] // _BLOCK_FRAMES
    keys = np.concatenate([block << 32 | distance, block + 1 << 32 | distance])
    places = np.tile(place, 2)
    order = np.argsort(keys)
    keys, places = keys[order], places[order]
    ends = np.searchsorted(keys, keys + _TOLERANCE_FRAMES, "right")
    best = SharedPairs(pairs=0, span_s=0.0)
    # An indexed pair counts once, however many neighbouring codes found it: the fullest may not be best.
    for start in np.argsort(np.arange(len(keys)) - ends)[:_CANDIDATES]:
        times = frames[np.unique(places[start : ends[start]])]
        if len(times) > best.pairs:
            best = SharedPairs(pairs=len(times), span_s=float(times.max() - times.min()) * HOP / RATE_HZ)
    return best


def lookup(
    codes: NDArray[np.uint32], wanted: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find all places where sorted `codes` equal one of `wanted`: (place in codes, place in wanted)."""
    low, high = np.searchsorted(codes, wanted), np.searchsorted(codes, wanted, "right")
    count = high - low
    before = np.cumsum(count) - count
    places = np.repeat(low - before, count) + np.arange(count.sum())
    return places, np.repeat(np.arange(len(wanted)), count)


_ALONG = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))
_MOVES = ((0, 0, 0), *_ALONG, (1, 1, 0), (-1, -1, 0))


def _pairs(frames: NDArray[np.uint16], fan: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each peak with those that follow it, as indices; those within 50 ms are skipped."""
    wide, firsts, seconds = frames.astype(np.int64), [], []
    for ahead in range(1, fan + _MIN_GAP + 1):
        gap = wide[ahead:] - wide[:-ahead]
        first = np.flatnonzero((gap >= _MIN_GAP) & (gap <= _MAX_GAP))
        firsts.append(first)
        seconds.append(first + ahead)
    return np.concatenate(firsts), np.concatenate(seconds)


def _code(first: NDArray[np.int64], second: NDArray[np.int64], gap: NDArray[np.int64]) -> NDArray[np.uint32]:
    # An offset gives a neighbour below the lowest bin a code that no other pair has.
    low, high = (first + _STEP) // _STEP, (second + _STEP) // _STEP
    return np.asarray((low * _BINS + high) * _GAPS + gap // _STEP, np.uint32)


def _sorted(
    codes: NDArray[np.uint32], frames: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    order = np.argsort(codes, kind="stable")
    return codes[order], frames[order]


def _log_power(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float32), _FRAME)[::HOP]
    spectra = np.fft.rfft(windows * _hann(), axis=1)[:, _LOW_BIN:_HIGH_BIN]
    power = (spectra.real**2 + spectra.imag**2).astype(np.float32)
    return np.asarray(np.log(power + np.float32(1e-12)), np.float32)


def _local_maximum(values: NDArray[np.float32], reach: int, axis: int) -> NDArray[np.float32]:
    """Compute the highest value within `reach` on both sides along an axis."""
    if axis == 1:
        return _local_maximum(values.T, reach, 0).T
    padded = np.pad(values, ((reach, reach), (0, 0)), constant_values=-np.inf)
    # Maxima over 1, 2, 4, ... values from each other: a few passes, however far the reach.
    span, width = 1, 2 * reach + 1
    while 2 * span <= width:
        padded = np.maximum(padded[:-span], padded[span:])
        span *= 2
    rest = width - span
    return np.maximum(padded[: len(values)], padded[rest : rest + len(values)])


@cache
def _hann() -> NDArray[np.float32]:
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / _FRAME), np.float32)
