"""What is told of sessions, whom it is told, and calls that come at the same time."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sessions_house import CALLER, hear, told
from voices_house import enroll, like, strangers

from sonant.errors import Conflict, ResourceNotFound, Validation
from sonant.events.outbox import Outbox
from sonant.jobs.fraud import Risk
from sonant.live.risks import Watches
from sonant.operations.evaluations import known_evaluation
from sonant.store.database.schema import voiceprints
from sonant.voice.models import load_models

(ANNA,) = strangers(1)


class Noticed:
    """Somebody who listens to calls."""

    def __init__(self):
        self.sessions: Counter[str] = Counter()

    def notice(self, session_id):
        self.sessions[session_id] += 1


@pytest.fixture
def at(house):
    return {"DomainId": house.new_domain()}


def evaluated(house, at, name="contact"):
    return house.call("EvaluateSession", **at, SessionNameOrId=name)


@pytest.fixture
def loud(house):
    """A house that tells."""
    house.service = replace(house.service, outbox=Outbox(enabled=True), live=Noticed())
    return house


@pytest.fixture
def calling(loud, at):
    """Anna, who is enrolled, has said enough."""
    enroll(loud, at["DomainId"], [ANNA])
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="caller-0")
    hear(loud, at["DomainId"], "contact", like(ANNA, 0.95))
    return loud


def test_an_evaluation_is_told_once_for_each_new_result(calling, at):
    answers = [evaluated(calling, at) for _ in range(3)]
    (event,) = told(calling)
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
    assert [event["detail-type"] for event in told(calling)[1:]] == [
        "VoiceId Update Session Action",
        "VoiceId Evaluate Session Action",
    ]


def test_too_little_speech_is_told_nobody(loud, at):
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="new")
    hear(loud, at["DomainId"], "contact", ANNA, purposes=())
    loud.call("UpdateSession", **at, SessionNameOrId="contact", SpeakerId="newer")
    before = len(told(loud))
    assert evaluated(loud, at)["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
    assert len(told(loud)) == before + 1, "the speaker who is not enrolled is a result"
    evaluated(loud, at)
    assert len(told(loud)) == before + 1


@pytest.mark.parametrize(
    ("operation", "more", "error", "type_"),
    [
        ("EvaluateSession", {"SessionNameOrId": "nobody"}, ResourceNotFound, "Evaluate Session"),
        ("UpdateSession", {"SessionNameOrId": "nobody"}, ResourceNotFound, "Update Session"),
        ("EnrollBySession", {"SessionNameOrId": "contact"}, Conflict, "Session Speaker Enrollment"),
        ("StartSession", {"SessionName": "contact"}, Conflict, "Start Session"),
    ],
)
def test_a_refusal_is_told(loud, at, operation, more, error, type_):
    loud.call("StartSession", **at, SessionName="contact")
    assert told(loud) == []
    with pytest.raises(error) as refusal:
        loud.call(operation, **at, **more)
    (event,) = told(loud)
    assert event["detail-type"] == f"VoiceId {type_} Action"
    assert (event["detail"]["status"], event["detail"]["errorInfo"]["errorType"]) == (
        "FAILURE",
        refusal.value.code,
    )


def test_the_end_of_a_stream_is_told_with_what_was_heard(calling, at):
    for _ in range(2):
        calling.call("EndStream", **at, SessionNameOrId="contact")
    (event,) = told(calling)
    session = event["detail"]["session"]
    assert event["detail-type"] == "VoiceId Start Session Action"
    for progress in ("authenticationAudioProgress", "fraudDetectionAudioProgress"):
        assert session[progress] == {
            "audioAggregationStartedAt": "2026-03-01T12:30:00.000Z",
            "audioAggregationEndedAt": "2026-03-01T12:30:12.000Z",
        }


def test_an_enrollment_is_told_when_it_is_asked_for_and_when_an_opt_out_ends_it(calling, at):
    session = calling.call("EnrollBySession", **at, SessionNameOrId="contact")
    assert session == {"Status": "NOT_ENOUGH_SPEECH"}
    calling.call("OptOutSpeaker", **at, SpeakerId="caller-0")
    asked, opted_out, failed = told(calling)
    assert asked["detail-type"] == "VoiceId Session Speaker Enrollment Action"
    assert opted_out["detail"]["action"] == "OPT_OUT_SPEAKER"
    assert failed["detail"]["action"] == "ENROLL_SPEAKER"
    assert failed["detail"]["status"] == "FAILURE"
    described = calling.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]
    assert failed["detail"]["data"] == {
        "enrollmentSource": "SESSION",
        "enrollmentSourceId": described["SessionId"],
        "enrollmentStatus": "FAILED",
    }


def test_whoever_listens_hears_of_every_change_after_it_was_made(calling, at):
    session_id = calling.call("DescribeSession", **at, SessionNameOrId="contact")["Session"]["SessionId"]
    noticed = calling.service.live.sessions
    assert noticed[session_id] == 1
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
        assert noticed[session_id] == 2 + number, operation
    evaluated(calling, at)
    assert noticed[session_id] == 6


# --- at the same time ---------------------------------------------------------------------------------


def test_calls_at_the_same_time_get_one_result(calling, at):
    start = threading.Barrier(8)

    def ask(_number):
        start.wait()
        return evaluated(calling, at)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))

    assert all(answer == answers[0] for answer in answers)
    assert len(told(calling)) == 1


class Interrupted(Watches):
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


def test_who_opts_out_while_the_result_is_made_is_not_accepted(calling, at):
    opt_out = Interrupted(lambda: calling.call("OptOutSpeaker", **at, SpeakerId="caller-0"))
    calling.service = replace(calling.service, watches=opt_out)
    assert evaluated(calling, at)["AuthenticationResult"]["Decision"] == "SPEAKER_OPTED_OUT"
    assert len([one for one in told(calling) if "Evaluate" in one["detail-type"]]) == 1


def test_a_session_that_changes_all_the_time_is_a_conflict(calling, at):
    thresholds = iter(range(100))

    def change():
        calling.call(
            "UpdateSession",
            **at,
            SessionNameOrId="contact",
            AuthenticationConfiguration={"AcceptanceThreshold": next(thresholds)},
        )

    calling.service = replace(calling.service, watches=Interrupted(change, times=99))
    with pytest.raises(Conflict) as refusal:
        evaluated(calling, at)
    assert refusal.value.members["ConflictType"] == "CONCURRENT_CHANGES"


def test_only_what_was_made_before_is_known_without_work(calling, at):
    request = {**at, "SessionNameOrId": "contact"}
    assert known_evaluation(calling.service, CALLER, request) is None
    answer = evaluated(calling, at)
    assert known_evaluation(calling.service, CALLER, request) == answer
    assert known_evaluation(calling.service, CALLER, {**request, "SessionNameOrId": "nobody"}) is None
    calling.call("DeleteDomain", **at)
    assert known_evaluation(calling.service, CALLER, request) is None


def test_a_domain_that_is_still_being_read_has_no_fraud_result_yet(calling, at):
    class Slow(Watches):
        def ready(self, *_arguments, **_more):
            return False

        def risks(self, *_arguments, **_more) -> tuple[Risk, ...]:
            raise AssertionError("this would wait")

    quick = calling.service.watches
    calling.service = replace(calling.service, watches=Slow(10))
    hear(calling, at["DomainId"], "contact", ANNA, purposes=("FRAUD",), fingerprint=b"\0" * 4)
    answer = evaluated(calling, at)
    assert answer["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
    assert answer["AuthenticationResult"]["Decision"] == "ACCEPT"
    calling.service = replace(calling.service, watches=quick)
    again = evaluated(calling, at)
    assert again["FraudDetectionResult"]["Decision"] == "LOW_RISK"
    assert again["AuthenticationResult"] == answer["AuthenticationResult"]


# --- time ---------------------------------------------------------------------------------------------


def test_a_stream_must_begin_within_the_idle_limit(loud, at):
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
        hear(loud, at["DomainId"], name, like(ANNA, 0.6), snr_db=noise)
        scores.append(evaluated(loud, at, name)["AuthenticationResult"]["Score"])
    quiet = loud.service.calibration_of(load_models().encoder_id).score(0.6, speech_s=10.0, snr_db=25.0)
    assert scores[2] == quiet
    assert scores[0] != scores[2]


@pytest.mark.parametrize(
    ("call", "voiceprint", "narrow"),
    [(True, True, True), (True, None, True), (True, False, False), (False, True, False)],
)
def test_calls_and_voiceprints_with_a_low_cut_are_held_against_strangers_on_such_lines(
    loud, at, call, voiceprint, narrow
):
    enroll(loud, at["DomainId"], [ANNA], prefix="anna", low_cut=voiceprint)
    loud.call("StartSession", **at, SessionName="contact", SpeakerId="anna-0")
    hear(loud, at["DomainId"], "contact", like(ANNA, 0.7), low_cut=call)
    scale = loud.service.calibration_of(load_models().encoder_id)
    here = {"speech_s": 10.0, "snr_db": 20.0}

    score = evaluated(loud, at, "contact")["AuthenticationResult"]["Score"]

    assert score == scale.score(0.7, narrow=narrow, **here)
    assert scale.score(0.7, narrow=True, **here) < scale.score(0.7, **here)


def test_a_speaker_without_a_voiceprint_is_told_what_to_do(calling, at):
    with calling.store.database.write() as connection:
        connection.execute(voiceprints.delete())
    with pytest.raises(Validation, match="enroll the speaker again"):
        evaluated(calling, at)
