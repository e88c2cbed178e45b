"""Enrollment in a session: who is enrolled, who is not, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from batch_values import fraud_entry
from live_testbed import customer

from sonant.jobs.fraud import SPOOFING, Risk
from sonant.sessions.calls import EndReason
from sonant.sessions.risks import FraudIndexes
from sonant.storage.repositories import calibrations
from sonant.storage.repositories.session_samples import FRAUD
from sonant.storage.repositories.sessions import ENDED
from sonant.voice.models import shipped_encoder_id

SPEAKER_EVENT = "VoiceId Speaker Action"


@pytest.fixture(scope="module")
def talk(make_call):
    return customer(make_call("english", 21, net_speech_s=14, channels=1))


@pytest.fixture(scope="module")
def again(make_call):
    return customer(make_call("english", 22, net_speech_s=14, channels=1, fresh=True))


def ask(live, domain, name=None, speaker="customer-1", **request):
    """A session in which the enrollment of a speaker was asked for."""
    session = live.start(domain, name, SpeakerId=speaker, **request)
    live.call("EnrollBySession", DomainId=domain, SessionNameOrId=session.name)
    return session.name


def status(live, domain, name):
    details = live.call("DescribeSession", DomainId=domain, SessionNameOrId=name)["Session"]
    return details["EnrollmentRequestDetails"]["Status"]


def message(live, domain, name):
    details = live.call("DescribeSession", DomainId=domain, SessionNameOrId=name)["Session"]
    return details["EnrollmentRequestDetails"].get("Message")


def test_new_speaker_is_enrolled_from_the_call(live, domain, talk):
    # Given
    name = ask(live, domain)
    assert status(live, domain, name) == "NOT_ENOUGH_SPEECH"
    assert live.testbed.speakers(domain)["customer-1"].status == "PENDING"

    # When
    live.run_call(domain, name, talk)

    # Then: the voiceprint is there, and audio to make it anew
    assert status(live, domain, name) == "COMPLETED"
    speaker = live.testbed.speakers(domain)["customer-1"]
    assert speaker.status == "ENROLLED"
    assert set(live.testbed.voiceprints(domain)) == {"customer-1"}
    assert live.testbed.kept_audio(domain)["customer-1"].startswith(b"fLaC")
    (event,) = live.events(domain, SPEAKER_EVENT)
    assert (event["action"], event["status"]) == ("ENROLL_SPEAKER", "SUCCEEDED")
    assert event["generatedSpeakerId"] == speaker.speaker_id
    assert event["data"]["enrollmentSource"] == "SESSION"
    assert event["data"]["enrollmentSourceId"] == live.session(domain, name).session_id
    assert event["data"]["enrollmentStatus"] == "NEW_ENROLLMENT"


def test_enrolled_caller_is_accepted_next_time_and_another_is_not(live, domain, talk, again, make_call):
    live.run_call(domain, ask(live, domain), talk)
    other = customer(make_call("russian", 5, net_speech_s=14, channels=1))

    decisions = []
    for samples in (again, other):
        name = live.start(domain, SpeakerId="customer-1").name
        live.run_call(domain, name, samples)
        result = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)
        decisions.append(result["AuthenticationResult"]["Decision"])

    assert decisions == ["ACCEPT", "REJECT"]


def test_enrollment_in_this_call_is_no_replay(live, domain, talk):
    name = ask(live, domain)
    live.run_call(domain, name, talk)
    result = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)
    assert result["FraudDetectionResult"]["Decision"] == "LOW_RISK"
    assert result["AuthenticationResult"]["Decision"] == "ACCEPT"


def test_late_enrollment_request_uses_the_earlier_speech(live, domain, talk):
    name = live.start(domain, SpeakerId="customer-1").name
    stream = live.open(domain, name)
    live.push(stream, talk)

    live.call("EnrollBySession", DomainId=domain, SessionNameOrId=name)

    live.until(domain, name, enrollment_status="COMPLETED")
    live.hang_up(stream)


def test_second_enrollment_replaces_the_voiceprint(live, domain, talk, again):
    live.run_call(domain, ask(live, domain), talk)
    before = live.testbed.voiceprints(domain)["customer-1"]

    live.run_call(domain, ask(live, domain), again)

    after = live.testbed.voiceprints(domain)["customer-1"]
    assert live.testbed.speakers(domain)["customer-1"].status == "ENROLLED"
    assert 0.5 < float(before @ after) < 0.9999
    with live.testbed.store.database.read() as connection:
        noted = calibrations.list_repeated_enrollments(connection, domain, shipped_encoder_id(), 10)
    assert [one.similarity for one in noted] == [pytest.approx(float(before @ after), abs=1e-4)]
    assert live.events(domain, SPEAKER_EVENT)[-1]["data"]["enrollmentStatus"] == "ENROLLMENT_OVERWRITE"


def test_replayed_recording_is_not_enrolled(live, domain, talk):
    live.run_call(domain, ask(live, domain), talk)

    name = ask(live, domain, speaker="customer-2")
    live.run_call(domain, name, talk)

    assert status(live, domain, name) == "FAILED"
    assert "VoiceSpoofingRisk is 100" in message(live, domain, name)
    assert set(live.testbed.voiceprints(domain)) == {"customer-1"}
    result = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])


def test_risk_that_the_enrollment_finds_later_replaces_the_result(live, domain, talk):
    """Given a call of low risk so far, when its speech for the enrollment is found to be a recording, then
    the fraud detection says so, too."""
    live.run_call(domain, ask(live, domain), talk)
    name = live.start(domain, SpeakerId="customer-2").name
    stream = live.open(domain, name)
    live.push(stream, talk)
    live.replace_sample(domain, name, FRAUD, fingerprint=None)  # nothing to find the recording by
    before = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert before["Decision"] == "LOW_RISK"

    live.call("EnrollBySession", DomainId=domain, SessionNameOrId=name)
    live.until(domain, name, enrollment_status="FAILED")

    after = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert (after["Decision"], after["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])
    assert after["FraudDetectionResultId"] != before["FraudDetectionResultId"]
    again = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert again == after
    live.hang_up(stream)


def test_risk_that_fraud_detection_found_fails_the_enrollment(live, domain, talk, monkeypatch):
    """Given speech for fraud detection that is of a high risk, and more speech for the enrollment, which
    alone is not."""
    assess = FraudIndexes.risks

    def risks(indexes, *parts, speech, **named):
        found = assess(indexes, *parts, speech=speech, **named)
        if speech.purpose == FRAUD:
            found = (*found, Risk(name=SPOOFING, score=97, evidence="SYNTHETIC_SPEECH"))
        return found

    monkeypatch.setattr(FraudIndexes, "risks", risks)
    name = live.start(domain, SpeakerId="customer-1").name
    stream = live.open(domain, name)
    live.push(stream, talk)

    live.call("EnrollBySession", DomainId=domain, SessionNameOrId=name)
    live.until(domain, name, enrollment_status="FAILED")

    assert "VoiceSpoofingRisk is 97" in message(live, domain, name)
    result = live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)["FraudDetectionResult"]
    assert result["Decision"] == "HIGH_RISK"
    live.hang_up(stream)


def test_fraudster_is_not_enrolled_and_not_named(live, talk, again):
    # Given: the speaker is on the domain's watchlist, from another call
    domain = live.testbed.new_domain()
    live.testbed.put("s3://calls/known-fraudster.wav", _wav(again))
    fraudster_id = live.testbed.register(
        domain, [fraud_entry("r1", "s3://calls/known-fraudster.wav")]
    ).generated_id("r1")

    # When
    name = ask(live, domain)
    live.run_call(domain, name, talk)

    # Then
    assert status(live, domain, name) == "FAILED"
    told = message(live, domain, name)
    assert "KnownFraudsterRisk" in told
    assert fraudster_id not in told
    assert live.testbed.speakers(domain)["customer-1"].status == "PENDING"
    event = live.events(domain, SPEAKER_EVENT)[-1]
    assert event["status"] == "FAILED"
    assert fraudster_id not in event["errorInfo"]["errorMessage"]
    found = live.events(domain, "Sonant Enrollment Fraud Detection")[-1]["fraudDetectionResult"]
    assert (found["decision"], found["reasons"]) == ("HIGH_RISK", ["KNOWN_FRAUDSTER"])


def test_enrollment_without_fraud_detection_skips_the_checks(live, domain, talk):
    live.run_call(domain, ask(live, domain), talk)
    name = ask(live, domain, speaker="customer-2", IsFraudDetectionEnabled=False)
    live.run_call(domain, name, talk)
    assert status(live, domain, name) == "COMPLETED"


@pytest.mark.parametrize("operation", ["OptOutSpeaker", "DeleteSpeaker"])
def test_speaker_opted_out_or_deleted_during_the_call_is_not_enrolled(live, domain, talk, operation):
    name = ask(live, domain)
    stream = live.open(domain, name)
    live.push(stream, talk[: 5 * 8000])

    live.call(operation, DomainId=domain, SpeakerId="customer-1")
    live.push(stream, talk[5 * 8000 :])
    live.hang_up(stream)

    assert live.session(domain, name).enrollment_status == "FAILED"
    assert live.session(domain, name).enrollment_message
    assert live.testbed.voiceprints(domain) == {}


def test_next_stream_gathers_speech_anew(live, domain, talk):
    name = ask(live, domain)
    session = live.run_call(domain, name, talk[: 6 * 8000])
    assert (session.stream_status, session.enrollment_status) == (ENDED, "NOT_ENOUGH_SPEECH")

    live.start(domain, name)
    session = live.run_call(domain, name, talk)

    assert session.enrollment_status == "COMPLETED"
    assert session.stream_end_reason == EndReason.CALL_ENDED


def _wav(samples):
    import io

    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.asarray(samples), 8000, format="WAV", subtype="PCM_16")
    return out.getvalue()
