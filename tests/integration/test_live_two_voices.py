"""Calls in which two people speak: who is accepted, enrolled and found, and what is reported."""

from __future__ import annotations

import io

import pytest
import soundfile
from batch_values import fraud_entry
from live_testbed import customer
from mixed_speech import at_once, first_speech, handed_over

SPEECH_EVENT = "Sonant Session Speech Action"
GAPS_S = (0.0, 0.2, 0.4, 0.6)
#: By default two of the four voices speak.
OTHERS = {"english": "russian", "french": "italian", "italian": "english", "russian": "french"}
VOICES = [
    pytest.param(voice, marks=pytest.mark.slow if voice in ("italian", "russian") else ()) for voice in OTHERS
]
#: By default each gap with one length of the speaker's own speech.
HANDOVERS = [
    pytest.param(voice, gap_s, own_s, marks=() if own_s == (3, 5)[number % 2] else pytest.mark.slow)
    for number, (voice, gap_s) in enumerate(zip(OTHERS, GAPS_S, strict=True))
    for own_s in (3, 5)
]


@pytest.fixture(scope="module")
def caller(make_call):
    """Half a minute of a voice: `fresh` shares no clip with what is enrolled."""

    def talk(voice, seed, *, fresh=False):
        return customer(make_call(voice, seed, net_speech_s=30, channels=1, fresh=fresh))

    return talk


@pytest.fixture(scope="module")
def enrolled(live_domain, caller):
    """A domain in which every voice is enrolled under its name."""
    live, domain = live_domain
    for voice in OTHERS:
        name = live.start(domain, SpeakerId=voice).name
        live.call("EnrollBySession", DomainId=domain, SessionNameOrId=name)
        assert live.run_call(domain, name, caller(voice, 1)).enrollment_status == "COMPLETED"
    return live, domain


@pytest.fixture(scope="module")
def live_domain(_shared_calls):
    return _shared_calls, _shared_calls.testbed.new_domain()


def evaluate(live, domain, name):
    return live.call("EvaluateSession", DomainId=domain, SessionNameOrId=name)


def decision(live, domain, name):
    return evaluate(live, domain, name)["AuthenticationResult"]["Decision"]


def reasons(live, domain, name):
    session = live.call("DescribeSession", DomainId=domain, SessionNameOrId=name)["Session"]
    return session.get("SpeechReasons")


def run(live, domain, voice, samples):
    name = live.start(domain, SpeakerId=voice).name
    live.run_call(domain, name, samples)
    return name


# --- authentication


@pytest.mark.parametrize(("voice", "gap_s", "own_s"), HANDOVERS)
def test_handover_before_enough_speech_is_not_accepted(enrolled, caller, own_s, voice, gap_s):
    # Given: ten seconds of speech, begun by the speaker and ended by somebody else
    live, domain = enrolled
    other = caller(OTHERS[voice], 7, fresh=True)
    call = handed_over(caller(voice, 6, fresh=True), other, first_s=own_s, gap_s=gap_s)

    # When
    name = run(live, domain, voice, first_speech(call, 10.5))

    # Then
    assert decision(live, domain, name) in ("NOT_ENOUGH_SPEECH", "REJECT")
    assert reasons(live, domain, name) == ["MULTIPLE_SPEAKERS"]


def test_stranger_who_goes_on_after_the_speaker_is_rejected(enrolled, caller):
    live, domain = enrolled
    call = handed_over(caller("english", 6, fresh=True), caller("russian", 7), first_s=4)
    name = run(live, domain, "english", call)
    assert decision(live, domain, name) == "REJECT"


def test_speaker_who_goes_on_after_somebody_else_is_accepted(enrolled, caller):
    live, domain = enrolled
    call = handed_over(caller("russian", 7), caller("english", 6, fresh=True), first_s=4)
    name = run(live, domain, "english", call)
    assert decision(live, domain, name) == "ACCEPT"
    assert reasons(live, domain, name) == ["MULTIPLE_SPEAKERS"]


def test_voice_is_known_once_it_has_enough_speech_of_its_own(enrolled, caller):
    # Given: four seconds of one voice, then the speaker
    live, domain = enrolled
    call = handed_over(caller("russian", 7), caller("english", 6, fresh=True), first_s=4)
    first = first_speech(call, 10.5)
    name = live.start(domain, SpeakerId="english").name
    stream = live.open(domain, name)

    # When
    live.push(stream, first)
    before = decision(live, domain, name)
    live.push(stream, call[len(first) :])
    live.hang_up(stream)

    # Then
    assert (before, decision(live, domain, name)) == ("NOT_ENOUGH_SPEECH", "ACCEPT")


@pytest.mark.parametrize("voice", VOICES)
def test_speaker_and_stranger_at_once_are_not_accepted(enrolled, caller, voice):
    live, domain = enrolled
    call = at_once(caller(voice, 6, fresh=True), caller(OTHERS[voice], 7))
    name = run(live, domain, voice, call)
    assert decision(live, domain, name) in ("NOT_ENOUGH_SPEECH", "REJECT")


@pytest.mark.parametrize("voice", VOICES)
def test_speaker_alone_is_accepted_without_a_reason(enrolled, caller, voice):
    live, domain = enrolled
    name = run(live, domain, voice, caller(voice, 6, fresh=True))
    assert decision(live, domain, name) == "ACCEPT"
    assert reasons(live, domain, name) is None


def test_several_speakers_are_an_event_once_and_not_in_the_next_stream(enrolled, caller):
    live, domain = enrolled
    before = len(live.events(domain, SPEECH_EVENT))
    call = handed_over(caller("english", 6, fresh=True), caller("russian", 7), first_s=5)

    name = run(live, domain, "english", call)

    (event,) = live.events(domain, SPEECH_EVENT)[before:]
    assert event["session"]["sessionName"] == name
    assert event["session"]["speechReasons"] == ["MULTIPLE_SPEAKERS"]
    live.start(domain, name)
    assert reasons(live, domain, name) is None


# --- enrollment


@pytest.mark.parametrize(
    "first_s", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]
)
def test_handover_is_not_enrolled(live, domain, caller, first_s):
    name = live.start(domain, SpeakerId="customer-1").name
    live.call("EnrollBySession", DomainId=domain, SessionNameOrId=name)

    session = live.run_call(
        domain, name, handed_over(caller("english", 1), caller("russian", 2), first_s=first_s)
    )

    assert session.enrollment_status == "FAILED"
    assert "several people speak" in session.enrollment_message
    assert live.testbed.voiceprints(domain) == {}
    (event,) = live.events(domain, "VoiceId Speaker Action")
    assert (event["status"], event["errorInfo"]["errorType"]) == ("FAILED", "BAD_REQUEST")


# --- fraud detection


@pytest.mark.parametrize("first_s", [4, 6])
def test_fraudster_who_speaks_a_part_of_the_window_is_found(live, caller, first_s):
    domain = live.testbed.new_domain()
    live.testbed.put("s3://calls/partner.wav", _wav(caller("russian", 1)))
    live.testbed.register(domain, [fraud_entry("r1", "s3://calls/partner.wav")])
    name = live.start(domain, IsVoiceAuthenticationEnabled=False).name

    live.run_call(
        domain, name, handed_over(caller("english", 1), caller("russian", 6, fresh=True), first_s=first_s)
    )

    result = evaluate(live, domain, name)["FraudDetectionResult"]
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["KNOWN_FRAUDSTER"])


def _wav(samples):
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="WAV", subtype="PCM_16")
    return out.getvalue()
