"""Detect synthetic speech with networks of very different cost and one calibrated risk.

The small network analyzes every recording (`features`). The large one, AASIST (Jung et al., arXiv
2110.01200), costs ten times as much. Where the calibration gives its evidence a weight (the shipped one does
not: docs/spoofing.md says why), it runs for the twentieth of genuine speech that the small one finds most
suspicious, and only when its evidence, which is bounded, can change the decision (`threshold`).
Detectors that the operator has added analyze every recording. `merging` merges what all of them find.

Risk and the share of genuine recordings that reach it: 0 = all, 50 = 1 %, 100 = 0.01 %, linear in the
logarithm between. The far tail is an exponential fitted to genuine speech; docs/spoofing.md has the figures,
also those of the synthesizers that are not recognized.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.spoofing.features import features
from sonant.voice.spoofing.merging import merged_share
from sonant.voice.spoofing.models import SpoofingCalibration, SpoofingModels, load_spoofing_models
from sonant.voice.spoofing.registry import DetectionLimits, SpoofingRisk, spoof_detector
from sonant.voice.spoofing.tail import risk_of

log = logging.getLogger(__name__)

NAME, EVIDENCE = "synthetic-speech", "SYNTHETIC_SPEECH"
MIN_SPEECH_S = 3.0
"""Less speech gives no score."""
NETWORK_RATE_HZ, NETWORK_SAMPLES = 16000, 64600
_NETWORK_RMS = 0.05  # the network has no level control of its own; about the level of its training


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSpeechResult:
    """The scores of one recording."""

    risk: int
    """0-100; 50 is reached by 1 % of genuine recordings."""
    share: float
    """Share of genuine recordings that reach what was found; the risk before it is rounded."""
    light_logit: float
    """Of the small network, above 0 for synthetic speech."""
    logit: float
    """Of both shipped networks; the same where the large one was not run."""
    network_odds: float | None
    """Odds of the large network, spoofed against genuine; None when it was not run."""
    added: Mapping[str, float] = field(default_factory=dict)
    """Logits of the detectors that the operator has added, by model id."""
    analyzed_s: float
    """Seconds of speech analyzed."""


@spoof_detector(NAME)
def detect(samples: NDArray[np.float32], limits: DetectionLimits) -> SpoofingRisk:
    """Score speech with the shipped networks, opened on first use. Raises NotEnoughSpeech."""
    return detect_with(_shipped_models(), samples, limits)


def detect_with(
    models: SpoofingModels, samples: NDArray[np.float32], limits: DetectionLimits
) -> SpoofingRisk:
    """Score speech with these networks. Raises NotEnoughSpeech."""
    found = score_synthetic_speech(
        samples, models, max_s=limits.max_s, windows=limits.windows, threshold=limits.threshold
    )
    return SpoofingRisk(score=found.risk, evidence=EVIDENCE)


def score_synthetic_speech(
    samples: NDArray[np.float32], models: SpoofingModels, *, max_s: float, windows: int, threshold: int = 0
) -> SyntheticSpeechResult:
    """Score speech at 8 kHz (float32, [n], pauses removed).

    At most the first `max_s` seconds are analyzed, by the large network at most `windows` of 4 s of them;
    both bound the cost. The large network does not run where it could not lift the risk to the `threshold`;
    risks below it are then those of the small network. Raises NotEnoughSpeech under three seconds.
    """
    if len(samples) < MIN_SPEECH_S * RATE_HZ:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, MIN_SPEECH_S)
    analyzed = samples[: max(round(max_s * RATE_HZ), round(MIN_SPEECH_S * RATE_HZ))]
    calibration = models.calibration
    (logits,) = models.light.run(["logits"], {"features": features(analyzed)[None]})
    logit = light_logit = float(logits[0])
    odds = None
    tail = calibration.together if windows > 0 else calibration.alone
    if windows > 0 and _worth_running(logit, calibration, threshold, models.factor):
        (found,) = models.network.run(None, {"samples": network_input(analyzed, windows)})
        odds = float(np.mean(found[:, 0] - found[:, 1]))
        logit = calibration.logit(logit, odds)
    added = {one.countermeasure.model_id: one.countermeasure.score(analyzed) for one in models.added}
    shares = [tail.share(logit)]
    for one in models.added:
        score = added[one.countermeasure.model_id]
        if np.isfinite(score):
            shares.append(one.tail.share(score))
        else:
            log.warning("the countermeasure %s gave no number and was left out", one.countermeasure.model_id)
    share = merged_share(shares, models.factor)
    return SyntheticSpeechResult(
        risk=risk_of(share),
        share=share,
        light_logit=light_logit,
        logit=logit,
        network_odds=odds,
        added=added,
        analyzed_s=len(analyzed) / RATE_HZ,
    )


def _worth_running(logit: float, calibration: SpoofingCalibration, threshold: int, factor: float) -> bool:
    """Return whether the large network can change whether the risk reaches the threshold."""
    if calibration.network_weight == 0 or logit < calibration.network_from:
        return False
    most = calibration.together.share(logit + calibration.network_bound)
    return risk_of(merged_share([most], factor)) >= threshold


def network_input(samples: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
    """Cut speech at 8 kHz into evenly spaced windows for the large network: [k, 64600], k at most `windows`.

    Speech shorter than a window is repeated.
    """
    wide = soxr.resample(np.asarray(samples, np.float32), RATE_HZ, NETWORK_RATE_HZ)
    if len(wide) < NETWORK_SAMPLES:
        wide = np.resize(wide, NETWORK_SAMPLES)
    count = max(1, min(windows, len(wide) // NETWORK_SAMPLES))
    starts = np.linspace(0, len(wide) - NETWORK_SAMPLES, count).astype(int)
    cut = np.stack([wide[start : start + NETWORK_SAMPLES] for start in starts])
    rms = np.sqrt(np.mean(np.square(cut, dtype=np.float64), axis=1, keepdims=True))
    return np.asarray(cut * (_NETWORK_RMS / np.maximum(rms, 1e-9)), np.float32)


@cache
def _shipped_models() -> SpoofingModels:
    return load_spoofing_models()
