"""Sessions through boto3: their life, every decision and reason, every conflict, and results made once.

What was heard comes from the store, where whoever listens to a call puts it; the voices are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from client_faults import refused
from heard_calls import Voice, begin, enroll, hear, listen, register, written
from sample_requests import NOBODY
from service_process import ServiceProcess, running
from sqlalchemy import update

from sonant.storage.database import schema
from sonant.storage.repositories import sessions, speakers
from sonant.storage.times import to_us

Factory = pytest.TempPathFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Two people: what each was enrolled with, and what each says in a call."""

    anna_enrolled: Voice
    anna_calling: Voice
    ben_enrolled: Voice
    ben_calling: Voice


@pytest.fixture(scope="session")
def people(make_call: Any, voices: Any) -> Voices:
    anna, ben = list(voices)[:2]
    calls = {
        (who, fresh): listen(
            make_call(who, 1 + fresh, fresh=fresh, net_speech_s=34.0 if not fresh else 14.0, channels=1),
            10.0 if fresh else 30.0,
        )
        for who in (anna, ben)
        for fresh in (False, True)
    }
    return Voices(
        anna_enrolled=calls[anna, False],
        anna_calling=calls[anna, True],
        ben_enrolled=calls[ben, False],
        ben_calling=calls[ben, True],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """An agent's desktop: one domain, and the calls that a test makes there."""

    service: ServiceProcess
    own: Any
    domain_id: str

    @property
    def at(self) -> dict[str, str]:
        return {"DomainId": self.domain_id}

    def call(self, name: str = "contact") -> dict[str, str]:
        return {**self.at, "SessionNameOrId": name}

    def start(self, name: str = "contact", **more: Any) -> dict[str, Any]:
        return dict(self.own.start_session(**self.at, SessionName=name, **more)["Session"])

    def update(self, name: str = "contact", **more: Any) -> dict[str, Any]:
        return dict(self.own.update_session(**self.call(name), **more)["Session"])

    def describe(self, name: str = "contact") -> dict[str, Any]:
        return dict(self.own.describe_session(**self.call(name))["Session"])

    def evaluate(self, name: str = "contact") -> dict[str, Any]:
        return dict(self.service.voice_id.evaluate_session(**self.call(name)))

    def authentication(self, name: str = "contact") -> dict[str, Any]:
        return dict(self.evaluate(name)["AuthenticationResult"])

    def fraud(self, name: str = "contact") -> dict[str, Any]:
        return dict(self.evaluate(name)["FraudDetectionResult"])

    def heard(self, voice: Voice, name: str = "contact", **more: Any) -> Any:
        """The stream begins, and enough is heard."""
        begin(self.service, self.domain_id, name)
        return hear(self.service, self.domain_id, name, voice, **more)

    def enroll(self, customer_id: str, voice: Voice, **more: Any) -> str:
        return enroll(self.service, self.domain_id, customer_id, voice, **more)

    def watchlist(self, name: str = "other") -> str:
        made = self.service.voice_id.create_watchlist(**self.at, Name=name)
        return str(made["Watchlist"]["WatchlistId"])

    def default_list(self) -> str:
        domain = self.service.voice_id.describe_domain(**self.at)["Domain"]
        return str(domain["WatchlistDetails"]["DefaultWatchlistId"])

    def speaker_status(self, speaker_id: str, status: str) -> None:
        """As the retention sweep or a job leaves a speaker."""
        with written(self.service, self.domain_id) as (connection, _domain, vault):
            speaker = speakers.find(connection, vault, self.domain_id, speaker_id)
            assert speaker is not None
            speakers.delete_voice(connection, vault, speaker, status, self.service.store.clock())


@pytest.fixture
def desk(service: ServiceProcess, domain_id: str) -> Desk:
    return Desk(service=service, own=service.own_client(), domain_id=domain_id)


# --- set-up -------------------------------------------------------------------------------------------


def test_a_session_that_names_nothing_is_set_up_with_the_documented_defaults(desk: Desk) -> None:
    session = desk.start()

    assert session["AuthenticationConfiguration"] == {"AcceptanceThreshold": 90}
    assert session["FraudDetectionConfiguration"] == {
        "RiskThreshold": 50,
        "WatchlistId": desk.default_list(),
    }
    assert session["StreamingConfiguration"] == {"AuthenticationMinimumSpeechInSeconds": 10}
    assert (session["StreamingStatus"], session["StreamNumber"]) == ("PENDING_CONFIGURATION", 1)
    assert (session["HeardSeconds"], session["NetSpeechSeconds"]) == (0, 0)
    assert not {"CustomerSpeakerId", "GeneratedSpeakerId", "StreamStartedAt", "StreamEndedAt"} & set(session)
    assert "EnrollmentRequestDetails" not in session
    assert desk.describe() == desk.describe(session["SessionId"]) == session


def test_everything_can_be_chosen(desk: Desk) -> None:
    watchlist_id = desk.watchlist()
    session = desk.start(
        SpeakerId="customer",
        AuthenticationConfiguration={"AcceptanceThreshold": 0},
        FraudDetectionConfiguration={"RiskThreshold": 100, "WatchlistId": watchlist_id},
        StreamingConfiguration={"AuthenticationMinimumSpeechInSeconds": 5},
    )
    assert session["AuthenticationConfiguration"] == {"AcceptanceThreshold": 0}
    assert session["FraudDetectionConfiguration"] == {"RiskThreshold": 100, "WatchlistId": watchlist_id}
    assert session["StreamingConfiguration"] == {"AuthenticationMinimumSpeechInSeconds": 5}
    assert session["CustomerSpeakerId"] == "customer"


@pytest.mark.parametrize(
    ("switch", "configuration", "result"),
    [
        ("IsVoiceAuthenticationEnabled", "AuthenticationConfiguration", "AuthenticationResult"),
        ("IsFraudDetectionEnabled", "FraudDetectionConfiguration", "FraudDetectionResult"),
    ],
)
def test_what_is_switched_off_has_no_result_until_an_update_switches_it_on(
    desk: Desk, switch: str, configuration: str, result: str
) -> None:
    off: dict[str, Any] = {switch: False}
    session = desk.start(**off)
    assert configuration not in session
    assert result not in desk.evaluate()

    member = {"AcceptanceThreshold": 70} if result == "AuthenticationResult" else {"RiskThreshold": 70}
    on: dict[str, Any] = {configuration: member}
    desk.update(**on)

    assert result in desk.evaluate()


def test_a_request_that_contradicts_itself_is_refused(desk: Desk) -> None:
    fault = refused(
        desk.start, IsFraudDetectionEnabled=False, FraudDetectionConfiguration={"RiskThreshold": 1}
    )
    assert (fault.code, "FraudDetectionConfiguration" in fault.message) == ("ValidationException", True)


def test_the_same_token_starts_one_session(desk: Desk) -> None:
    first = desk.start(ClientToken="token-1")
    assert desk.start(ClientToken="token-1") == first
    assert refused(desk.start, ClientToken="token-2").conflict_type == "ANOTHER_ACTIVE_STREAM"
    assert refused(desk.start, name="other", ClientToken="token-1").code == "ValidationException"


# --- the stream's life --------------------------------------------------------------------------------


def test_a_stream_is_awaited_heard_and_ended_and_the_session_may_have_another(
    desk: Desk, people: Voices
) -> None:
    desk.start(SpeakerId="customer")
    assert desk.evaluate()["StreamingStatus"] == "PENDING_CONFIGURATION"
    begin(desk.service, desk.domain_id, "contact")
    assert desk.evaluate()["StreamingStatus"] == desk.describe()["StreamingStatus"] == "ONGOING"

    ended = desk.own.end_stream(**desk.call())["Session"]

    assert (ended["StreamingStatus"], ended["StreamEndReason"]) == ("ENDED", "REQUESTED")
    assert ended["StreamEndedAt"] >= ended["StreamStartedAt"]
    assert desk.own.end_stream(**desk.call())["Session"] == ended
    assert desk.evaluate()["StreamingStatus"] == "ENDED"
    again = desk.start()
    assert (again["StreamNumber"], again["StreamingStatus"]) == (2, "PENDING_CONFIGURATION")
    assert (again["SessionId"], again["CustomerSpeakerId"]) == (ended["SessionId"], "customer")
    assert not {"StreamStartedAt", "StreamEndedAt", "StreamEndReason"} & set(again)


def test_speech_of_an_ended_stream_does_not_count_in_the_next(desk: Desk, people: Voices) -> None:
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_calling)
    first = desk.authentication()
    desk.own.end_stream(**desk.call())
    assert desk.authentication() == first, "what was heard before the end still counts"

    desk.start()

    assert desk.authentication()["Decision"] == desk.fraud()["Decision"] == "NOT_ENOUGH_SPEECH"
    desk.heard(people.anna_calling)
    second = desk.authentication()
    assert (second["Decision"], second["Score"]) == (first["Decision"], first["Score"])
    assert second["AuthenticationResultId"] != first["AuthenticationResultId"]


