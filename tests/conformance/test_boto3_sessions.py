"""Sessions through boto3: stream states, every decision and reason, every conflict, and results made once.

Tests put the analyzed speech into the store; the voices are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from analyzed_calls import Voice, analyze, enroll, register, start_audio, store_speech, written
from client_faults import refused
from sample_requests import NOBODY
from service_process import ServiceProcess, running
from sqlalchemy import update

from sonant.storage.database import schema
from sonant.storage.repositories import sessions, speakers
from sonant.storage.times import to_us

Factory = pytest.TempPathFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Voices:
    """Two speakers: the speech that each is enrolled with, and that of a call."""

    anna_enrolled: Voice
    anna_calling: Voice
    ben_enrolled: Voice
    ben_calling: Voice


@pytest.fixture(scope="session")
def people(make_call: Any, voices: Any) -> Voices:
    anna, ben = list(voices)[:2]
    calls = {
        (who, fresh): analyze(
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
class SessionsClient:
    """The clients of one domain, with its id filled in."""

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

    def stream(self, voice: Voice, name: str = "contact", **more: Any) -> Any:
        """Start the stream and store enough analyzed speech."""
        start_audio(self.service, self.domain_id, name)
        return store_speech(self.service, self.domain_id, name, voice, **more)

    def enroll(self, customer_id: str, voice: Voice, **more: Any) -> str:
        return enroll(self.service, self.domain_id, customer_id, voice, **more)

    def watchlist(self, name: str = "other") -> str:
        made = self.service.voice_id.create_watchlist(**self.at, Name=name)
        return str(made["Watchlist"]["WatchlistId"])

    def default_list(self) -> str:
        domain = self.service.voice_id.describe_domain(**self.at)["Domain"]
        return str(domain["WatchlistDetails"]["DefaultWatchlistId"])

    def speaker_status(self, speaker_id: str, status: str) -> None:
        """Set a speaker's status, as retention or a job does."""
        with written(self.service, self.domain_id) as (connection, _domain, vault):
            speaker = speakers.find(connection, vault, self.domain_id, speaker_id)
            assert speaker is not None
            speakers.delete_voice(connection, vault, speaker, status, self.service.store.clock())


@pytest.fixture
def client(service: ServiceProcess, domain_id: str) -> SessionsClient:
    return SessionsClient(service=service, own=service.own_client(), domain_id=domain_id)


# --- set-up -------------------------------------------------------------------------------------------


def test_session_gets_the_documented_defaults(client: SessionsClient) -> None:
    session = client.start()

    assert session["AuthenticationConfiguration"] == {"AcceptanceThreshold": 90}
    assert session["FraudDetectionConfiguration"] == {
        "RiskThreshold": 50,
        "WatchlistId": client.default_list(),
    }
    assert session["StreamingConfiguration"] == {"AuthenticationMinimumSpeechInSeconds": 10}
    assert (session["StreamingStatus"], session["StreamNumber"]) == ("PENDING_CONFIGURATION", 1)
    assert (session["HeardSeconds"], session["NetSpeechSeconds"]) == (0, 0)
    assert not {"CustomerSpeakerId", "GeneratedSpeakerId", "StreamStartedAt", "StreamEndedAt"} & set(session)
    assert "EnrollmentRequestDetails" not in session
    assert client.describe() == client.describe(session["SessionId"]) == session


