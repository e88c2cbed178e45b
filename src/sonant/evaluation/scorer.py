"""The seam to the scoring back-end: what it is given, and what it must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sonant.evaluation.cutting import Template
from sonant.voice.calibration.model import Calibration
from sonant.voice.quality import comparison_quality
from sonant.voice.scoring import similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a comparison came to."""

    raw: float
    """Higher is more alike, on any scale."""
    score: float | None = None
    """0..100 on the scale of error rates (80 is a FAR of 1 %, 90 of 0.1 %); None if not calibrated."""
    llr: float | None = None
    """Natural logarithm of the likelihood ratio; None if not calibrated."""


Scorer = Callable[[Template, Template], Scored]
"""Reference, probe. It gives `score` for all comparisons or for none, and likewise `llr`."""


def cosine(reference: Template, probe: Template) -> Scored:
    """The bare similarity of two embeddings."""
    return Scored(raw=similarity(reference.embedding, probe.embedding))


def calibrated(calibration: Calibration) -> Scorer:
    """The similarity with the score and the likelihood ratio that a calibration gives it."""

    def score(reference: Template, probe: Template) -> Scored:
        raw = similarity(reference.embedding, probe.embedding)
        quality = comparison_quality(probe.quality, reference.quality)
        tail = calibration.tail_for(quality)
        return Scored(
            raw=raw,
            score=calibration.score_for(raw, quality),
            llr=calibration.llr_offset + calibration.llr_slope * tail.deviations(raw),
        )

    return score
