"""Convert similarities to false accept rates, and those to scores of 0 to 100.

A calibration holds, for several amounts of speech and several levels of noise, the upper tail of strangers'
similarities. Fisher's z, artanh of the cosine ("Frequency distribution of the values of the correlation
coefficient", 1915), is taken as normal there: it straightens the tail, and identical voices lie at infinity.
Between the fitted nodes mean and deviation are interpolated. An installation's own calibration adds two
numbers: the mean and the deviation of its own strangers on the scale of the shipped tails.

Terms are those of ISO/IEC 19795-1: the share of impostor comparisons at or above a similarity is its false
match rate; one call is one comparison here, so it is the false accept rate (FAR) of that threshold too.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from sonant.voice.quality import Quality

#: Score and log10 of FAR: 50 is one stranger in ten, 80 in 100, 90 in 1,000, 100 in 100,000.
SCORE_ANCHORS = ((0, 0.0), (50, -1.0), (80, -2.0), (90, -3.0), (100, -5.0))

MAX_SIMILARITY = 1 - 1e-7
"""The largest float32 value that is reliably below 1."""

_QUIET_DB = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """A normal distribution, of which the upper tail is used."""

    mean: float
    deviation: float

    def log10_above(self, value: float) -> float:
        """Compute log10 of the share at or above a value."""
        return _log10_q((value - self.mean) / self.deviation)

    def at(self, log10_share: float) -> float:
        """Invert `log10_above`, for -15 < log10_share < 0."""
        return self.mean - self.deviation * NormalDist().inv_cdf(10**log10_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The upper tail of strangers' similarities."""

    z: Normal
    """The distribution of Fisher's z."""

    def deviations(self, similarity: float) -> float:
        """Count the standard deviations of a similarity above the mean of strangers."""
        return (fisher_z(similarity) - self.z.mean) / self.z.deviation

    def log10_far(self, similarity: float) -> float:
        """Compute log10 of the share of strangers at or above a similarity."""
        return self.z.log10_above(fisher_z(similarity))

    def similarity_at(self, log10_far: float) -> float:
        """Invert `log10_far`, for -15 < log10_far < 0."""
        return math.tanh(self.z.at(log10_far))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The tail fitted for one amount of speech in the probe and one level of noise."""

    speech_s: float
    snr_db: float
    tail: Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """Least scores of the parts of one person's speech in a call; see `call_voices.SpeakerScore`.

    `tools/part_limits.py` measures how far the parts of one person's speech fall below the whole.
    """

    halves: int = 80
    thirds: int = 70

    def of_part(self, place: int) -> int:
        """Give the limit of a part, counted from 0: two halves, then the thirds."""
        return self.halves if place < 2 else self.thirds


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Converts similarities of one voice model to FAR, score and likelihood ratio."""

    model_id: str
    nodes: tuple[Node, ...]
    """A full grid: each amount of speech with each level of noise."""
    highpass_300hz: tuple[Node, ...] = ()
    """The grid for probes over lines that cut off below 300 Hz; empty where none was fitted."""
    shift: float = 0.0
    scale: float = 1.0
    """Mean and deviation of the installation's own strangers: (z - shift) / scale is standard normal in the
    tail."""
    supported_log10_far: float = -3.0
    """The smallest rate that the data of the fit support; smaller ones are extrapolated."""
    llr_slope: float = 1.0
    llr_offset: float = 0.0
    """Natural log likelihood ratio of z standard deviations above strangers: offset + slope * z."""
    part_limits: PartLimits = PartLimits()

    def tail(self, speech_s: float, snr_db: float, *, highpass_300hz: bool = False) -> Tail:
        """Find the tail for a probe with `speech_s` of net speech; `snr_db` is that of the noisier side.

        `highpass_300hz` means that both lines cut off below 300 Hz (`quality.highpass_300hz`): the second
        grid was fitted for such lines. Where the reference's line is not known, pass True as well: strangers
        over a full band are less similar, and a score then errs on the safe side.
        """
        grid = _grid(self.highpass_300hz if highpass_300hz and self.highpass_300hz else self.nodes)
        mean = deviation = 0.0
        for second, share in _between(grid.seconds, speech_s, math.log):
            for noise, part in _between(grid.noises, snr_db, float):
                mean += share * part * grid.tails[second, noise].z.mean
                deviation += share * part * grid.tails[second, noise].z.deviation
        return Tail(z=Normal(mean=mean + self.shift * deviation, deviation=deviation * self.scale))

    def tail_for(self, quality: Quality) -> Tail:
        """Find the tail for a probe of this quality, or for a comparison (see `quality.comparison_quality`).

        Noise that was not measured counts as none, a line that is not known as one over the full band.
        """
        noise = _QUIET_DB if quality.snr_db is None else quality.snr_db
        return self.tail(quality.net_speech_s, noise, highpass_300hz=bool(quality.highpass_300hz))

    def stricter_tail(self, speech_s: float, snr_db: float, log10_far: float) -> Tail:
        """Find the tail that demands more similarity at this rate, for an unknown line."""
        tails = [
            self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz) for highpass_300hz in (False, True)
        ]
        return max(tails, key=lambda tail: tail.similarity_at(log10_far))

    def log10_far(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> float:
        """Compute log10 of the false accept rate at a similarity; see `tail`."""
        return self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz).log10_far(similarity)

    def score(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> int:
        """Compute the authentication score, 0..100, rounded down so that it never claims too low a FAR."""
        return score_of(
            self.log10_far(similarity, speech_s=speech_s, snr_db=snr_db, highpass_300hz=highpass_300hz)
        )

    def score_for(self, similarity: float, quality: Quality) -> int:
        """Compute the authentication score for a comparison of this quality; see `tail_for` and `score`."""
        return score_of(self.tail_for(quality).log10_far(similarity))

    def llr_for(self, similarity: float, quality: Quality) -> float:
        """Compute the natural logarithm of the likelihood ratio for a comparison of this quality."""
        return self.llr_offset + self.llr_slope * self.tail_for(quality).deviations(similarity)

    def llr(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> float:
        """Compute the natural logarithm of the likelihood ratio of one voice to two voices."""
        above = self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz).deviations(similarity)
        return self.llr_offset + self.llr_slope * above

    def adapted(self, shift: float, scale: float, supported_log10_far: float) -> Calibration:
        """Apply the figures of an installation's own strangers.

        They were compared on the grid for all lines (voiceprints do not state theirs), so the effect of the
        installation's lines is in these figures already: the grid for 300 Hz lines would count it twice and
        is left out.
        """
        return replace(
            self, shift=shift, scale=scale, supported_log10_far=supported_log10_far, highpass_300hz=()
        )


def fisher_z(similarity: float) -> float:
    """Compute Fisher's z of a cosine; values that rounding carried to 1 or beyond count as just below."""
    return math.atanh(min(max(similarity, -MAX_SIMILARITY), MAX_SIMILARITY))


def interpolate_score(anchors: Sequence[tuple[int, float]], level: float) -> float:
    """Interpolate a level's score linearly between anchors (score, falling level); clamp at the ends."""
    scores, levels = zip(*anchors, strict=True)
    return float(np.interp(-level, [-one for one in levels], scores))


def score_of(log10_far: float) -> int:
    """Convert log10 FAR to the score, rounded down; straight lines between the anchors."""
    return math.floor(interpolate_score(SCORE_ANCHORS, log10_far) + 1e-9)


def log10_far_of(score: float) -> float:
    """Convert a score to its log10 FAR; the inverse of `score_of`."""
    scores, levels = zip(*SCORE_ANCHORS, strict=True)
    return float(np.interp(score, scores, levels))


@dataclass(frozen=True, slots=True)
class _Grid:
    """Tails by amount of speech and noise; both ascend."""

    seconds: tuple[float, ...]
    noises: tuple[float, ...]
    tails: Mapping[tuple[float, float], Tail]


@lru_cache(maxsize=16)
def _grid(nodes: tuple[Node, ...]) -> _Grid:
    return _Grid(
        seconds=tuple(sorted({node.speech_s for node in nodes})),
        noises=tuple(sorted({node.snr_db for node in nodes})),
        tails={(node.speech_s, node.snr_db): node.tail for node in nodes},
    )


def _between(
    nodes: Sequence[float], value: float, scale: Callable[[float], float]
) -> list[tuple[float, float]]:
    """Find the one or two nodes around a value and their weights; outside the nodes the nearest counts."""
    if not value > nodes[0]:
        return [(nodes[0], 1.0)]
    if value >= nodes[-1]:
        return [(nodes[-1], 1.0)]
    above = bisect_right(nodes, value)
    low, high = nodes[above - 1], nodes[above]
    share = (scale(value) - scale(low)) / (scale(high) - scale(low))
    return [(low, 1 - share), (high, share)]


def _log10_q(z: float) -> float:
    """Compute log10 of the upper tail of the standard normal distribution."""
    if z < 30:
        return math.log10(0.5 * math.erfc(z / math.sqrt(2)))
    # erfc underflows; the first term of its asymptotic series (Abramowitz and Stegun 7.1.23).
    return -(z * z / 2 + math.log(z * math.sqrt(2 * math.pi))) / math.log(10)
