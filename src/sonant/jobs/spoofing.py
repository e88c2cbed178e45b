"""Build the spoofing detector of worker processes."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from sonant.errors import NotEnoughSpeech
from sonant.jobs.countermeasures import InstalledModels
from sonant.jobs.fraud import SPOOFING, Detector, Risk
from sonant.settings import Fraud
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.voice.models.embedding import Embedding
from sonant.voice.spoofing import synthetic_speech
from sonant.voice.spoofing.registry import (
    DetectionLimits,
    SpoofDetector,
    SpoofingRisk,
    assess_spoofing,
    spoof_detectors,
)


def detectors(settings: Fraud, files: CountermeasureFiles) -> tuple[Detector, ...]:
    """Build the detectors of an installation; none when `spoofing_max_s` is 0.

    The networks are opened with the first recording that is checked: a process that never checks one does not
    hold them in memory. Countermeasures that the operator adds, and calibrations, are used from the next
    recording on.
    """
    if settings.spoofing_max_s == 0:
        return ()
    installed = InstalledModels(files)
    named: dict[str, SpoofDetector] = dict(spoof_detectors())
    named[synthetic_speech.NAME] = partial(_synthetic_speech, installed)
    kinds = tuple(named.values())

    def spoofing(_embedding: Embedding, speech: npt.NDArray[np.float32], risk_threshold: int) -> Risk | None:
        limits = DetectionLimits(
            max_s=settings.spoofing_max_s, windows=settings.spoofing_windows, threshold=risk_threshold
        )
        try:
            found = assess_spoofing(speech, limits, kinds)
        except NotEnoughSpeech:
            return None
        return Risk(name=SPOOFING, score=found.score, evidence=found.evidence)

    return (spoofing,)


def _synthetic_speech(
    installed: InstalledModels, speech: npt.NDArray[np.float32], limits: DetectionLimits
) -> SpoofingRisk:
    return synthetic_speech.detect_with(installed.current(), speech, limits)
