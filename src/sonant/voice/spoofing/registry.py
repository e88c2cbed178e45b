"""Register spoofing detectors by name and combine their results to the greatest risk.

To add a detector, write a module in this package whose function has the decorator `spoof_detector`, and list
its network in `models/models.json`. Every module of the package is imported when detectors are first needed.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingRisk:
    """The result of a detector."""

    score: int
    """0-100; 50 is reached by 1 % of genuine recordings, 100 by 0.01 %."""
    evidence: str
    """The kind of evidence, such as SYNTHETIC_SPEECH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionLimits:
    """Bounds of the cost of detection."""

    max_s: float = 10.0
    """Seconds of speech to analyze, at most."""
    windows: int = 1
    """Runs of a large network per recording, at most."""
    threshold: int = 0
    """Scores below it need not be exact: they may be upper bounds."""


SpoofDetector = Callable[[NDArray[np.float32], DetectionLimits], SpoofingRisk]
"""Scores speech at 8 kHz (float32, [n], pauses removed). Raises NotEnoughSpeech if there is too little."""

_detectors: dict[str, SpoofDetector] = {}


def spoof_detector(name: str) -> Callable[[SpoofDetector], SpoofDetector]:
    """Register the decorated function as the detector of this name. Raises ValueError for a used name."""

    def register(detector: SpoofDetector) -> SpoofDetector:
        if name in _detectors:
            raise ValueError(f"there is a spoofing detector named {name} already")
        _detectors[name] = detector
        return detector

    return register


@cache
def spoof_detectors() -> Mapping[str, SpoofDetector]:
    """Return every registered detector by name."""
    package = import_module("sonant.voice.spoofing")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return MappingProxyType(_detectors)


def assess_spoofing(
    samples: NDArray[np.float32],
    limits: DetectionLimits,
    detectors: Iterable[SpoofDetector] | None = None,
) -> SpoofingRisk:
    """Run the detectors, by default all registered ones, and return the greatest risk.

    `samples` is speech at 8 kHz, float32, [n], pauses removed. Detectors with too little speech are skipped;
    raises NotEnoughSpeech if all of them are.
    """
    results: list[SpoofingRisk] = []
    shortage: NotEnoughSpeech | None = None
    for detector in spoof_detectors().values() if detectors is None else detectors:
        try:
            results.append(detector(samples, limits))
        except NotEnoughSpeech as fault:
            if shortage is None or fault.need_s < shortage.need_s:
                shortage = fault
    if not results and shortage is not None:
        raise shortage
    return max(results, key=lambda result: result.score)
