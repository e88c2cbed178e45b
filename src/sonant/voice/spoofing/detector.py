"""Whether speech was made by a machine: two countermeasures of very different cost, one calibrated risk.

The small detector hears every recording (`spoofing_features`). The large one, AASIST (Jung et al., arXiv
2110.01200), costs twenty times as much and is asked only when the small one is in doubt or the speech is
unlike all the real speech it knows, and when its word can change what is done (`ask_from`). AASIST was
trained on wideband speech: on telephone speech its own threshold means nothing, so its odds are read against
those of genuine telephone speech. Where both have heard a recording, the risk is the lower one: a false alarm
refuses an honest caller.

Risk and the share of genuine recordings that reach it: 0 = all, 50 = 1 %, 100 = 0.01 %, linear in the
logarithm between. The far tail is an exponential fitted to genuine speech; docs/spoofing.md has the figures,
also those of the synthesizers that are not recognised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.spoofing.features import features
from sonant.voice.spoofing.models import SpoofingModels

MIN_SPEECH_S = 3.0
"""Less speech gives no score."""
NETWORK_RATE_HZ, NETWORK_SAMPLES = 16000, 64600
_NETWORK_RMS = 0.05  # the network has no level control of its own; about the level it was trained at
_RISK_A_DECADE = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoofingFinding:
    """What the countermeasures say of one recording."""

    risk: int
    """0-100; 50 is reached by 1 % of genuine recordings."""
    light_logit: float
    """Of the small detector, above 0 for synthetic speech."""
    network_odds: float | None
    """Of the large one, spoofed against genuine; None when it was not asked."""
    heard_s: float
    """Speech listened to."""


def spoofing_risk(
    samples: NDArray[np.float32], models: SpoofingModels, *, max_s: float, windows: int, ask_from: int = 0
) -> SpoofingFinding:
    """Judge speech at 8 kHz (float32, [n], pauses removed).

    At most the first `max_s` seconds are heard, by the large network at most `windows` of 4 s of them; the
    cost is bounded by both. The large network can only lower the risk, so below a risk of `ask_from` it is
    not asked: the risk is then what the small detector says, and the true one at most that.
    Raises NotEnoughSpeech under three seconds.
    """
    if len(samples) < MIN_SPEECH_S * RATE_HZ:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, MIN_SPEECH_S)
    heard = samples[: max(round(max_s * RATE_HZ), round(MIN_SPEECH_S * RATE_HZ))]
    logits, strangeness = models.light.run(None, {"features": features(heard)[None]})
    logit, known = float(logits[0]), models.calibration
    odds, share = None, known.light_share(logit)
    in_doubt = logit > known.gate_logit or float(strangeness[0]) > known.gate_strangeness
    if windows > 0 and in_doubt and _risk(share) >= ask_from:
        (found,) = models.network.run(None, {"samples": network_input(heard, windows)})
        odds = float(np.mean(found[:, 0] - found[:, 1]))
        share = known.agreed_share(logit, odds)
    return SpoofingFinding(
        risk=_risk(share),
        light_logit=logit,
        network_odds=odds,
        heard_s=len(heard) / RATE_HZ,
    )


def _risk(share: float) -> int:
    return round(min(max(-math.log10(share) * _RISK_A_DECADE, 0.0), 100.0))


def network_input(samples: NDArray[np.float32], windows: int) -> NDArray[np.float32]:
    """Windows of speech at 8 kHz as the large network takes them, evenly spaced: [k, 64600], k at most
    `windows`; speech shorter than one is repeated."""
    wide = soxr.resample(np.asarray(samples, np.float32), RATE_HZ, NETWORK_RATE_HZ)
    if len(wide) < NETWORK_SAMPLES:
        wide = np.resize(wide, NETWORK_SAMPLES)
    count = max(1, min(windows, len(wide) // NETWORK_SAMPLES))
    starts = np.linspace(0, len(wide) - NETWORK_SAMPLES, count).astype(int)
    cut = np.stack([wide[start : start + NETWORK_SAMPLES] for start in starts])
    rms = np.sqrt(np.mean(np.square(cut, dtype=np.float64), axis=1, keepdims=True))
    return np.asarray(cut * (_NETWORK_RMS / np.maximum(rms, 1e-9)), np.float32)
