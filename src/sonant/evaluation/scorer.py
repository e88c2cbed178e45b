"""Score comparisons of two samples, with or without a calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sonant.voice.calibration.model import Calibration
from sonant.voice.sample import VoiceSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The result of one comparison."""

    raw: float
    """Higher is more alike, on any scale."""
    score: float | None = None
    """0..100 on the scale of error rates (80 is a FAR of 1 %, 90 of 0.1 %); None if not calibrated."""
    llr: float | None = None
    """Natural logarithm of the likelihood ratio; None if not calibrated."""


Scorer = Callable[[VoiceSample, VoiceSample], Scored]
"""Scores a reference and a probe. It gives `score` for all comparisons or for none, and likewise `llr`."""


def cosine(reference: VoiceSample, probe: VoiceSample) -> Scored:
    """Score with the plain similarity of two embeddings."""
    return Scored(raw=probe.similarity(reference))


def calibrated(calibration: Calibration) -> Scorer:
    """Build a scorer that adds the calibrated score and the likelihood ratio."""

    def score(reference: VoiceSample, probe: VoiceSample) -> Scored:
        raw = probe.similarity(reference)
        quality = probe.comparison_quality(reference)
        return Scored(
            raw=raw, score=calibration.score_for(raw, quality), llr=calibration.llr_for(raw, quality)
        )

    return score
