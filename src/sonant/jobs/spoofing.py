"""The spoofing detector of worker processes: the countermeasures behind the pipeline's detector."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from sonant.errors import NotEnoughSpeech
from sonant.jobs.fraud import SPOOFING, Detector, Risk
from sonant.settings import Fraud
from sonant.voice.models.embedding import Embedding
from sonant.voice.spoofing.detector import spoofing_risk
from sonant.voice.spoofing.models import SpoofingModels, load_spoofing_models


def detectors(settings: Fraud) -> tuple[Detector, ...]:
    """What the installation listens with; nothing when `spoofing_max_s` is 0.

    The networks are opened with the first recording that is guarded: a process that never meets one does
    without their memory.
    """
    if settings.spoofing_max_s == 0:
        return ()

    def synthetic_speech(
        _embedding: Embedding, speech: npt.NDArray[np.float32], risk_threshold: int
    ) -> Risk | None:
        try:
            found = spoofing_risk(
                speech,
                _models(),
                max_s=settings.spoofing_max_s,
                windows=settings.spoofing_windows,
                ask_from=risk_threshold,
            )
        except NotEnoughSpeech:
            return None
        return Risk(name=SPOOFING, score=found.risk, evidence="SYNTHETIC_SPEECH")

    return (synthetic_speech,)


@cache
def _models() -> SpoofingModels:
    return load_spoofing_models()
