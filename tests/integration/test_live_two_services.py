"""A live call may start, be carried and be decided on at different services of one PostgreSQL."""

from __future__ import annotations

import uuid

import pytest
from batch_testbed import Testbed
from batch_values import entry
from cluster_testbed import Cluster
from live_testbed import customer
from two_services import Side, hang_up, messages_until_closed, named, refused, say

from sonant.settings import Enrollment, Fraud, Jobs, Registration, Settings

#: One process of pytest, so that the services are started once.
pytestmark = pytest.mark.xdist_group("live calls at two services")

LIVE = {
    "SONANT_LIVE_WORKERS": "1",
    "SONANT_LIVE_AUTHENTICATION_SPEECH_S": "5",
    "SONANT_LIVE_FRAUD_SPEECH_S": "5",
    "SONANT_REGISTRATION_NET_SPEECH_S": "6",
    "SONANT_RATES_FACTOR": "0",
}
CALLER = "customer-1"


@pytest.fixture(scope="module")
def testbed(tmp_path_factory, calls, postgres_server):
    """This process, in which jobs are worked on."""
    with postgres_server.migrated() as url:
        settings = Settings(
            data=tmp_path_factory.mktemp("two") / "data",
            encoder="ge2e",
            database=url,
            enrollment=Enrollment(net_speech_s=6.0),
            registration=Registration(net_speech_s=6.0),
            jobs=Jobs(workers=1),
            fraud=Fraud(spoofing_max_s=0),
        )
        made = Testbed.open(settings)
        for name, recording in calls.items():
            made.put(f"s3://calls/{name}", recording)
        yield made
        made.close()