def test_a_stream_whose_listener_has_fallen_silent_counts_as_ended(desk: Desk) -> None:
    desk.start()
    begin(desk.service, desk.domain_id, "contact")
    with written(desk.service, desk.domain_id) as (connection, _domain, _vault):
        past = to_us(desk.service.store.clock() - timedelta(seconds=1))
        connection.execute(update(schema.sessions).values(stream_until=past))
    session = desk.describe()
    assert (session["StreamingStatus"], session["StreamEndReason"]) == ("ENDED", "SERVICE_STOPPED")
    assert desk.start()["StreamNumber"] == 2


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: Factory) -> Iterator[ServiceProcess]:
    """A service with room for two active sessions in a domain."""
    data = tmp_path_factory.mktemp("narrow") / "data"
    with running(data, QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN="2") as service:
        yield service


def test_no_more_sessions_are_active_than_the_quota_allows(narrow: ServiceProcess) -> None:
    desk = Desk(service=narrow, own=narrow.own_client(), domain_id=narrow.domain())
    desk.start("one")
    desk.start("two")
    assert refused(desk.start, name="three").code == "ServiceQuotaExceededException"
    desk.own.end_stream(**desk.call("one"))
    desk.start("three")
    assert refused(desk.start, name="one").code == "ServiceQuotaExceededException"
    with written(narrow, desk.domain_id) as (connection, _domain, _vault):
        past = to_us(narrow.store.clock() - timedelta(seconds=1))
        connection.execute(update(schema.sessions).values(stream_until=past))
    assert desk.describe("two")["StreamEndReason"] == "NEVER_BEGAN"
    desk.start("one")


