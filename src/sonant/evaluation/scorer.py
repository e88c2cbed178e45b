"""Score comparisons of two templates, with or without a calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sonant.evaluation.cutting import Template
from sonant.voice.calibration.model import Calibration
from sonant.voice.quality import comparison_quality
from sonant.voice.scoring import similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The result of one comparison."""

    raw: float
    """Higher is more alike, on any scale."""
    score: float | None = None
    """0..100 on the scale of error rates (80 is a FAR of 1 %, 90 of 0.1 %); None if not calibrated."""
    llr: float | None = None
    """Natural logarithm of the likelihood ratio; None if not calibrated."""


Scorer = Callable[[Template, Template], Scored]
"""Scores a reference and a probe. It gives `score` for all comparisons or for none, and likewise `llr`."""


def cosine(reference: Template, probe: Template) -> Scored:
    """Score with the plain similarity of two embeddings."""
    return Scored(raw=similarity(reference.embedding, probe.embedding))


def calibrated(calibration: Calibration) -> Scorer:
    """Build a scorer that adds the calibrated score and the likelihood ratio."""

    def score(reference: Template, probe: Template) -> Scored:
        raw = similarity(reference.embedding, probe.embedding)
        quality = comparison_quality(probe.quality, reference.quality)
        return Scored(
            raw=raw, score=calibration.score_for(raw, quality), llr=calibration.llr_for(raw, quality)
        )

    return score
