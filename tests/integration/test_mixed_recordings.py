"""Jobs and dry runs of recordings that have both parties on one channel."""

from __future__ import annotations

import pytest
from batch_values import entry, manifest
from mixed_calls import as_wav, mixed_call, segmented
from strict_files import read_report
from voice_models import voice_models

from sonant.assembly import installation
from sonant.evaluation.conversations import PhraseReader
from sonant.storage.objects.store import ObjectUri

RECURRING = {"SpeakerSelection": "RECURRING"}
BOTH = ["s3://calls/mixed-french.wav", "s3://calls/mixed-italian.wav"]


@pytest.fixture(scope="module")
def mixed(testbed, voices):
    """Three conversations of one customer, two of them with one agent, and that agent alone."""
    models = voice_models()
    for name, agent, number in (
        ("french", "french", 0),
        ("italian", "italian", 1),
        ("french-again", "french", 2),
    ):
        call = mixed_call(voices, "english", agent, number, models)
        testbed.put(f"s3://calls/mixed-{name}.wav", as_wav(call.samples))
    alone = PhraseReader(segmented(voices, "french", 4, models)).read(20 * 8000)
    testbed.put("s3://calls/agent-french.wav", as_wav(alone))
    return testbed


def similarity(testbed, domain, one, other):
    prints = testbed.voiceprints(domain)
    return float(prints[one] @ prints[other])


def test_recurring_party_is_enrolled(mixed, domain):
    entries = [
        {**entry("mixed", "customer", *BOTH), **RECURRING},
        entry("alone", "english", "s3://calls/english.wav"),
        entry("agent", "french", "s3://calls/french.wav"),
        entry("other agent", "italian", "s3://calls/italian.wav"),
    ]
    done = mixed.enroll(domain, entries)
    assert done.successes == dict.fromkeys(("mixed", "alone", "agent", "other agent"), "NEW_ENROLLMENT")
    others = ("english", "french", "italian")
    alike = {name: similarity(mixed, domain, "customer", name) for name in others}
    assert max(alike, key=alike.__getitem__) == "english", alike


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        pytest.param(BOTH[:1], "one recording cannot show which party is the customer", id="one recording"),
        pytest.param(["s3://calls/english.wav"] * 2, "two parties were found", id="nobody else speaks"),
    ],
)
def test_ambiguous_request_enrolls_nobody_and_says_why(mixed, domain, files, reason):
    done = mixed.enroll(domain, [{**entry("r1", "customer", *files), **RECURRING}])
    code, message = done.errors["r1"]
    assert code == 400
    assert message.startswith("the customer's voice cannot be told from the other party's: ")
    assert reason in message
    assert mixed.speakers(domain) == {}


def test_agents_recording_that_is_absent_refuses_the_request(mixed, domain):
    absent = {"S3Uri": "s3://calls/absent.wav", "ChannelId": 0}
    done = mixed.enroll(domain, [{**entry("r1", "customer", *BOTH), **RECURRING, "AgentVoices": [absent]}])
    assert done.errors["r1"][0] == 404


@pytest.mark.slow
def test_dry_run_shows_the_parties_and_which_is_taken(mixed, domain):
    entries = [
        {**entry("fine", "customer-1", *BOTH), **RECURRING},
        {**entry("ambiguous", "customer-2", *BOTH[:1]), **RECURRING},
        entry("ordinary", "customer-3", "s3://calls/english.wav"),
    ]
    answer = mixed.call(
        "StartEnrollmentDryRun",
        DomainId=domain,
        DataAccessRoleArn=installation.role_arn(mixed.settings),
        InputDataConfig={"S3Uri": mixed.put("s3://jobs/mixed/m.json", manifest(entries))},
        OutputDataConfig={"S3Uri": "s3://results/mixed"},
        EnrollmentConfig={},
    )
    mixed.run()
    where = ObjectUri.parse("s3://results/mixed").child(answer["Job"]["JobId"], "m.json.out")
    report, page = read_report(mixed.get(str(where))), mixed.get(f"{where}.html").decode()
    fine, ambiguous, ordinary = report["Requests"]

    assert fine["LikelyOutcome"] == "NEW_ENROLLMENT"
    assert fine["SpeakerSelection"]["Selected"]
    assert "the voice is in 2 of 2 recordings" in fine["SpeakerSelection"]["Reason"]
    for recording in fine["Recordings"]:
        assert sorted(party["Selected"] for party in recording["Parties"]) == [False, True]
        assert 0.5 < sum(party["Share"] for party in recording["Parties"]) <= 1.0
        assert "SecondVoice" not in recording, "both parties are expected here"
    assert "UnlikeRecordings" not in fine or fine["UnlikeRecordings"] == []
    assert any("recordings of both parties" in text for text in fine["Warnings"])

    assert ambiguous["LikelyOutcome"] == "ERROR"
    assert not ambiguous["SpeakerSelection"]["Selected"]
    assert not any(party["Selected"] for party in ambiguous["Recordings"][0]["Parties"])

    assert "SpeakerSelection" not in ordinary
    assert "Parties" not in ordinary["Recordings"][0]
    assert "selected" in page