# --- speakers -----------------------------------------------------------------------------------------


def test_a_new_customers_id_makes_a_pending_speaker(desk: Desk) -> None:
    desk.start()
    session = desk.update(SpeakerId="somebody-new")
    speaker = desk.service.voice_id.describe_speaker(**desk.at, SpeakerId="somebody-new")["Speaker"]
    assert speaker["Status"] == "PENDING"
    assert session["GeneratedSpeakerId"] == speaker["GeneratedSpeakerId"]
    assert desk.update(SpeakerId=speaker["GeneratedSpeakerId"])["CustomerSpeakerId"] == "somebody-new"


def test_an_unknown_generated_id_is_nobody(desk: Desk) -> None:
    for call in (desk.start, desk.update):
        fault = refused(call, SpeakerId=f"id#{NOBODY}")
        assert fault.resource_type == ("SPEAKER" if call == desk.start else "SESSION")
    desk.start()
    assert refused(desk.update, SpeakerId=f"id#{NOBODY}").resource_type == "SPEAKER"


def test_what_an_update_leaves_out_stays(desk: Desk) -> None:
    before = desk.start(SpeakerId="customer", FraudDetectionConfiguration={"RiskThreshold": 30})
    watchlist_id = desk.watchlist()
    after = desk.update(FraudDetectionConfiguration={"WatchlistId": watchlist_id})
    assert after["FraudDetectionConfiguration"] == {"RiskThreshold": 30, "WatchlistId": watchlist_id}
    for name in ("AuthenticationConfiguration", "CustomerSpeakerId", "StreamingStatus", "CreatedAt"):
        assert after[name] == before[name]
    assert after["UpdatedAt"] > before["UpdatedAt"]


# --- authentication -----------------------------------------------------------------------------------


