"""What answers give away of a speaker's voice: bands, the budget of probes, and the lock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner
from limited_callers import AGENT, OTHER, OWNER, call_as, compare, send_events
from operations_testbed import ACCOUNT
from sessions_testbed import events_of, store_speech
from voices_testbed import enroll, like, strangers

from sonant.cli.speaker import speaker as command
from sonant.errors import AccessDenied, ProbeBudgetUsed, ResourceNotFound, SpeakerLocked
from sonant.retention.housekeeping import Housekeeper
from sonant.settings import Live, Scores
from sonant.storage.database.schema import score_misses
from sonant.storage.repositories import counters
from sonant.voice.disclosure import SCORE_BANDS

ANNA, BERT, *PROBES = strangers(40, seed=7)


@pytest.fixture
def domain_id(testbed):
    send_events(testbed)
    made = testbed.new_domain()
    enroll(testbed, made, [ANNA, BERT])  # caller-0, caller-1
    return made


def limited(testbed, **scores):
    """Change the limits."""
    settings = replace(testbed.service.settings, scores=Scores(**scores))
    testbed.service = replace(testbed.service, settings=settings)


def decided(testbed, domain_id, voice, name, caller=AGENT, *, speaker="caller-0", threshold=90):
    """Bring a voice in a call and evaluate it: the AuthenticationResult."""
    session = {"DomainId": domain_id, "SessionNameOrId": name}
    call_as(
        testbed,
        caller,
        "StartSession",
        DomainId=domain_id,
        SessionName=name,
        SpeakerId=speaker,
        AuthenticationConfiguration={"AcceptanceThreshold": threshold},
    )
    store_speech(testbed, domain_id, name, voice)
    return call_as(testbed, caller, "EvaluateSession", **session)["AuthenticationResult"]


def protections(testbed):
    return [
        (event["detail"]["action"], event["detail"]["principalArn"], event["detail"]["until"])
        for event in events_of(testbed)
        if event["detail-type"] == "Sonant Speaker Protection Action"
    ]


def counted(testbed, name):
    with testbed.store.database.read() as connection:
        return counters.read(connection).get((name, ""), 0)


def misses(testbed):
    with testbed.store.database.read() as connection:
        return connection.execute(score_misses.select()).all()


# --- what is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.6, 0.7, 0.9])
def test_comparison_tells_a_band_and_no_similarity(testbed, domain_id, similarity):
    (told,) = compare(testbed, AGENT, domain_id, like(ANNA, similarity), "caller-0")
    (exact,) = compare(testbed, OWNER, domain_id, like(ANNA, similarity), "caller-0")
    assert told["Similarity"] is None
    assert told["Score"] == max(band for band in SCORE_BANDS if band <= exact["Score"])
    assert exact["Similarity"] == pytest.approx(similarity, abs=1e-3)


def test_evaluation_tells_a_band_that_fits_the_decision(testbed, domain_id):
    limited(testbed, least_threshold=0)
    told = decided(testbed, domain_id, like(ANNA, 0.4), "contact", threshold=30)
    exact = call_as(testbed, OWNER, "EvaluateSession", DomainId=domain_id, SessionNameOrId="contact")
    assert (told["Decision"], told["Score"]) == ("ACCEPT", 30)
    assert 30 < exact["AuthenticationResult"]["Score"] < 80


def test_low_threshold_needs_the_right_to_exact_scores(testbed, domain_id):
    with pytest.raises(AccessDenied, match="AcceptanceThreshold 79 needs sonant:ReadExactScores"):
        decided(testbed, domain_id, ANNA, "low", threshold=79)
    decided(testbed, domain_id, ANNA, "least", threshold=80)
    with pytest.raises(AccessDenied):
        call_as(
            testbed,
            AGENT,
            "UpdateSession",
            DomainId=domain_id,
            SessionNameOrId="least",
            AuthenticationConfiguration={"AcceptanceThreshold": 15},
        )
    assert decided(testbed, domain_id, ANNA, "owner", OWNER, threshold=15)["Decision"] == "ACCEPT"


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("StartSession", {"SessionName": "low", "FraudDetectionConfiguration": {"RiskThreshold": 49}}),
        (
            "StartEnrollmentDryRun",
            {
                "DataAccessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/sonant",
                "InputDataConfig": {"S3Uri": "s3://calls/manifest.json"},
                "OutputDataConfig": {"S3Uri": "s3://calls/out"},
                "EnrollmentConfig": {"FraudDetectionConfig": {"RiskThreshold": 49}},
            },
        ),
    ],
)
def test_low_risk_threshold_needs_the_right_to_exact_scores(testbed, domain_id, operation, request_):
    with pytest.raises(AccessDenied, match="RiskThreshold 49 needs sonant:ReadExactScores"):
        call_as(testbed, AGENT, operation, DomainId=domain_id, **request_)
    assert call_as(testbed, OWNER, operation, DomainId=domain_id, **request_)


@pytest.mark.parametrize("watchlist_of", ["nobody", "another domain"])
def test_session_with_a_watchlist_of_no_or_another_domain_is_refused(testbed, domain_id, watchlist_of):
    other = testbed.new_domain(Name="other")
    made = call_as(testbed, OWNER, "CreateWatchlist", DomainId=other, Name="list")["Watchlist"]["WatchlistId"]
    wrong = {"WatchlistId": made if watchlist_of == "another domain" else "n" * 22}
    session = {"DomainId": domain_id, "SessionName": "contact"}
    with pytest.raises(ResourceNotFound, match="watchlist"):
        call_as(testbed, AGENT, "StartSession", **session, FraudDetectionConfiguration=wrong)
    call_as(testbed, AGENT, "StartSession", **session)
    with pytest.raises(ResourceNotFound, match="watchlist"):
        call_as(
            testbed,
            AGENT,
            "UpdateSession",
            DomainId=domain_id,
            SessionNameOrId="contact",
            FraudDetectionConfiguration=wrong,
        )


def test_installations_own_threshold_may_always_be_set(testbed, domain_id):
    settings = replace(testbed.service.settings, live=Live(acceptance_threshold=60))
    testbed.service = replace(testbed.service, settings=settings)
    assert decided(testbed, domain_id, ANNA, "contact", threshold=60)["Decision"] == "ACCEPT"


def test_event_of_an_evaluation_tells_no_more_than_the_band(testbed, domain_id):
    answer = decided(testbed, domain_id, like(ANNA, 0.4), "contact", OWNER)
    (event,) = [one for one in events_of(testbed) if one["detail"]["action"] == "EVALUATE_SESSION"]
    assert answer["Score"] > 0
    assert event["detail"]["session"]["authenticationResult"]["score"] == 0


def test_setting_makes_scores_exact_for_everybody(testbed, domain_id):
    limited(testbed, exact_within=100)
    told = decided(testbed, domain_id, like(ANNA, 0.4), "contact")
    assert 0 < told["Score"] < 80


@pytest.mark.parametrize("one_in", [10, 99_999, 20_000_000])
def test_duplicates_at_chosen_rates_need_the_right_to_exact_scores(testbed, domain_id, one_in):
    with pytest.raises(AccessDenied, match="needs sonant:ReadExactScores"):
        call_as(testbed, AGENT, "ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=one_in)
    assert call_as(testbed, OWNER, "ListVoiceDuplicates", DomainId=domain_id, OneFalseMatchIn=one_in)


def test_duplicates_tell_whole_powers_of_ten_and_no_similarity(testbed, domain_id):
    enroll(testbed, domain_id, [like(ANNA, 0.97)], prefix="again")
    (told,) = call_as(testbed, AGENT, "ListVoiceDuplicates", DomainId=domain_id)["Pairs"]
    (exact,) = call_as(testbed, OWNER, "ListVoiceDuplicates", DomainId=domain_id)["Pairs"]
    assert told["Similarity"] is None
    assert exact["FalseMatchRateLog10"] <= told["FalseMatchRateLog10"] == int(told["FalseMatchRateLog10"])
    assert told["FalseMatchRateLog10"] in (-7, -8, -9)


# --- the budget ---------------------------------------------------------------------------------------


def test_budget_of_probes_is_used_up_by_voices_that_do_not_match(testbed, domain_id):
    limited(testbed, probes_per_speaker=3)
    for voice in PROBES[:3]:
        compare(testbed, AGENT, domain_id, voice, "caller-0")
    for voice in (PROBES[3], PROBES[0], like(ANNA, 0.99)):  # the answer would tell whether it matches
        with pytest.raises(ProbeBudgetUsed, match="compared 3 different voices"):
            compare(testbed, AGENT, domain_id, voice, "caller-0")
    compare(testbed, AGENT, domain_id, PROBES[3], "caller-1")
    compare(testbed, OTHER, domain_id, PROBES[3], "caller-0")
    assert len(misses(testbed)) == 5


def test_voices_that_match_cost_nothing(testbed, domain_id):
    limited(testbed, probes_per_speaker=1)
    for seed in range(5):
        (told,) = compare(testbed, AGENT, domain_id, like(ANNA, 0.95, seed), "caller-0")
        assert told["Score"] >= 90
    assert misses(testbed) == []


def test_same_voice_again_counts_once(testbed, domain_id):
    limited(testbed, probes_per_speaker=2)
    for _ in range(4):
        compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")
    compare(testbed, AGENT, domain_id, PROBES[1], "caller-0")
    with pytest.raises(ProbeBudgetUsed):
        compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")


def test_another_threshold_on_the_same_voice_counts_again(testbed, domain_id):
    limited(testbed, probes_per_speaker=3, lock_rejects=0)
    decided(testbed, domain_id, like(ANNA, 0.4), "contact", threshold=90)
    session = {"DomainId": domain_id, "SessionNameOrId": "contact"}
    for threshold in (80, 85, 90):
        configuration = {"AcceptanceThreshold": threshold}
        call_as(testbed, AGENT, "UpdateSession", **session, AuthenticationConfiguration=configuration)
        if threshold < 90:
            call_as(testbed, AGENT, "EvaluateSession", **session)
        else:
            with pytest.raises(ProbeBudgetUsed):
                call_as(testbed, AGENT, "EvaluateSession", **session)


def test_one_used_up_speaker_of_several_refuses_the_comparison(testbed, domain_id):
    limited(testbed, probes_per_speaker=1)
    compare(testbed, AGENT, domain_id, PROBES[0], "caller-1")
    with pytest.raises(ProbeBudgetUsed):
        compare(testbed, AGENT, domain_id, PROBES[1], "caller-0", "caller-1")
    assert len(misses(testbed)) == 1


def test_right_to_exact_scores_has_no_budget(testbed, domain_id):
    limited(testbed, probes_per_speaker=1)
    for voice in PROBES[:4]:
        compare(testbed, OWNER, domain_id, voice, "caller-0")
    assert misses(testbed) == []


def test_used_budget_is_reported_once_by_event_and_metric(testbed, domain_id):
    limited(testbed, probes_per_speaker=2)
    for voice in PROBES[:2]:
        compare(testbed, AGENT, domain_id, voice, "caller-0")
    for voice in PROBES[2:5]:
        with pytest.raises(ProbeBudgetUsed):
            compare(testbed, AGENT, domain_id, voice, "caller-0")
    assert protections(testbed) == [
        ("LIMIT_PROBES", AGENT.principal.arn, "2026-05-30T12:30:00.000Z"),
    ]
    assert counted(testbed, counters.PROBE_BUDGETS_USED) == 1


def test_budget_outlasts_a_restart_and_ends_with_its_time(testbed, domain_id):
    limited(testbed, probes_per_speaker=1)
    compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")
    testbed.restart()
    limited(testbed, probes_per_speaker=1)
    with pytest.raises(ProbeBudgetUsed):
        compare(testbed, AGENT, domain_id, PROBES[1], "caller-0")
    testbed.clock.advance(days=90)
    compare(testbed, AGENT, domain_id, PROBES[1], "caller-0")


def test_budget_of_the_account_adds_up_all_principals(testbed, domain_id):
    limited(testbed, probes_per_speaker=2, probes_per_account=3)
    for caller, voice in ((AGENT, 0), (AGENT, 1), (OTHER, 2), (OWNER, 5)):
        compare(testbed, caller, domain_id, PROBES[voice], "caller-0")
    with pytest.raises(ProbeBudgetUsed, match=r"of this account .* 3 different voices .*probes_per_account"):
        compare(testbed, OTHER, domain_id, PROBES[3], "caller-0")
    compare(testbed, OTHER, domain_id, PROBES[3], "caller-1")
    compare(testbed, OWNER, domain_id, PROBES[3], "caller-0")
    assert [action for action, _, _ in protections(testbed)] == ["LIMIT_PROBES", "LIMIT_ACCOUNT_PROBES"]


def test_same_voice_of_two_principals_counts_once_in_the_account(testbed, domain_id):
    limited(testbed, probes_per_account=2)
    for caller in (AGENT, OTHER):
        compare(testbed, caller, domain_id, PROBES[0], "caller-0")
    compare(testbed, AGENT, domain_id, PROBES[1], "caller-0")
    with pytest.raises(ProbeBudgetUsed):
        compare(testbed, AGENT, domain_id, PROBES[2], "caller-0")


def test_rejections_of_those_without_a_budget_are_not_in_the_accounts(testbed, domain_id):
    limited(testbed, probes_per_account=1)
    for number in range(3):
        decided(testbed, domain_id, PROBES[number], f"c{number}", OWNER)
    compare(testbed, AGENT, domain_id, PROBES[4], "caller-0")
    with pytest.raises(ProbeBudgetUsed):
        compare(testbed, AGENT, domain_id, PROBES[5], "caller-0")


# --- the lock -----------------------------------------------------------------------------------------


def test_speaker_is_locked_after_too_many_rejections_by_anybody(testbed, domain_id):
    limited(testbed, lock_rejects=3)
    for number, caller in enumerate((AGENT, OTHER, OWNER)):
        assert decided(testbed, domain_id, PROBES[number], f"c{number}", caller)["Decision"] == "REJECT"
    for number, caller in enumerate((AGENT, OWNER)):
        with pytest.raises(SpeakerLocked, match="3 callers were rejected within 24 hours"):
            decided(testbed, domain_id, like(ANNA, 0.99), f"d{number}", caller)
        with pytest.raises(SpeakerLocked):
            compare(testbed, caller, domain_id, like(ANNA, 0.99), "caller-0")
    assert decided(testbed, domain_id, like(BERT, 0.95), "e", speaker="caller-1")["Decision"] == "ACCEPT"
    assert protections(testbed) == [("LOCK_SPEAKER", OWNER.principal.arn, "2026-03-02T12:30:00.000Z")]
    assert counted(testbed, counters.LOCKED_SPEAKERS) == 1


def test_result_that_was_given_before_the_lock_is_repeated(testbed, domain_id):
    limited(testbed, lock_rejects=1)
    accepted = decided(testbed, domain_id, like(ANNA, 0.95), "genuine")
    decided(testbed, domain_id, PROBES[0], "impostor")
    again = call_as(testbed, AGENT, "EvaluateSession", DomainId=domain_id, SessionNameOrId="genuine")
    assert again["AuthenticationResult"] == accepted


def test_lock_ends_by_itself(testbed, domain_id):
    limited(testbed, lock_rejects=1)
    decided(testbed, domain_id, PROBES[0], "impostor")
    testbed.clock.advance(hours=24)
    assert decided(testbed, domain_id, like(ANNA, 0.95), "genuine")["Decision"] == "ACCEPT"


def test_unlock_opens_lock_and_budget(testbed, domain_id):
    limited(testbed, lock_rejects=2, probes_per_speaker=2)
    for number in range(2):
        decided(testbed, domain_id, PROBES[number], f"c{number}")
    answer = call_as(testbed, OWNER, "UnlockSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    assert answer["ForgottenComparisons"] == 2
    assert decided(testbed, domain_id, like(ANNA, 0.95), "genuine")["Decision"] == "ACCEPT"
    assert protections(testbed)[-1] == ("UNLOCK_SPEAKER", OWNER.principal.arn, None)
    again = call_as(testbed, OWNER, "UnlockSpeaker", DomainId=domain_id, SpeakerId="caller-0")
    assert again["ForgottenComparisons"] == 0


def test_unlock_of_an_unknown_speaker_is_not_found(testbed, domain_id):
    with pytest.raises(ResourceNotFound):
        call_as(testbed, OWNER, "UnlockSpeaker", DomainId=domain_id, SpeakerId="nobody")


def test_unlock_command_opens_the_speaker(testbed, domain_id):
    limited(testbed, lock_rejects=1)
    decided(testbed, domain_id, PROBES[0], "impostor")
    environment = {"SONANT_DATABASE": testbed.settings.database} if testbed.settings.database else {}
    arguments = ["unlock", domain_id, "caller-0", "--data", str(testbed.settings.data)]
    done = CliRunner(env=environment).invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "1 comparisons that did not match were forgotten" in done.output
    assert decided(testbed, domain_id, like(ANNA, 0.95), "genuine")["Decision"] == "ACCEPT"


# --- what is stored -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["DeleteSpeaker", "OptOutSpeaker"])
def test_nothing_is_stored_of_comparisons_when_the_voice_is_deleted(testbed, domain_id, operation):
    compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")
    call_as(testbed, OWNER, operation, DomainId=domain_id, SpeakerId="caller-0")
    assert misses(testbed) == []


def test_old_comparisons_are_deleted_by_the_housekeeping(testbed, domain_id):
    compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")
    testbed.clock.advance(days=89)
    compare(testbed, AGENT, domain_id, PROBES[1], "caller-0")
    keeper = Housekeeper(
        database=testbed.store.database, keys_of=testbed.store.accounts.keys, clock=testbed.clock
    )
    assert keeper.forget_misses() == 0
    testbed.clock.advance(days=2)
    assert keeper.forget_misses() == 1
    assert len(misses(testbed)) == 1


def test_probes_are_stored_as_keyed_hashes_only(testbed, domain_id):
    compare(testbed, AGENT, domain_id, PROBES[0], "caller-0")
    (row,) = misses(testbed)
    assert len(row.probe) == 32
    other = testbed.new_domain(Name="other")
    enroll(testbed, other, [ANNA])
    compare(testbed, AGENT, other, PROBES[0], "caller-0")
    assert len({row.probe for row in misses(testbed)}) == 2  # another domain, another key
