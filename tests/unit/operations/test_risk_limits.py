"""What answers give away of a known fraudster's voice, and where exact scores are stored."""

from __future__ import annotations

import json
from dataclasses import replace
from zlib import crc32

import pytest
from click.testing import CliRunner
from limited_callers import AGENT, NO_EXACT_SCORES, OTHER, OWNER, call_as, caller_named, send_events
from made_samples import made_sample
from sessions_testbed import events_of, store_speech, written
from voices_testbed import enroll, like, strangers

from sonant.cli.domain import domain as command
from sonant.ids import new_generated_id
from sonant.jobs.entry import TaskResult
from sonant.jobs.fraud import KNOWN_FRAUDSTER, Risk
from sonant.jobs.risk_limits import CALLS, JOBS, RiskLimits
from sonant.retention.housekeeping import Housekeeper
from sonant.sessions import enrollment
from sonant.sessions.context import StreamContext
from sonant.sessions.listener import ENROLLMENT, StreamKey
from sonant.settings import Scores
from sonant.storage.database.schema import fraudster_probes, session_results
from sonant.storage.repositories import counters, fraud_voices
from sonant.storage.repositories.session_samples import SessionSample
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.models import load_models
from sonant.voice.quality import Quality
from sonant.voice.scoring import RISK_ANCHORS

FRAUD, ANNA = strangers(2, seed=11)
#: A score in the middle of each band of risks.
SCORES = {0: 25, 50: 60, 75: 85, 100: 110}


def cosine_of(score: float) -> float:
    """The cosine that has this risk against a list of one, with the speech of `store_speech`."""
    (low, first), (high, second), (_, third) = RISK_ANCHORS
    slopes = ((second - first) / (high - low), (third - second) / (100 - high))
    level = first + slopes[0] * score if score < high else second + slopes[1] * (score - high)
    quality = Quality(net_speech_s=10.0, snr_db=20.0, highpass_300hz=False)
    return shipped_calibration().tail_for(quality).similarity_at(level)


IN_BAND = {band: cosine_of(score) for band, score in SCORES.items()}


@pytest.fixture
def domain_id(testbed):
    send_events(testbed)
    return testbed.new_domain()


@pytest.fixture
def fraudster_id(testbed, domain_id):
    return register(testbed, domain_id, FRAUD)


def register(testbed, domain_id, vector):
    fraudster_id = new_generated_id()
    with written(testbed, domain_id) as (connection, domain, vault):
        fraud_voices.register(
            connection,
            vault,
            domain_id=domain_id,
            fraudster_id=fraudster_id,
            watchlist_id=domain.default_watchlist_id,
            sample=made_sample(vector, model_id=load_models().encoder_id),
            now=testbed.clock(),
        )
    return fraudster_id


def limited(testbed, **scores):
    """Change the limits."""
    settings = replace(testbed.service.settings, scores=Scores(**scores))
    testbed.service = replace(testbed.service, settings=settings)


def detected(testbed, domain_id, voice, name, caller=AGENT, *, threshold=50, spoofing_score=None):
    """Bring a voice in a call and evaluate it: the FraudDetectionResult."""
    session = {"DomainId": domain_id, "SessionNameOrId": name}
    configuration = {"RiskThreshold": threshold}
    call_as(
        testbed,
        caller,
        "StartSession",
        DomainId=domain_id,
        SessionName=name,
        FraudDetectionConfiguration=configuration,
    )
    store_speech(testbed, domain_id, name, voice, spoofing_score=spoofing_score)
    return call_as(testbed, caller, "EvaluateSession", **session)["FraudDetectionResult"]


def risk_of(testbed, domain_id, band, name, caller=AGENT, **how):
    """Bring another voice whose risk is in this band: the KnownFraudsterRisk that is told."""
    voice = like(FRAUD, IN_BAND[band], seed=crc32(name.encode()))
    return detected(testbed, domain_id, voice, name, caller, **how)["RiskDetails"][KNOWN_FRAUDSTER]


def told(testbed):
    with testbed.store.database.read() as connection:
        return connection.execute(fraudster_probes.select()).all()