def test_the_right_voice_is_accepted_and_another_rejected(desk: Desk, people: Voices) -> None:
    generated_id = desk.enroll("anna", people.anna_enrolled)
    for name, voice, decision in (
        ("right", people.anna_calling, "ACCEPT"),
        ("wrong", people.ben_calling, "REJECT"),
    ):
        desk.start(name, SpeakerId="anna", IsFraudDetectionEnabled=False)
        hearing = desk.heard(voice, name)
        answer = desk.evaluate(name)
        result = answer["AuthenticationResult"]
        assert set(answer) - {"ResponseMetadata"} == {
            "AuthenticationResult",
            "DomainId",
            "SessionId",
            "SessionName",
            "StreamingStatus",
        }
        assert result["Decision"] == decision
        assert (result["Score"] >= 90) == (decision == "ACCEPT")
        assert (result["CustomerSpeakerId"], result["GeneratedSpeakerId"]) == ("anna", generated_id)
        assert result["Configuration"] == {"AcceptanceThreshold": 90}
        assert abs(result["AudioAggregationStartedAt"] - hearing.started_at) < timedelta(milliseconds=2)
        assert abs(result["AudioAggregationEndedAt"] - hearing.ended_at) < timedelta(milliseconds=2)
        assert len(result["AuthenticationResultId"]) == 22


@pytest.mark.parametrize(
    ("prepare", "decision"),
    [
        (lambda desk: desk.update(SpeakerId="new"), "SPEAKER_NOT_ENROLLED"),
        (
            lambda desk: desk.service.voice_id.opt_out_speaker(**desk.at, SpeakerId="anna"),
            "SPEAKER_OPTED_OUT",
        ),
        (lambda desk: desk.speaker_status("anna", "EXPIRED"), "SPEAKER_EXPIRED"),
        (
            lambda desk: desk.service.voice_id.delete_speaker(**desk.at, SpeakerId="anna"),
            "SPEAKER_NOT_ENROLLED",
        ),
    ],
    ids=["pending", "opted out", "expired", "deleted"],
)
def test_the_speakers_status_decides_before_the_voice(
    desk: Desk, people: Voices, prepare: Callable[[Desk], Any], decision: str
) -> None:
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_calling)
    assert desk.authentication()["Decision"] == "ACCEPT"

    prepare(desk)

    result = desk.authentication()
    assert result["Decision"] == decision
    assert not {"Score", "AudioAggregationStartedAt", "AudioAggregationEndedAt"} & set(result)
    assert desk.authentication() == result


def test_without_a_speaker_nobody_is_authenticated(desk: Desk, people: Voices) -> None:
    desk.start()
    desk.heard(people.anna_calling)
    result = desk.authentication()
    assert result["Decision"] == "SPEAKER_ID_NOT_PROVIDED"
    assert not {"CustomerSpeakerId", "GeneratedSpeakerId", "Score"} & set(result)


def test_too_little_speech_is_told_until_there_is_enough(desk: Desk, people: Voices) -> None:
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    for step in (None, begin):
        if step is not None:
            step(desk.service, desk.domain_id, "contact")
        answer = desk.evaluate()
        assert answer["AuthenticationResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
        assert answer["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
        assert "Score" not in answer["AuthenticationResult"]
        assert not {"RiskDetails", "Reasons"} & set(answer["FraudDetectionResult"])
    hear(desk.service, desk.domain_id, "contact", people.anna_calling)
    assert desk.authentication()["Decision"] == "ACCEPT"


@pytest.mark.parametrize(("over", "decision"), [(0, "ACCEPT"), (1, "REJECT")])
def test_a_score_at_the_threshold_is_accepted_and_one_below_it_is_not(
    desk: Desk, people: Voices, over: int, decision: str
) -> None:
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    desk.heard(people.ben_calling)
    score = desk.authentication()["Score"]
    desk.update(AuthenticationConfiguration={"AcceptanceThreshold": score + over})
    result = desk.authentication()
    assert (result["Decision"], result["Score"]) == (decision, score)


def test_an_acceptance_moves_the_speakers_last_access_and_a_repeated_answer_does_not(
    desk: Desk, people: Voices
) -> None:
    speaker_id = desk.enroll("anna", people.anna_enrolled)
    long_ago = desk.service.store.clock() - timedelta(days=100)

    def set_back() -> None:
        with written(desk.service, desk.domain_id) as (connection, _domain, _vault):
            connection.execute(
                update(schema.speakers)
                .where(schema.speakers.c.speaker_id == speaker_id)
                .values(created_at=to_us(long_ago - timedelta(days=1)))
            )
            speakers.set_last_accessed(connection, speaker_id, long_ago)

    def accessed() -> Any:
        return desk.service.voice_id.describe_speaker(**desk.at, SpeakerId="anna")["Speaker"][
            "LastAccessedAt"
        ]

    set_back()
    desk.start("wrong", SpeakerId="anna")
    desk.heard(people.ben_calling, "wrong")
    assert desk.authentication("wrong")["Decision"] == "REJECT"
    assert accessed() < long_ago
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_calling)
    desk.evaluate()
    assert accessed() > long_ago
    set_back()
    desk.evaluate()
    assert accessed() < long_ago


def test_a_voiceprint_of_another_model_cannot_be_compared_and_what_to_do_is_told(
    desk: Desk, people: Voices
) -> None:
    desk.enroll("anna", people.anna_enrolled, model_id="another-model")
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_calling)
    fault = refused(desk.evaluate)
    assert (fault.code, "enroll the speaker again" in fault.message) == ("ValidationException", True)
    assert "another-model" in fault.message
    desk.start("old", SpeakerId="anna")
    desk.heard(replace(people.anna_calling, model_id="older-model"), "old")
    assert "start a new stream" in refused(desk.evaluate, name="old").message


