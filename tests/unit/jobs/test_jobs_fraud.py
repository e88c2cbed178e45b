"""The fraud stage: detectors that really listen, and the rule that decides."""

import numpy as np
import pytest

from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk, assess, known_fraudster, refuse, risk_details, with_replay
from sonant.jobs.replay import ReplayMatch
from sonant.voice.calibration.model import Normal, Tail
from sonant.voice.models.embedding import Embedding
from sonant.voice.search import Match

RATE_HZ = 8000
SECOND = np.arange(RATE_HZ) / RATE_HZ
TAIL = Tail(z=Normal(mean=1.03, deviation=0.1735))


def voice(*direction):
    vector = np.array(direction, np.float32)
    return Embedding(vector=vector / np.linalg.norm(vector), model_id="test")


def looks_like(fraudster):
    """A detector of one fraudster: cosine similarity as a score."""

    def detect(embedding, _speech, _risk_threshold):
        return Risk(name="KnownFraudsterRisk", score=round(100 * float(fraudster.vector @ embedding.vector)))

    return detect


def sounds_pure(_embedding, speech, _risk_threshold):
    """A detector of tones: the share of the power that lies at the strongest frequency."""
    power = np.abs(np.fft.rfft(speech)) ** 2
    return Risk(name="VoiceSpoofingRisk", score=round(100 * float(power.max() / power.sum())))


TONE = np.sin(2 * np.pi * 440 * SECOND).astype(np.float32)
NOISE = np.random.default_rng(1).normal(0, 0.1, RATE_HZ).astype(np.float32)


def test_without_detectors_no_risk_is_claimed_and_nobody_is_refused():
    risks = assess((), voice(1, 0), NOISE, risk_threshold=50)
    assert risks == ()
    assert refuse(risks, action="FAIL", risk_threshold=0) is None


def test_every_detector_gets_the_samples_and_the_speech():
    detectors = (looks_like(voice(1, 0)), sounds_pure)
    assert assess(detectors, voice(1, 0), TONE, risk_threshold=50) == (
        Risk(name="KnownFraudsterRisk", score=100),
        Risk(name="VoiceSpoofingRisk", score=100),
    )
    known, spoofed = assess(detectors, voice(0, 1), NOISE, risk_threshold=50)
    assert known.score == 0
    assert spoofed.score < 5


def test_the_gravest_risk_is_the_one_that_is_named():
    risks = assess((looks_like(voice(3, 4)), sounds_pure), voice(1, 0), TONE, risk_threshold=50)
    assert refuse(risks, action="FAIL", risk_threshold=50) == Refusal(
        400, "fraud check failed: VoiceSpoofingRisk is 100, at or above the threshold 50"
    )


def test_the_kind_of_spoofing_is_named():
    replay = with_replay((), ReplayMatch(speaker_id="id#1", pairs=40))
    assert refuse(replay, action="FAIL", risk_threshold=50) == Refusal(
        400, "fraud check failed: VoiceSpoofingRisk is 100 (REPLAY), at or above the threshold 50"
    )


@pytest.mark.parametrize(
    ("threshold", "refused"), [(0, True), (59, True), (60, True), (61, False), (100, False)]
)
def test_a_score_at_the_threshold_is_refused_and_one_below_is_not(threshold, refused):
    risks = assess((looks_like(voice(3, 4)),), voice(1, 0), NOISE, risk_threshold=50)
    assert [risk.score for risk in risks] == [60]
    assert (refuse(risks, action="FAIL", risk_threshold=threshold) is not None) is refused


def test_ignore_refuses_nobody():
    risks = assess((sounds_pure,), voice(1, 0), TONE, risk_threshold=50)
    assert refuse(risks, action="IGNORE", risk_threshold=0) is None


def test_nearest_fraudster_is_named_with_a_score_for_the_lists_length():
    near = Match(key="id#somebody", similarity=0.93)
    scores = [known_fraudster(near, length, TAIL).score for length in (1, 10, 500, 1_000_000)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 50 > scores[-1]
    assert known_fraudster(near, 1, TAIL).fraudster_id == "id#somebody"


def test_nobody_is_named_on_an_empty_list_or_with_a_score_of_0():
    nobody = Risk(name="KnownFraudsterRisk", score=0)
    assert known_fraudster(None, 0, TAIL) == nobody
    assert known_fraudster(Match(key="id#somebody", similarity=-0.5), 10, TAIL) == nobody


def test_events_contain_both_risks_in_the_form_of_an_evaluation():
    known = Risk(name="KnownFraudsterRisk", score=50, fraudster_id="id#somebody")
    found = risk_details(
        (known, Risk(name="VoiceSpoofingRisk", score=70)), risk_threshold=50, watchlist_id="list"
    )
    assert found == {
        "decision": "HIGH_RISK",
        "reasons": ["KNOWN_FRAUDSTER", "VOICE_SPOOFING"],
        "configuration": {"riskThreshold": 50, "watchlistId": "list"},
        "riskDetails": {
            "knownFraudsterRisk": {"riskScore": 50, "generatedFraudsterId": "id#somebody"},
            "voiceSpoofingRisk": {"riskScore": 70},
        },
    }
    low = risk_details((Risk(name="KnownFraudsterRisk", score=0),), risk_threshold=1, watchlist_id="list")
    assert (low["decision"], low["reasons"]) == ("LOW_RISK", [])
    assert low["riskDetails"] == {"knownFraudsterRisk": {"riskScore": 0}}


@pytest.mark.parametrize("scores", [(20, 70), (70, 20), (70, 70)])
def test_two_detectors_of_a_kind_give_the_greater_risk_in_any_order(scores):
    def detector(score):
        return lambda _embedding, _speech, _threshold: Risk(name="VoiceSpoofingRisk", score=score)

    risks = assess([detector(score) for score in scores], voice(1, 0), NOISE, risk_threshold=50)

    assert risks == (Risk(name="VoiceSpoofingRisk", score=70),)
    assert risk_details(risks, risk_threshold=50, watchlist_id="list")["decision"] == "HIGH_RISK"


@pytest.mark.parametrize("score", [0, 40, 100])
def test_replay_outweighs_the_spoofing_risk_of_detectors(score):
    found = with_replay(
        [Risk(name="VoiceSpoofingRisk", score=score, evidence="SYNTHETIC_SPEECH")],
        ReplayMatch(speaker_id="", pairs=30),
    )

    assert found == (Risk(name="VoiceSpoofingRisk", score=100, evidence="REPLAY"),)
