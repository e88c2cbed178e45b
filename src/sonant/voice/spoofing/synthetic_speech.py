"""Detect synthetic speech with two networks of very different cost and one calibrated risk.

The small network analyzes every recording (`features`). The large one, AASIST (Jung et al., arXiv
2110.01200), costs twenty times as much and runs only when the small one is uncertain or the speech is unlike
all genuine speech of its training, and when the result can change the decision (`threshold`). AASIST was
trained on wideband speech: on telephone speech its own threshold is meaningless, so its odds are compared
with those of genuine telephone speech. Where both have analyzed a recording, the risk is the lower one: a
false alarm refuses an honest caller.

Risk and the share of genuine recordings that reach it: 0 = all, 50 = 1 %, 100 = 0.01 %, linear in the
logarithm between. The far tail is an exponential fitted to genuine speech; docs/spoofing.md has the figures,
also those of the synthesizers that are not recognized.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.spoofing.features import features
from sonant.voice.spoofing.models import SpoofingModels, load_spoofing_models
from sonant.voice.spoofing.registry import DetectionLimits, SpoofingRisk, spoof_detector

MIN_SPEECH_S = 3.0
"""Less speech gives no score."""
NETWORK_RATE_HZ, NETWORK_SAMPLES = 16000, 64600
_NETWORK_RMS = 0.05  # the network has no level control of its own; about the level of its training
_RISK_PER_DECADE = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSpeechResult:
    """The scores of one recording."""

    risk: int
    """0-100; 50 is reached by 1 % of genuine recordings."""
    light_logit: float
    """Logit of the small network, above 0 for synthetic speech."""
    network_odds: float | None
    """Odds of the large network, spoofed against genuine; None when it was not run."""
    analyzed_s: float
    """Seconds of speech analyzed."""


@spoof_detector("synthetic-speech")
def detect(samples: NDArray[np.float32], limits: DetectionLimits) -> SpoofingRisk:
    """Score speech with the shipped networks, opened on first use. Raises NotEnoughSpeech."""
    found = score_synthetic_speech(
        samples,
        _shipped_models(),
        max_s=limits.max_s,
        windows=limits.windows,
        threshold=limits.threshold,
    )
    return SpoofingRisk(score=found.risk, evidence="SYNTHETIC_SPEECH")


def score_synthetic_speech(
    samples: NDArray[np.float32], models: SpoofingModels, *, max_s: float, windows: int, threshold: int = 0
) -> SyntheticSpeechResult:
    """Score speech at 8 kHz (float32, [n], pauses removed).

    At most the first `max_s` seconds are analyzed, by the large network at most `windows` of 4 s of them;
    both bound the cost. The large network can only lower the risk, so it does not run for a risk below
    `threshold`: the result is then the small network's risk, an upper bound. Raises NotEnoughSpeech under
    three seconds.
    """
    if len(samples) < MIN_SPEECH_S * RATE_HZ:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, MIN_SPEECH_S)
    analyzed = samples[: max(round(max_s * RATE_HZ), round(MIN_SPEECH_S * RATE_HZ))]
    logits, strangeness = models.light.run(None, {"features": features(analyzed)[None]})
    logit, calibration = float(logits[0]), models.calibration
    odds, share = None, calibration.light_share(logit)
    uncertain = logit > calibration.gate_logit or float(strangeness[0]) > calibration.gate_strangeness
    if windows > 0 and uncertain and _risk(share) >= threshold:
        (found,) = models.network.run(None, {"samples": network_input(analyzed, windows)})
        odds = float(np.mean(found[:, 0] - found[:, 1]))
        share = calibration.agreed_share(logit, odds)
    return SyntheticSpeechResult(
        risk=_risk(share),
        light_logit=logit,
        network_odds=odds,
        analyzed_s=len(analyzed) / RATE_HZ,
    )


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


def _risk(share: float) -> int:
    return round(min(max(-math.log10(share) * _RISK_PER_DECADE, 0.0), 100.0))