@pytest.mark.parametrize(
    ("table", "column", "cure"),
    [
        (schema.voiceprints, "vector_sealed", "enroll the speaker again"),
        (schema.session_hearings, "vector_sealed", "start a new stream"),
        (schema.fraudster_voiceprints, "vector_sealed", "restore the database from a backup"),
        (schema.fingerprints, "sealed", "restore the database from a backup"),
    ],
    ids=["voiceprint", "hearing", "fraudster", "recording"],
)
def test_what_is_damaged_is_told_with_what_to_do(
    narrow: ServiceProcess, people: Voices, table: Any, column: str, cure: str
) -> None:
    desk = Desk(service=narrow, own=narrow.own_client(), domain_id=narrow.domain())
    try:
        desk.enroll("anna", people.anna_enrolled)
        register(narrow, desk.domain_id, people.ben_enrolled)
        desk.start(SpeakerId="anna")
        desk.heard(people.anna_calling)
        with written(narrow, desk.domain_id) as (connection, _domain, _vault):
            connection.execute(update(table).values({column: b"damaged"}))
        fault = refused(desk.evaluate)
        assert (fault.code, cure in fault.message) == ("ValidationException", True), fault
    finally:
        with written(narrow, desk.domain_id) as (connection, _domain, _vault):
            connection.execute(table.delete())
        narrow.voice_id.delete_domain(**desk.at)


# --- fraud --------------------------------------------------------------------------------------------


def test_a_caller_who_is_on_no_list_is_of_low_risk(desk: Desk, people: Voices) -> None:
    register(desk.service, desk.domain_id, people.ben_enrolled)
    desk.start()
    hearing = desk.heard(people.anna_calling)
    result = desk.fraud()
    assert result["Decision"] == "LOW_RISK"
    assert "Reasons" not in result
    assert result["Configuration"] == {"RiskThreshold": 50, "WatchlistId": desk.default_list()}
    assert result["RiskDetails"]["VoiceSpoofingRisk"] == {"RiskScore": 7}
    assert result["RiskDetails"]["KnownFraudsterRisk"]["RiskScore"] < 50
    assert abs(result["AudioAggregationEndedAt"] - hearing.ended_at) < timedelta(milliseconds=2)
    assert len(result["FraudDetectionResultId"]) == 22


def test_nobody_is_named_by_an_empty_list(desk: Desk, people: Voices) -> None:
    desk.start()
    desk.heard(people.anna_calling, spoofing_score=None)
    assert desk.fraud()["RiskDetails"] == {
        "KnownFraudsterRisk": {"RiskScore": 0},
        "VoiceSpoofingRisk": {"RiskScore": 0},
    }


def test_a_fraudster_is_known_again(desk: Desk, people: Voices) -> None:
    fraudster_id = register(desk.service, desk.domain_id, people.ben_enrolled)
    desk.start()
    desk.heard(people.ben_calling)
    result = desk.fraud()
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["KNOWN_FRAUDSTER"])
    known = result["RiskDetails"]["KnownFraudsterRisk"]
    assert (known["GeneratedFraudsterId"], known["RiskScore"] >= 50) == (fraudster_id, True)


