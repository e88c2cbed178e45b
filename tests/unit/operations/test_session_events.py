"""Events of sessions, and evaluations that run at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from operations_testbed import ACCOUNT, OTHER_ACCOUNT
from sessions_testbed import CALLER, events_of, store_speech
from voices_testbed import enroll, like, strangers

from sonant.errors import Conflict, ModelledError, ResourceNotFound, SealBroken, Validation
from sonant.events.outbox import Outbox
from sonant.jobs.faults import Refusal
from sonant.jobs.fraud import Risk
from sonant.operations.evaluations import stored_evaluation
from sonant.sessions import enrollment
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import StreamKey
from sonant.sessions.risks import FraudIndexes
from sonant.storage.database.schema import domains, voiceprints
from sonant.voice.models import shipped_encoder_id

(ANNA,) = strangers(1)
CONTACT = "arn:aws:connect:us-west-2:111122223333:instance/i-1/contact/c-1"


class ChangeCounter:
    """Counts the changes of sessions that it is informed of."""

    def __init__(self):
        self.sessions: Counter[str] = Counter()

    def session_changed(self, session_id):
        self.sessions[session_id] += 1


@pytest.fixture
def at(testbed):
    return {"DomainId": testbed.new_domain()}


def evaluated(testbed, at, name="contact"):
    return testbed.call("EvaluateSession", **at, SessionNameOrId=name)


@pytest.fixture
def loud(testbed):
    """A testbed with events."""
    testbed.service = replace(testbed.service, outbox=Outbox(enabled=True), live=ChangeCounter())
    return testbed


@pytest.fixture
def calling(loud, at):
    """A session with enough speech of Anna, who is enrolled."""
    enroll(loud, at["DomainId"], [ANNA])
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="caller-0")
    store_speech(loud, at["DomainId"], "contact", like(ANNA, 0.95))
    return loud


def test_each_new_result_has_one_event(calling, at):
    answers = [evaluated(calling, at) for _ in range(3)]
    (event,) = events_of(calling)
    assert event["detail-type"] == "VoiceId Evaluate Session Action"
    session = event["detail"]["session"]
    assert session["authenticationResult"]["decision"] == "ACCEPT"
    result_id = answers[0]["AuthenticationResult"]["AuthenticationResultId"]
    assert session["authenticationResult"]["authenticationResultId"] == result_id
    assert answers[0] == answers[1] == answers[2]
    calling.call(
        "UpdateSession",
        **at,
        SessionNameOrId="contact",
        AuthenticationConfiguration={"AcceptanceThreshold": 95},
    )
    evaluated(calling, at)
    assert [event["detail-type"] for event in events_of(calling)[1:]] == [
        "VoiceId Update Session Action",
        "VoiceId Evaluate Session Action",
    ]


def test_not_enough_speech_has_one_event_until_there_is_enough(loud, at):
    enroll(loud, at["DomainId"], [ANNA])
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="caller-0")
    store_speech(loud, at["DomainId"], "contact", ANNA, purposes=())
    first, second = evaluated(loud, at), evaluated(loud, at)
    assert first == second, "under one id as long as it is so"
    store_speech(loud, at["DomainId"], "contact", like(ANNA, 0.95))
    third = evaluated(loud, at)
    assert evaluated(loud, at) == third
    results = [event["detail"]["session"]["authenticationResult"] for event in events_of(loud)]
    assert [result["decision"] for result in results] == ["NOT_ENOUGH_SPEECH", "ACCEPT"]
    assert [result["authenticationResultId"] for result in results] == [
        answer["AuthenticationResult"]["AuthenticationResultId"] for answer in (first, third)
    ]


def test_not_enough_speech_is_a_new_result_in_the_next_stream(loud, at):
    loud.call("StartSession", **at, SessionName="contact")
    first = evaluated(loud, at)["FraudDetectionResult"]
    loud.call("EndStream", **at, SessionNameOrId="contact")
    assert evaluated(loud, at)["FraudDetectionResult"] == first
    loud.call("StartSession", **at, SessionName="contact")
    second = evaluated(loud, at)["FraudDetectionResult"]
    assert second["Decision"] == first["Decision"] == "NOT_ENOUGH_SPEECH"
    assert second["FraudDetectionResultId"] != first["FraudDetectionResultId"]


def test_one_purpose_with_enough_speech_does_not_wait_for_the_other(loud, at):
    enroll(loud, at["DomainId"], [ANNA])
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="caller-0")
    store_speech(loud, at["DomainId"], "contact", like(ANNA, 0.95), purposes=("AUTHENTICATION",))
    early = evaluated(loud, at)
    store_speech(loud, at["DomainId"], "contact", like(ANNA, 0.95), purposes=("FRAUD",))
    late = evaluated(loud, at)
    assert early["AuthenticationResult"] == late["AuthenticationResult"]
    assert early["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
    assert late["FraudDetectionResult"]["Decision"] == "LOW_RISK"
    assert len(events_of(loud)) == 2


@pytest.mark.parametrize(
    ("operation", "more", "error", "type_"),
    [
        ("EvaluateSession", {"SessionNameOrId": "nobody"}, "RESOURCE_NOT_FOUND", "Evaluate Session"),
        ("UpdateSession", {"SessionNameOrId": "nobody"}, "RESOURCE_NOT_FOUND", "Update Session"),
        ("EnrollBySession", {"SessionNameOrId": "contact"}, "CONFLICT", "Session Speaker Enrollment"),
        ("StartSession", {"SessionName": "contact"}, "CONFLICT", "Start Session"),
    ],
)
def test_refusal_event_has_the_error_message(loud, at, operation, more, error, type_):
    loud.call("StartSession", **at, SessionName="contact")
    assert events_of(loud) == []
    with pytest.raises(ModelledError) as refusal:
        loud.call(operation, **at, **more)
    (event,) = events_of(loud)
    assert event["detail-type"] == f"VoiceId {type_} Action"
    assert event["detail"]["status"] == ("STREAMING_FAILED" if operation == "StartSession" else "FAILED")
    assert event["detail"]["errorInfo"] == {
        "errorCode": refusal.value.http_status,
        "errorMessage": refusal.value.message,
        "errorType": error,
    }


@pytest.mark.parametrize("mine", [False, True], ids=["nobody's", "another account's"])
def test_refusal_event_for_a_domain_that_is_not_there(loud, at, mine):
    loud.call("StartSession", **at, SessionName="contact", ContactArn=CONTACT)
    account = OTHER_ACCOUNT if mine else ACCOUNT
    wanted = at["DomainId"] if mine else "N" * 22
    with pytest.raises(ResourceNotFound):
        loud.call("EvaluateSession", account=account, DomainId=wanted, SessionNameOrId="contact")
    (event,) = events_of(loud)
    assert (event["account"], event["detail"]["domainId"]) == (account, wanted)
    assert event["detail"]["errorInfo"]["errorMessage"] == "The requested domain does not exist"
    assert event["detail"]["session"]["sessionName"] == "contact"
    assert event["detail"]["session"]["sessionId"] is None, "whether there is one is another account's affair"


def test_internal_failure_is_an_event_and_an_error(loud, at):
    loud.call("OptOutSpeaker", **at, SpeakerId="caller-0")
    speaker_id = events_of(loud)[0]["detail"]["generatedSpeakerId"]
    with loud.store.database.write() as connection:
        connection.execute(domains.update().values(data_key_wrapped=b"damaged"))
    with pytest.raises(SealBroken):
        loud.call("DeleteSpeaker", **at, SpeakerId=speaker_id)
    detail = events_of(loud)[1]["detail"]
    assert (detail["action"], detail["status"]) == ("DELETE_SPEAKER", "FAILED")
    assert detail["generatedSpeakerId"] == speaker_id
    assert detail["errorInfo"] == {
        "errorCode": 500,
        "errorMessage": "Internal Server Error",
        "errorType": "INTERNAL_ERROR",
    }


# --- contacts -----------------------------------------------------------------------------------------


def test_contact_is_in_every_event(loud, at):
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="new", ContactArn=CONTACT)
    described = loud.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]
    assert described["ContactArn"] == CONTACT
    loud.call("EnrollBySession", **at, SessionNameOrId="contact")
    evaluated(loud, at)
    loud.call("UpdateSession", **at, SessionNameOrId="contact", IsFraudDetectionEnabled=False)
    loud.call("OptOutSpeaker", **at, SpeakerId="new")
    loud.call("EndStream", **at, SessionNameOrId="contact")
    attributes = [(one["detail"]["action"], one["detail"]["systemAttributes"]) for one in events_of(loud)]
    known = {"aws:connect:OriginalContactArn": CONTACT}
    assert attributes == [
        ("SESSION_ENROLLMENT_REQUEST", known),
        ("EVALUATE_SESSION", known),
        ("UPDATE_SESSION", known),
        ("OPT_OUT_SPEAKER", None),
        ("ENROLL_SPEAKER", known),
        ("START_SESSION", known),
    ]


def test_next_stream_keeps_the_contact_unless_it_names_another(loud, at):
    def next_stream(**more):
        started = loud.call("StartSession", **at, SessionName="contact", **more)["Session"]
        loud.call("EndStream", **at, SessionNameOrId="contact")
        return started["ContactArn"]

    assert next_stream() is None
    assert next_stream(ContactArn=CONTACT) == CONTACT
    assert next_stream() == CONTACT
    assert next_stream(ContactArn=CONTACT + "2") == CONTACT + "2"


def test_update_sets_the_contact(loud, at):
    loud.call("StartSession", **at, SessionName="contact")
    updated = loud.call("UpdateSession", **at, SessionNameOrId="contact", ContactArn=CONTACT)["Session"]
    assert updated["ContactArn"] == CONTACT


def test_end_event_has_the_audio_progress(calling, at):
    for _ in range(2):
        calling.call("EndStream", **at, SessionNameOrId="contact")
    (event,) = events_of(calling)
    session = event["detail"]["session"]
    assert event["detail-type"] == "VoiceId Start Session Action"
    for progress in ("authenticationAudioProgress", "fraudDetectionAudioProgress"):
        assert session[progress] == {
            "audioAggregationStartedAt": "2026-03-01T12:30:00.000Z",
            "audioAggregationEndedAt": "2026-03-01T12:30:12.000Z",
        }


def test_enrollment_request_and_its_end_by_opt_out_are_events(calling, at):
    session = calling.call("EnrollBySession", **at, SessionNameOrId="contact")
    assert session == {"Status": "NOT_ENOUGH_SPEECH"}
    calling.call("OptOutSpeaker", **at, SpeakerId="caller-0")
    asked, opted_out, failed = events_of(calling)
    assert asked["detail-type"] == "VoiceId Session Speaker Enrollment Action"
    assert opted_out["detail"]["action"] == "OPT_OUT_SPEAKER"
    assert failed["detail"]["action"] == "ENROLL_SPEAKER"
    assert failed["detail"]["status"] == "FAILED"
    described = calling.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]
    assert failed["detail"]["data"] == {
        "enrollmentSource": "SESSION",
        "enrollmentSourceId": described["SessionId"],
        "enrollmentStatus": None,
    }


def test_failed_enrollment_has_one_event(loud, at):
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="new", ContactArn=CONTACT)
    loud.call("EnrollBySession", **at, SessionNameOrId="contact")
    store_speech(loud, at["DomainId"], "contact", ANNA, purposes=())
    session_id = loud.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]["SessionId"]
    key = StreamKey(domain_id=at["DomainId"], session_id=session_id, number=1)
    context = StreamContext(
        owner="test",
        settings=loud.settings,
        database=loud.store.database,
        keys_of=loud.store.accounts.keys,
        clock=loud.clock,
        fraud_indexes=loud.service.fraud_indexes,
        outbox=loud.service.outbox,
    )
    assert enrollment.start(context, key)
    for _ in range(2):
        enrollment.fail(context, key, Refusal(409, "the domain's voice model was changed"))
    asked, failed = (event["detail"] for event in events_of(loud))
    assert (asked["action"], asked["status"]) == ("SESSION_ENROLLMENT_REQUEST", "SUBMITTED")
    assert (failed["action"], failed["status"]) == ("ENROLL_SPEAKER", "FAILED")
    assert failed["data"]["enrollmentSourceId"] == session_id
    assert failed["errorInfo"]["errorType"] == "CONFLICT"
    assert failed["systemAttributes"] == {"aws:connect:OriginalContactArn": CONTACT}


def test_every_change_is_reported_to_the_stream_manager(calling, at):
    session_id = calling.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]["SessionId"]
    changes = calling.service.live.sessions
    assert changes[session_id] == 1
    for number, (operation, more) in enumerate(
        (
            ("UpdateSession", {"SessionNameOrId": "contact"}),
            ("EnrollBySession", {"SessionNameOrId": "contact"}),
            ("OptOutSpeaker", {"SpeakerId": "caller-0"}),
            ("EndStream", {"SessionNameOrId": "contact"}),
            ("StartSession", {"SessionName": "contact"}),
        )
    ):
        calling.call(operation, **at, **more)
        assert changes[session_id] == 2 + number, operation
    evaluated(calling, at)
    assert changes[session_id] == 6


# --- at the same time ---------------------------------------------------------------------------------


def test_concurrent_evaluations_get_one_result(calling, at):
    start = threading.Barrier(8)

    def ask(_number):
        start.wait()
        return evaluated(calling, at)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert len(events_of(calling)) == 1


class Interrupted(FraudIndexes):
    """Something else happens while the risks are scored, the first `times`."""

    def __init__(self, happens, times=1):
        super().__init__(0)
        self._happens, self._left = happens, times

    def risks(self, *arguments, **more):
        if self._left:
            self._left -= 1
            other = threading.Thread(target=self._happens)
            other.start()
            other.join()
        return super().risks(*arguments, **more)


def test_opt_out_during_the_evaluation_is_not_accepted(calling, at):
    opt_out = Interrupted(lambda: calling.call("OptOutSpeaker", **at, SpeakerId="caller-0"))
    calling.service = replace(calling.service, fraud_indexes=opt_out)
    assert evaluated(calling, at)["AuthenticationResult"]["Decision"] == "SPEAKER_OPTED_OUT"
    assert len([one for one in events_of(calling) if "Evaluate" in one["detail-type"]]) == 1


def test_session_that_keeps_changing_is_a_conflict(calling, at):
    thresholds = iter(range(100))

    def change():
        calling.call(
            "UpdateSession",
            **at,
            SessionNameOrId="contact",
            AuthenticationConfiguration={"AcceptanceThreshold": next(thresholds)},
        )

    calling.service = replace(calling.service, fraud_indexes=Interrupted(change, times=99))
    with pytest.raises(Conflict) as refusal:
        evaluated(calling, at)
    assert refusal.value.members["ConflictType"] == "CONCURRENT_CHANGES"


def test_stored_evaluation_has_only_results_made_before(calling, at):
    request = {**at, "SessionNameOrId": "contact"}
    assert stored_evaluation(calling.service, CALLER, request) is None
    answer = evaluated(calling, at)
    assert stored_evaluation(calling.service, CALLER, request) == answer
    assert stored_evaluation(calling.service, CALLER, {**request, "SessionNameOrId": "nobody"}) is None
    calling.call("DeleteDomain", **at)
    assert stored_evaluation(calling.service, CALLER, request) is None


def test_domain_still_being_read_has_no_fraud_result_yet(calling, at):
    class Slow(FraudIndexes):
        def ready(self, *_arguments, **_more):
            return False

        def risks(self, *_arguments, **_more) -> tuple[Risk, ...]:
            raise AssertionError("this would wait")

    quick = calling.service.fraud_indexes
    calling.service = replace(calling.service, fraud_indexes=Slow(10))
    store_speech(calling, at["DomainId"], "contact", ANNA, purposes=("FRAUD",), fingerprint=b"\0" * 4)
    answer = evaluated(calling, at)
    assert answer["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
    assert answer["AuthenticationResult"]["Decision"] == "ACCEPT"
    calling.service = replace(calling.service, fraud_indexes=quick)
    again = evaluated(calling, at)
    assert again["FraudDetectionResult"]["Decision"] == "LOW_RISK"
    assert again["AuthenticationResult"] == answer["AuthenticationResult"]


# --- time ---------------------------------------------------------------------------------------------


def test_stream_must_start_within_the_idle_time(loud, at):
    loud.call("StartSession", **at, SessionName="contact")
    loud.clock.advance(seconds=loud.settings.live.idle_s + 1)
    session = loud.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]
    assert (session["StreamingStatus"], session["StreamEndReason"]) == ("ENDED", "NEVER_BEGAN")
    assert session["StreamEndedAt"] == session["CreatedAt"] + timedelta(seconds=60)
    assert loud.call("StartSession", **at, SessionName="contact")["Session"]["StreamNumber"] == 2


def test_scores_take_the_noisier_side(loud, at):
    scores = []
    for number, noise in enumerate((5.0, 20.0, 40.0)):
        enroll(loud, at["DomainId"], [ANNA], prefix=f"anna-{number}")  # on a line of 25 dB
        name = f"contact-{number}"
        loud.call("StartSession", **at, SessionName=name, SpeakerId=f"anna-{number}-0")
        store_speech(loud, at["DomainId"], name, like(ANNA, 0.6), snr_db=noise)
        scores.append(evaluated(loud, at, name)["AuthenticationResult"]["Score"])
    quiet = loud.service.calibration_of(shipped_encoder_id()).score(0.6, speech_s=10.0, snr_db=25.0)
    assert scores[2] == quiet
    assert scores[0] != scores[2]


@pytest.mark.parametrize(
    ("call", "voiceprint", "highpass_300hz"),
    [(True, True, True), (True, None, True), (True, False, False), (False, True, False)],
)
def test_highpass_lines_are_scored_against_impostors_on_such_lines(
    loud, at, call, voiceprint, highpass_300hz
):
    enroll(loud, at["DomainId"], [ANNA], prefix="anna", highpass_300hz=voiceprint)
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="anna-0")
    store_speech(loud, at["DomainId"], "contact", like(ANNA, 0.7), highpass_300hz=call)
    scale = loud.service.calibration_of(shipped_encoder_id())
    here = {"speech_s": 10.0, "snr_db": 20.0}

    score = evaluated(loud, at, "contact")["AuthenticationResult"]["Score"]

    assert score == scale.score(0.7, highpass_300hz=highpass_300hz, **here)
    assert scale.score(0.7, highpass_300hz=True, **here) < scale.score(0.7, **here)


def test_speaker_without_voiceprint_is_refused_with_the_remedy(calling, at):
    with calling.store.database.write() as connection:
        connection.execute(voiceprints.delete())
    with pytest.raises(Validation, match="enroll the speaker again"):
        evaluated(calling, at)