def test_every_setting_can_be_chosen(client: SessionsClient) -> None:
    watchlist_id = client.watchlist()
    session = client.start(
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
def test_disabled_result_is_absent_until_an_update_enables_it(
    client: SessionsClient, switch: str, configuration: str, result: str
) -> None:
    off: dict[str, Any] = {switch: False}
    session = client.start(**off)
    assert configuration not in session
    assert result not in client.evaluate()

    member = {"AcceptanceThreshold": 70} if result == "AuthenticationResult" else {"RiskThreshold": 70}
    on: dict[str, Any] = {configuration: member}
    client.update(**on)

    assert result in client.evaluate()


def test_contradictory_request_is_refused(client: SessionsClient) -> None:
    fault = refused(
        client.start, IsFraudDetectionEnabled=False, FraudDetectionConfiguration={"RiskThreshold": 1}
    )
    assert (fault.code, "FraudDetectionConfiguration" in fault.message) == ("ValidationException", True)


def test_same_token_starts_one_session(client: SessionsClient) -> None:
    first = client.start(ClientToken="token-1")
    assert client.start(ClientToken="token-1") == first
    assert refused(client.start, ClientToken="token-2").conflict_type == "ANOTHER_ACTIVE_STREAM"
    assert refused(client.start, name="other", ClientToken="token-1").code == "ValidationException"


# --- the stream's life --------------------------------------------------------------------------------


def test_session_goes_through_stream_states_and_takes_another_stream(
    client: SessionsClient, people: Voices
) -> None:
    client.start(SpeakerId="customer")
    assert client.evaluate()["StreamingStatus"] == "PENDING_CONFIGURATION"
    start_audio(client.service, client.domain_id, "contact")
    assert client.evaluate()["StreamingStatus"] == client.describe()["StreamingStatus"] == "ONGOING"

    ended = client.own.end_stream(**client.call())["Session"]

    assert (ended["StreamingStatus"], ended["StreamEndReason"]) == ("ENDED", "REQUESTED")
    assert ended["StreamEndedAt"] >= ended["StreamStartedAt"]
    assert client.own.end_stream(**client.call())["Session"] == ended
    assert client.evaluate()["StreamingStatus"] == "ENDED"
    again = client.start()
    assert (again["StreamNumber"], again["StreamingStatus"]) == (2, "PENDING_CONFIGURATION")
    assert (again["SessionId"], again["CustomerSpeakerId"]) == (ended["SessionId"], "customer")
    assert not {"StreamStartedAt", "StreamEndedAt", "StreamEndReason"} & set(again)


def test_speech_of_an_ended_stream_does_not_count_in_the_next(client: SessionsClient, people: Voices) -> None:
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    client.stream(people.anna_calling)
    first = client.authentication()
    client.own.end_stream(**client.call())
    assert client.authentication() == first, "what was heard before the end still counts"

    client.start()

    assert client.authentication()["Decision"] == client.fraud()["Decision"] == "NOT_ENOUGH_SPEECH"
    client.stream(people.anna_calling)
    second = client.authentication()
    assert (second["Decision"], second["Score"]) == (first["Decision"], first["Score"])
    assert second["AuthenticationResultId"] != first["AuthenticationResultId"]


def test_stream_without_heartbeat_counts_as_ended(client: SessionsClient) -> None:
    client.start()
    start_audio(client.service, client.domain_id, "contact")
    with written(client.service, client.domain_id) as (connection, _domain, _vault):
        past = to_us(client.service.store.clock() - timedelta(seconds=1))
        connection.execute(update(schema.sessions).values(stream_until=past))
    session = client.describe()
    assert (session["StreamingStatus"], session["StreamEndReason"]) == ("ENDED", "SERVICE_STOPPED")
    assert client.start()["StreamNumber"] == 2


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: Factory) -> Iterator[ServiceProcess]:
    """A service with room for two active sessions in a domain."""
    data = tmp_path_factory.mktemp("narrow") / "data"
    with running(data, QUOTAS_ACTIVE_SESSIONS_PER_DOMAIN="2") as service:
        yield service


def test_active_sessions_are_limited_by_the_quota(narrow: ServiceProcess) -> None:
    client = SessionsClient(service=narrow, own=narrow.own_client(), domain_id=narrow.domain())
    client.start("one")
    client.start("two")
    assert refused(client.start, name="three").code == "ServiceQuotaExceededException"
    client.own.end_stream(**client.call("one"))
    client.start("three")
    assert refused(client.start, name="one").code == "ServiceQuotaExceededException"
    with written(narrow, client.domain_id) as (connection, _domain, _vault):
        past = to_us(narrow.store.clock() - timedelta(seconds=1))
        connection.execute(update(schema.sessions).values(stream_until=past))
    assert client.describe("two")["StreamEndReason"] == "NEVER_BEGAN"
    client.start("one")


# --- speakers -----------------------------------------------------------------------------------------


