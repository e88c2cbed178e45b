"""The fraud stage: detectors that really listen, and the rule that decides."""

import numpy as np
import pytest

from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk, assess, refuse
from sonant.voice.embedding import Embedding

RATE_HZ = 8000
SECOND = np.arange(RATE_HZ) / RATE_HZ


def voice(*direction):
    vector = np.array(direction, np.float32)
    return Embedding(vector=vector / np.linalg.norm(vector), model_id="test")


def looks_like(fraudster):
    """A detector of one fraudster: cosine similarity as a score."""

    def detect(embedding, _speech):
        return Risk(name="KnownFraudsterRisk", score=round(100 * float(fraudster.vector @ embedding.vector)))

    return detect


def sounds_pure(_embedding, speech):
    """A detector of tones: the share of the power that lies at the strongest frequency."""
    power = np.abs(np.fft.rfft(speech)) ** 2
    return Risk(name="VoiceSpoofingRisk", score=round(100 * float(power.max() / power.sum())))


TONE = np.sin(2 * np.pi * 440 * SECOND).astype(np.float32)
NOISE = np.random.default_rng(1).normal(0, 0.1, RATE_HZ).astype(np.float32)


def test_without_detectors_no_risk_is_claimed_and_nobody_is_refused():
    risks = assess((), voice(1, 0), NOISE)
    assert risks == ()
    assert refuse(risks, action="FAIL", risk_threshold=0) is None


def test_every_detector_hears_the_voice_and_its_speech():
    detectors = (looks_like(voice(1, 0)), sounds_pure)
    assert assess(detectors, voice(1, 0), TONE) == (
        Risk(name="KnownFraudsterRisk", score=100),
        Risk(name="VoiceSpoofingRisk", score=100),
    )
    known, spoofed = assess(detectors, voice(0, 1), NOISE)
    assert known.score == 0
    assert spoofed.score < 5


def test_the_gravest_risk_is_the_one_that_is_named():
    risks = assess((looks_like(voice(3, 4)), sounds_pure), voice(1, 0), TONE)
    assert refuse(risks, action="FAIL", risk_threshold=50) == Refusal(
        400, "fraud check failed: VoiceSpoofingRisk is 100, at or above the threshold 50"
    )


@pytest.mark.parametrize(
    ("threshold", "refused"), [(0, True), (59, True), (60, True), (61, False), (100, False)]
)
def test_a_score_at_the_threshold_is_refused_and_one_below_is_not(threshold, refused):
    risks = assess((looks_like(voice(3, 4)),), voice(1, 0), NOISE)
    assert [risk.score for risk in risks] == [60]
    assert (refuse(risks, action="FAIL", risk_threshold=threshold) is not None) is refused


def test_ignore_refuses_nobody():
    risks = assess((sounds_pure,), voice(1, 0), TONE)
    assert refuse(risks, action="IGNORE", risk_threshold=0) is None
