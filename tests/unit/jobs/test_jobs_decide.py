"""What becomes of a request: every status of the speaker with every action."""

import pytest
from made_samples import made_result

from sonant.jobs.decide import INCOMPARABLE, Config, decide_by_status, decide_outcome, enrollment_state
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk
from sonant.storage.repositories.speakers import SpeakerStatus

OPTED_OUT = Refusal(409, "You cannot request an enrollment for an opted out speaker.")
STATUSES = (None, "PENDING", "ENROLLED", INCOMPARABLE, "EXPIRED", "OPTED_OUT")
BAD_AUDIO = Refusal(400, "s3://calls/a.wav: file is empty: 0 bytes")
FLAGGED = Refusal(400, "fraud check failed: VoiceSpoofingRisk is 80, at or above the threshold 50")


def config(action, fraud="FAIL", threshold=50):
    return Config(overwrite=action == "OVERWRITE", fraud_action=fraud, risk_threshold=threshold)


def heard(*risks):
    return made_result(snr_db=20.0, risks=risks)


def decide(status, action, voice, *, fraud="FAIL", present=3, quota=10):
    return decide_outcome(status, config(action, fraud), voice, speakers_present=present, quota=quota)


@pytest.mark.parametrize(
    ("status", "action", "expected"),
    [
        (None, "SKIP", None),
        (None, "OVERWRITE", None),
        ("PENDING", "SKIP", None),
        ("PENDING", "OVERWRITE", None),
        ("ENROLLED", "SKIP", "DUPLICATE_SKIPPED"),
        ("ENROLLED", "OVERWRITE", None),
        (INCOMPARABLE, "SKIP", None),
        (INCOMPARABLE, "OVERWRITE", None),
        ("EXPIRED", "SKIP", None),
        ("EXPIRED", "OVERWRITE", None),
        ("OPTED_OUT", "SKIP", OPTED_OUT),
        ("OPTED_OUT", "OVERWRITE", OPTED_OUT),
    ],
)
def test_before_listening(status, action, expected):
    assert decide_by_status(status, config(action)) == expected


@pytest.mark.parametrize(
    ("status", "action", "expected"),
    [
        (None, "SKIP", "NEW_ENROLLMENT"),
        (None, "OVERWRITE", "NEW_ENROLLMENT"),
        ("PENDING", "SKIP", "NEW_ENROLLMENT"),
        ("PENDING", "OVERWRITE", "NEW_ENROLLMENT"),
        ("ENROLLED", "SKIP", "DUPLICATE_SKIPPED"),
        ("ENROLLED", "OVERWRITE", "ENROLLMENT_OVERWRITE"),
        (INCOMPARABLE, "SKIP", "ENROLLMENT_OVERWRITE"),
        (INCOMPARABLE, "OVERWRITE", "ENROLLMENT_OVERWRITE"),
        ("EXPIRED", "SKIP", "NEW_ENROLLMENT"),
        ("EXPIRED", "OVERWRITE", "NEW_ENROLLMENT"),
        ("OPTED_OUT", "SKIP", OPTED_OUT),
        ("OPTED_OUT", "OVERWRITE", OPTED_OUT),
    ],
)
def test_after_a_good_voice_was_processed(status, action, expected):
    assert decide(status, action, heard()) == expected


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("voice", "refusal"),
    [(BAD_AUDIO, BAD_AUDIO), (heard(Risk(name="VoiceSpoofingRisk", score=80)), FLAGGED)],
    ids=["bad audio", "flagged voice"],
)
def test_what_is_wrong_with_the_voice_counts_only_where_it_was_needed(status, action, voice, refusal):
    assert decide(status, action, voice) == (decide_by_status(status, config(action)) or refusal)


@pytest.mark.parametrize("status", STATUSES)
def test_ignore_lets_a_flagged_voice_pass(status):
    flagged = heard(Risk(name="KnownFraudsterRisk", score=100))
    assert decide(status, "OVERWRITE", flagged, fraud="IGNORE") == decide(status, "OVERWRITE", heard())


@pytest.mark.parametrize("action", ["SKIP", "OVERWRITE"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_full_domain_refuses_new_speakers_and_no_others(status, action):
    full = decide(status, action, heard(), present=10, quota=10)
    if status is None:
        assert full == Refusal(402, "the domain already has 10 speakers, its quota")
    else:
        assert full == decide(status, action, heard())
    assert decide(status, action, heard(), present=9, quota=10) == decide(status, action, heard())


def test_the_order_is_state_then_audio_then_fraud_then_quota():
    flagged = heard(Risk(name="VoiceSpoofingRisk", score=80))
    full = {"present": 10, "quota": 10}
    assert decide("OPTED_OUT", "SKIP", BAD_AUDIO, **full) == OPTED_OUT
    assert decide(None, "SKIP", BAD_AUDIO, **full) == BAD_AUDIO
    assert decide(None, "SKIP", flagged, **full) == FLAGGED
    assert decide(None, "SKIP", heard(), **full).code == 402


@pytest.mark.parametrize(
    ("standing", "state"),
    [
        (None, None),
        (SpeakerStatus("ENROLLED", "ge2e"), "ENROLLED"),
        (SpeakerStatus("ENROLLED", "ge2e-of-an-earlier-release"), INCOMPARABLE),
        (SpeakerStatus("PENDING", None), "PENDING"),
        (SpeakerStatus("EXPIRED", None), "EXPIRED"),
        (SpeakerStatus("OPTED_OUT", None), "OPTED_OUT"),
    ],
)
def test_only_an_enrolled_speaker_of_another_model_is_incomparable(standing, state):
    assert enrollment_state(standing, "ge2e") == state