def test_new_customer_id_makes_a_pending_speaker(client: SessionsClient) -> None:
    client.start()
    session = client.update(SpeakerId="somebody-new")
    speaker = client.service.voice_id.describe_speaker(**client.at, SpeakerId="somebody-new")["Speaker"]
    assert speaker["Status"] == "PENDING"
    assert session["GeneratedSpeakerId"] == speaker["GeneratedSpeakerId"]
    assert client.update(SpeakerId=speaker["GeneratedSpeakerId"])["CustomerSpeakerId"] == "somebody-new"


def test_unknown_generated_id_is_not_found(client: SessionsClient) -> None:
    for call in (client.start, client.update):
        fault = refused(call, SpeakerId=f"id#{NOBODY}")
        assert fault.resource_type == ("SPEAKER" if call == client.start else "SESSION")
    client.start()
    assert refused(client.update, SpeakerId=f"id#{NOBODY}").resource_type == "SPEAKER"


def test_update_keeps_absent_members(client: SessionsClient) -> None:
    before = client.start(SpeakerId="customer", FraudDetectionConfiguration={"RiskThreshold": 30})
    watchlist_id = client.watchlist()
    after = client.update(FraudDetectionConfiguration={"WatchlistId": watchlist_id})
    assert after["FraudDetectionConfiguration"] == {"RiskThreshold": 30, "WatchlistId": watchlist_id}
    for name in ("AuthenticationConfiguration", "CustomerSpeakerId", "StreamingStatus", "CreatedAt"):
        assert after[name] == before[name]
    assert after["UpdatedAt"] > before["UpdatedAt"]


# --- authentication -----------------------------------------------------------------------------------


def test_right_voice_is_accepted_and_another_rejected(client: SessionsClient, people: Voices) -> None:
    generated_id = client.enroll("anna", people.anna_enrolled)
    for name, voice, decision in (
        ("right", people.anna_calling, "ACCEPT"),
        ("wrong", people.ben_calling, "REJECT"),
    ):
        client.start(name, SpeakerId="anna", IsFraudDetectionEnabled=False)
        hearing = client.stream(voice, name)
        answer = client.evaluate(name)
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
        (lambda client: client.update(SpeakerId="new"), "SPEAKER_NOT_ENROLLED"),
        (
            lambda client: client.service.voice_id.opt_out_speaker(**client.at, SpeakerId="anna"),
            "SPEAKER_OPTED_OUT",
        ),
        (lambda client: client.speaker_status("anna", "EXPIRED"), "SPEAKER_EXPIRED"),
        (
            lambda client: client.service.voice_id.delete_speaker(**client.at, SpeakerId="anna"),
            "SPEAKER_NOT_ENROLLED",
        ),
    ],
    ids=["pending", "opted out", "expired", "deleted"],
)
def test_speakers_status_decides_before_the_voice(
    client: SessionsClient, people: Voices, prepare: Callable[[SessionsClient], Any], decision: str
) -> None:
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    client.stream(people.anna_calling)
    assert client.authentication()["Decision"] == "ACCEPT"

    prepare(client)

    result = client.authentication()
    assert result["Decision"] == decision
    assert not {"Score", "AudioAggregationStartedAt", "AudioAggregationEndedAt"} & set(result)
    assert client.authentication() == result


def test_session_without_speaker_is_not_authenticated(client: SessionsClient, people: Voices) -> None:
    client.start()
    client.stream(people.anna_calling)
    result = client.authentication()
    assert result["Decision"] == "SPEAKER_ID_NOT_PROVIDED"
    assert not {"CustomerSpeakerId", "GeneratedSpeakerId", "Score"} & set(result)