def test_only_the_chosen_watchlist_counts(desk: Desk, people: Voices) -> None:
    other = desk.watchlist()
    register(desk.service, desk.domain_id, people.ben_enrolled, other)
    desk.start()
    desk.heard(people.ben_calling)
    before = desk.fraud()
    desk.update(FraudDetectionConfiguration={"WatchlistId": other})
    after = desk.fraud()
    assert (before["Decision"], after["Decision"]) == ("LOW_RISK", "HIGH_RISK")
    assert before["FraudDetectionResultId"] != after["FraudDetectionResultId"]


def test_a_made_voice_is_spoofing(desk: Desk, people: Voices) -> None:
    desk.start()
    desk.heard(people.anna_calling, spoofing_score=50, spoofing_evidence="SYNTHETIC_SPEECH")
    result = desk.fraud()
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])
    desk.update(FraudDetectionConfiguration={"RiskThreshold": 51})
    assert desk.fraud()["Decision"] == "LOW_RISK"


def test_a_recording_that_was_enrolled_is_a_replay_even_of_the_same_speaker(
    desk: Desk, people: Voices
) -> None:
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_enrolled)
    answer = desk.evaluate()
    assert answer["AuthenticationResult"]["Decision"] == "ACCEPT", "one says nothing of the other"
    result = answer["FraudDetectionResult"]
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])
    assert result["RiskDetails"]["VoiceSpoofingRisk"]["RiskScore"] == 100


def test_what_the_call_itself_enrolled_is_no_replay(desk: Desk, people: Voices) -> None:
    desk.start(SpeakerId="anna")
    begin(desk.service, desk.domain_id, "contact")
    desk.service.voice_id.delete_speaker(**desk.at, SpeakerId="anna")
    desk.enroll("anna", people.anna_enrolled)  # from this call, after it began
    hear(desk.service, desk.domain_id, "contact", people.anna_enrolled)
    assert desk.fraud()["Decision"] == "LOW_RISK"


def test_both_reasons_are_given_the_known_fraudster_first(desk: Desk, people: Voices) -> None:
    register(desk.service, desk.domain_id, people.ben_enrolled)
    desk.start()
    desk.heard(people.ben_calling, spoofing_score=90)
    assert desk.fraud()["Reasons"] == ["KNOWN_FRAUDSTER", "VOICE_SPOOFING"]


def test_threshold_0_flags_everybody(desk: Desk, people: Voices) -> None:
    desk.start(FraudDetectionConfiguration={"RiskThreshold": 0})
    desk.heard(people.anna_calling)
    assert desk.fraud()["Reasons"] == ["KNOWN_FRAUDSTER", "VOICE_SPOOFING"]


def test_a_watchlist_that_is_not_there_is_found_out_by_the_evaluation(desk: Desk) -> None:
    desk.start(FraudDetectionConfiguration={"WatchlistId": NOBODY})
    assert refused(desk.evaluate).resource_type == "WATCHLIST"
    desk.update(FraudDetectionConfiguration={"WatchlistId": desk.default_list()})
    assert desk.fraud()["Decision"] == "NOT_ENOUGH_SPEECH"


# --- results are made once ----------------------------------------------------------------------------


@pytest.fixture
def evaluated(desk: Desk, people: Voices) -> Desk:
    """A call with both results."""
    desk.enroll("anna", people.anna_enrolled)
    desk.start(SpeakerId="anna")
    desk.heard(people.anna_calling)
    desk.evaluate()
    return desk


def ids_of(desk: Desk) -> tuple[str, str]:
    answer = desk.evaluate()
    return (
        answer["AuthenticationResult"]["AuthenticationResultId"],
        answer["FraudDetectionResult"]["FraudDetectionResultId"],
    )


def test_the_same_results_come_back(evaluated: Desk) -> None:
    first = evaluated.evaluate()
    again = evaluated.evaluate(first["SessionId"])
    for name in ("AuthenticationResult", "FraudDetectionResult", "SessionId", "StreamingStatus"):
        assert again[name] == first[name]


