"""What a similarity means: the share of strangers that reach it, and that share as a score of 0 to 100.

A calibration holds, for several amounts of speech and several levels of noise, the upper tail of strangers'
similarities. Fisher's z, artanh of the cosine ("Frequency distribution of the values of the correlation
coefficient", 1915), is taken as normal there: it straightens the tail, and identical voices lie at infinity.
Between the fitted places mean and deviation are interpolated. An installation's own calibration is two
numbers on top: where its own strangers lie, and how far apart, on the scale that the shipped tails give.

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
ANCHORS = ((0, 0.0), (50, -1.0), (80, -2.0), (90, -3.0), (100, -5.0))

_QUIET_DB = 60.0
MOST_ALIKE = 1 - 1e-7
"""What float32 can tell from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normal:
    """A normal distribution, looked at from above."""

    mean: float
    deviation: float

    def log10_above(self, value: float) -> float:
        """Log10 of the share that is at least so large."""
        return _log10_q((value - self.mean) / self.deviation)

    def at(self, log10_share: float) -> float:
        """The inverse of `log10_above`, for -15 < log10_share < 0."""
        return self.mean - self.deviation * NormalDist().inv_cdf(10**log10_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Strangers' similarities at their upper end."""

    z: Normal
    """Of Fisher's z."""

    def deviations(self, similarity: float) -> float:
        """How many standard deviations a similarity lies above the mean of strangers."""
        return (fisher_z(similarity) - self.z.mean) / self.z.deviation

    def log10_far(self, similarity: float) -> float:
        """Log10 of the share of strangers at least so similar."""
        return self.z.log10_above(fisher_z(similarity))

    def similarity_at(self, log10_far: float) -> float:
        """The inverse of `log10_far`, for -15 < log10_far < 0."""
        return math.tanh(self.z.at(log10_far))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The tail that was fitted for one amount of speech in the probe and one level of noise."""

    speech_s: float
    snr_db: float
    tail: Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Similarity to FAR and score for one voice model."""

    model_id: str
    nodes: tuple[Node, ...]
    """A full grid: each amount of speech with each level of noise."""
    highpass_300hz: tuple[Node, ...] = ()
    """Another one for probes over lines that cut off below 300 Hz; empty where none was fitted."""
    shift: float = 0.0
    scale: float = 1.0
    """The installation's own strangers: (z - shift) / scale is standard normal in the tail."""
    supported_log10_far: float = -3.0
    """Smaller rates than this are extrapolated: the data that it was fitted on cannot support them."""
    llr_slope: float = 1.0
    llr_offset: float = 0.0
    """Natural log likelihood ratio of z standard deviations above strangers: offset + slope * z."""

    def tail(self, speech_s: float, snr_db: float, *, highpass_300hz: bool = False) -> Tail:
        """The tail for a probe with so much net speech; `snr_db` is that of the noisier side.

        `highpass_300hz` says that both lines cut off below 300 Hz (`quality.highpass_300hz`): the second grid
        was fitted for such lines. Where nothing is known of the reference's line, say so too: strangers over
        a full band are less alike than that, and a score then errs on the safe side.
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
        """Where the line is not known: the tail that asks for more likeness at this rate."""
        tails = [
            self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz) for highpass_300hz in (False, True)
        ]
        return max(tails, key=lambda tail: tail.similarity_at(log10_far))

    def log10_far(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> float:
        return self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz).log10_far(similarity)

    def score(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> int:
        """Authentication score, 0..100, rounded down: a score never claims a lower FAR than was found."""
        return score_of(
            self.log10_far(similarity, speech_s=speech_s, snr_db=snr_db, highpass_300hz=highpass_300hz)
        )

    def score_for(self, similarity: float, quality: Quality) -> int:
        """Compute the `score` of a comparison of this quality (see `tail_for`)."""
        return score_of(self.tail_for(quality).log10_far(similarity))

    def llr(
        self, similarity: float, *, speech_s: float, snr_db: float, highpass_300hz: bool = False
    ) -> float:
        """Natural logarithm of how much likelier the similarity is for one voice than for two."""
        above = self.tail(speech_s, snr_db, highpass_300hz=highpass_300hz).deviations(similarity)
        return self.llr_offset + self.llr_slope * above

    def adapted(self, shift: float, scale: float, supported_log10_far: float) -> Calibration:
        """The same with an installation's own strangers.

        They were compared on the grid for all lines (voiceprints do not tell theirs), so what its lines do to
        voices is in their figures already: the grid for narrow lines would count it twice and is left out.
        """
        return replace(
            self, shift=shift, scale=scale, supported_log10_far=supported_log10_far, highpass_300hz=()
        )


def fisher_z(similarity: float) -> float:
    """Fisher's z of a cosine; one that rounding has carried to 1 or beyond counts as just below."""
    return math.atanh(min(max(similarity, -MOST_ALIKE), MOST_ALIKE))


def place_between(anchors: Sequence[tuple[int, float]], level: float) -> float:
    """Where a level lies on straight lines between anchors of score and falling level; ends are kept."""
    scores, levels = zip(*anchors, strict=True)
    return float(np.interp(-level, [-one for one in levels], scores))


def score_of(log10_far: float) -> int:
    """The score whose FAR this is, rounded down; straight lines in log10 FAR between the anchors."""
    return math.floor(place_between(ANCHORS, log10_far) + 1e-9)


def log10_far_of(score: float) -> float:
    """The FAR that a score stands for, as log10; the inverse of `score_of`."""
    scores, levels = zip(*ANCHORS, strict=True)
    return float(np.interp(score, scores, levels))


@dataclass(frozen=True, slots=True)
class _Grid:
    """Nodes by their places, ascending."""

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
    """The one or two nodes around a value with their shares; outside of them the nearest counts."""
    if not value > nodes[0]:
        return [(nodes[0], 1.0)]
    if value >= nodes[-1]:
        return [(nodes[-1], 1.0)]
    above = bisect_right(nodes, value)
    low, high = nodes[above - 1], nodes[above]
    share = (scale(value) - scale(low)) / (scale(high) - scale(low))
    return [(low, 1 - share), (high, share)]


def _log10_q(z: float) -> float:
    """Log10 of the upper tail of the standard normal distribution."""
    if z < 30:
        return math.log10(0.5 * math.erfc(z / math.sqrt(2)))
    # erfc underflows; the first term of its asymptotic series (Abramowitz and Stegun 7.1.23).
    return -(z * z / 2 + math.log(z * math.sqrt(2 * math.pi))) / math.log(10)