def test_not_enough_speech_until_there_is_enough(client: SessionsClient, people: Voices) -> None:
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    for step in (None, start_audio):
        if step is not None:
            step(client.service, client.domain_id, "contact")
        answer = client.evaluate()
        assert answer["AuthenticationResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
        assert answer["FraudDetectionResult"]["Decision"] == "NOT_ENOUGH_SPEECH"
        assert "Score" not in answer["AuthenticationResult"]
        assert not {"RiskDetails", "Reasons"} & set(answer["FraudDetectionResult"])
    store_speech(client.service, client.domain_id, "contact", people.anna_calling)
    assert client.authentication()["Decision"] == "ACCEPT"


@pytest.mark.parametrize(("over", "decision"), [(0, "ACCEPT"), (1, "REJECT")])
def test_score_at_the_threshold_is_accepted_and_below_it_rejected(
    client: SessionsClient, people: Voices, over: int, decision: str
) -> None:
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    client.stream(people.ben_calling)
    score = client.authentication()["Score"]
    client.update(AuthenticationConfiguration={"AcceptanceThreshold": score + over})
    result = client.authentication()
    assert (result["Decision"], result["Score"]) == (decision, score)


def test_only_a_new_acceptance_updates_the_speakers_last_access(
    client: SessionsClient, people: Voices
) -> None:
    speaker_id = client.enroll("anna", people.anna_enrolled)
    long_ago = client.service.store.clock() - timedelta(days=100)

    def set_back() -> None:
        with written(client.service, client.domain_id) as (connection, _domain, _vault):
            connection.execute(
                update(schema.speakers)
                .where(schema.speakers.c.speaker_id == speaker_id)
                .values(created_at=to_us(long_ago - timedelta(days=1)))
            )
            speakers.set_last_accessed(connection, speaker_id, long_ago)

    def accessed() -> Any:
        return client.service.voice_id.describe_speaker(**client.at, SpeakerId="anna")["Speaker"][
            "LastAccessedAt"
        ]

    set_back()
    client.start("wrong", SpeakerId="anna")
    client.stream(people.ben_calling, "wrong")
    assert client.authentication("wrong")["Decision"] == "REJECT"
    assert accessed() < long_ago
    client.start(SpeakerId="anna")
    client.stream(people.anna_calling)
    client.evaluate()
    assert accessed() > long_ago
    set_back()
    client.evaluate()
    assert accessed() < long_ago


def test_voiceprint_of_another_model_is_refused_with_the_remedy(
    client: SessionsClient, people: Voices
) -> None:
    client.enroll("anna", people.anna_enrolled, model_id="another-model")
    client.start(SpeakerId="anna")
    client.stream(people.anna_calling)
    fault = refused(client.evaluate)
    assert (fault.code, "enroll the speaker again" in fault.message) == ("ValidationException", True)
    assert "another-model" in fault.message
    client.start("old", SpeakerId="anna")
    older = replace(people.anna_calling.sample, model_id="older-model")
    client.stream(replace(people.anna_calling, sample=older), "old")
    assert "start a new stream" in refused(client.evaluate, name="old").message
    client.service.voice_id.delete_domain(**client.at)  # `sonant doctor` would report it to other tests


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
def test_damaged_data_is_refused_with_the_remedy(
    narrow: ServiceProcess, people: Voices, table: Any, column: str, cure: str
) -> None:
    client = SessionsClient(service=narrow, own=narrow.own_client(), domain_id=narrow.domain())
    try:
        client.enroll("anna", people.anna_enrolled)
        register(narrow, client.domain_id, people.ben_enrolled)
        client.start(SpeakerId="anna")
        client.stream(people.anna_calling)
        with written(narrow, client.domain_id) as (connection, _domain, _vault):
            connection.execute(update(table).values({column: b"damaged"}))
        fault = refused(client.evaluate)
        assert (fault.code, cure in fault.message) == ("ValidationException", True), fault
    finally:
        with written(narrow, client.domain_id) as (connection, _domain, _vault):
            connection.execute(table.delete())
        narrow.voice_id.delete_domain(**client.at)


# --- fraud --------------------------------------------------------------------------------------------


def test_caller_on_no_watchlist_is_low_risk(client: SessionsClient, people: Voices) -> None:
    register(client.service, client.domain_id, people.ben_enrolled)
    client.start()
    hearing = client.stream(people.anna_calling)
    result = client.fraud()
    assert result["Decision"] == "LOW_RISK"
    assert "Reasons" not in result
    assert result["Configuration"] == {"RiskThreshold": 50, "WatchlistId": client.default_list()}
    assert result["RiskDetails"]["VoiceSpoofingRisk"] == {"RiskScore": 7}
    assert result["RiskDetails"]["KnownFraudsterRisk"]["RiskScore"] < 50
    assert abs(result["AudioAggregationEndedAt"] - hearing.ended_at) < timedelta(milliseconds=2)
    assert len(result["FraudDetectionResultId"]) == 22


def test_empty_watchlist_names_no_fraudster(client: SessionsClient, people: Voices) -> None:
    client.start()
    client.stream(people.anna_calling, spoofing_score=None)
    assert client.fraud()["RiskDetails"] == {
        "KnownFraudsterRisk": {"RiskScore": 0},
        "VoiceSpoofingRisk": {"RiskScore": 0},
    }


def test_fraudster_is_recognized(client: SessionsClient, people: Voices) -> None:
    fraudster_id = register(client.service, client.domain_id, people.ben_enrolled)
    client.start()
    client.stream(people.ben_calling)
    result = client.fraud()
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["KNOWN_FRAUDSTER"])
    known = result["RiskDetails"]["KnownFraudsterRisk"]
    assert (known["GeneratedFraudsterId"], known["RiskScore"] >= 50) == (fraudster_id, True)