def stored_results(testbed):
    with testbed.store.database.read() as connection:
        return connection.execute(session_results.select()).all()


def protections(testbed):
    return [
        (event["detail"]["action"], event["detail"]["generatedFraudsterId"], event["detail"]["principalArn"])
        for event in events_of(testbed)
        if event["detail-type"] == "Sonant Fraudster Protection Action"
    ]


# --- the budget ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("band", IN_BAND)
def test_risk_is_told_by_its_band(testbed, domain_id, fraudster_id, band):
    risk = risk_of(testbed, domain_id, band, "call")
    assert risk["RiskScore"] == band
    assert (risk["GeneratedFraudsterId"] == fraudster_id) == (band >= 50)


def test_risks_of_a_used_up_band_and_below_count_as_none(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=3)
    for number in range(3):
        assert risk_of(testbed, domain_id, 50, f"call-{number}")["RiskScore"] == 50
    after = detected(testbed, domain_id, like(FRAUD, IN_BAND[50], seed=77), "after")
    assert after["Decision"] == "LOW_RISK"
    assert after["RiskDetails"][KNOWN_FRAUDSTER] == {"RiskScore": 0, "GeneratedFraudsterId": None}
    assert risk_of(testbed, domain_id, 75, "greater")["RiskScore"] == 75


