"""The fraud stage of the pipeline: detectors score a voice, a rule decides.

A detector is a function from an embedding and the speech it was made from to a Risk. The stage runs every
detector that the installation has; with none, no risk is claimed and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sonant.jobs.faults import Refusal
from sonant.voice.embedding import Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """One detector's finding: `name` as in the API (KnownFraudsterRisk, VoiceSpoofingRisk), `score` 0-100."""

    name: str
    score: int


Detector = Callable[[Embedding, npt.NDArray[np.float32]], Risk]


def assess(
    detectors: Sequence[Detector], embedding: Embedding, speech: npt.NDArray[np.float32]
) -> tuple[Risk, ...]:
    """Run all detectors on one voice; `speech` is 8 kHz, mono, -1..1."""
    return tuple(detector(embedding, speech) for detector in detectors)


def refuse(risks: Sequence[Risk], *, action: str, risk_threshold: int) -> Refusal | None:
    """The refusal for the gravest risk at or above the threshold, unless the job says IGNORE.

    The message gives the risk and its score, never which fraudster.
    """
    if action == "IGNORE" or not risks:
        return None
    worst = max(risks, key=lambda risk: risk.score)
    if worst.score < risk_threshold:
        return None
    return Refusal(
        400, f"fraud check failed: {worst.name} is {worst.score}, at or above the threshold {risk_threshold}"
    )