@pytest.fixture(scope="module")
def cluster(testbed):
    made = Cluster(testbed, **LIVE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def sides(cluster):
    return Side.start(cluster), Side.start(cluster)


@pytest.fixture(scope="module")
def domain(testbed):
    """One that knows the caller."""
    domain_id = testbed.new_domain()
    done = testbed.enroll(domain_id, [entry("r", CALLER, "s3://calls/english.wav")])
    assert done.status == "COMPLETED"
    return domain_id


@pytest.fixture
def name():
    return str(uuid.uuid4())


@pytest.fixture(scope="module")
def speech(calls):
    """Samples of the customers' channels, by the recordings' names."""
    return {name: customer(recording).tobytes() for name, recording in calls.items()}


def test_result_of_an_ongoing_call_is_given_by_the_other_service(sides, domain, name, speech):
    one, other = sides
    started = one.own.start_session(DomainId=domain, SessionName=name, SpeakerId=CALLER, ClientToken=name)
    with one.carrying(domain, name) as line:
        say(line, speech["english-again.wav"])
        told = other.evaluated(domain, name)
        assert told["StreamingStatus"] == "ONGOING"
        assert told["AuthenticationResult"]["Decision"] == "ACCEPT"
        assert told["AuthenticationResult"]["CustomerSpeakerId"] == CALLER

        # It is one result, whoever is asked, and one session, whoever is told to start it again.
        again = one.evaluated(domain, name)
        for kind, result in (("AuthenticationResult", "AuthenticationResultId"),
                             ("FraudDetectionResult", "FraudDetectionResultId")):  # fmt: skip
            assert again[kind][result] == told[kind][result]
        repeated = other.own.start_session(
            DomainId=domain, SessionName=name, SpeakerId=CALLER, ClientToken=name
        )
        assert repeated["Session"]["SessionId"] == started["Session"]["SessionId"]
        assert hang_up(line) == "CALL_ENDED"
    assert other.session(domain, name)["StreamEndReason"] == "CALL_ENDED"


def test_session_started_at_one_service_streams_at_the_other(sides, domain, name, speech):
    one, other = sides
    one.own.start_session(DomainId=domain, SessionName=name, SpeakerId=CALLER)
    with other.carrying(domain, name) as line:
        say(line, speech["french.wav"])
        assert hang_up(line) == "CALL_ENDED"
    assert one.evaluation(domain, name)["AuthenticationResult"]["Decision"] == "REJECT"


def test_second_stream_is_refused_at_either_service(sides, domain, name, speech):
    one, other = sides
    one.own.start_session(DomainId=domain, SessionName=name)
    with one.carrying(domain, name) as line:
        say(line, speech["english.wav"][:16000])
        other.until(domain, name, StreamingStatus="ONGOING")
        second = refused(other.stream_url(domain, name))
        assert (second.status, second.fault) == (409, "ConflictException")
        assert hang_up(line) == "CALL_ENDED"


def test_first_carrier_to_send_audio_gets_the_stream(sides, domain, name, speech):
    one, other = sides
    one.own.start_session(DomainId=domain, SessionName=name, SpeakerId=CALLER)
    with one.carrying(domain, name) as first, other.carrying(domain, name) as second:
        say(first, speech["english-again.wav"])
        other.until(domain, name, StreamingStatus="ONGOING")
        assert messages_until_closed(second)[1:] == (1008, "OVERRUN")
        assert other.evaluated(domain, name)["AuthenticationResult"]["Decision"] == "ACCEPT"
        assert hang_up(first) == "CALL_ENDED"


def test_changes_at_one_service_reach_the_call_at_the_other(sides, domain, name, speech):
    one, other = sides
    one.own.start_session(DomainId=domain, SessionName=name)
    with one.carrying(domain, name) as line:
        say(line, speech["italian.wav"])
        told = other.evaluated(domain, name)
        assert told["AuthenticationResult"]["Decision"] == "SPEAKER_ID_NOT_PROVIDED"

        other.own.update_session(**named(domain, name), SpeakerId=name)
        assert one.evaluated(domain, name)["AuthenticationResult"]["Decision"] == "SPEAKER_NOT_ENROLLED"
        other.own.enroll_by_session(**named(domain, name))
        other.until(domain, name, EnrollmentRequestDetails={"Status": "COMPLETED"})
        assert other.evaluated(domain, name)["AuthenticationResult"]["Decision"] == "ACCEPT"

        other.own.end_stream(**named(domain, name))
        assert messages_until_closed(line)[1:] == (1000, "REQUESTED")
    found = other.voice_id.describe_speaker(DomainId=domain, SpeakerId=name)["Speaker"]
    assert found["Status"] == "ENROLLED"


def test_new_fraudster_counts_at_both_services(sides, testbed, speech):
    # Given: both have made results in the domain, so that both remember its fraudsters and recordings
    domain = testbed.new_domain()

    def decisions(name):
        one, other = sides
        one.own.start_session(DomainId=domain, SessionName=name)
        with one.carrying(domain, name) as line:
            say(line, speech["russian-again.wav"])
            assert hang_up(line) == "CALL_ENDED"
        other.own.start_session(DomainId=domain, SessionName=f"{name}-other")
        with other.carrying(domain, f"{name}-other") as line:
            say(line, speech["russian-again.wav"])
            assert hang_up(line) == "CALL_ENDED"
        return [other.evaluated(domain, name), one.evaluated(domain, f"{name}-other")]

    assert [told["FraudDetectionResult"]["Decision"] for told in decisions("before")] == ["LOW_RISK"] * 2

    # When
    registered = testbed.register(domain, [{
        "RequestId": "r",
        "AudioSpecifications": [{"S3Uri": "s3://calls/russian.wav", "ChannelId": 0}],
    }])  # fmt: skip
    assert registered.status == "COMPLETED"

    # Then
    for told in decisions("after"):
        assert told["FraudDetectionResult"]["Decision"] == "HIGH_RISK"
        assert told["FraudDetectionResult"]["Reasons"] == ["KNOWN_FRAUDSTER"]


def test_opt_out_at_one_service_counts_at_the_other(sides, testbed, name, speech):
    one, other = sides
    domain = testbed.new_domain()
    assert testbed.enroll(domain, [entry("r", CALLER, "s3://calls/english.wav")]).status == "COMPLETED"
    one.own.start_session(DomainId=domain, SessionName=name, SpeakerId=CALLER)
    with one.carrying(domain, name) as line:
        say(line, speech["english-again.wav"])
        assert other.evaluated(domain, name)["AuthenticationResult"]["Decision"] == "ACCEPT"
        one.voice_id.opt_out_speaker(DomainId=domain, SpeakerId=CALLER)
        assert other.evaluated(domain, name)["AuthenticationResult"]["Decision"] == "SPEAKER_OPTED_OUT"
        hang_up(line)


@pytest.mark.parametrize("waits", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_services_call_ends_and_continues_at_the_other(
    testbed, cluster, sides, domain, name, speech, waits
):
    _, other = sides
    dying = Side.start(cluster)
    dying.own.start_session(DomainId=domain, SessionName=name, SpeakerId=CALLER)
    with dying.carrying(domain, name) as line:
        say(line, speech["english-again.wav"])
        before = dying.evaluated(domain, name)["AuthenticationResult"]
        dying.kill()

    # What was heard counts at once; the stream counts as ended when its lease of ten seconds has run out.
    assert other.evaluation(domain, name)["AuthenticationResult"] == before
    if not waits:
        assert testbed.execute(
            "UPDATE sessions SET stream_until = stream_until - 10000000 WHERE name = :name", name=name
        )
    other.until(domain, name, StreamingStatus="ENDED", StreamEndReason="SERVICE_STOPPED")

    # And: the caller is heard anew, with the set-up that the session had
    other.own.start_session(DomainId=domain, SessionName=name)
    with other.carrying(domain, name) as line:
        say(line, speech["french.wav"])
        assert hang_up(line) == "CALL_ENDED"
    after = other.evaluated(domain, name)["AuthenticationResult"]
    assert (after["Decision"], after["CustomerSpeakerId"]) == ("REJECT", CALLER)