@pytest.mark.parametrize(
    ("change", "new"),
    [
        (lambda desk: desk.update(AuthenticationConfiguration={"AcceptanceThreshold": 91}), (True, False)),
        (lambda desk: desk.update(AuthenticationConfiguration={"AcceptanceThreshold": 90}), (False, False)),
        (lambda desk: desk.update(SpeakerId="somebody-else"), (True, False)),
        (lambda desk: desk.update(SpeakerId="anna"), (False, False)),
        (lambda desk: desk.update(FraudDetectionConfiguration={"RiskThreshold": 51}), (False, True)),
        (
            lambda desk: desk.update(FraudDetectionConfiguration={"WatchlistId": desk.watchlist()}),
            (False, True),
        ),
        (
            lambda desk: desk.update(FraudDetectionConfiguration={"WatchlistId": desk.default_list()}),
            (False, False),
        ),
        (lambda desk: desk.service.voice_id.opt_out_speaker(**desk.at, SpeakerId="anna"), (True, False)),
        (lambda desk: desk.own.end_stream(**desk.call()), (False, False)),
    ],
    ids=[
        "another threshold",
        "the same threshold",
        "another speaker",
        "the same speaker",
        "another risk threshold",
        "another watchlist",
        "the default list by name",
        "the speaker opts out",
        "the stream ends",
    ],
)
def test_a_result_is_new_when_what_it_rests_on_has_changed_and_only_then(
    evaluated: Desk, change: Callable[[Desk], Any], new: tuple[bool, bool]
) -> None:
    before = ids_of(evaluated)
    change(evaluated)
    after = ids_of(evaluated)
    assert tuple(one != other for one, other in zip(before, after, strict=True)) == new
    assert ids_of(evaluated) == after


def test_a_new_fraudster_does_not_change_a_result_that_was_given(evaluated: Desk, people: Voices) -> None:
    before = evaluated.fraud()
    register(evaluated.service, evaluated.domain_id, people.anna_enrolled)
    assert evaluated.fraud() == before
    evaluated.own.end_stream(**evaluated.call())
    evaluated.start()
    evaluated.heard(people.anna_calling)
    assert evaluated.fraud()["Decision"] == "HIGH_RISK"


# --- enrollment ---------------------------------------------------------------------------------------


def test_an_enrollment_is_asked_for_once_with_a_speaker_who_may_be_enrolled(desk: Desk) -> None:
    desk.start()
    enroll_it = desk.own.enroll_by_session
    assert refused(enroll_it, **desk.call()).conflict_type == "SPEAKER_NOT_SET"
    desk.service.voice_id.opt_out_speaker(**desk.at, SpeakerId="refuser")
    desk.update(SpeakerId="refuser")
    assert refused(enroll_it, **desk.call()).conflict_type == "SPEAKER_OPTED_OUT"
    desk.update(SpeakerId="customer")

    assert enroll_it(**desk.call())["Status"] == "NOT_ENOUGH_SPEECH"

    assert desk.describe()["EnrollmentRequestDetails"] == {"Status": "NOT_ENOUGH_SPEECH"}
    assert refused(enroll_it, **desk.call()).conflict_type == "ENROLLMENT_ALREADY_EXISTS"
    for call in (desk.update, desk.start):
        desk.own.end_stream(**desk.call())
        fault = refused(call, SpeakerId="another")
        assert fault.conflict_type == "CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT"
    assert refused(desk.service.voice_id.describe_speaker, **desk.at, SpeakerId="another").resource_type
    assert desk.start(SpeakerId="customer")["EnrollmentRequestDetails"] == {"Status": "NOT_ENOUGH_SPEECH"}


def test_a_deleted_speaker_cannot_be_enrolled(desk: Desk) -> None:
    desk.start(SpeakerId="customer")
    desk.service.voice_id.delete_speaker(**desk.at, SpeakerId="customer")
    assert refused(desk.own.enroll_by_session, **desk.call()).resource_type == "SPEAKER"


@pytest.mark.parametrize("status", ["NOT_ENOUGH_SPEECH", "IN_PROGRESS", "COMPLETED"])
@pytest.mark.parametrize("way", ["opt out", "opt out many", "delete"])
def test_who_opts_out_or_is_deleted_is_not_enrolled_any_more(desk: Desk, status: str, way: str) -> None:
    for name in ("customer", "other"):
        desk.start(name, SpeakerId=name)
        desk.own.enroll_by_session(**desk.call(name))
        with written(desk.service, desk.domain_id) as (connection, _domain, _vault):
            session = sessions.find(connection, desk.domain_id, name, desk.service.store.clock())
            assert session is not None
            sessions.set_enrollment(connection, session.session_id, status, None, desk.service.store.clock())
    api, who = desk.service.voice_id, {**desk.at, "SpeakerId": "customer"}
    match way:
        case "opt out":
            api.opt_out_speaker(**who)
        case "opt out many":
            desk.own.import_opt_outs(**desk.at, SpeakerIds=["customer"])
        case "delete":
            api.delete_speaker(**who)
    details = desk.describe("customer")["EnrollmentRequestDetails"]
    if status == "COMPLETED":
        assert details == {"Status": "COMPLETED"}
    else:
        told = "the speaker was deleted" if way == "delete" else "the speaker has opted out"
        assert details == {"Status": "FAILED", "Message": told}
    assert desk.describe("other")["EnrollmentRequestDetails"] == {"Status": status}