def test_used_up_greater_band_hides_smaller_risks_too(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    for number in range(10):
        assert risk_of(testbed, domain_id, 75, f"call-{number}")["RiskScore"] == 75
    assert risk_of(testbed, domain_id, 50, "smaller")["RiskScore"] == 0
    assert risk_of(testbed, domain_id, 75, "one-more")["RiskScore"] == 0


def test_certain_match_is_always_told_and_costs_nothing(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    for band in (50, 75):
        risk_of(testbed, domain_id, band, f"call-{band}")
    for number in range(3):
        found = detected(testbed, domain_id, like(FRAUD, 0.95, seed=number), f"match-{number}")
        assert found["Decision"] == "HIGH_RISK"
        assert found["RiskDetails"][KNOWN_FRAUDSTER]["GeneratedFraudsterId"] == fraudster_id
    assert len(told(testbed)) == 2


def test_honest_calls_cost_nothing(testbed, domain_id, fraudster_id):
    for number in range(3):
        risk_of(testbed, domain_id, 0, f"call-{number}")
    assert told(testbed) == []


def test_used_up_budget_of_one_fraudster_leaves_the_others(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    other = register(testbed, domain_id, ANNA)
    risk_of(testbed, domain_id, 50, "call")
    found = detected(testbed, domain_id, like(ANNA, 0.8, seed=5), "other")
    assert found["RiskDetails"][KNOWN_FRAUDSTER]["GeneratedFraudsterId"] == other


def test_spoofing_is_told_whatever_was_used_up(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    risk_of(testbed, domain_id, 50, "call")
    voice = like(FRAUD, IN_BAND[50], seed=3)
    found = detected(testbed, domain_id, voice, "spoofed", spoofing_score=90)
    assert (found["Decision"], found["Reasons"]) == ("HIGH_RISK", ["VOICE_SPOOFING"])


def test_each_principal_has_a_budget_and_the_account_one_for_all(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=2, probes_per_account=3)
    told_to = [
        risk_of(testbed, domain_id, 50, f"call-{number}", caller)["RiskScore"]
        for number, caller in enumerate(
            (AGENT, AGENT, AGENT, OTHER, OTHER, caller_named("third", NO_EXACT_SCORES))
        )
    ]
    assert told_to == [50, 50, 0, 50, 0, 0]
    assert protections(testbed) == [
        ("LIMIT_PROBES", fraudster_id, AGENT.principal.arn),
        ("LIMIT_ACCOUNT_PROBES", fraudster_id, OTHER.principal.arn),
    ]
    with testbed.store.database.read() as connection:
        assert counters.read(connection)[counters.FRAUDSTER_BUDGETS_USED, ""] == 2


def test_right_to_exact_scores_has_no_budget_of_risks(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1, probes_per_account=1)
    for number in range(3):
        assert risk_of(testbed, domain_id, 50, f"call-{number}", OWNER)["RiskScore"] >= 50
    assert told(testbed) == []


def test_budget_of_risks_ends_with_its_time(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    risk_of(testbed, domain_id, 50, "first")
    assert risk_of(testbed, domain_id, 50, "second")["RiskScore"] == 0
    testbed.clock.advance(days=90)
    assert risk_of(testbed, domain_id, 50, "third")["RiskScore"] == 50
    keeper = Housekeeper(
        database=testbed.store.database, keys_of=testbed.store.accounts.keys, clock=testbed.clock
    )
    testbed.clock.advance(days=1)
    assert keeper.forget_misses() == 1


def test_low_risks_that_jobs_ask_for_cost_ten_times_as_much(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=30)
    limits = RiskLimits(settings=testbed.service.settings, now=testbed.clock(), principal_arn=JOBS)
    risk = Risk(name=KNOWN_FRAUDSTER, score=20, fraudster_id=fraudster_id)
    with written(testbed, domain_id) as (connection, domain, _):
        found = [
            limits.apply(connection, domain, risk, bytes([number]) * 32, threshold=10)[0].score
            for number in range(5)
        ]
        greater = limits.apply(connection, domain, replace(risk, score=60), bytes(32), threshold=10)
    assert found == [20, 20, 20, 0, 0]
    assert greater[0].score == 60


def test_enrollments_from_calls_share_a_budget(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    voices = [like(FRAUD, IN_BAND[50], seed=seed) for seed in (1, 2)]
    found = [
        enrolled_in_call(testbed, domain_id, f"call-{number}", voice) for number, voice in enumerate(voices)
    ]
    assert [one["Status"] for one in found] == ["FAILED", "COMPLETED"]
    assert "KnownFraudsterRisk is 50" in found[0]["Message"]
    assert [(row.principal_arn, row.band) for row in told(testbed)] == [(CALLS, 50)]
    assert protections(testbed) == [("LIMIT_PROBES", fraudster_id, CALLS)]


def enrolled_in_call(testbed, domain_id, name, voice):
    """Enroll this voice in a call with fraud detection: what became of the enrollment."""
    session = {"DomainId": domain_id, "SessionNameOrId": name}
    call_as(
        testbed,
        AGENT,
        "StartSession",
        DomainId=domain_id,
        SessionName=name,
        SpeakerId=name,
        FraudDetectionConfiguration={"RiskThreshold": 50},
    )
    call_as(testbed, AGENT, "EnrollBySession", **session)
    store_speech(testbed, domain_id, name, voice, purposes=())
    now = testbed.clock()
    session_id = call_as(testbed, AGENT, "DescribeSession", **session)["Session"]["SessionId"]
    key = StreamKey(domain_id=domain_id, session_id=session_id, number=1)
    context = StreamContext(
        owner="test",
        settings=testbed.service.settings,
        database=testbed.store.database,
        keys_of=testbed.store.accounts.keys,
        clock=testbed.clock,
        fraud_indexes=testbed.service.fraud_indexes,
        outbox=testbed.service.outbox,
    )
    sample = made_sample(voice, model_id=load_models().encoder_id, net_speech_s=10.0, snr_db=20.0)
    speech = SessionSample(purpose=ENROLLMENT, stream=1, started_at=now, ended_at=now, sample=sample)
    assert enrollment.start(context, key)
    enrollment.finish(context, key, TaskResult(sample=sample), speech)
    described = call_as(testbed, AGENT, "DescribeSession", **session)["Session"]
    return described["EnrollmentRequestDetails"]


def test_command_forgets_the_answers_about_a_fraudster(testbed, domain_id, fraudster_id):
    limited(testbed, probes_per_fraudster=1)
    risk_of(testbed, domain_id, 50, "first")
    environment = {"SONANT_DATABASE": testbed.settings.database} if testbed.settings.database else {}
    arguments = ["unlock-fraudster", domain_id, fraudster_id, "--data", str(testbed.settings.data)]
    done = CliRunner(env=environment).invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 answers were forgotten" in done.output
    assert risk_of(testbed, domain_id, 50, "second")["RiskScore"] == 50


def test_deleted_fraudster_leaves_no_answers(testbed, domain_id, fraudster_id):
    risk_of(testbed, domain_id, 50, "call")
    assert len(told(testbed)) == 1
    call_as(testbed, OWNER, "DeleteFraudster", DomainId=domain_id, FraudsterId=fraudster_id)
    assert told(testbed) == []


def test_risk_of_a_fraudster_deleted_meanwhile_is_not_counted(testbed, domain_id):
    limits = RiskLimits(settings=testbed.service.settings, now=testbed.clock(), principal_arn=JOBS)
    gone = Risk(name=KNOWN_FRAUDSTER, score=60, fraudster_id=new_generated_id())
    with written(testbed, domain_id) as (connection, domain, _):
        assert limits.apply(connection, domain, gone, bytes(32), threshold=50) == (gone, [])
    assert told(testbed) == []


# --- stored results -----------------------------------------------------------------------------------


def authenticated(testbed, domain_id, similarity, name, caller=AGENT):
    enroll(testbed, domain_id, [ANNA], prefix=name)
    call_as(
        testbed,
        caller,
        "StartSession",
        DomainId=domain_id,
        SessionName=name,
        SpeakerId=f"{name}-0",
        AuthenticationConfiguration={"AcceptanceThreshold": 90},
    )
    store_speech(testbed, domain_id, name, like(ANNA, similarity))
    return evaluated(testbed, domain_id, name, caller)


def evaluated(testbed, domain_id, name, caller):
    session = {"DomainId": domain_id, "SessionNameOrId": name}
    return call_as(testbed, caller, "EvaluateSession", **session)["AuthenticationResult"]


def test_stored_results_hold_what_everybody_may_be_told(testbed, domain_id, fraudster_id):
    first = authenticated(testbed, domain_id, 0.4, "contact", OWNER)
    risk_of(testbed, domain_id, 0, "call", OWNER)
    rows = [row for row in stored_results(testbed) if row.exact_sealed is not None]
    assert {row.purpose for row in rows} == {"AUTHENTICATION", "FRAUD"}
    for row in rows:
        document = json.loads(row.document)
        assert (document.get("score") or document.get("known_score") or 0) == 0
        assert document.get("fraudster_id") is None
        assert str(first["Score"]).encode() not in row.exact_sealed
    assert first["Score"] > 0


def test_stored_result_is_repeated_exactly_to_those_who_may_read_it(testbed, domain_id):
    exact = authenticated(testbed, domain_id, 0.4, "contact", OWNER)
    assert evaluated(testbed, domain_id, "contact", OWNER) == exact
    assert evaluated(testbed, domain_id, "contact", AGENT) == {**exact, "Score": 0}


def test_result_with_nothing_exact_is_not_sealed(testbed, domain_id):
    limited(testbed, exact_within=100)
    exact = authenticated(testbed, domain_id, 0.4, "contact")
    (row,) = [row for row in stored_results(testbed) if row.purpose == "AUTHENTICATION"]
    assert json.loads(row.document)["score"] == exact["Score"]
    assert row.exact_sealed is None


def test_erased_speaker_takes_the_exact_scores_along(testbed, domain_id, fraudster_id):
    enroll(testbed, domain_id, [ANNA])
    session = {"DomainId": domain_id, "SessionName": "call", "SpeakerId": "caller-0"}
    configuration = {"FraudDetectionConfiguration": {"RiskThreshold": 50}}
    call_as(testbed, OWNER, "StartSession", **session, **configuration)
    store_speech(testbed, domain_id, "call", like(FRAUD, IN_BAND[50]))
    call_as(testbed, OWNER, "EvaluateSession", DomainId=domain_id, SessionNameOrId="call")
    assert any(row.exact_sealed for row in stored_results(testbed))
    call_as(testbed, OWNER, "DeleteSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    assert not any(row.exact_sealed for row in stored_results(testbed))
