"""Build the spoofing detector of worker processes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sonant.errors import NotEnoughSpeech
from sonant.jobs.fraud import SPOOFING, Detector, Risk
from sonant.settings import Fraud
from sonant.voice.models.embedding import Embedding
from sonant.voice.spoofing.registry import DetectionLimits, assess_spoofing


def detectors(settings: Fraud) -> tuple[Detector, ...]:
    """Build the detectors of an installation; none when `spoofing_max_s` is 0.

    The networks are opened with the first recording that is checked: a process that never checks one does not
    hold them in memory.
    """
    if settings.spoofing_max_s == 0:
        return ()

    def spoofing(_embedding: Embedding, speech: npt.NDArray[np.float32], risk_threshold: int) -> Risk | None:
        limits = DetectionLimits(
            max_s=settings.spoofing_max_s, windows=settings.spoofing_windows, threshold=risk_threshold
        )
        try:
            found = assess_spoofing(speech, limits)
        except NotEnoughSpeech:
            return None
        return Risk(name=SPOOFING, score=found.score, evidence=found.evidence)

    return (spoofing,)