def test_only_the_chosen_watchlist_counts(client: SessionsClient, people: Voices) -> None:
    other = client.watchlist()
    register(client.service, client.domain_id, people.ben_enrolled, other)
    client.start()
    client.stream(people.ben_calling)
    before = client.fraud()
    client.update(FraudDetectionConfiguration={"WatchlistId": other})
    after = client.fraud()
    assert (before["Decision"], after["Decision"]) == ("LOW_RISK", "HIGH_RISK")
    assert before["FraudDetectionResultId"] != after["FraudDetectionResultId"]


def test_synthetic_voice_is_spoofing(client: SessionsClient, people: Voices) -> None:
    client.start()
    client.stream(people.anna_calling, spoofing_score=50, spoofing_evidence="SYNTHETIC_SPEECH")
    result = client.fraud()
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])
    client.update(FraudDetectionConfiguration={"RiskThreshold": 51})
    assert client.fraud()["Decision"] == "LOW_RISK"


def test_enrolled_recording_is_a_replay_even_for_its_speaker(client: SessionsClient, people: Voices) -> None:
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    client.stream(people.anna_enrolled)
    answer = client.evaluate()
    assert answer["AuthenticationResult"]["Decision"] == "ACCEPT", "one says nothing of the other"
    result = answer["FraudDetectionResult"]
    assert (result["Decision"], result["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])
    assert result["RiskDetails"]["VoiceSpoofingRisk"]["RiskScore"] == 100


def test_enrollment_from_this_call_is_no_replay(client: SessionsClient, people: Voices) -> None:
    client.start(SpeakerId="anna")
    start_audio(client.service, client.domain_id, "contact")
    client.service.voice_id.delete_speaker(**client.at, SpeakerId="anna")
    client.enroll("anna", people.anna_enrolled)  # from this call, after it began
    store_speech(client.service, client.domain_id, "contact", people.anna_enrolled)
    assert client.fraud()["Decision"] == "LOW_RISK"


def test_both_reasons_are_given_in_order(client: SessionsClient, people: Voices) -> None:
    register(client.service, client.domain_id, people.ben_enrolled)
    client.start()
    client.stream(people.ben_calling, spoofing_score=90)
    assert client.fraud()["Reasons"] == ["KNOWN_FRAUDSTER", "VOICE_SPOOFING"]


def test_risk_threshold_0_flags_every_call(client: SessionsClient, people: Voices) -> None:
    client.start(FraudDetectionConfiguration={"RiskThreshold": 0})
    client.stream(people.anna_calling)
    assert client.fraud()["Reasons"] == ["KNOWN_FRAUDSTER", "VOICE_SPOOFING"]


def test_deleted_watchlist_is_not_found_by_the_evaluation(client: SessionsClient) -> None:
    client.start(FraudDetectionConfiguration={"WatchlistId": NOBODY})
    assert refused(client.evaluate).resource_type == "WATCHLIST"
    client.update(FraudDetectionConfiguration={"WatchlistId": client.default_list()})
    assert client.fraud()["Decision"] == "NOT_ENOUGH_SPEECH"


# --- results are made once ----------------------------------------------------------------------------


@pytest.fixture
def evaluated(client: SessionsClient, people: Voices) -> SessionsClient:
    """A call with both results."""
    client.enroll("anna", people.anna_enrolled)
    client.start(SpeakerId="anna")
    client.stream(people.anna_calling)
    client.evaluate()
    return client


def ids_of(client: SessionsClient) -> tuple[str, str]:
    answer = client.evaluate()
    return (
        answer["AuthenticationResult"]["AuthenticationResultId"],
        answer["FraudDetectionResult"]["FraudDetectionResultId"],
    )


def test_results_are_repeated(evaluated: SessionsClient) -> None:
    first = evaluated.evaluate()
    again = evaluated.evaluate(first["SessionId"])
    for name in ("AuthenticationResult", "FraudDetectionResult", "SessionId", "StreamingStatus"):
        assert again[name] == first[name]


@pytest.mark.parametrize(
    ("change", "new"),
    [
        (
            lambda client: client.update(AuthenticationConfiguration={"AcceptanceThreshold": 91}),
            (True, False),
        ),
        (
            lambda client: client.update(AuthenticationConfiguration={"AcceptanceThreshold": 90}),
            (False, False),
        ),
        (lambda client: client.update(SpeakerId="somebody-else"), (True, False)),
        (lambda client: client.update(SpeakerId="anna"), (False, False)),
        (lambda client: client.update(FraudDetectionConfiguration={"RiskThreshold": 51}), (False, True)),
        (
            lambda client: client.update(FraudDetectionConfiguration={"WatchlistId": client.watchlist()}),
            (False, True),
        ),
        (
            lambda client: client.update(FraudDetectionConfiguration={"WatchlistId": client.default_list()}),
            (False, False),
        ),
        (
            lambda client: client.service.voice_id.opt_out_speaker(**client.at, SpeakerId="anna"),
            (True, False),
        ),
        (lambda client: client.own.end_stream(**client.call()), (False, False)),
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
def test_result_is_new_only_when_its_basis_has_changed(
    evaluated: SessionsClient, change: Callable[[SessionsClient], Any], new: tuple[bool, bool]
) -> None:
    before = ids_of(evaluated)
    change(evaluated)
    after = ids_of(evaluated)
    assert tuple(one != other for one, other in zip(before, after, strict=True)) == new
    assert ids_of(evaluated) == after


def test_new_fraudster_does_not_change_an_earlier_result(evaluated: SessionsClient, people: Voices) -> None:
    before = evaluated.fraud()
    register(evaluated.service, evaluated.domain_id, people.anna_enrolled)
    assert evaluated.fraud() == before
    evaluated.own.end_stream(**evaluated.call())
    evaluated.start()
    evaluated.stream(people.anna_calling)
    assert evaluated.fraud()["Decision"] == "HIGH_RISK"


# --- enrollment ---------------------------------------------------------------------------------------


def test_enrollment_is_requested_once_for_an_eligible_speaker(client: SessionsClient) -> None:
    client.start()
    enroll_it = client.own.enroll_by_session
    assert refused(enroll_it, **client.call()).conflict_type == "SPEAKER_NOT_SET"
    client.service.voice_id.opt_out_speaker(**client.at, SpeakerId="refuser")
    client.update(SpeakerId="refuser")
    assert refused(enroll_it, **client.call()).conflict_type == "SPEAKER_OPTED_OUT"
    client.update(SpeakerId="customer")

    assert enroll_it(**client.call())["Status"] == "NOT_ENOUGH_SPEECH"

    assert client.describe()["EnrollmentRequestDetails"] == {"Status": "NOT_ENOUGH_SPEECH"}
    assert refused(enroll_it, **client.call()).conflict_type == "ENROLLMENT_ALREADY_EXISTS"
    for call in (client.update, client.start):
        client.own.end_stream(**client.call())
        fault = refused(call, SpeakerId="another")
        assert fault.conflict_type == "CANNOT_CHANGE_SPEAKER_AFTER_ENROLLMENT"
    assert refused(client.service.voice_id.describe_speaker, **client.at, SpeakerId="another").resource_type
    assert client.start(SpeakerId="customer")["EnrollmentRequestDetails"] == {"Status": "NOT_ENOUGH_SPEECH"}


def test_deleted_speaker_cannot_be_enrolled(client: SessionsClient) -> None:
    client.start(SpeakerId="customer")
    client.service.voice_id.delete_speaker(**client.at, SpeakerId="customer")
    assert refused(client.own.enroll_by_session, **client.call()).resource_type == "SPEAKER"


@pytest.mark.parametrize("status", ["NOT_ENOUGH_SPEECH", "IN_PROGRESS", "COMPLETED"])
@pytest.mark.parametrize("way", ["opt out", "opt out many", "delete"])
def test_opt_out_or_deletion_fails_the_enrollment(client: SessionsClient, status: str, way: str) -> None:
    for name in ("customer", "other"):
        client.start(name, SpeakerId=name)
        client.own.enroll_by_session(**client.call(name))
        with written(client.service, client.domain_id) as (connection, _domain, _vault):
            session = sessions.find(connection, client.domain_id, name, client.service.store.clock())
            assert session is not None
            sessions.set_enrollment(
                connection, session.session_id, status, None, client.service.store.clock()
            )
    api, who = client.service.voice_id, {**client.at, "SpeakerId": "customer"}
    match way:
        case "opt out":
            api.opt_out_speaker(**who)
        case "opt out many":
            client.own.import_opt_outs(**client.at, SpeakerIds=["customer"])
        case "delete":
            api.delete_speaker(**who)
    details = client.describe("customer")["EnrollmentRequestDetails"]
    if status == "COMPLETED":
        assert details == {"Status": "COMPLETED"}
    else:
        told = "the speaker was deleted" if way == "delete" else "the speaker has opted out"
        assert details == {"Status": "FAILED", "Message": told}
    assert client.describe("other")["EnrollmentRequestDetails"] == {"Status": status}


# --- who may, and what is not there -------------------------------------------------------------------


def test_suspended_domain_refuses_changes_and_evaluations(evaluated: SessionsClient) -> None:
    client = evaluated
    client.service.voice_id.delete_domain(**client.at)
    for call in (
        lambda: client.start("other"),
        client.update,
        client.evaluate,
        lambda: client.own.end_stream(**client.call()),
        lambda: client.own.enroll_by_session(**client.call()),
    ):
        assert refused(call).conflict_type == "DOMAIN_NOT_ACTIVE"
    for call in (client.describe, lambda: client.own.list_sessions(**client.at)):
        assert refused(call).resource_type == "DOMAIN"
    client.own.restore_domain(**client.at)
    assert client.authentication()["Decision"] == "ACCEPT"


def test_session_of_another_domain_is_not_found(client: SessionsClient, service: ServiceProcess) -> None:
    session = client.start()
    elsewhere = replace(client, domain_id=service.domain())
    for name in ("contact", session["SessionId"], "nobody", f"id#{NOBODY}"):
        for call in (elsewhere.describe, elsewhere.evaluate, elsewhere.update):
            assert refused(call, name=name).resource_type == "SESSION"


def test_evaluation_needs_its_own_permission_only(evaluated: SessionsClient) -> None:
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


def test_sessions_are_listed_oldest_first_page_by_page(client: SessionsClient) -> None:
    names = [f"contact-{number}" for number in range(7)]
    for name in names:
        client.start(name, SpeakerId="customer")
    pages = list(
        client.own.get_paginator("list_sessions").paginate(**client.at, PaginationConfig={"PageSize": 3})
    )
    assert [len(page["SessionSummaries"]) for page in pages] == [3, 3, 1]
    found = [item for page in pages for item in page["SessionSummaries"]]
    assert [item["SessionName"] for item in found] == names
    session = client.describe("contact-0")
    assert found[0] == {name: session[name] for name in found[0]}
    assert found[0]["CustomerSpeakerId"] == "customer"


def test_list_can_be_filtered_by_status(client: SessionsClient) -> None:
    for name in ("waits", "talks", "talked", "silent"):
        client.start(name)
    for name in ("talks", "talked", "silent"):
        start_audio(client.service, client.domain_id, name)
    client.own.end_stream(**client.call("talked"))
    with written(client.service, client.domain_id) as (connection, _domain, _vault):
        past = to_us(client.service.store.clock() - timedelta(seconds=1))
        silent = update(schema.sessions).where(schema.sessions.c.name == "silent")
        connection.execute(silent.values(stream_until=past))

    def names(status: str) -> set[str]:
        listed = client.own.list_sessions(**client.at, StreamingStatus=status)["SessionSummaries"]
        return {item["SessionName"] for item in listed}

    assert names("PENDING_CONFIGURATION") == {"waits"}
    assert names("ONGOING") == {"talks"}
    assert names("ENDED") == {"talked", "silent"}