# --- who may, and what is not there -------------------------------------------------------------------


def test_a_suspended_domain_is_a_conflict_for_those_who_change_and_for_evaluations(evaluated: Desk) -> None:
    desk = evaluated
    desk.service.voice_id.delete_domain(**desk.at)
    for call in (
        lambda: desk.start("other"),
        desk.update,
        desk.evaluate,
        lambda: desk.own.end_stream(**desk.call()),
        lambda: desk.own.enroll_by_session(**desk.call()),
    ):
        assert refused(call).conflict_type == "DOMAIN_NOT_ACTIVE"
    for call in (desk.describe, lambda: desk.own.list_sessions(**desk.at)):
        assert refused(call).resource_type == "DOMAIN"
    desk.own.restore_domain(**desk.at)
    assert desk.authentication()["Decision"] == "ACCEPT"


def test_sessions_of_another_domain_are_not_there(desk: Desk, service: ServiceProcess) -> None:
    session = desk.start()
    elsewhere = replace(desk, domain_id=service.domain())
    for name in ("contact", session["SessionId"], "nobody", f"id#{NOBODY}"):
        for call in (elsewhere.describe, elsewhere.evaluate, elsewhere.update):
            assert refused(call, name=name).resource_type == "SESSION"


def test_evaluating_takes_no_more_rights_than_its_own(evaluated: Desk) -> None:
    allowed = {"Effect": "Allow", "Action": ["voiceid:EvaluateSession", "kms:Decrypt"], "Resource": "*"}
    user = evaluated.service.user(allowed)
    agent = evaluated.service.client(user)
    assert agent.evaluate_session(**evaluated.call())["AuthenticationResult"]["Decision"] == "ACCEPT"
    fault = refused(evaluated.service.own_client(user).describe_session, **evaluated.call())
    assert fault.code == "AccessDeniedException"
    without_key = evaluated.service.user({**allowed, "Action": "voiceid:EvaluateSession"})
    fault = refused(evaluated.service.client(without_key).evaluate_session, **evaluated.call())
    assert fault.code == "AccessDeniedException"


# --- lists --------------------------------------------------------------------------------------------


def test_sessions_are_listed_oldest_first_page_by_page(desk: Desk) -> None:
    names = [f"contact-{number}" for number in range(7)]
    for name in names:
        desk.start(name, SpeakerId="customer")
    pages = list(
        desk.own.get_paginator("list_sessions").paginate(**desk.at, PaginationConfig={"PageSize": 3})
    )
    assert [len(page["SessionSummaries"]) for page in pages] == [3, 3, 1]
    found = [item for page in pages for item in page["SessionSummaries"]]
    assert [item["SessionName"] for item in found] == names
    session = desk.describe("contact-0")
    assert found[0] == {name: session[name] for name in found[0]}
    assert found[0]["CustomerSpeakerId"] == "customer"


def test_a_list_may_be_of_one_status(desk: Desk) -> None:
    for name in ("waits", "talks", "talked", "silent"):
        desk.start(name)
    for name in ("talks", "talked", "silent"):
        begin(desk.service, desk.domain_id, name)
    desk.own.end_stream(**desk.call("talked"))
    with written(desk.service, desk.domain_id) as (connection, _domain, _vault):
        past = to_us(desk.service.store.clock() - timedelta(seconds=1))
        silent = update(schema.sessions).where(schema.sessions.c.name == "silent")
        connection.execute(silent.values(stream_until=past))

    def names(status: str) -> set[str]:
        listed = desk.own.list_sessions(**desk.at, StreamingStatus=status)["SessionSummaries"]
        return {item["SessionName"] for item in listed}

    assert names("PENDING_CONFIGURATION") == {"waits"}
    assert names("ONGOING") == {"talks"}
    assert names("ENDED") == {"talked", "silent"}
